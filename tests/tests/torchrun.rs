//! `glm-trainer` started by `torchrun`, if it is installed.

use std::path::Path;
use std::process::Command;

use glm_tests::processes::{Running, free_port, several_processes_can_train, signal, torchrun};
use glm_tests::run;
use glm_tests::training::{corpus, metrics, set, steps, trainer, weights};

/// Returns a command that starts two processes of the trainer with `torchrun` and these options.
fn by_torchrun(torchrun: &Path, options: &[&str], trainer: &Command) -> Command {
    let mut launcher = Command::new(torchrun);
    launcher.args(["--no-python", "--nproc-per-node", "2"]).args(options).arg(trainer.get_program()).args(trainer.get_args());
    for (name, value) in trainer.get_envs() {
        match value {
            Some(value) => launcher.env(name, value),
            None => launcher.env_remove(name),
        };
    }
    launcher
}

#[test]
fn torchrun_and_our_launcher_give_the_same_results() {
    let (true, Some(torchrun)) = (several_processes_can_train(), torchrun()) else { return };
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = |name: &str| folder.path().join(name);
    let train = |name: &str| {
        let mut command = trainer(folder.path(), &out(name));
        command.args(["--max-steps", "4"]);
        command
    };
    run(train("ours").args(["--nproc", "2"])).success();
    let port = free_port().to_string();
    let ways = [("static", &["--master-addr", "127.0.0.1", "--master-port", &port][..]), ("standalone", &["--standalone"])];
    for (name, options) in ways {
        run(&mut by_torchrun(&torchrun, options, &train(name))).success();
        assert!(steps(&out(name)).values().all(|record| record["ranks"] == 2));
        assert!(weights(&out(name)) == weights(&out("ours")), "{name}: the weights differ");
    }
}

#[test]
fn torchrun_restarts_from_the_latest_checkpoint() {
    let (true, Some(torchrun)) = (several_processes_can_train(), torchrun()) else { return };
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [restarted, uninterrupted] = ["restarted", "uninterrupted"].map(|name| folder.path().join(name));
    let train = |out: &Path| {
        let mut command = trainer(folder.path(), out);
        set(&mut command, &["train.save_every=16", "train.epochs=100000", "train.eval_every=0"]);
        command
    };
    let options = ["--standalone", "--max-restarts", "1"];
    let log = folder.path().join("torchrun.log");
    let mut launcher = Running::start(&mut by_torchrun(&torchrun, &options, &train(&restarted)), log.clone());
    launcher.until("a checkpoint is written", || (steps(&restarted).len() > 2).then_some(()));
    signal(launcher.worker(1), "KILL");
    launcher
        .until("the ranks are restarted", || std::fs::read_to_string(&log).ok().filter(|log| log.contains("resuming from ")));
    let records = metrics(&restarted).len();
    launcher.until("training continues", || (metrics(&restarted).len() > records + 4).then_some(()));
    // It forwards the signal, and waits until the ranks have written a checkpoint.
    signal(launcher.pid(), "TERM");
    launcher.end();
    let last = *steps(&restarted).last_key_value().expect("steps").0;
    run(train(&uninterrupted).args(["--nproc", "2", "--max-steps", &last.to_string()])).success();
    let records = |out: &Path| -> Vec<String> {
        let keys = ["step", "samples", "loss", "gradient_norm", "lr"];
        steps(out).values().map(|record| keys.map(|key| record[key].to_string()).join(" ")).collect()
    };
    assert_eq!(records(&restarted), records(&uninterrupted));
    assert!(weights(&restarted) == weights(&uninterrupted), "the weights differ:\n{}", launcher.output());
}
