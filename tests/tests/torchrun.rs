//! `torchrun` starts `glm-trainer` as it starts Python programs, if there is one.

use std::path::Path;
use std::process::Command;

use glm_tests::processes::{Running, free_port, several_processes_can_train, signal, torchrun};
use glm_tests::run;
use glm_tests::training::{corpus, metrics, set, steps, trainer, weights};

/// The trainer with two processes that `torchrun` starts, with these options.
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
fn both_ways_to_meet_give_what_our_own_launcher_gives() {
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
fn it_starts_all_again_from_the_newest_checkpoint() {
    let (true, Some(torchrun)) = (several_processes_can_train(), torchrun()) else { return };
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [disturbed, whole] = ["disturbed", "whole"].map(|name| folder.path().join(name));
    let train = |out: &Path| {
        let mut command = trainer(folder.path(), out);
        set(&mut command, &["train.save_every=16", "train.epochs=100000", "train.eval_every=0"]);
        command
    };
    let options = ["--standalone", "--max-restarts", "1"];
    let log = folder.path().join("torchrun.log");
    let mut launcher = Running::start(&mut by_torchrun(&torchrun, &options, &train(&disturbed)), log.clone());
    launcher.until("a checkpoint is written", || (steps(&disturbed).len() > 2).then_some(()));
    signal(launcher.worker(1), "KILL");
    launcher.until("the ranks are started again", || {
        std::fs::read_to_string(&log).ok().filter(|log| log.contains("going on from "))
    });
    let records = metrics(&disturbed).len();
    launcher.until("the run goes on", || (metrics(&disturbed).len() > records + 4).then_some(()));
    // It passes the signal on, and waits until the ranks have written a checkpoint.
    signal(launcher.pid(), "TERM");
    launcher.end();
    let last = *steps(&disturbed).last_key_value().expect("steps").0;
    run(train(&whole).args(["--nproc", "2", "--max-steps", &last.to_string()])).success();
    let learned = |out: &Path| -> Vec<String> {
        let keys = ["step", "samples", "loss", "gradient_norm", "lr"];
        steps(out).values().map(|record| keys.map(|key| record[key].to_string()).join(" ")).collect()
    };
    assert_eq!(learned(&disturbed), learned(&whole));
    assert!(weights(&disturbed) == weights(&whole), "the weights differ:\n{}", launcher.said());
}
