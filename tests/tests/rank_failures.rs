//! What several processes that train say and do when one of them is gone, stuck, late, or not like the others.

use std::path::Path;
use std::process::Command;

use glm_tests::processes::{Running, by_hand, descendants, free_port, rank, runs, several_processes_can_train, signal};
use glm_tests::run;
use glm_tests::training::{corpus, seeded_corpus, set, steps, trainer, trainer_from};

/// A run without end, whose ranks wait a few seconds for each other.
fn endless(data: &Path, out: &Path) -> Command {
    let mut command = trainer(data, out);
    set(&mut command, &["train.epochs=100000", "train.eval_every=0", "distributed.timeout=5"]);
    command
}

/// Waits until a run has done a few steps.
fn until_it_trains(running: &mut Running, out: &Path) {
    running.until("it trains", || (steps(out).len() > 2).then_some(()));
}

#[test]
fn ranks_that_lose_another_name_it() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    for victim in [2, 0] {
        let out = folder.path().join(format!("without{victim}"));
        let mut ranks = by_hand(folder.path(), 3, |_| endless(folder.path(), &out));
        until_it_trains(&mut ranks[0], &out);
        let pid = ranks[victim].pid();
        signal(pid, "KILL");
        ranks[victim].end();
        for (rank, running) in ranks.iter_mut().enumerate().filter(|(rank, _)| *rank != victim) {
            let said = running.ends_with(1);
            // Rank 0 serves the store, so with it all that is known of others is gone.
            let expected = match victim {
                0 => "rank 0, which serves the store at 127.0.0.1:".to_owned(),
                _ => format!("rank {victim} (host "),
            };
            assert!(said.contains(&expected), "rank {rank}: {said}");
            assert!(victim == 0 || said.contains(&format!("pid {pid}) gives no sign of life")), "rank {rank}: {said}");
        }
    }
}

#[test]
fn a_rank_that_hangs_is_named() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let mut ranks = by_hand(folder.path(), 3, |_| endless(folder.path(), &out));
    until_it_trains(&mut ranks[0], &out);
    let pid = ranks[1].pid();
    signal(pid, "STOP");
    for number in [0, 2] {
        let said = ranks[number].ends_with(1);
        let expected = format!("pid {pid}) gives no sign of life for ");
        assert!(said.contains("rank 1 (host ") && said.contains(&expected), "rank {number}: {said}");
    }
}

#[test]
fn the_launcher_names_the_rank_that_was_killed_and_leaves_none_behind() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    for victim in [1, 0] {
        let out = folder.path().join(format!("without{victim}"));
        let mut command = endless(folder.path(), &out);
        let mut launcher = Running::start(command.args(["--nproc", "2"]), folder.path().join("launcher.log"));
        until_it_trains(&mut launcher, &out);
        let pid = launcher.worker(victim);
        let all = descendants(launcher.pid());
        assert_eq!(all.len(), 2);
        signal(pid, "KILL");
        let said = launcher.ends_with(1);
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(&format!("rank {victim} (host ")), "{said}");
        assert!(last.contains(&format!("pid {pid}): killed by SIGKILL (9)")), "{said}");
        assert!(!all.into_iter().any(runs), "a rank is left behind:\n{said}");
    }
}

#[test]
fn ranks_that_differ_do_not_start() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let [data, other] = ["data", "other"].map(|name| folder.path().join(name));
    corpus(&data);
    seeded_corpus(&other, 6);
    let out = folder.path().join("run");
    let start = |rank: usize| {
        let mut command = endless(if rank == 1 { &other } else { &data }, &out);
        set(&mut command, if rank == 2 { &["optim.lr=2e-3", "distributed.timeout=60"] } else { &["distributed.timeout=60"] });
        command
    };
    let mut ranks = by_hand(folder.path(), 3, start);
    for running in &mut ranks {
        let said = running.ends_with(1);
        for part in [
            "the ranks do not run the same, so none starts: ",
            "optim.lr is 0.001 on ranks 0 and 1, 0.002 on rank 2",
            "the data set's fingerprint is ",
            " on ranks 0 and 2, ",
        ] {
            assert!(said.contains(part), "{part} is missing: {said}");
        }
    }
    assert!(!out.exists(), "a run that did not start has left something");
}

#[test]
fn ranks_that_never_come_are_named() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    for (present, missing) in [(0, "ranks 1 and 2"), (1, "rank 0")] {
        let mut command = endless(folder.path(), &out);
        set(&mut command, &["distributed.timeout=2"]);
        let port = free_port();
        let alone = run(&mut rank(command, present, 3, port));
        assert_eq!(alone.code(), Some(1));
        let expected = format!("{missing} of 3 did not come to 127.0.0.1:{port} within 2 s");
        assert!(alone.stderr().contains(&expected), "{}", alone.stderr());
    }
}

#[test]
fn half_an_environment_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let said = |name: &str, value: &str| {
        let out = folder.path().join("run");
        let ended = run(endless(folder.path(), &out).env(name, value));
        assert_eq!(ended.code(), Some(1));
        ended.stderr()
    };
    assert!(said("RANK", "0").contains("RANK is set, WORLD_SIZE is not"));
    assert!(said("WORLD_SIZE", "2").contains("WORLD_SIZE is set, RANK is not"));
}

#[test]
fn what_keeps_rank_0_from_starting_ends_all_with_its_reason() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let nowhere = folder.path().join("nowhere");
    let start = |out: &str| {
        let mut command = trainer_from(&nowhere, folder.path(), &folder.path().join(out));
        set(&mut command, &["distributed.timeout=60"]);
        command
    };
    let mut ranks = by_hand(folder.path(), 2, |_| start("by_hand"));
    let reasons: Vec<String> = ranks.iter_mut().map(|running| running.ends_with(1)).collect();
    assert!(reasons.iter().all(|said| said.contains(&*nowhere.to_string_lossy())), "{reasons:?}");
    assert!(reasons[1].contains("rank 0 (host "), "{}", reasons[1]);

    let launcher = run(start("launched").args(["--nproc", "2"]));
    assert_eq!(launcher.code(), Some(1));
    let said = launcher.stderr();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("rank 0 (host ") && last.contains(&*nowhere.to_string_lossy()), "{said}");
}
