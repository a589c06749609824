//! Anomalous steps of `glm-trainer run` are skipped, reported and counted, and too many in a row end the run.

use std::path::{Path, PathBuf};
use std::process::Command;

use glm_tests::training::{self, corpus, set, small_model};
use glm_tests::{Finished, command, run};
use serde_json::{Value, json};

/// Questions per step in the sample corpus.
const QUESTIONS: usize = 8;

/// Writes 150 questions with two words as choices, and one whose right answer is far longer than the wrong one, to which an
/// untrained model assigns almost no probability.
fn corpus_with_an_outlier(folder: &Path) {
    let mut lines: Vec<Value> = (0..150)
        .map(|i| {
            let context = format!("In year {i} rain fell for a week. By Sunday the cellar was [BLANK].");
            json!({"context": context, "choices": ["wet", "dry"], "answer": i % 2, "id": format!("even-{i}")})
        })
        .collect();
    let sentence = ["the old man and the young woman walked along the river until it was dark"; 3].join(" and ");
    let choices = json!([sentence, "dry"]);
    lines.push(json!({"context": "It was [BLANK].", "choices": choices, "answer": 0, "id": "odd"}));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("train.jsonl"), text).expect("write");
    run(command("glm-prep").args(["ingest", "--format", "plain"]).arg(folder)).success();
}

fn trainer(data: &Path, out: &Path, settings: &[&str]) -> Command {
    let mut command = small_model(data, out);
    set(&mut command, settings).args(["--seed", "3"]);
    command
}

fn metrics(out: &Path, kind: &str) -> Vec<Value> {
    training::metrics(out).into_iter().filter(|line| line["kind"] == kind).collect()
}

fn example_ids(line: &Value) -> Vec<String> {
    serde_json::from_value(line["example_ids"].clone()).expect("ids")
}

fn latest(out: &Path) -> PathBuf {
    let name = std::fs::read_to_string(out.join("checkpoints/latest")).expect("latest");
    out.join("checkpoints").join(name)
}

/// Error message that ended a run.
fn error(finished: &Finished) -> String {
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr());
    let stderr = finished.stderr();
    stderr.lines().rfind(|line| line.contains("ERROR")).unwrap_or_else(|| panic!("no error in {stderr}")).to_owned()
}

/// Writes weights after one step, with one NaN in the last LayerNorm.
fn poisoned_weights(data: &Path, folder: &Path) -> PathBuf {
    let out = folder.join("clean");
    run(trainer(data, &out, &[]).args(["--max-steps", "1"])).success();
    let mut file = std::fs::read(latest(&out).join("model.safetensors")).expect("weights");
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).expect("header");
    let tensors = header.as_object().expect("object");
    let (_, tensor) = tensors.iter().find(|(name, _)| name.ends_with("final_layernorm.weight")).expect("last LayerNorm");
    assert_eq!(tensor["dtype"], "F32");
    let place = 8 + length + tensor["data_offsets"][0].as_u64().expect("offset") as usize;
    file[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let path = folder.join("poisoned.safetensors");
    std::fs::write(&path, file).expect("write");
    path
}

#[test]
fn a_diverging_run_ends_and_names_the_checkpoint_before() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    // The first step has a learning rate of 0 and is saved; the second destroys the weights. A checkpoint would be due at 32.
    let settings = ["optim.lr=1e30", "optim.decay_steps=10", "train.max_consecutive_skips=3", "train.save_every=32"];
    run(trainer(folder.path(), &out, &[]).args(["--max-steps", "1"])).success();
    let before = latest(&out);
    let finished = run(trainer(folder.path(), &out, &settings).args([
        "--resume",
        "--max-steps",
        "9",
        "--allow",
        "optim.lr",
        "--allow",
        "optim.decay_steps",
    ]));
    let error = error(&finished);
    let skipped = metrics(&out, "skipped");
    assert_eq!(skipped.iter().map(|line| line["skipped_in_a_row"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    for line in &skipped {
        assert!(line["loss"].is_null() && line["gradient_norm"].is_null(), "{line}");
        let ids = example_ids(line);
        assert!(ids.len() == QUESTIONS && ids.iter().all(|id| id.starts_with("train-p")), "{line}");
        assert!(finished.stderr().contains(&format!("questions {}", ids.join(", "))), "{}", finished.stderr());
    }
    assert!(error.contains("3 steps in a row were skipped (train.max_consecutive_skips)"), "{error}");
    assert!(error.contains(&example_ids(&skipped[2]).join(", ")) && error.contains("lower optim.lr"), "{error}");
    assert!(error.contains(&before.display().to_string()), "{error}");
    assert_eq!(latest(&out), before, "no checkpoint is written between skipped steps");
}

#[test]
fn non_finite_weights_end_the_run_with_an_explanation() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let weights = poisoned_weights(folder.path(), folder.path());
    let poisoned = |name: &str, settings: &[&str]| {
        let out = folder.path().join(name);
        let mut command = trainer(folder.path(), &out, &[settings, &["model.heads=2"]].concat());
        command.arg("--init").arg(&weights);
        (command, out)
    };
    // With fp16 too: a smaller loss scale does not help against it.
    for settings in [&[][..], &["train.precision=fp16"]] {
        let (mut command, out) = poisoned(&format!("run-{}", settings.len()), settings);
        let error = error(&run(&mut command));
        let skipped = metrics(&out, "skipped");
        assert_eq!(skipped.len(), 20, "the default");
        assert!(metrics(&out, "train").is_empty());
        assert!(error.contains(&example_ids(&skipped[19]).join(", ")), "{error}");
        assert!(
            error.contains("No checkpoint has been written yet. Not one step succeeded: check the initial weights"),
            "{error}"
        );
    }
    if libtorch_ext::distributed::available().is_err() {
        return;
    }
    let (mut command, out) = poisoned("ranks", &["train.max_consecutive_skips=2"]);
    let finished = run(command.args(["--nproc", "2"]));
    assert!(error(&finished).contains("2 steps in a row were skipped"), "{}", finished.stderr());
    let skipped = metrics(&out, "skipped");
    assert_eq!(skipped.len(), 2, "the first rank reports for all");
    let (_, alone) = poisoned("run-0", &[]);
    for (ranks, alone) in skipped.iter().zip(metrics(&alone, "skipped")) {
        assert_eq!(example_ids(ranks), example_ids(&alone), "all ranks have the same questions");
    }
}

#[test]
fn spikes_are_reported_and_skipped_on_request() {
    let folder = tempfile::tempdir().expect("folder");
    corpus_with_an_outlier(folder.path());
    for skips in [false, true] {
        let out = folder.path().join(format!("run-{skips}"));
        // The weights never change, only the questions differ.
        let skip_on_spike = format!("train.skip_on_spike={skips}");
        let settings = ["data.batch_size=1", "optim.lr=0.0", "train.epochs=2", &skip_on_spike];
        let finished = run(&mut trainer(folder.path(), &out, &settings)).success();
        let spikes = metrics(&out, "spike");
        // The question occurs once per epoch, the second time after the warm-up.
        assert!((1..=2).contains(&spikes.len()), "{spikes:?}");
        for line in &spikes {
            assert_eq!((example_ids(line), line["skipped"].as_bool()), (vec!["train-odd-a0".to_owned()], Some(skips)));
            let [value, mean, zscore] = ["value", "mean", "zscore"].map(|key| line[key].as_f64().expect("number"));
            assert!(value > mean && zscore > 6.0, "{line}");
        }
        assert!(finished.stderr().contains("standard deviations above its mean"), "{}", finished.stderr());
        assert!(finished.stderr().contains("question train-odd-a0"), "{}", finished.stderr());
        let last = metrics(&out, "train").pop().expect("a line");
        let skipped = if skips { spikes.len() as u64 } else { 0 };
        assert_eq!((last["skipped"].as_u64(), last["step"].as_u64()), (Some(skipped), Some(302 - skipped)));
    }
    let silent = folder.path().join("silent");
    let settings = ["data.batch_size=1", "optim.lr=0.0", "train.epochs=2", "train.spike_zscore=0.0"];
    run(&mut trainer(folder.path(), &silent, &settings)).success();
    assert!(metrics(&silent, "spike").is_empty());
}

#[test]
fn a_resumed_run_keeps_the_spike_statistics() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [whole, halved] = ["whole", "halved"].map(|name| folder.path().join(name));
    run(trainer(folder.path(), &whole, &[]).args(["--max-steps", "12"])).success();
    run(trainer(folder.path(), &halved, &[]).args(["--max-steps", "5"])).success();
    run(trainer(folder.path(), &halved, &[]).args(["--max-steps", "12", "--resume"])).success();
    let spikes = |out: &Path| {
        let state = std::fs::read(latest(out).join("state.json")).expect("state");
        serde_json::from_slice::<Value>(&state).expect("json")["spikes"].clone()
    };
    assert_eq!(spikes(&whole)["steps"], 12);
    assert_eq!(spikes(&whole), spikes(&halved));
}
