//! Signals that a launcher receives, and their exit codes.

use crate::launched::Launched;

#[test]
fn interrupted_workers_are_not_a_failure() {
    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "3"], "exit 75");
    assert_eq!(launched.exit_code(), Some(75));
    assert_eq!(launched.stderr(), "");
    let mut launched = Launched::start(&["--nproc", "2"], "exit $((75 * RANK))");
    assert_eq!(launched.exit_code(), Some(75), "one worker was interrupted");
}

#[test]
fn every_signal_is_forwarded() {
    let script = r#"
        n=0
        trap 'n=$((n + 1)); : > int.$RANK.$n' INT
        trap ': > term.$RANK; exit 75' TERM
        : > ready.$RANK
        while :; do sleep 1000 & wait $!; done
    "#;
    let mut launched = Launched::start(&["--nproc", "2"], script);
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(libc::SIGINT);
    launched.wait_for(&["int.0.1", "int.1.1"]);
    launched.send(libc::SIGINT);
    launched.wait_for(&["int.0.2", "int.1.2"]);
    launched.send(libc::SIGTERM);
    assert_eq!(launched.exit_code(), Some(75), "{}", launched.stderr());
    launched.wait_for(&["term.0", "term.1"]);
    assert!(!launched.path("int.0.3").exists() && !launched.path("int.1.3").exists());
}

/// It has written no checkpoint, so the exit code must not be that of a checkpoint.
#[test]
fn a_worker_killed_by_a_stop_signal_is_not_a_failure() {
    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "3"], ": > ready.$RANK; exec sleep 1000");
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(libc::SIGTERM);
    assert_eq!(launched.exit_code(), Some(130), "{}", launched.stderr());
    let stderr = launched.stderr();
    assert!(stderr.contains("stopped before training began; no checkpoint was written"), "{stderr}");
    assert!(!stderr.contains("ERROR"), "{stderr}");
}

/// Starts two workers that answer the second of two signals with an exit code, given as an expression of the shell, and sends both.
fn exiting_after_two(signal: libc::c_int, name: &str, code: &str) -> Launched {
    let script = format!(
        "trap 'n=$((n + 1)); : > got.$RANK.$n; [ $n = 2 ] && exit {code}' {name}
        : > ready.$RANK
        while :; do sleep 1000 & wait $!; done"
    );
    let launched = Launched::start(&["--nproc", "2"], &script);
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(signal);
    launched.wait_for(&["got.0.1", "got.1.1"]);
    launched.send(signal);
    launched
}

#[test]
fn a_failure_after_several_stop_signals_is_a_failure() {
    let mut launched = exiting_after_two(libc::SIGUSR1, "USR1", "4");
    assert_eq!(launched.exit_code(), Some(1), "{}", launched.stderr());
}

#[test]
fn workers_that_exit_at_once_after_a_second_signal_are_not_a_failure() {
    let mut launched = exiting_after_two(libc::SIGINT, "INT", "$((RANK == 0 ? 130 : 1))");
    assert_eq!(launched.exit_code(), Some(130), "{}", launched.stderr());
}

#[test]
fn workers_that_fail_after_a_stop_signal_are_not_restarted() {
    let script = "trap 'exit 4' TERM; : > ready.$RANK; while :; do sleep 1000 & wait $!; done";
    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "3"], script);
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(libc::SIGTERM);
    assert_eq!(launched.exit_code(), Some(1));
    let stderr = launched.stderr();
    assert!(stderr.contains("exited with code 4") && !stderr.contains("restarting"), "{stderr}");
}

#[cfg(target_os = "linux")]
#[test]
fn workers_are_terminated_if_the_launcher_is_killed() {
    let script = "trap ': > ended.$RANK; exit' TERM; : > ready.$RANK; while :; do sleep 0.1; done";
    let mut launched = Launched::start(&["--nproc", "2"], script);
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(libc::SIGKILL);
    assert_eq!(launched.exit_code(), None, "killed");
    launched.wait_for(&["ended.0", "ended.1"]);
}
