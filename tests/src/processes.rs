//! Programs that run beside a test, which signals them and looks at what they say. Linux: it reads /proc.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Nothing here takes that long, on however busy a machine; a test that waits in vain ends with what was said so far.
const LIMIT: Duration = Duration::from_secs(300);

/// Whether this build can train with several processes; if not, says on stderr that the test is skipped.
pub fn several_processes_can_train() -> bool {
    let available = libtorch_ext::distributed::available();
    if let Err(reason) = &available {
        eprintln!("skipped: {reason}");
    }
    available.is_ok()
}

/// A program that runs. It is killed with all that it started when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it; what it prints and says goes to the file `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command, log: PathBuf) -> Self {
        let out = File::create(&log).expect("log");
        let err = out.try_clone().expect("log");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("start the program");
        Self { child, log }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `found` has found something while it runs.
    ///
    /// # Panics
    /// If it ends before, or that takes for ever.
    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none(), "ended ({ended:?}) before {what}:\n{}", self.said());
            assert!(start.elapsed() < LIMIT, "{what} does not happen:\n{}", self.said());
            sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "does not end:\n{}", self.said());
            sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end, which has to be with this exit code, and returns what it said.
    ///
    /// # Panics
    /// If it is another, or it does not end.
    pub fn ends_with(&mut self, code: i32) -> String {
        let status = self.end();
        assert_eq!(status.code(), Some(code), "{status}:\n{}", self.said());
        self.said()
    }

    /// The process of the rank that this launcher has started, once it is there.
    ///
    /// # Panics
    /// If it never is.
    pub fn worker(&mut self, rank: usize) -> u32 {
        let (launcher, variable) = (self.pid(), format!("RANK={rank}"));
        let is_rank = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|entry| entry == variable.as_bytes())
        };
        self.until("a rank is started", || descendants(launcher).into_iter().find(is_rank))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Children first: those of a launcher that is gone are nobody's.
            descendants(self.pid()).into_iter().for_each(kill);
            kill(self.pid());
            let _ended = self.child.wait();
        }
    }
}

/// Sends a signal, by its name without SIG.
///
/// # Panics
/// If there is no such process.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill");
    assert!(sent.success(), "kill -{name} {pid}");
}

/// Ends a process that may be gone already.
fn kill(pid: u32) {
    let _sent = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Whether a process is there and has not ended.
pub fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Processes that this one has started, and those that they have.
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

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before them may hold anything, brackets too.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// A port that nobody listens at, below those that the system gives to connections; another one each time.
///
/// # Panics
/// If all are taken.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Tests run side by side in processes of their own, or in threads of one.
    let first = 12_000 + 16 * (std::process::id() % 1_000) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| first + GIVEN.fetch_add(1, Ordering::Relaxed)).take(4_000).find(is_free).expect("a free port")
}

/// Makes a command one of `world_size` ranks that were started by hand and meet at a port of this machine.
pub fn rank(mut command: Command, rank: usize, world_size: usize, port: u16) -> Command {
    command.env("RANK", rank.to_string()).env("WORLD_SIZE", world_size.to_string());
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    command
}

/// Starts all ranks by hand; `command` makes the one of a rank, the logs go to `folder`.
///
/// # Panics
/// If one cannot be started.
pub fn by_hand(folder: &Path, world_size: usize, command: impl Fn(usize) -> Command) -> Vec<Running> {
    let port = free_port();
    let start = |number| {
        let log = folder.join(format!("rank{number}.log"));
        Running::start(&mut rank(command(number), number, world_size, port), log)
    };
    (0..world_size).map(start).collect()
}

/// `torchrun`: `$GLM_TORCHRUN`, or what is in the repository's `.venv`; if there is none, says that the test is skipped.
pub fn torchrun() -> Option<PathBuf> {
    let said = std::env::var_os("GLM_TORCHRUN").map(PathBuf::from);
    let found = said.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/torchrun"));
    if !found.is_file() {
        eprintln!("skipped: there is no torchrun in .venv (`pip install torch`), and GLM_TORCHRUN names none");
        return None;
    }
    Some(found)
}
