//! `glm-trainer eval` on weights in the published layout reproduces the published scores, predictions and accuracy.

use glm_tests::{command, fixtures, ingest, json_lines, run};
use serde_json::Value;

#[test]
fn the_cloze_set_has_the_published_scores() {
    let folder = tempfile::tempdir().expect("folder");
    ingest(folder.path(), &fixtures().join("golden/cloze/passages.jsonl"), &["train", "val"]);

    let weights = fixtures().join("golden/model/full-vocab/blocklm-tiny");
    let golden: Value = serde_json::from_str(
        &std::fs::read_to_string(fixtures().join("golden/model/full-vocab/cloze_scores.json")).expect("read"),
    )
    .expect("json");
    for (split, name) in [("train", "train"), ("val", "dev")] {
        let scores = folder.path().join(format!("{split}-scores.jsonl"));
        let result = run(command("glm-trainer")
            .args(["eval", "--device", "cpu", "--json", "--split", split, "--set", "model.heads=2"])
            .arg("--data")
            .arg(folder.path())
            .arg("--init")
            .arg(&weights)
            .arg("--scores")
            .arg(&scores))
        .success();
        let result: Value = serde_json::from_str(&result.stdout()).expect("json");
        assert_eq!(result["hits"], golden[format!("{name}_hits")]);
        assert_eq!(result["accuracy"], golden[format!("{name}_accuracy")]);

        let expected = golden[name].as_array().expect("questions");
        let found = json_lines(&scores);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let id = &expected["example_id"];
            assert_eq!((&found["example_id"], &found["hit"]), (id, &expected["hit"]));
            let choices = found["choices"].as_array().expect("choices");
            let score = |choice: &Value| choice["score"].as_f64().expect("number");
            let predicted = choices.iter().filter(|choice| choice["choice_index"] == found["predicted"]);
            let correct = choices.iter().filter(|choice| choice["correct"] == true);
            // Choices have the order of the raw data here, and that of the data set there.
            let stored = |place: &Value| expected["scores"][place.as_u64().expect("place") as usize].as_f64().expect("number");
            let all = expected["scores"].as_array().expect("scores").iter().map(|score| score.as_f64().expect("number"));
            for (found, expected) in [
                (choices.iter().map(score).collect::<Vec<f64>>(), all.collect::<Vec<f64>>()),
                (predicted.map(score).collect(), vec![stored(&expected["predicted"])]),
                (correct.map(score).collect(), expected["correct"].as_array().expect("places").iter().map(stored).collect()),
            ] {
                assert_eq!(found.len(), expected.len(), "{id}");
                let sorted = |mut scores: Vec<f64>| {
                    scores.sort_by(f64::total_cmp);
                    scores
                };
                for (found, expected) in sorted(found).into_iter().zip(sorted(expected)) {
                    assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{id}");
                }
            }
        }
    }
}

#[test]
fn weights_without_a_number_of_heads_require_the_setting() {
    let folder = tempfile::tempdir().expect("folder");
    ingest(folder.path(), &fixtures().join("golden/cloze/passages.jsonl"), &["val"]);
    let eval = |weights: &str| {
        run(command("glm-trainer")
            .args(["eval", "--device", "cpu", "--data"])
            .arg(folder.path())
            .arg("--init")
            .arg(fixtures().join("golden/model").join(weights)))
    };
    let refused = eval("full-vocab");
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr().contains("use --set model.heads=N"), "{}", refused.stderr());
    let missing = eval("no-such-folder");
    assert_eq!(missing.code(), Some(1));
    assert!(missing.stderr().contains("no such file or folder"), "{}", missing.stderr());
}
