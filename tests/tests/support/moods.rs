//! A small task of one's own: the mood of a sentence, which one word tells.

use std::path::Path;

use glm_tests::training::{metrics, small_model};
use glm_tests::{Finished, command, json_lines, run};
use serde_json::{Value, json};

/// The labels, and the words that stand for them in the contexts of patterns.
pub(crate) const MOODS: [&str; 2] = ["unhappy", "happy"];
const ANSWERS: [&str; 2] = ["bad", "good"];
const WORDS: [&str; 6] = ["dull", "slow", "cold", "fun", "fast", "warm"];

/// Sentence `i`, with quotes and a comma.
pub(crate) fn sentence(i: usize) -> String {
    format!("The \"evening\" was {}, they said.", WORDS[i % 6])
}

/// Label of sentence `i`: 1 for the words of the second half.
pub(crate) fn mood(i: usize) -> usize {
    usize::from(i % 6 > 2)
}

/// Trains a small model for a few steps, and returns the last evaluation.
pub(crate) fn trained(data: &Path, out: &Path) -> Value {
    run(small_model(data, out).args(["--init", "random", "--seed", "1", "--max-steps", "4"])).success();
    metrics(out).into_iter().rfind(|line| line["kind"] == "eval").expect("an evaluation")
}

/// Writes the answers to the test split.
pub(crate) fn predict(init: &Path, data: &Path, out: &Path, arguments: &[&str]) -> Finished {
    let mut predict = command("glm-trainer");
    predict.args(["predict", "--device", "cpu"]).args(arguments).arg("--init").arg(init);
    run(predict.arg("--data").arg(data).arg("--out").arg(out)).success()
}

/// Checks answers to six sentences with the ids r0 to r5: labels and words belong together.
pub(crate) fn assert_answers(lines: &Path) {
    let answers = json_lines(lines);
    let ids: Vec<_> = answers.iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, (0..6).map(|i| json!(format!("r{i}"))).collect::<Vec<_>>());
    for answer in &answers {
        let predicted = answer["predicted"].as_u64().expect("index") as usize;
        assert_eq!((&answer["predicted_text"], &answer["label"]), (&json!(ANSWERS[predicted]), &json!(MOODS[predicted])));
    }
}
