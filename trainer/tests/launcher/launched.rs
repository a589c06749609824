//! A launcher that runs shell scripts, and access to the files with which they and the tests synchronize.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtorch_ext::distributed::{Secret, Store, StoreOptions};
use tempfile::TempDir;

/// Timeout of every wait, reached only by failing tests.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// Beginning of every script: writes the worker's pid, port and secret to files, and defines a function that waits for a file.
const PROLOGUE: &str = r#"
    echo $$ > pid.$RANK.new; mv pid.$RANK.new pid.$RANK
    echo $GLM_STORE_SECRET > secret.$RANK
    echo $MASTER_PORT > port.$RANK.new; mv port.$RANK.new port.$RANK
    until_there() { until [ -e "$1" ]; do sleep 0.05; done; }
"#;

/// A running launcher. Dropping it kills the launcher and its workers.
pub(crate) struct Launched {
    launcher: Option<Child>,
    folder: TempDir,
}

impl Launched {
    pub(crate) fn start(arguments: &[&str], script: &str) -> Self {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("read")
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.bytes(name)).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        self.text("stderr")
    }

    pub(crate) fn touch(&self, name: &str) {
        fs::write(self.path(name), "").expect("write");
    }

    /// Waits until files exist.
    pub(crate) fn wait_for(&self, names: &[&str]) {
        self.wait_until(&format!("files {names:?}"), || names.iter().all(|name| self.path(name).exists()));
    }

    pub(crate) fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < TIMEOUT, "timed out waiting for {what}; stderr:\n{}", self.stderr());
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn pid(&self, rank: usize) -> i32 {
        self.text(&format!("pid.{rank}")).trim().parse().expect("a number")
    }

    /// Connects to the launcher's store.
    pub(crate) fn store(&self) -> Store {
        let port = self.text("port.0").trim().parse().expect("a port");
        let secret = Secret::new(self.text("secret.0").trim());
        Store::connect(&StoreOptions { port, secret, ..StoreOptions::default() }).expect("the store")
    }

    pub(crate) fn send(&self, signal: i32) {
        let launcher = self.launcher.as_ref().expect("a running launcher").id();
        kill(launcher as i32, signal);
    }

    /// Waits until the launcher exits, and returns its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
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

pub(crate) fn kill(pid: i32, signal: i32) -> bool {
    // SAFETY: a system call without pointers.
    unsafe { libc::kill(pid, signal) == 0 }
}

pub(crate) fn exists(pid: i32) -> bool {
    kill(pid, 0)
}

/// Returns true if a process has exited and was not reaped.
pub(crate) fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
