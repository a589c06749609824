//! Workers that fail, and restarts.

use glm_trainer::distributed::failure::{self, Failure};

use crate::launched::{Launched, TIMEOUT, exists, is_zombie, kill};

#[test]
fn a_failed_rank_is_named_and_the_others_are_terminated() {
    let script = r#"
        if [ $RANK = 1 ]; then until_there ready.0; until_there ready.2; exit 3; fi
        trap ": > terminated.$RANK; exit 1" TERM
        : > ready.$RANK
        while :; do sleep 1000 & wait $!; done
    "#;
    let mut launched = Launched::start(&["--nproc", "3", "--grace", "50", "--kill-after", "100000"], script);
    assert_eq!(launched.exit_code(), Some(1));
    let stderr = launched.stderr();
    let first = format!("rank 1 (host {}, pid {}): exited with code 3", failure::host_name(), launched.pid(1));
    assert!(stderr.contains(&format!("{first}; waiting 0.05 s for the other ranks")), "{stderr}");
    assert!(stderr.lines().last().is_some_and(|line| line.ends_with(&first)), "{stderr}");
    assert!(launched.path("terminated.0").exists() && launched.path("terminated.2").exists(), "{stderr}");
}

#[test]
fn a_worker_that_ignores_sigterm_is_killed() {
    let script = r#"
        if [ $RANK = 1 ]; then until_there ready.0; exit 3; fi
        trap "" TERM
        : > ready.0
        while :; do sleep 1000 & wait $!; done
    "#;
    let mut launched = Launched::start(&["--nproc", "2", "--grace", "50", "--kill-after", "50"], script);
    assert_eq!(launched.exit_code(), Some(1));
    let stderr = launched.stderr();
    let message = format!("rank 0 (pid {}) is still running; sending", launched.pid(0));
    for signal in ["SIGTERM (15)", "SIGKILL (9)"] {
        assert!(stderr.contains(&format!("{message} {signal}")), "{stderr}");
    }
    assert!(stderr.lines().last().is_some_and(|line| line.ends_with("exited with code 3")), "{stderr}");
    assert!(!exists(launched.pid(0)), "{stderr}");
}

#[test]
fn other_ranks_can_read_which_rank_was_killed() {
    let script = r#"
        [ $RANK = 1 ] && until_there ready.0 && kill -9 $$
        : > ready.0
        until_there go; exit 1
    "#;
    let mut launched = Launched::start(&["--nproc", "2", "--grace", "100000"], script);
    launched.wait_for(&["ready.0", "port.0"]);
    let store = launched.store();
    store.wait(&[&failure::any_key(0)], TIMEOUT).expect("a failure");
    let failures = failure::all(&store, 0, 2).expect("failures");
    let [Failure { rank: 1, host, pid, reason, caused_by: None }] = &failures[..] else { panic!("{failures:?}") };
    assert_eq!((host, *pid as i32), (&failure::host_name(), launched.pid(1)));
    assert!(reason.starts_with("killed by SIGKILL (9); "), "{reason}");
    launched.touch("go");
    assert_eq!(launched.exit_code(), Some(1));
    let stderr = launched.stderr();
    assert!(stderr.lines().last().is_some_and(|line| line.contains("rank 1 (") && line.contains("SIGKILL (9)")), "{stderr}");
}

#[test]
fn the_root_cause_is_reported_with_its_own_reason() {
    let mut launched = Launched::start(&["--nproc", "2", "--grace", "100000"], ": > ready.$RANK; until_there go.$RANK; exit 1");
    launched.wait_for(&["ready.0", "ready.1"]);
    let store = launched.store();
    let publish = |rank, reason: &str, caused_by| {
        let failure = Failure { rank, host: "elsewhere".into(), pid: 7, reason: reason.into(), caused_by };
        failure::publish(&store, 0, &failure).expect("publish");
    };
    // The caused failure is published first, and its rank exits first.
    publish(0, "rank 1 is gone", Some(1));
    publish(1, "cannot read the shard", None);
    launched.touch("go.0");
    launched.wait_until("the exit of rank 0", || launched.stderr().contains("exited with code 1"));
    launched.touch("go.1");
    assert_eq!(launched.exit_code(), Some(1));
    let stderr = launched.stderr();
    let cause = "rank 1 (host elsewhere, pid 7): cannot read the shard";
    assert!(stderr.lines().last().is_some_and(|line| line.ends_with(cause)), "{stderr}");
}

/// A launcher that was stopped finds several workers gone at once.
#[test]
fn a_killed_worker_is_the_cause_of_the_errors_of_others() {
    let mut launched = Launched::start(&["--nproc", "2"], r#": > ready.$RANK; until_there go.$RANK; exit 1"#);
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(libc::SIGSTOP);
    let [first, second] = [0, 1].map(|rank| launched.pid(rank));
    launched.touch("go.0");
    kill(second, libc::SIGKILL);
    launched.wait_until("the end of both", || [first, second].into_iter().all(is_zombie));
    launched.send(libc::SIGCONT);
    assert_eq!(launched.exit_code(), Some(1));
    let stderr = launched.stderr();
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.contains("rank 1 (") && last.contains("killed by SIGKILL (9)"), "{stderr}");
}

#[test]
fn all_workers_are_restarted_until_they_succeed() {
    let script = "echo $RANK >> attempt.$TORCHELASTIC_RESTART_COUNT; exit $((RANK == 1 && TORCHELASTIC_RESTART_COUNT < 2))";
    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "2"], script);
    assert_eq!(launched.exit_code(), Some(0), "{}", launched.stderr());
    let stderr = launched.stderr();
    for attempt in [2, 3] {
        let text = format!("restarting all 2 workers from the latest checkpoint, attempt {attempt} of 3");
        assert!(stderr.contains(&text), "{stderr}");
    }
    for attempt in 0..3 {
        assert_eq!(launched.text(&format!("attempt.{attempt}")).lines().count(), 2);
    }
    assert!(!launched.path("attempt.3").exists());

    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "1"], script);
    assert_eq!(launched.exit_code(), Some(1));
    assert!(!launched.path("attempt.2").exists());
}
