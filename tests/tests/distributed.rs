//! `glm-trainer run` with several processes on the CPU: results equal those of a single process, also after a failure, and
//! after an interruption with a different number of processes.

use std::path::Path;
use std::process::Command;

use glm_tests::processes::{Running, descendants, runs, several_processes_can_train, signal};
use glm_tests::run;
use glm_tests::training::{assert_close, corpus, metrics, set, steps, trainer, weights, weights_file};
use serde_json::Value;
use tch::Tensor;

/// A run whose results can be compared up to rounding. AdamW divides a gradient by the root of the average of its square. With
/// the default `eps`, rounding errors in gradients that should be zero, such as those of the key biases, would become steps of
/// full size.
fn comparable(data: &Path, out: &Path) -> Command {
    let mut command = trainer(data, out);
    set(&mut command, &["optim.eps=1e-4"]);
    command
}

fn nproc(mut command: Command, processes: usize) -> Command {
    command.args(["--nproc", &processes.to_string()]);
    command
}

fn number(record: &Value, key: &str) -> f64 {
    record[key].as_f64().unwrap_or_else(|| panic!("{key} of {record}"))
}

/// Asserts that two runs have the same questions in each step, the same metrics and the same weights.
fn assert_same_run(one: &Path, other: &Path) {
    let [ours, theirs] = [one, other].map(steps);
    assert!(ours.keys().eq(theirs.keys()), "steps {:?} and {:?}", ours.keys(), theirs.keys());
    for (ours, theirs) in ours.values().zip(theirs.values()) {
        for key in ["samples", "epoch", "lr", "skipped"] {
            assert_eq!(ours[key], theirs[key], "{key} of {ours} and {theirs}");
        }
        for (key, tolerance) in [("loss", 1e-5), ("gradient_norm", 1e-4)] {
            let [ours, theirs] = [ours, theirs].map(|record| number(record, key));
            assert!((ours - theirs).abs() <= tolerance * theirs, "{key}: {ours} and {theirs}");
        }
    }
    let [ours, theirs] = [one, other].map(evaluations);
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for key in ["step", "samples", "accuracy", "hits", "questions"] {
            assert_eq!(ours[key], theirs[key], "{key} of {ours} and {theirs}");
        }
        for key in ["f1", "exact_match", "chance", "most_frequent"] {
            assert!((number(ours, key) - number(theirs, key)).abs() < 1e-12, "{key} of {ours} and {theirs}");
        }
    }
    let [ours, theirs] = [one, other].map(|out| Tensor::read_safetensors(weights_file(out)).expect("weights"));
    assert_close(ours, theirs, 1e-5);
}

fn evaluations(out: &Path) -> Vec<Value> {
    metrics(out).into_iter().filter(|record| record["kind"] == "eval").collect()
}

/// Returns the number of questions of each step.
fn questions(out: &Path) -> Vec<u64> {
    let samples: Vec<u64> = steps(out).values().map(|record| record["samples"].as_u64().expect("samples")).collect();
    samples.iter().zip([0].iter().chain(&samples)).map(|(after, before)| after - before).collect()
}

/// Waits until a run has logged this step.
fn until_step(running: &mut Running, out: &Path, step: u64) {
    running.until("a step is logged", || steps(out).last_key_value().filter(|(last, _)| **last >= step).map(drop));
}

#[test]
fn results_do_not_depend_on_the_number_of_ranks() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = |name: &str| folder.path().join(name);
    let train = |name: &str, processes: usize| {
        let mut command = comparable(folder.path(), &out(name));
        // With 25 questions per step, the last step of an epoch of 126 questions has a single one.
        set(&mut command, &["data.batch_size=5", "optim.grad_accumulation=5", "data.micro_batch_tokens=600"]);
        command.args(["--max-steps", "20", "--eval-every", "200"]);
        run(&mut if processes == 0 { command } else { nproc(command, processes) }).success();
    };
    train("single", 0);
    let single = questions(&out("single"));
    let fewest = single.iter().min().expect("steps");
    assert_eq!((single.len(), *fewest, single[0]), (20, 1, 25), "questions per step: {single:?}");
    train("one", 1);
    assert!(weights(&out("one")) == weights(&out("single")), "the weights differ");
    assert_same_run(&out("one"), &out("single"));
    for processes in [2, 4] {
        let name = format!("{processes}");
        train(&name, processes);
        assert_same_run(&out(&name), &out("single"));
        let records = steps(&out(&name));
        assert!(records.values().all(|record| record["ranks"] == processes), "{records:?}");
    }
}

#[test]
fn gradients_in_bf16_train_as_well() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [fp32, bf16] = ["fp32", "bf16"].map(|kind| {
        let out = folder.path().join(kind);
        let mut command = nproc(comparable(folder.path(), &out), 3);
        set(&mut command, &["data.batch_size=8", "train.save_every=40", &format!("distributed.reduce_dtype={kind}")]);
        // At each checkpoint, the ranks compare their weights.
        run(command.args(["--max-steps", "20", "--eval-every", "0"])).success();
        out
    });
    let (ours, theirs) = (steps(&bf16), steps(&fp32));
    assert_eq!(ours.len(), 20);
    let mut differences = 0;
    for (record, other) in ours.values().zip(theirs.values()) {
        for (key, tolerance) in [("loss", 0.02), ("gradient_norm", 0.05)] {
            let (value, expected) = (number(record, key), number(other, key));
            assert!((value - expected).abs() < tolerance * expected, "{key}: {record} {other}");
            differences += usize::from(value != expected);
        }
    }
    assert!(differences > 20, "gradients are not rounded");
    // A change of the format changes the following steps.
    let mut command = nproc(comparable(folder.path(), &fp32), 2);
    set(&mut command, &["data.batch_size=8", "train.save_every=40", "distributed.reduce_dtype=bf16"]);
    let refused = run(command.args(["--max-steps", "24", "--eval-every", "0", "--resume"]));
    assert!(refused.code() == Some(1) && refused.stderr().contains("distributed.reduce_dtype"), "{}", refused.stderr());
}

#[test]
fn a_restart_after_a_failure_does_not_change_the_results() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [restarted, uninterrupted] = ["restarted", "uninterrupted"].map(|name| folder.path().join(name));
    let train = |out: &Path| {
        let mut command = nproc(trainer(folder.path(), out), 2);
        set(&mut command, &["train.save_every=16", "train.epochs=100000", "train.eval_every=0"]);
        command
    };
    let log = folder.path().join("restarted.log");
    let mut launcher = Running::start(train(&restarted).args(["--max-restarts", "1"]), log.clone());
    until_step(&mut launcher, &restarted, 3);
    signal(launcher.worker(1), "KILL");
    let restarts = |log: &String| log.contains("restarting all 2 workers from the latest checkpoint, attempt 2 of 2");
    launcher.until("the ranks are restarted", || std::fs::read_to_string(&log).ok().filter(restarts));
    let records = metrics(&restarted).len();
    launcher.until("training continues", || (metrics(&restarted).len() > records + 4).then_some(()));
    signal(launcher.pid(), "TERM");
    let output = launcher.ends_with(75);
    assert!(output.contains("resuming from "), "{output}");
    let last = *steps(&restarted).last_key_value().expect("steps").0;
    run(train(&uninterrupted).args(["--max-steps", &last.to_string()])).success();
    let [ours, theirs] = [&restarted, &uninterrupted].map(|out| steps(out));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.values().zip(theirs.values()) {
        for key in ["step", "samples", "loss", "gradient_norm", "lr"] {
            assert_eq!(ours[key], theirs[key], "{key} of {ours} and {theirs}");
        }
    }
    assert!(weights(&restarted) == weights(&uninterrupted), "the weights differ");
}

#[test]
fn an_interrupted_run_resumes_with_another_number_of_ranks() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [stopped, uninterrupted] = ["stopped", "uninterrupted"].map(|name| folder.path().join(name));
    let train = |out: &Path| {
        let mut command = comparable(folder.path(), out);
        set(&mut command, &["train.epochs=100000", "train.eval_every=0"]);
        command
    };
    let mut launcher = Running::start(&mut nproc(train(&stopped), 2), folder.path().join("stopped.log"));
    until_step(&mut launcher, &stopped, 3);
    let workers = descendants(launcher.pid());
    assert_eq!(workers.len(), 2);
    signal(launcher.pid(), "TERM");
    launcher.ends_with(75);
    assert!(!workers.into_iter().any(runs), "a worker is still running");
    let done = *steps(&stopped).last_key_value().expect("steps").0;
    let steps = (done + 5).to_string();
    run(nproc(train(&stopped), 3).args(["--resume", "--max-steps", &steps])).success();
    run(train(&uninterrupted).args(["--max-steps", &steps])).success();
    assert_same_run(&stopped, &uninterrupted);
}
