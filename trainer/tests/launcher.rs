//! Tests of the launcher with shell scripts as workers, and of the command line of `glm-trainer run --nproc`.
//!
//! Scripts and tests synchronize through files in a temporary folder, never by sleeping.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use glm_trainer::distributed::failure::{self, Failure};
use glm_trainer::exit_code::{FAILED, USAGE};
use libtorch_ext::distributed::{Store, StoreOptions};
use tempfile::TempDir;

/// Timeout of every wait, reached only by failing tests.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Beginning of every script: writes the worker's pid and port to files, and defines a function that waits for a file.
const PROLOGUE: &str = r#"
    echo $$ > pid.$RANK.new; mv pid.$RANK.new pid.$RANK
    echo $MASTER_PORT > port.$RANK.new; mv port.$RANK.new port.$RANK
    until_there() { until [ -e "$1" ]; do sleep 0.05; done; }
"#;

/// A running launcher. Dropping it kills the launcher and its workers.
struct Launched {
    launcher: Option<Child>,
    folder: TempDir,
}

impl Launched {
    fn start(arguments: &[&str], script: &str) -> Self {
        // Tests are in target/<profile>/deps, examples in target/<profile>/examples.
        let test = std::env::current_exe().expect("path of the test");
        let program = test.ancestors().nth(2).expect("target folder").join("examples/launch");
        assert!(program.is_file(), "{} is missing: build the workspace with --all-targets", program.display());
        let folder = tempfile::tempdir().expect("folder");
        let mut command = Command::new(program);
        command.args(arguments).arg(format!("{PROLOGUE}{script}")).current_dir(&folder);
        for variable in ["RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "RUST_LOG"] {
            command.env_remove(variable);
        }
        // Files instead of pipes: they never block, and other processes may keep them open.
        let file = |name| fs::File::create(folder.path().join(name)).expect("file");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let launcher = Some(command.spawn().expect("start the launcher"));
        Self { launcher, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("read")
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.bytes(name)).into_owned()
    }

    fn stderr(&self) -> String {
        self.text("stderr")
    }

    fn touch(&self, name: &str) {
        fs::write(self.path(name), "").expect("write");
    }

    /// Waits until files exist.
    fn wait_for(&self, names: &[&str]) {
        self.wait_until(&format!("files {names:?}"), || names.iter().all(|name| self.path(name).exists()));
    }

    fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < TIMEOUT, "timed out waiting for {what}; stderr:\n{}", self.stderr());
            sleep(Duration::from_millis(10));
        }
    }

    fn pid(&self, rank: usize) -> i32 {
        self.text(&format!("pid.{rank}")).trim().parse().expect("a number")
    }

    /// Connects to the launcher's store.
    fn store(&self) -> Store {
        let port = self.text("port.0").trim().parse().expect("a port");
        Store::connect(&StoreOptions { port, ..StoreOptions::default() }).expect("the store")
    }

    fn send(&self, signal: i32) {
        let launcher = self.launcher.as_ref().expect("a running launcher").id();
        kill(launcher as i32, signal);
    }

    /// Waits until the launcher exits, and returns its exit code.
    fn exit_code(&mut self) -> Option<i32> {
        let mut launcher = self.launcher.take().expect("a running launcher");
        let start = Instant::now();
        loop {
            if let Some(status) = launcher.try_wait().expect("wait") {
                return status.code();
            }
            if start.elapsed() > TIMEOUT {
                let stderr = self.stderr();
                self.launcher = Some(launcher);
                panic!("the launcher does not exit; stderr:\n{stderr}");
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.launcher.is_some() || std::thread::panicking() {
            for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let pid = fs::read_to_string(entry.path()).ok().and_then(|text| text.trim().parse().ok());
                if let (true, Some(pid)) = (name.to_string_lossy().starts_with("pid."), pid.filter(|&pid: &i32| pid > 1)) {
                    kill(-pid, libc::SIGKILL);
                }
            }
        }
        if let Some(mut launcher) = self.launcher.take() {
            let _gone = launcher.kill().and_then(|()| launcher.wait());
        }
    }
}

fn kill(pid: i32, signal: i32) -> bool {
    // SAFETY: a system call without pointers.
    unsafe { libc::kill(pid, signal) == 0 }
}

fn exists(pid: i32) -> bool {
    kill(pid, 0)
}

#[test]
fn workers_have_the_variables_of_torchrun() {
    let mut launched = Launched::start(
        &["--nproc", "3", "--threads", "2"],
        r#"echo "$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $TORCHELASTIC_USE_AGENT_STORE \
            $TORCHELASTIC_RESTART_COUNT $OMP_NUM_THREADS" > variables.$RANK"#,
    );
    assert_eq!(launched.exit_code(), Some(0), "{}", launched.stderr());
    for rank in 0..3 {
        let variables = launched.text(&format!("variables.{rank}"));
        let words: Vec<_> = variables.split_whitespace().collect();
        assert_eq!(words.join(" "), format!("{rank} {rank} 3 3 127.0.0.1 True 0 2"));
        assert_eq!(launched.text(&format!("port.{rank}")), launched.text("port.0"));
    }
}

#[test]
fn every_worker_has_its_own_process_group() {
    let mut launched = Launched::start(&["--nproc", "2"], "cut -d' ' -f5 /proc/$$/stat > group.$RANK");
    assert_eq!(launched.exit_code(), Some(0), "{}", launched.stderr());
    assert_eq!(launched.text("group.0"), launched.text("pid.0"));
    assert_eq!(launched.text("group.1"), launched.text("pid.1"));
}

#[test]
fn lines_have_the_rank_and_do_not_mix() {
    let script = r#"
        line=$(printf "%01000d" $RANK)
        for i in $(seq 100); do echo $line; echo $line >&2; done
        printf '\377 end'
    "#;
    let mut launched = Launched::start(&["--nproc", "4"], script);
    assert_eq!(launched.exit_code(), Some(0), "{}", launched.stderr());
    let stdout = launched.bytes("stdout");
    assert_eq!(stdout.iter().filter(|&&byte| byte == b'\n').count(), 100);
    assert!(stdout.ends_with(b"\n\xff end"), "rank 0 inherits the launcher's stdout");

    let stderr = launched.bytes("stderr");
    let mut lines: Vec<_> = stderr.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.sort();
    let mut expected: Vec<_> = (1..4)
        .flat_map(|rank| {
            let line = format!("[rank {rank}] {rank:01000}\n").into_bytes();
            let end = [format!("[rank {rank}] ").as_bytes(), b"\xff end\n"].concat();
            std::iter::repeat_n(line, 200).chain([end])
        })
        .chain(std::iter::repeat_n(format!("{:01000}\n", 0).into_bytes(), 100))
        .collect();
    expected.sort();
    assert!(lines == expected, "{}", launched.stderr());
}

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

#[test]
fn a_worker_killed_by_a_stop_signal_is_not_a_failure() {
    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "3"], ": > ready.$RANK; exec sleep 1000");
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(libc::SIGTERM);
    assert_eq!(launched.exit_code(), Some(75), "{}", launched.stderr());
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

/// Runs `glm-trainer run` with these arguments, and with RANK set in the environment if given.
fn glm_trainer(arguments: &[&str], rank: Option<&str>) -> Output {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_glm-trainer")));
    command.arg("run").args(arguments).stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
    for variable in ["RANK", "WORLD_SIZE", "RUST_LOG", "GLM_DATA_DIR"] {
        command.env_remove(variable);
    }
    command.envs(rank.map(|rank| ("RANK", rank))).output().expect("start the program")
}

#[test]
fn errors_of_the_command_line_name_the_cause() {
    let text = |arguments: &[&str], rank, code: u8| {
        let output = glm_trainer(arguments, rank);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code.into()), "{stderr}");
        stderr
    };
    let inside = text(&["--nproc", "1"], Some("0"), FAILED);
    assert!(inside.contains("RANK=\"0\"") && inside.contains("unset RANK"), "{inside}");
    assert!(text(&["--nproc", "0"], None, USAGE).contains("invalid number of processes"));
    assert!(text(&["--max-restarts", "1", "--out", "x"], None, USAGE).contains("--nproc"));
    assert!(text(&["--max-restarts", "1", "--nproc", "1"], None, USAGE).contains("--out"));
    let settings = text(&["--nproc", "1", "--set", "train.no_such=1"], None, FAILED);
    assert!(settings.contains("no_such") && !settings.contains("rank 0"), "{settings}");
}

#[test]
fn workers_run_this_program_with_the_remaining_arguments() {
    let output = glm_trainer(&["--nproc", "1", "--data", "/no/such/folder"], None);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("folder /no/such/folder does not exist") && stderr.contains("rank 0 (host "), "{stderr}");
}
