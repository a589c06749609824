//! One worker: how it is started, told of signals, and found to have ended.

use std::ffi::{OsString, c_int};
use std::fmt;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use super::signals;
use super::{INTERRUPTED, output};

/// What a worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl WorkerCommand {
    /// This program with the arguments that it has, but for `flags`, each of which takes a value.
    ///
    /// # Errors
    /// An [`io::Error`] where the system does not say which program this is.
    pub fn this_program_without(flags: &[&str]) -> io::Result<Self> {
        let program = std::env::current_exe()?.into_os_string();
        Ok(Self { program, arguments: without(flags, std::env::args_os().skip(1)) })
    }
}

/// `arguments` without `--flag VALUE` and `--flag=VALUE`.
fn without(flags: &[&str], mut arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut rest = Vec::new();
    while let Some(argument) = arguments.next() {
        let bytes = argument.as_encoded_bytes();
        if flags.iter().any(|flag| bytes == flag.as_bytes()) {
            let _value = arguments.next();
        } else if !flags.iter().any(|flag| bytes.strip_prefix(flag.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))) {
            rest.push(argument);
        }
    }
    rest
}

/// A worker's place among the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) rank: usize,
    pub(super) world_size: usize,
    /// Where the launcher serves the store.
    pub(super) port: u16,
    /// 0 for the first.
    pub(super) attempt: u32,
    /// Threads of operators, for a worker on the CPU whose environment does not say.
    pub(super) threads: Option<usize>,
}

impl Place {
    /// The variables that tell a worker of it: those of torchrun.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let Self { rank, world_size, port, attempt, threads } = *self;
        let mut variables = vec![
            ("RANK", rank.to_string()),
            ("LOCAL_RANK", rank.to_string()),
            ("WORLD_SIZE", world_size.to_string()),
            ("LOCAL_WORLD_SIZE", world_size.to_string()),
            ("MASTER_ADDR", super::ADDRESS.to_owned()),
            ("MASTER_PORT", port.to_string()),
            // The store is the launcher's: rank 0 connects to it like the others.
            ("TORCHELASTIC_USE_AGENT_STORE", "True".to_owned()),
            ("TORCHELASTIC_RESTART_COUNT", attempt.to_string()),
        ];
        if let Some(threads) = threads.filter(|_| std::env::var_os("OMP_NUM_THREADS").is_none()) {
            variables.push(("OMP_NUM_THREADS", threads.to_string()));
        }
        variables
    }
}

/// A worker that was started. When dropped it is killed and reaped.
#[derive(Debug)]
pub(super) struct Worker {
    rank: usize,
    child: Child,
    ended: Option<Ending>,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// With exit code 0.
    Done,
    /// With [`INTERRUPTED`].
    Interrupted,
    /// With another exit code.
    Failed(i32),
    /// By a signal.
    Killed(c_int),
}

impl Ending {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Done,
            (Some(code), _) if code == i32::from(INTERRUPTED) => Self::Interrupted,
            (Some(code), _) => Self::Failed(code),
            (None, signal) => Self::Killed(signal.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Interrupted => f.write_str("stopped"),
            Self::Failed(code) => write!(f, "ended with exit code {code}"),
            Self::Killed(signal) => write!(f, "killed by {}", signals::name(*signal)),
        }
    }
}

impl Worker {
    /// Starts it, in a process group of its own, so that a terminal's Ctrl-C reaches it through the launcher only. Rank 0 has
    /// the launcher's output, which its progress bar needs; what others print is passed on to stderr by threads that keep a
    /// clone of `listening` until the end of it.
    ///
    /// Linux sends the worker SIGTERM when the *thread* that calls this ends: it is to be one that lasts as long as the
    /// launcher.
    pub(super) fn start(command: &WorkerCommand, place: &Place, listening: &Sender<()>) -> io::Result<Self> {
        let piped = || if place.rank == 0 { Stdio::inherit() } else { Stdio::piped() };
        let mut process = Command::new(&command.program);
        process.args(&command.arguments).envs(place.environment()).process_group(0);
        process.stdin(Stdio::null()).stdout(piped()).stderr(piped());
        let launcher = std::process::id();
        // SAFETY: between fork and exec the closure makes system calls only (prctl, getppid, signal), which take no lock and
        // no memory from the heap; errors are made of a number.
        unsafe { process.pre_exec(move || end_with(launcher)) };
        let mut worker = Self { rank: place.rank, child: process.spawn()?, ended: None };
        // From here on an error drops, and so kills, the worker.
        if let Some(out) = worker.child.stdout.take() {
            listen(place.rank, out, listening.clone())?;
        }
        if let Some(err) = worker.child.stderr.take() {
            listen(place.rank, err, listening.clone())?;
        }
        Ok(worker)
    }

    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn runs(&self) -> bool {
        self.ended.is_none()
    }

    /// How it ended, once it has.
    pub(super) fn ended(&self) -> Option<&Ending> {
        self.ended.as_ref()
    }

    /// Sends a signal to the worker and what it started, if it has not been found to have ended.
    pub(super) fn signal(&self, signal: c_int) {
        if let (true, Ok(group)) = (self.runs(), libc::pid_t::try_from(self.child.id())) {
            // SAFETY: a system call without pointers. The worker is not reaped yet, so the number is still its group's.
            unsafe { libc::kill(-group, signal) };
        }
    }

    /// Whether it has ended just now: it is reaped then, and what it left running is killed, which would otherwise hold its
    /// pipes and its GPU.
    pub(super) fn reap(&mut self) -> io::Result<bool> {
        if !self.runs() || !self.is_zombie()? {
            return Ok(false);
        }
        self.wait().map(|()| true)
    }

    /// Whether it has ended and waits to be reaped, which this does not do: as long as it waits its number is given to nobody
    /// else.
    fn is_zombie(&self) -> io::Result<bool> {
        // SAFETY: zeros are a value of this plain struct.
        let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        loop {
            // SAFETY: `found` is there to be written to.
            let failed = unsafe { libc::waitid(libc::P_PID, self.child.id() as libc::id_t, &mut found, flags) } != 0;
            match failed.then(io::Error::last_os_error) {
                Some(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(error) => return Err(error),
                // SAFETY: waitid has filled it in for a child, or left it zero.
                None => return Ok(unsafe { found.si_pid() } != 0),
            }
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        self.signal(libc::SIGKILL);
        self.ended = Some(Ending::of(self.child.wait()?));
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.runs() {
            let _gone = self.wait();
        }
    }
}

/// Passes what a worker prints on to stderr.
fn listen(rank: usize, from: impl io::Read + Send + 'static, listening: Sender<()>) -> io::Result<()> {
    let pass_on = move || {
        output::pass_on(rank, from, io::stderr());
        drop(listening);
    };
    thread::Builder::new().name(format!("output of rank {rank}")).spawn(pass_on).map(drop)
}

/// Run by the worker before its program starts: makes it end with the launcher, and lets it write to the terminal.
fn end_with(launcher: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a system call without pointers.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // A launcher that ended before that sends nothing any more, and the worker has another parent.
        // SAFETY: a system call without pointers.
        if u32::try_from(unsafe { libc::getppid() }) != Ok(launcher) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = launcher;
    // Of a terminal's groups only the launcher's is in the foreground; under `stty tostop` others are stopped when they write.
    // SAFETY: a system call; to ignore a signal needs no handler.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launchers_own_flags_are_left_out() {
        let typed = ["run", "--nproc", "4", "--out", "x", "--max-restarts=2", "--nproc=4", "--nprocess", "--set", "a=b"];
        let rest = without(&["--nproc", "--max-restarts"], typed.iter().map(Into::into));
        assert_eq!(rest, ["run", "--out", "x", "--nprocess", "--set", "a=b"]);
    }

    #[test]
    fn endings() {
        let exit = |code: i32| Ending::of(ExitStatus::from_raw(code << 8));
        assert_eq!((exit(0), exit(75), exit(1)), (Ending::Done, Ending::Interrupted, Ending::Failed(1)));
        assert_eq!(exit(3).to_string(), "ended with exit code 3");
        assert_eq!(Ending::of(ExitStatus::from_raw(9)).to_string(), "killed by SIGKILL (9)");
    }

    fn place(rank: usize) -> Place {
        Place { rank, world_size: 2, port: 1, attempt: 0, threads: None }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let command = WorkerCommand { program: "/no/such/program".into(), arguments: Vec::new() };
        let error = Worker::start(&command, &place(1), &std::sync::mpsc::channel().0).expect_err("no program");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_worker_that_is_dropped_is_killed_and_reaped() {
        let command = WorkerCommand { program: "sleep".into(), arguments: vec!["1000".into()] };
        let (listening, output) = std::sync::mpsc::channel();
        let mut worker = Worker::start(&command, &place(1), &listening).expect("a worker");
        drop(listening);
        assert!(worker.runs() && !worker.reap().expect("reap"));
        drop(worker);
        // Nobody holds the other end of its pipes any more.
        assert_eq!(output.recv(), Err(std::sync::mpsc::RecvError));
    }
}
