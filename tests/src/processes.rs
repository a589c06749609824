//! Background processes of tests, which send them signals and read their output. Linux only: uses /proc.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Timeout of all waits, generous enough for a busy machine. A test that exceeds it fails with the output so far.
const LIMIT: Duration = Duration::from_secs(300);

/// Returns true if this build can train with several processes; otherwise reports on stderr that the test is skipped.
pub fn several_processes_can_train() -> bool {
    let available = libtorch_ext::distributed::available();
    if let Err(reason) = &available {
        eprintln!("skipped: {reason}");
    }
    available.is_ok()
}

/// Running program. It is killed with all its descendants on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts the program, with stdout and stderr redirected to the file `log`.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    pub fn start(command: &mut Command, log: PathBuf) -> Self {
        let out = File::create(&log).expect("log");
        let err = out.try_clone().expect("log");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("start the program");
        Self { child, log }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the output so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Polls `found` until it returns a value.
    ///
    /// # Panics
    /// Panics if the program ends first, or on a timeout.
    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none(), "exited ({ended:?}) before {what}:\n{}", self.output());
            assert!(start.elapsed() < LIMIT, "timeout waiting for: {what}\n{}", self.output());
            sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the program to exit.
    ///
    /// # Panics
    /// Panics on a timeout.
    pub fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "does not exit:\n{}", self.output());
            sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the program to exit with the given code and returns its output.
    ///
    /// # Panics
    /// Panics if the exit code differs, or on a timeout.
    pub fn ends_with(&mut self, code: i32) -> String {
        let status = self.end();
        assert_eq!(status.code(), Some(code), "{status}:\n{}", self.output());
        self.output()
    }

    /// Waits for this launcher to start a rank and returns its process id.
    ///
    /// # Panics
    /// Panics on a timeout.
    pub fn worker(&mut self, rank: usize) -> u32 {
        let (launcher, variable) = (self.pid(), format!("RANK={rank}"));
        let is_rank = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|entry| entry == variable.as_bytes())
        };
        self.until("start of the rank", || descendants(launcher).into_iter().find(is_rank))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Children first, because they could no longer be found once the launcher is gone.
            descendants(self.pid()).into_iter().for_each(kill);
            kill(self.pid());
            let _ended = self.child.wait();
        }
    }
}

/// Sends a signal, given by its name without SIG.
///
/// # Panics
/// Panics if there is no such process.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill");
    assert!(sent.success(), "kill -{name} {pid}");
}

/// Kills a process, which may have exited already.
fn kill(pid: u32) {
    let _sent = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Returns true if the process exists and has not exited.
pub fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Returns all descendants of a process.
pub fn descendants(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let all: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let parents: Vec<(u32, u32)> = all.into_iter().filter_map(|pid| Some((pid, stat(pid)?.1))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}

/// Returns state and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before these fields may contain any characters, including parentheses.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Returns an unused port below the ephemeral range, a different one on each call.
///
/// # Panics
/// Panics if all are in use.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Tests run in parallel, in separate processes or in threads of one process.
    let first = 12_000 + 16 * (std::process::id() % 1_000) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| first + GIVEN.fetch_add(1, Ordering::Relaxed)).take(4_000).find(is_free).expect("a free port")
}

/// Secret of manually started ranks.
pub const SECRET: &str = "of the tests, long enough";

/// Turns a command into one of `world_size` manually started ranks that rendezvous at a local port.
pub fn rank(mut command: Command, rank: usize, world_size: usize, port: u16) -> Command {
    command.env("RANK", rank.to_string()).env("WORLD_SIZE", world_size.to_string());
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string()).env("GLM_STORE_SECRET", SECRET);
    command
}

/// Starts all ranks without a launcher; `command` returns the command of a rank, and logs are written to `folder`.
///
/// # Panics
/// Panics if a rank cannot be started.
pub fn by_hand(folder: &Path, world_size: usize, command: impl Fn(usize) -> Command) -> Vec<Running> {
    let port = free_port();
    let start = |number| {
        let log = folder.join(format!("rank{number}.log"));
        Running::start(&mut rank(command(number), number, world_size, port), log)
    };
    (0..world_size).map(start).collect()
}

/// Returns the path of `torchrun`: `$GLM_TORCHRUN`, or the one in the repository's `.venv`. Without one, reports that the test is
/// skipped.
pub fn torchrun() -> Option<PathBuf> {
    let configured = std::env::var_os("GLM_TORCHRUN").map(PathBuf::from);
    let found = configured.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/torchrun"));
    if !found.is_file() {
        eprintln!("skipped: no torchrun in .venv (`pip install torch`), and GLM_TORCHRUN is not set");
        return None;
    }
    Some(found)
}

/// Returns a Python that can import torch: `$GLM_PYTHON`, the one in the repository's `.venv`, or the system's. Without one, reports that the
/// test is skipped.
pub fn python_with_torch() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let candidates = [std::env::var_os("GLM_PYTHON").map(PathBuf::from), Some(own), Some(PathBuf::from("python3"))];
    let found = candidates.into_iter().flatten().find(|python| {
        let import = Command::new(python).args(["-c", "import torch"]).output();
        import.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!("skipped: no Python can import torch; set GLM_PYTHON to one that can");
    }
    found
}
