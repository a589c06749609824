//! The launcher with shell scripts for workers, and the command line of `glm-trainer run --nproc`.
//!
//! Scripts and tests wait for each other by files in a folder of their own, never for a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use glm_trainer::distributed::failure::{self, Failure};
use libtorch_ext::distributed::{Store, StoreOptions};
use tempfile::TempDir;

/// Long enough for any machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What every script starts with: its process is known to the test, and it can wait for a file.
const PROLOGUE: &str = r#"
    echo $$ > pid.$RANK.new; mv pid.$RANK.new pid.$RANK
    echo $MASTER_PORT > port.$RANK.new; mv port.$RANK.new port.$RANK
    until_there() { until [ -e "$1" ]; do sleep 0.05; done; }
"#;

/// A launcher that runs, and whatever it started. When dropped nothing of it is left.
struct Launched {
    launcher: Option<Child>,
    folder: TempDir,
}

impl Launched {
    fn start(arguments: &[&str], script: &str) -> Self {
        // A test runs from target/<profile>/deps; examples are beside that folder.
        let test = std::env::current_exe().expect("path of the test");
        let program = test.ancestors().nth(2).expect("target folder").join("examples/launch");
        assert!(program.is_file(), "{} is missing: build the workspace with --all-targets", program.display());
        let folder = tempfile::tempdir().expect("folder");
        let mut command = Command::new(program);
        command.args(arguments).arg(format!("{PROLOGUE}{script}")).current_dir(&folder);
        for variable in ["RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "RUST_LOG"] {
            command.env_remove(variable);
        }
        // Files do not fill up, and have no end to wait for.
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

    /// Waits until files are there.
    fn wait_for(&self, names: &[&str]) {
        self.wait_until(&format!("{names:?} to be there"), || names.iter().all(|name| self.path(name).exists()));
    }

    fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "waited for {what}; stderr:\n{}", self.stderr());
            sleep(Duration::from_millis(10));
        }
    }

    fn pid(&self, rank: usize) -> i32 {
        self.text(&format!("pid.{rank}")).trim().parse().expect("a number")
    }

    /// The store of the launcher.
    fn store(&self) -> Store {
        let port = self.text("port.0").trim().parse().expect("a port");
        Store::connect(&StoreOptions { port, ..StoreOptions::default() }).expect("the store")
    }

    fn send(&self, signal: i32) {
        let launcher = self.launcher.as_ref().expect("it runs").id();
        kill(launcher as i32, signal);
    }

    /// Waits for the launcher's end, and returns its exit code.
    fn end(&mut self) -> Option<i32> {
        let mut launcher = self.launcher.take().expect("it runs");
        let start = Instant::now();
        loop {
            if let Some(status) = launcher.try_wait().expect("wait") {
                return status.code();
            }
            if start.elapsed() > PATIENCE {
                let stderr = self.stderr();
                self.launcher = Some(launcher);
                panic!("the launcher does not end; stderr:\n{stderr}");
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

fn is_there(pid: i32) -> bool {
    kill(pid, 0)
}

#[test]
fn every_rank_knows_its_place() {
    let mut launched = Launched::start(
        &["--nproc", "3", "--threads", "2"],
        r#"echo "$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $TORCHELASTIC_USE_AGENT_STORE \
            $TORCHELASTIC_RESTART_COUNT $OMP_NUM_THREADS" > place.$RANK"#,
    );
    assert_eq!(launched.end(), Some(0), "{}", launched.stderr());
    for rank in 0..3 {
        let place = launched.text(&format!("place.{rank}"));
        let words: Vec<_> = place.split_whitespace().collect();
        assert_eq!(words.join(" "), format!("{rank} {rank} 3 3 127.0.0.1 True 0 2"));
        assert_eq!(launched.text(&format!("port.{rank}")), launched.text("port.0"));
    }
}

#[test]
fn a_worker_has_a_process_group_of_its_own() {
    let mut launched = Launched::start(&["--nproc", "2"], "cut -d' ' -f5 /proc/$$/stat > group.$RANK");
    assert_eq!(launched.end(), Some(0), "{}", launched.stderr());
    assert_eq!(launched.text("group.0"), launched.text("pid.0"));
    assert_eq!(launched.text("group.1"), launched.text("pid.1"));
}

#[test]
fn lines_have_their_rank_and_do_not_mix() {
    let script = r#"
        line=$(printf "%01000d" $RANK)
        for i in $(seq 100); do echo $line; echo $line >&2; done
        printf '\377 end'
    "#;
    let mut launched = Launched::start(&["--nproc", "4"], script);
    assert_eq!(launched.end(), Some(0), "{}", launched.stderr());
    let stdout = launched.bytes("stdout");
    assert_eq!(stdout.iter().filter(|&&byte| byte == b'\n').count(), 100);
    assert!(stdout.ends_with(b"\n\xff end"), "rank 0 has the launcher's own stdout");

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
fn a_rank_that_fails_is_named_and_the_others_are_ended() {
    let script = r#"
        if [ $RANK = 1 ]; then until_there ready.0; until_there ready.2; exit 3; fi
        trap ": > terminated.$RANK; exit 1" TERM
        : > ready.$RANK
        while :; do sleep 1000 & wait $!; done
    "#;
    let mut launched = Launched::start(&["--nproc", "3", "--grace", "50", "--kill-after", "100000"], script);
    assert_eq!(launched.end(), Some(1));
    let stderr = launched.stderr();
    let first = format!("rank 1 (host {}, pid {}): ended with exit code 3", failure::host_name(), launched.pid(1));
    assert!(stderr.contains(&format!("{first}; the other ranks have 0.05 s")), "{stderr}");
    assert!(stderr.lines().last().is_some_and(|line| line.ends_with(&first)), "{stderr}");
    assert!(launched.path("terminated.0").exists() && launched.path("terminated.2").exists(), "{stderr}");
}

#[test]
fn one_that_ignores_sigterm_is_killed() {
    let script = r#"
        if [ $RANK = 1 ]; then until_there ready.0; exit 3; fi
        trap "" TERM
        : > ready.0
        while :; do sleep 1000 & wait $!; done
    "#;
    let mut launched = Launched::start(&["--nproc", "2", "--grace", "50", "--kill-after", "50"], script);
    assert_eq!(launched.end(), Some(1));
    let stderr = launched.stderr();
    let still = format!("rank 0 (pid {}) still runs: sending it", launched.pid(0));
    for sent in ["SIGTERM (15)", "SIGKILL (9)"] {
        assert!(stderr.contains(&format!("{still} {sent}")), "{stderr}");
    }
    assert!(stderr.lines().last().is_some_and(|line| line.ends_with("ended with exit code 3")), "{stderr}");
    assert!(!is_there(launched.pid(0)), "{stderr}");
}

#[test]
fn the_others_can_read_who_was_killed() {
    let script = r#"
        [ $RANK = 1 ] && until_there ready.0 && kill -9 $$
        : > ready.0
        until_there go; exit 1
    "#;
    let mut launched = Launched::start(&["--nproc", "2", "--grace", "100000"], script);
    launched.wait_for(&["ready.0", "port.0"]);
    let store = launched.store();
    store.wait(&[&failure::any_key(0)], PATIENCE).expect("a failure");
    let failures = failure::all(&store, 0, 2).expect("failures");
    let [Failure { rank: 1, host, pid, reason, because_of: None }] = &failures[..] else { panic!("{failures:?}") };
    assert_eq!((host, *pid as i32), (&failure::host_name(), launched.pid(1)));
    assert!(reason.starts_with("killed by SIGKILL (9); "), "{reason}");
    launched.touch("go");
    assert_eq!(launched.end(), Some(1));
    let stderr = launched.stderr();
    assert!(stderr.lines().last().is_some_and(|line| line.contains("rank 1 (") && line.contains("SIGKILL (9)")), "{stderr}");
}

#[test]
fn the_first_cause_is_told_with_its_own_reason() {
    let mut launched = Launched::start(&["--nproc", "2", "--grace", "100000"], ": > ready.$RANK; until_there go.$RANK; exit 1");
    launched.wait_for(&["ready.0", "ready.1"]);
    let store = launched.store();
    let write = |rank, reason: &str, because_of| {
        let failure = Failure { rank, host: "elsewhere".into(), pid: 7, reason: reason.into(), because_of };
        failure::publish(&store, 0, &failure).expect("publish");
    };
    // The consequence is written first, and its rank ends first.
    write(0, "rank 1 is gone", Some(1));
    write(1, "cannot read the shard", None);
    launched.touch("go.0");
    launched.wait_until("the end of rank 0", || launched.stderr().contains("ended with exit code 1"));
    launched.touch("go.1");
    assert_eq!(launched.end(), Some(1));
    let stderr = launched.stderr();
    let cause = "rank 1 (host elsewhere, pid 7): cannot read the shard";
    assert!(stderr.lines().last().is_some_and(|line| line.ends_with(cause)), "{stderr}");
}

#[test]
fn workers_that_stopped_are_no_failure() {
    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "3"], "exit 75");
    assert_eq!(launched.end(), Some(75));
    assert_eq!(launched.stderr(), "");
    let mut launched = Launched::start(&["--nproc", "2"], "exit $((75 * RANK))");
    assert_eq!(launched.end(), Some(75), "one of them has more to do");
}

#[test]
fn signals_are_passed_on_each_time() {
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
    assert_eq!(launched.end(), Some(75), "{}", launched.stderr());
    launched.wait_for(&["term.0", "term.1"]);
    assert!(!launched.path("int.0.3").exists() && !launched.path("int.1.3").exists());
}

#[test]
fn a_worker_that_a_stop_ends_before_it_can_answer_is_no_failure() {
    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "3"], ": > ready.$RANK; exec sleep 1000");
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(libc::SIGTERM);
    assert_eq!(launched.end(), Some(75), "{}", launched.stderr());
}

#[test]
fn a_failure_behind_a_stop_is_one_and_starts_nothing_again() {
    let script = "trap 'exit 4' TERM; : > ready.$RANK; while :; do sleep 1000 & wait $!; done";
    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "3"], script);
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(libc::SIGTERM);
    assert_eq!(launched.end(), Some(1));
    let stderr = launched.stderr();
    assert!(stderr.contains("ended with exit code 4") && !stderr.contains("restarting"), "{stderr}");
}

#[test]
fn all_are_started_again_until_they_succeed() {
    let script = "echo $RANK >> attempt.$TORCHELASTIC_RESTART_COUNT; exit $((RANK == 1 && TORCHELASTIC_RESTART_COUNT < 2))";
    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "2"], script);
    assert_eq!(launched.end(), Some(0), "{}", launched.stderr());
    let stderr = launched.stderr();
    for attempt in [2, 3] {
        let text = format!("restarting all 2 workers from the newest checkpoint, attempt {attempt} of 3");
        assert!(stderr.contains(&text), "{stderr}");
    }
    for attempt in 0..3 {
        assert_eq!(launched.text(&format!("attempt.{attempt}")).lines().count(), 2);
    }
    assert!(!launched.path("attempt.3").exists());

    let mut launched = Launched::start(&["--nproc", "2", "--max-restarts", "1"], script);
    assert_eq!(launched.end(), Some(1));
    assert!(!launched.path("attempt.2").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn workers_end_with_a_launcher_that_is_killed() {
    let script = "trap ': > ended.$RANK; exit' TERM; : > ready.$RANK; while :; do sleep 0.1; done";
    let mut launched = Launched::start(&["--nproc", "2"], script);
    launched.wait_for(&["ready.0", "ready.1"]);
    launched.send(libc::SIGKILL);
    assert_eq!(launched.end(), None, "killed");
    launched.wait_for(&["ended.0", "ended.1"]);
}

/// `glm-trainer run` with arguments, and with RANK in the environment or none.
fn glm_trainer(arguments: &[&str], rank: Option<&str>) -> Output {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_glm-trainer")));
    command.arg("run").args(arguments).stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
    for variable in ["RANK", "WORLD_SIZE", "RUST_LOG", "GLM_DATA_DIR"] {
        command.env_remove(variable);
    }
    command.envs(rank.map(|rank| ("RANK", rank))).output().expect("start the program")
}

#[test]
fn the_command_line_says_what_is_wrong() {
    let text = |arguments: &[&str], rank, code| {
        let output = glm_trainer(arguments, rank);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        stderr
    };
    let inside = text(&["--nproc", "1"], Some("0"), 1);
    assert!(inside.contains("RANK=\"0\"") && inside.contains("unset RANK"), "{inside}");
    assert!(text(&["--nproc", "0"], None, 2).contains("no number of processes"));
    assert!(text(&["--max-restarts", "1", "--out", "x"], None, 2).contains("--nproc"));
    assert!(text(&["--max-restarts", "1", "--nproc", "1"], None, 2).contains("--out"));
    let settings = text(&["--nproc", "1", "--set", "train.no_such=1"], None, 1);
    assert!(settings.contains("no_such") && !settings.contains("rank 0"), "{settings}");
}

#[test]
fn workers_are_this_program_with_the_other_arguments() {
    let output = glm_trainer(&["--nproc", "1", "--data", "/no/such/folder"], None);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no folder /no/such/folder") && stderr.contains("rank 0 (host "), "{stderr}");
}
