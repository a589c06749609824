//! Error messages of distributed runs in which a rank is killed, hangs, is missing or has a different configuration.

use glm_tests::processes::{Running, by_hand, descendants, free_port, rank, runs, several_processes_can_train, signal};
use glm_tests::run;
use glm_tests::training::{corpus, endless, seeded_corpus, set, trainer_from, until_it_trains};

#[test]
fn a_killed_rank_is_named_by_the_others() {
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
            let output = running.ends_with(1);
            // Rank 0 serves the store, so the others only know that it is lost.
            let expected = match victim {
                0 => "rank 0, which serves the store at 127.0.0.1:".to_owned(),
                _ => format!("rank {victim} (host "),
            };
            assert!(output.contains(&expected), "rank {rank}: {output}");
            assert!(victim == 0 || output.contains(&format!("pid {pid}) has sent no heartbeat")), "rank {rank}: {output}");
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
        let output = ranks[number].ends_with(1);
        let expected = format!("pid {pid}) has sent no heartbeat for ");
        assert!(output.contains("rank 1 (host ") && output.contains(&expected), "rank {number}: {output}");
    }
}

#[test]
fn the_launcher_names_the_killed_rank_and_ends_the_others() {
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
        let output = launcher.ends_with(1);
        let last = output.lines().last().unwrap_or_default();
        assert!(last.contains(&format!("rank {victim} (host ")), "{output}");
        assert!(last.contains(&format!("pid {pid}): killed by SIGKILL (9)")), "{output}");
        assert!(!all.into_iter().any(runs), "a rank is still running:\n{output}");
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
        let output = running.ends_with(1);
        for part in [
            "configuration differs between ranks: ",
            "optim.lr is 0.001 on ranks 0 and 1, 0.002 on rank 2",
            "the data set's fingerprint is ",
            " on ranks 0 and 2, ",
        ] {
            assert!(output.contains(part), "{part} is missing: {output}");
        }
    }
    assert!(!out.exists(), "a run that did not start has written files");
}

#[test]
fn missing_ranks_are_named() {
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
        let ended = run(&mut rank(command, present, 3, port));
        assert_eq!(ended.code(), Some(1));
        let expected = format!("{missing} of 3 did not join at 127.0.0.1:{port} within 2 s");
        assert!(ended.stderr().contains(&expected), "{}", ended.stderr());
    }
}

#[test]
fn incomplete_variables_are_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let stderr = |name: &str, value: &str| {
        let out = folder.path().join("run");
        let ended = run(endless(folder.path(), &out).env(name, value));
        assert_eq!(ended.code(), Some(1));
        ended.stderr()
    };
    assert!(stderr("RANK", "0").contains("RANK is set, but WORLD_SIZE is not"));
    assert!(stderr("WORLD_SIZE", "2").contains("WORLD_SIZE is set, but RANK is not"));
}

#[test]
fn an_error_of_rank_0_before_training_is_reported_by_all() {
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
    assert!(reasons.iter().all(|reason| reason.contains(&*nowhere.to_string_lossy())), "{reasons:?}");
    assert!(reasons[1].contains("rank 0 (host "), "{}", reasons[1]);

    let launcher = run(start("launched").args(["--nproc", "2"]));
    assert_eq!(launcher.code(), Some(1));
    let output = launcher.stderr();
    let last = output.lines().last().unwrap_or_default();
    assert!(last.contains("rank 0 (host ") && last.contains(&*nowhere.to_string_lossy()), "{output}");
}
