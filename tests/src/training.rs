//! Training runs of a tiny model, which take seconds, and access to their output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tch::{Kind, Tensor};

use crate::processes::Running;
use crate::{command, run};

/// Generates and ingests a small sample corpus with the real program.
///
/// # Panics
/// Panics if that fails.
pub fn corpus(folder: &Path) {
    sized_corpus(folder, 60, 12, 5);
}

/// Like [`corpus`], with passages that depend on the seed.
///
/// # Panics
/// Panics if that fails.
pub fn seeded_corpus(folder: &Path, seed: u64) {
    sized_corpus(folder, 60, 12, seed);
}

/// Like [`corpus`], with the given number of passages.
///
/// # Panics
/// Panics if that fails.
pub fn sized_corpus(folder: &Path, passages: usize, val_passages: usize, seed: u64) {
    let options = [("--passages", passages as u64), ("--val-passages", val_passages as u64), ("--seed", seed)];
    let mut sample = command("glm-prep");
    sample.arg("sample").arg("--out").arg(folder);
    run(options.iter().fold(&mut sample, |sample, (name, value)| sample.arg(name).arg(value.to_string()))).success();
    run(command("glm-prep").arg("ingest").arg(folder)).success();
}

/// Returns a command that trains a tiny model from random weights and logs every step.
pub fn trainer(data: &Path, out: &Path) -> Command {
    trainer_from("random".as_ref(), data, out)
}

/// Like [`trainer`], from the given weights.
pub fn trainer_from(init: &Path, data: &Path, out: &Path) -> Command {
    let mut command = small_model(data, out);
    command.args(["--seed", "3", "--init"]).arg(init);
    command
}

/// Like [`trainer`], without seed and initial weights.
pub fn small_model(data: &Path, out: &Path) -> Command {
    let mut command = command("glm-trainer");
    command.args(["run", "--device", "cpu", "--preset", "tiny"]);
    let settings = [
        "model.layers=2",
        "model.hidden=32",
        "model.heads=2",
        "data.batch_size=8",
        "data.micro_batch_tokens=600",
        "optim.lr=1e-3",
        "optim.decay_steps=30",
        "train.log_every=1",
        "train.target_metric=0",
    ];
    set(&mut command, &settings).arg("--data").arg(data).arg("--out").arg(out);
    command
}

/// Like [`trainer`], but the run does not end by itself, and has a timeout of a few seconds for other ranks.
pub fn endless(data: &Path, out: &Path) -> Command {
    let mut command = trainer(data, out);
    set(&mut command, &["train.epochs=100000", "train.eval_every=0", "distributed.timeout=5"]);
    command
}

/// Waits until a run has completed a few steps.
///
/// # Panics
/// Panics if the run ends before, or on a timeout.
pub fn until_it_trains(running: &mut Running, out: &Path) {
    running.until("a few steps are done", || (steps(out).len() > 2).then_some(()));
}

/// Adds settings to a command.
pub fn set<'a>(command: &'a mut Command, settings: &[&str]) -> &'a mut Command {
    settings.iter().fold(command, |command, setting| command.args(["--set", setting]))
}

/// Returns the metrics records of a run, in order.
///
/// # Panics
/// Panics if there are none.
pub fn metrics(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("json")).collect()
}

/// Returns the train records of a run so far, by step.
pub fn steps(out: &Path) -> BTreeMap<u64, Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|line| line["kind"] == "train").filter_map(|line| Some((line["step"].as_u64()?, line))).collect()
}

/// Starts the runs that `command` makes, and kills each as soon as its log of steps in `out` has the next number of `after` of them.
///
/// # Panics
/// Panics if a run cannot be started or killed.
pub fn kill_after_steps(command: impl Fn() -> Command, out: &Path, after: &[usize]) {
    for &after in after {
        let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
        while child.try_wait().expect("wait").is_none() {
            if steps(out).len() >= after {
                child.kill().expect("kill");
            }
            std::thread::yield_now();
        }
    }
}

/// Returns the results of a run: weights, optimizer state and metrics, without fields that depend on time.
///
/// # Panics
/// Panics if there is no checkpoint.
pub fn remains(out: &Path) -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let checkpoints = out.join("checkpoints");
    let latest = checkpoints.join(std::fs::read_to_string(checkpoints.join("latest")).expect("latest"));
    let read = |name: &str| std::fs::read(latest.join(name)).expect(name);
    let keys = ["kind", "step", "samples", "loss", "gradient_norm", "lr", "accuracy", "hits", "questions"];
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    let line = |text: &str| {
        let line: Value = serde_json::from_str(text).expect("json");
        keys.map(|key| line[key].to_string()).join(" ")
    };
    (read("model.safetensors"), read("optimizer.safetensors"), text.lines().map(line).collect())
}

/// Returns the path of the latest weights of a run.
///
/// # Panics
/// Panics if there are none.
pub fn weights_file(out: &Path) -> PathBuf {
    let latest = std::fs::read_to_string(out.join("checkpoints/latest")).expect("latest");
    out.join("checkpoints").join(latest).join("model.safetensors")
}

/// Returns the bytes of the latest weights of a run.
///
/// # Panics
/// Panics if there are none.
pub fn weights(out: &Path) -> Vec<u8> {
    std::fs::read(weights_file(out)).expect("weights")
}

/// Asserts that two sets of tensors are equal up to rounding: the norm of each difference is at most `tolerance` times the norm of the
/// tensor.
///
/// # Panics
/// Panics if they are not.
pub fn assert_close(ours: Vec<(String, Tensor)>, theirs: Vec<(String, Tensor)>, tolerance: f64) {
    let norm = |tensor: Tensor| tensor.to_kind(Kind::Double).norm().double_value(&[]);
    let theirs: BTreeMap<String, Tensor> = theirs.into_iter().collect();
    assert_eq!(ours.len(), theirs.len());
    for (name, ours) in ours {
        let theirs = theirs.get(&name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(ours.size(), theirs.size(), "{name}");
        let (distance, length) = (norm(&ours - theirs), norm(theirs.shallow_clone()));
        assert!(distance <= tolerance * length, "{name} differs by {distance:e}, its norm is {length:e}");
    }
}
