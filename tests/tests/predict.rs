//! `glm-trainer predict` on a test split without answers: one prediction per question, equal to that of `eval`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use glm_tests::{command, fixtures, ingest, json_lines, run};
use serde_json::Value;

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
    let numbers = |line: &Value| -> Vec<f64> {
        line["scores"].as_array().expect("scores").iter().map(|score| score.as_f64().expect("number")).collect()
    };
    for (answer, scored) in answers.iter().zip(&scores) {
        assert_eq!(answer.as_object().expect("an object").keys().collect::<Vec<_>>(), ["idx", "label"]);
        let evaluated = &evaluated[&question(scored)];
        assert_eq!((&scored["idx"], &scored["label"]), (&answer["idx"], &answer["label"]));
        assert_eq!(answer["label"], scored["choices"][evaluated["predicted"].as_u64().expect("a choice") as usize]);
        let (ours, theirs) = (numbers(scored), numbers(evaluated));
        assert_eq!(ours.len(), theirs.len());
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs()), "{scored} and {evaluated}");
    }
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
