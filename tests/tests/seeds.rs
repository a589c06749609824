//! `glm-trainer run --seeds`: several runs that differ in their seed, their summary, and the page about them.

use std::path::Path;
use std::process::Command;

use glm_tests::processes::{Running, signal};
use glm_tests::training::{corpus, metrics, remains, set, small_model, steps, trainer};
use glm_tests::{Finished, command, run};
use serde_json::Value;

fn sweep(data: &Path, out: &Path, seeds: &str) -> Command {
    let mut command = small_model(data, out);
    set(&mut command, &["train.eval_every=24"]);
    command.args(["--init", "random", "--max-steps", "6", "--seeds", seeds]);
    command
}

fn summary(out: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(out.join("seeds.json")).expect("seeds.json")).expect("json")
}

/// The best accuracy of a run.
fn best(run: &Path) -> f64 {
    let evals = metrics(run).into_iter().filter(|line| line["kind"] == "eval");
    evals.map(|line| line["accuracy"].as_f64().expect("number")).fold(0.0, f64::max)
}

#[track_caller]
fn refused(finished: &Finished, text: &str) {
    assert_ne!(finished.code(), Some(0));
    assert!(finished.stderr().contains(text), "{text} in:\n{}", finished.stderr());
}

#[test]
fn runs_follow_each_other_and_the_best_and_the_median_are_found() {
    let folder = tempfile::tempdir().expect("folder");
    let (data, out) = (folder.path(), folder.path().join("sweep"));
    corpus(data);
    let first = run(&mut sweep(data, &out, "3,1,2")).success();
    let mut reached: Vec<f64> = [3, 1, 2].iter().map(|seed| best(&out.join(format!("seed-{seed}")))).collect();
    let written = summary(&out);
    assert_eq!(written["seeds"], serde_json::json!([3, 1, 2]));
    assert_eq!(written["metric"], "accuracy");
    for (run, reached) in written["runs"].as_array().expect("runs").iter().zip(&reached) {
        assert_eq!(run["accuracy"].as_f64(), Some(*reached), "{run}");
    }
    let highest = reached.iter().copied().fold(0.0, f64::max);
    let best_seed = [3, 1, 2][reached.iter().position(|value| *value == highest).expect("a run")];
    assert_eq!(written["best_seed"], best_seed);
    reached.sort_by(f64::total_cmp);
    assert_eq!(written["median"].as_f64(), Some(reached[1]));
    let stderr = first.stderr();
    for text in
        ["seed 1, run 2 of 3", "accuracy of 3 seeds: median ", &format!("(seed {best_seed})"), "next: glm-trainer report "]
    {
        assert!(stderr.contains(text), "{text} in:\n{stderr}");
    }

    // Each is the run that its seed alone gives.
    let alone = folder.path().join("alone");
    let mut command = trainer(data, &alone);
    run(set(&mut command, &["train.eval_every=24"]).args(["--max-steps", "6"])).success();
    assert_eq!(remains(&out.join("seed-3")), remains(&alone));

    // The same command finds them complete, and others join them.
    let again = run(&mut sweep(data, &out, "3,1,2")).success();
    assert_eq!(again.stderr().matches("nothing to do").count(), 3, "{}", again.stderr());
    assert_eq!(summary(&out), written);
    run(&mut sweep(data, &out, "4")).success();
    assert_eq!(summary(&out)["seeds"], serde_json::json!([3, 1, 2, 4]));

    let report = run(command_report(&out).arg("--json")).success();
    let report: Value = serde_json::from_str(&report.stdout()).expect("json");
    assert_eq!((&report["best_seed"], &report["runs"]), (&summary(&out)["best_seed"], &summary(&out)["runs"]));
    let page = std::fs::read_to_string(out.join("report.html")).expect("page");
    for text in ["Median accuracy", "Best accuracy", "href=\"seed-3/report.html\""] {
        assert!(page.contains(text), "{text}");
    }
    assert!([3, 1, 2, 4].iter().all(|seed| out.join(format!("seed-{seed}/report.html")).is_file()));

    refused(&run(&mut sweep(data, &out, "5,5")), "--seeds has 5 twice");
    refused(&run(&mut sweep(data, &alone, "5")), "already holds a run with one seed");
    refused(&run(sweep(data, &out, "5").args(["--set", "train.seed=7"])), "exclude each other");
    refused(&run(sweep(data, &out, "5").args(["--seed", "7"])), "cannot be used with");
    refused(&run(sweep(data, &out, "5").env("RANK", "0").env("WORLD_SIZE", "1")), "omit --seeds");
}

fn command_report(out: &Path) -> Command {
    let mut report = command("glm-trainer");
    report.arg("report").arg(out);
    report
}

#[test]
fn an_interrupted_sweep_continues_where_it_was() {
    let folder = tempfile::tempdir().expect("folder");
    let (data, out) = (folder.path(), folder.path().join("sweep"));
    corpus(data);
    let long = |out: &Path| {
        let mut command = small_model(data, out);
        set(&mut command, &["train.eval_every=400", "train.epochs=1000"]);
        command.args(["--init", "random", "--max-steps", "100", "--seeds", "1,2"]);
        command
    };
    let mut running = Running::start(&mut long(&out), folder.path().join("log"));
    let first = out.join("seed-1");
    running.until("a few steps are done", || (steps(&first).len() > 2).then_some(()));
    signal(running.pid(), "INT");
    running.ends_with(75);
    assert!(!out.join("seed-2").exists());
    run(&mut long(&out)).success();
    let whole = folder.path().join("whole");
    run(&mut long(&whole)).success();
    for seed in ["seed-1", "seed-2"] {
        assert_eq!(remains(&out.join(seed)).0, remains(&whole.join(seed)).0, "{seed}");
    }
}
