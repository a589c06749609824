//! `glm-trainer predict` on a test split without answers: one prediction per question, equal to that of `eval`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use glm_tests::{command, fixtures, ingest, json_lines, run};
use serde_json::{Value, json};

const PASSAGES: &str = "golden/cloze/passages.jsonl";

fn trainer(name: &str, data: &Path) -> Command {
    let mut command = command("glm-trainer");
    command.args([name, "--device", "cpu", "--set", "model.heads=2", "--init"]);
    command.arg(fixtures().join("golden/model/full-vocab/blocklm-tiny")).arg("--data").arg(data);
    command
}

/// Returns passage and question of an id such as `dev-p3-q9`; only its first word differs between the splits.
fn question(line: &Value) -> String {
    line["example_id"].as_str().and_then(|id| id.split_once('-')).expect("an id").1.to_owned()
}

#[test]
fn predictions_on_test_equal_those_on_val() {
    let folder = tempfile::tempdir().expect("folder");
    let raw = folder.path().join("ReCoRD");
    std::fs::create_dir(&raw).expect("folder");
    let mut passages = json_lines(&fixtures().join(PASSAGES));
    let mut without_answers = String::new();
    let mut asked = Vec::new();
    for passage in &mut passages {
        for question in passage["qas"].as_array_mut().expect("questions") {
            question.as_object_mut().expect("a question").remove("answers");
            asked.push(question["idx"].as_i64().expect("idx"));
        }
        without_answers += &format!("{passage}\n");
    }
    asked.sort_unstable();
    std::fs::write(raw.join("test.jsonl"), without_answers).expect("write");
    ingest(folder.path(), &fixtures().join(PASSAGES), &["val"]);

    let file = |name: &str| folder.path().join(name);
    run(trainer("eval", folder.path()).arg("--scores").arg(file("eval.jsonl"))).success();
    // A submission must ignore the limit on questions per evaluation.
    let predict = run(trainer("predict", folder.path())
        .args(["--set", "train.eval_questions=3", "--out"])
        .arg(file("answers.jsonl"))
        .arg("--scores")
        .arg(file("scores.jsonl")))
    .success();
    assert!(predict.stdout().starts_with(&format!("{} answers in ", asked.len())), "{}", predict.stdout());

    let evaluated: BTreeMap<String, Value> =
        json_lines(&file("eval.jsonl")).into_iter().map(|line| (question(&line), line)).collect();
    let (answers, scores) = (json_lines(&file("answers.jsonl")), json_lines(&file("scores.jsonl")));
    assert_eq!(answers.iter().map(|line| line["idx"].as_i64().expect("idx")).collect::<Vec<_>>(), asked);
    assert_eq!(scores.len(), answers.len());
    for (answer, scored) in answers.iter().zip(&scores) {
        assert_eq!(answer.as_object().expect("an object").keys().collect::<Vec<_>>(), ["idx", "label"]);
        let evaluated = &evaluated[&question(scored)];
        assert_eq!((&scored["question_id"], &scored["predicted_text"]), (&answer["idx"], &answer["label"]));
        assert_eq!((&scored["predicted"], &scored["predicted_text"]), (&evaluated["predicted"], &evaluated["predicted_text"]));
        // Without answers, nothing is correct.
        assert_eq!((scored.get("hit"), evaluated["hit"].is_boolean()), (None, true));
        let (ours, theirs) =
            (scored["choices"].as_array().expect("choices"), evaluated["choices"].as_array().expect("choices"));
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!((&ours["text"], &ours["choice_index"]), (&theirs["text"], &theirs["choice_index"]));
            let [our_score, their_score] = [ours, theirs].map(|choice| choice["score"].as_f64().expect("number"));
            assert!((our_score - their_score).abs() <= 1e-6 * their_score.abs(), "{ours} and {theirs}");
            assert_eq!((ours.get("correct"), theirs["correct"].is_boolean()), (None, true));
        }
    }
}

#[test]
fn own_ids_and_indices_come_back() {
    let folder = tempfile::tempdir().expect("folder");
    let own = [
        ("second", ["tree", "pond", "Eva"], "Leo's kite flew. It got stuck in the [BLANK]!"),
        ("first", ["pond", "Eva", "tree"], "Leo's kite flew. It got stuck in the [BLANK]!"),
        ("third", ["dog", "cat", "dog"], "Ada has a dog. The [BLANK] barked."),
    ];
    let lines = own.map(|(id, choices, context)| json!({"id": id, "choices": choices, "context": context, "answer": 0}));
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    for split in ["val", "test"] {
        std::fs::write(folder.path().join(format!("{split}.jsonl")), &text).expect("write");
    }
    run(glm_tests::command("glm-prep").arg("ingest").arg(folder.path())).success();
    let out = folder.path().join("answers.jsonl");
    let printed = run(trainer("predict", folder.path()).arg("--json").arg("--out").arg(&out)).success();
    let printed: Value = serde_json::from_str(&printed.stdout()).expect("one object");
    assert_eq!((&printed["questions"], &printed["out"]), (&json!(3), &json!(out)));
    assert_eq!((&printed["split"], &printed["data"]), (&json!("test"), &json!(folder.path().join("shards"))));
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("shards/manifest.json")).expect("read")).expect("json");
    assert_eq!(printed["fingerprint"], manifest["fingerprint"]);
    assert_eq!(printed["weights"]["step"], 200_000);
    assert!(printed["weights"]["path"].as_str().is_some_and(|path| path.ends_with("mp_rank_00_model_states.pt")), "{printed}");

    let answers = json_lines(&out);
    assert_eq!(answers.len(), own.len());
    for (answer, (id, choices, _)) in answers.iter().zip(own) {
        assert_eq!(answer.as_object().expect("an object").keys().collect::<Vec<_>>(), ["id", "predicted", "predicted_text"]);
        let text = answer["predicted_text"].as_str().expect("text");
        let first = choices.iter().position(|choice| *choice == text).expect("a choice");
        assert_eq!((&answer["id"], &answer["predicted"]), (&json!(id), &json!(first)));
    }
    // The same question with other order of choices has the same answer.
    assert_eq!(answers[0]["predicted_text"], answers[1]["predicted_text"]);

    let scores = folder.path().join("scores.jsonl");
    let result = run(trainer("eval", folder.path()).args(["--split", "dev", "--json", "--scores"]).arg(&scores)).success();
    let result: Value = serde_json::from_str(&result.stdout()).expect("one object");
    assert_eq!((&result["questions"], &result["split"]), (&json!(3), &json!("val")));
    assert_eq!((&result["weights"], &result["fingerprint"]), (&printed["weights"], &manifest["fingerprint"]));
    for line in json_lines(&scores) {
        let (id, choices, _) = own.iter().find(|(id, ..)| line["source_id"] == *id).unwrap_or_else(|| panic!("{line}"));
        let found: Vec<_> = line["choices"].as_array().expect("choices").iter().collect();
        for choice in &found {
            let index = choice["choice_index"].as_u64().expect("index") as usize;
            assert_eq!(choice["text"], choices[index], "{line}");
            assert_eq!(choice["correct"], choices[index] == choices[0], "{line}");
        }
        let predicted = line["predicted"].as_u64().expect("index") as usize;
        let answer = answers.iter().find(|answer| answer["id"] == *id).expect("an answer");
        assert_eq!((&line["predicted"], &line["predicted_text"]), (&answer["predicted"], &answer["predicted_text"]));
        assert_eq!(line["hit"], choices[predicted] == choices[0], "{line}");
    }
    // SuperGLUE's format can be asked for.
    run(trainer("predict", folder.path()).args(["--format", "superglue", "--out"]).arg(&out)).success();
    assert_eq!(json_lines(&out)[0]["label"], answers[0]["predicted_text"]);
}

#[test]
fn unsuitable_splits_are_rejected() {
    let folder = tempfile::tempdir().expect("folder");
    ingest(folder.path(), &fixtures().join(PASSAGES), &["val", "train"]);
    let out = folder.path().join("answers.jsonl");
    let refused = |command: &mut Command, text: &str| {
        let finished = run(command);
        assert_eq!(finished.code(), Some(1));
        assert!(finished.stderr().contains(text), "{}", finished.stderr());
        assert!(!out.exists());
    };
    refused(trainer("predict", folder.path()).arg("--out").arg(&out), "no split `test`; it has `train` and `val`");
    refused(trainer("predict", folder.path()).args(["--split", "train", "--out"]).arg(&out), "use test or val");
    refused(trainer("eval", folder.path()).args(["--split", "test"]), "`glm-trainer predict`");
}
