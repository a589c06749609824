//! `glm-trainer run --task seq2seq`: its results depend neither on packing, nor on ranks, nor on interruptions.

use std::path::Path;
use std::process::Command;

use glm_tests::processes::several_processes_can_train;
use glm_tests::training::{kill_after_steps, metrics, remains, set, small_model, steps, weights};
use glm_tests::{command, run};
use serde_json::{Value, json};

/// Generates and ingests pairs of lists of words and their last words, of very different lengths; some targets are cut.
fn corpus(folder: &Path) {
    let words = ["boat", "lamp", "goat", "clock", "bread", "snow", "hill", "pool", "road", "lake", "moon"];
    for (split, count) in [("train", 96), ("val", 12)] {
        let line = |number: usize| {
            let list: Vec<&str> = (0..2 + number * 7 % 29).map(|place| words[(number + place * place) % words.len()]).collect();
            let last = &list[list.len().saturating_sub(1 + number % 10)..];
            json!({ "source": list.join(" "), "target": last.join(" ") }).to_string() + "\n"
        };
        std::fs::write(folder.join(format!("{split}.jsonl")), (0..count).map(line).collect::<String>()).expect("write");
    }
    run(command("glm-prep").arg("ingest").arg(folder).args(["--task", "seq2seq"])).success();
}

fn trainer(data: &Path, out: &Path) -> Command {
    let mut command = small_model(data, out);
    command.args(["--task", "seq2seq", "--init", "random", "--seed", "3"]);
    // Dropout stays on: its keys are those of the samples.
    let settings = ["data.max_seq_len=24", "seq2seq.max_target_len=8", "seq2seq.label_smoothing=0.1", "seq2seq.beams=2"];
    set(&mut command, &settings);
    command
}

fn losses(out: &Path) -> Vec<f64> {
    steps(out).values().map(|record| record["loss"].as_f64().expect("loss")).collect()
}

/// The last evaluation.
fn evaluation(out: &Path) -> Value {
    metrics(out).into_iter().rfind(|record| record["kind"] == "eval").expect("an evaluation")
}

fn relative(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected.abs()
}

#[test]
fn losses_do_not_depend_on_packing_or_ranks() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let train = |name: &str, settings: &[&str], more: &[&str]| {
        let out = folder.path().join(name);
        let mut command = trainer(folder.path(), &out);
        run(set(&mut command, settings).args(["--max-steps", "8"]).args(more)).success();
        (losses(&out), evaluation(&out))
    };
    let (expected, evaluated) = train("one", &[], &[]);
    assert_eq!(expected.len(), 8);
    let check = |name: &str, (losses, evaluation): (Vec<f64>, Value)| {
        assert_eq!(losses.len(), expected.len(), "{name}");
        let is_close = losses.iter().zip(&expected).all(|(found, expected)| relative(*found, *expected) < 2e-4);
        assert!(is_close, "{name}: {losses:?} {expected:?}");
        let number = |of: &Value| of["loss"].as_f64().expect("loss");
        assert!(relative(number(&evaluation), number(&evaluated)) < 2e-4, "{name}: {evaluation} {evaluated}");
        for key in ["pairs", "split_pairs", "target_tokens"] {
            assert_eq!(evaluation[key], evaluated[key], "{name}: {key}");
        }
    };
    check("packed", train("packed", &["data.micro_batch_tokens=60", "data.decode_threads=3"], &[]));
    if several_processes_can_train() {
        check("ranks", train("ranks", &[], &["--nproc", "2"]));
        // With one sample per step on two ranks, one of them always has nothing to do.
        let few = ["data.batch_size=1", "data.micro_batch_tokens=60"];
        let (alone, _) = train("few", &few, &[]);
        let (shared, _) = train("few-ranks", &few, &["--nproc", "2"]);
        assert!(alone.iter().zip(&shared).all(|(a, b)| relative(*b, *a) < 2e-4), "{alone:?} {shared:?}");
    }
}

#[test]
fn a_killed_and_repeated_run_ends_like_an_undisturbed_one() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    let command = |out: &Path| {
        let mut command = trainer(folder.path(), out);
        set(&mut command, &["train.save_every=24", "train.eval_every=64"]).args(["--max-steps", "24"]);
        command
    };
    run(&mut command(&whole)).success();
    kill_after_steps(|| command(&killed), &killed, &[2, 9, 15]);
    run(&mut command(&killed)).success();
    assert!(remains(&killed) == remains(&whole), "{:#?} {:#?}", remains(&killed).2, remains(&whole).2);
    // The last evaluation generates the same texts.
    let scores = |out: &Path| {
        let found = evaluation(out);
        ["loss", "rouge1", "rouge2", "rouge_l", "bleu"].map(|key| found[key].to_string())
    };
    assert_eq!(scores(&killed), scores(&whole));
}

/// Generating texts makes copies of the weights in half precision, which later steps update.
#[test]
fn half_precision_runs_train_on_after_an_evaluation() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [often, once] = [("often", "train.eval_every=16"), ("once", "train.eval_every=0")].map(|(name, setting)| {
        let out = folder.path().join(name);
        let mut command = trainer(folder.path(), &out);
        run(set(&mut command, &[setting]).args(["--precision", "bf16", "--max-steps", "8"])).success();
        out
    });
    let evaluations = |out: &Path| metrics(out).iter().filter(|record| record["kind"] == "eval").count();
    assert!(evaluations(&often) > 2 && evaluations(&once) <= 1);
    assert_eq!(losses(&often), losses(&once));
    assert!(weights(&often) == weights(&once), "the weights differ");
}

#[test]
fn a_run_of_several_ranks_resumes_with_the_same_bits() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [whole, halved] = ["whole", "halved"].map(|name| folder.path().join(name));
    let train = |out: &Path, steps: &str, more: &[&str]| {
        run(trainer(folder.path(), out).args(["--nproc", "2", "--max-steps", steps]).args(more)).success();
    };
    train(&whole, "8", &[]);
    train(&halved, "4", &[]);
    train(&halved, "8", &["--resume"]);
    assert!(weights(&halved) == weights(&whole));
    assert_eq!(losses(&halved), losses(&whole));
}
