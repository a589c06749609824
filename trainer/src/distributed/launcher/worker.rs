//! Worker process: start, signals and exit status.

use std::ffi::{OsString, c_int};
use std::fmt;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use libtorch_ext::distributed::Secret;

use super::{output, signals};
use crate::distributed::environment::{LAUNCHER_SERVES, STORE_SECRET, STORE_SERVER};
use crate::exit_code::{ABORTED, DONE, INTERRUPTED};

/// Address of the store: all workers are on this machine.
pub(super) const STORE_HOST: &str = "127.0.0.1";

/// Command that each worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// Program.
    pub program: OsString,
    /// Arguments.
    pub arguments: Vec<OsString>,
}

impl WorkerCommand {
    /// Returns this program with its arguments except for `flags`, each of which has a value.
    ///
    /// # Errors
    /// An [`io::Error`] if the path of this program cannot be determined.
    pub fn this_program_without(flags: &[&str]) -> io::Result<Self> {
        let program = std::env::current_exe()?.into_os_string();
        Ok(Self { program, arguments: without(flags, std::env::args_os().skip(1)) })
    }
}

/// Removes `--flag VALUE` and `--flag=VALUE` from `arguments`.
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

/// Rank and environment of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkerSpec<'a> {
    pub(super) rank: usize,
    pub(super) world_size: usize,
    /// See [`Options::alone`](super::Options::alone).
    pub(super) alone: bool,
    /// Port of the store.
    pub(super) store_port: u16,
    /// Secret of the store.
    pub(super) store_secret: &'a Secret,
    /// Number of restarts so far.
    pub(super) attempt: u32,
    /// Value of OMP_NUM_THREADS, if the environment does not set it.
    pub(super) threads: Option<usize>,
}

impl WorkerSpec<'_> {
    /// Returns the worker's environment variables: those of torchrun, except that the launcher serves the store.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let Self { rank, world_size, alone, store_port, store_secret, attempt, threads } = *self;
        if alone {
            return Vec::new();
        }
        let mut variables = vec![
            ("RANK", rank.to_string()),
            ("LOCAL_RANK", rank.to_string()),
            ("WORLD_SIZE", world_size.to_string()),
            ("LOCAL_WORLD_SIZE", world_size.to_string()),
            ("MASTER_ADDR", STORE_HOST.to_owned()),
            ("MASTER_PORT", store_port.to_string()),
            // Rank 0 connects to the store like the others.
            (STORE_SERVER, LAUNCHER_SERVES.to_owned()),
            (STORE_SECRET, store_secret.text().to_owned()),
            ("TORCHELASTIC_RESTART_COUNT", attempt.to_string()),
        ];
        if let Some(threads) = threads.filter(|_| std::env::var_os("OMP_NUM_THREADS").is_none()) {
            variables.push(("OMP_NUM_THREADS", threads.to_string()));
        }
        variables
    }
}

/// A started worker. It is killed and reaped when dropped.
#[derive(Debug)]
pub(super) struct Worker {
    rank: usize,
    child: Child,
    exit: Option<WorkerExit>,
}

/// Exit status of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WorkerExit {
    /// Exit code [`DONE`].
    Done,
    /// Exit code [`INTERRUPTED`].
    Interrupted,
    /// Exit code [`ABORTED`].
    Aborted,
    /// Another exit code.
    Failed(i32),
    /// Killed by a signal.
    Killed(c_int),
}

impl WorkerExit {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) if code == i32::from(DONE) => Self::Done,
            (Some(code), _) if code == i32::from(INTERRUPTED) => Self::Interrupted,
            (Some(code), _) if code == i32::from(ABORTED) => Self::Aborted,
            (Some(code), _) => Self::Failed(code),
            (None, signal) => Self::Killed(signal.unwrap_or_default()),
        }
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Aborted => f.write_str("aborted"),
            Self::Failed(code) => write!(f, "exited with code {code}"),
            Self::Killed(signal) => write!(f, "killed by {}", signals::name(*signal)),
        }
    }
}

impl Worker {
    /// Starts a worker in its own process group, so that only the launcher receives Ctrl-C from a terminal. Rank 0 inherits the
    /// launcher's stdout and stderr, which its progress bar needs. The output of other ranks is forwarded to stderr by threads
    /// that hold a clone of `forwarding` until end of file.
    ///
    /// On Linux the worker receives SIGTERM when the calling *thread* ends, so this must be called on a thread that lives as
    /// long as the launcher.
    pub(super) fn start(command: &WorkerCommand, spec: &WorkerSpec<'_>, forwarding: &Sender<()>) -> io::Result<Self> {
        let output = || if spec.rank == 0 { Stdio::inherit() } else { Stdio::piped() };
        let mut process = Command::new(&command.program);
        process.args(&command.arguments).envs(spec.environment()).process_group(0);
        process.stdin(Stdio::null()).stdout(output()).stderr(output());
        let launcher = std::process::id();
        // SAFETY: between fork and exec the closure only makes system calls (prctl, getppid, signal). It neither takes locks
        // nor allocates memory, also for errors, which are created from an error number.
        unsafe { process.pre_exec(move || prepare_child(launcher)) };
        let mut worker = Self { rank: spec.rank, child: process.spawn()?, exit: None };
        // From here on an error drops the worker, which kills it.
        if let Some(out) = worker.child.stdout.take() {
            forward_output(spec.rank, out, forwarding.clone())?;
        }
        if let Some(err) = worker.child.stderr.take() {
            forward_output(spec.rank, err, forwarding.clone())?;
        }
        Ok(worker)
    }

    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_running(&self) -> bool {
        self.exit.is_none()
    }

    /// Returns the exit status of a worker that was reaped.
    pub(super) fn exit(&self) -> Option<&WorkerExit> {
        self.exit.as_ref()
    }

    /// Sends a signal to the worker's process group, unless it was reaped.
    pub(super) fn signal(&self, signal: c_int) {
        if let (true, Ok(group)) = (self.is_running(), libc::pid_t::try_from(self.child.id())) {
            // SAFETY: a system call without pointers. The worker was not reaped, so the id has not been reused.
            unsafe { libc::kill(-group, signal) };
        }
    }

    /// Reaps the worker if it has exited, and kills the rest of its process group, which would keep pipes and GPU in use.
    /// Returns true if it was reaped by this call.
    pub(super) fn reap(&mut self) -> io::Result<bool> {
        if !self.is_running() || !self.is_zombie()? {
            return Ok(false);
        }
        self.wait().map(|()| true)
    }

    /// Returns true if the worker has exited but was not reaped. It is not reaped here, so that its id is not reused.
    fn is_zombie(&self) -> io::Result<bool> {
        // SAFETY: all zeros is a valid value of this plain C struct.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        loop {
            // SAFETY: `info` is valid for writes.
            let failed = unsafe { libc::waitid(libc::P_PID, self.child.id() as libc::id_t, &mut info, flags) } != 0;
            match failed.then(io::Error::last_os_error) {
                Some(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(error) => return Err(error),
                // SAFETY: waitid succeeded, so the field is set for a child that has exited, or zero.
                None => return Ok(unsafe { info.si_pid() } != 0),
            }
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        self.signal(libc::SIGKILL);
        self.exit = Some(WorkerExit::of(self.child.wait()?));
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_running() {
            let _ignored = self.wait();
        }
    }
}

/// Starts a thread that forwards a worker's output to stderr.
fn forward_output(rank: usize, from: impl io::Read + Send + 'static, forwarding: Sender<()>) -> io::Result<()> {
    let forward = move || {
        output::forward_lines(rank, from, io::stderr());
        drop(forwarding);
    };
    thread::Builder::new().name(format!("output of rank {rank}")).spawn(forward).map(drop)
}

/// Runs in the child process before its program: makes it end with the launcher, and lets it write to the terminal.
fn prepare_child(launcher: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a system call without pointers.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // If the launcher had already ended, no signal will be sent, and the child has another parent.
        // SAFETY: a system call without pointers.
        if u32::try_from(unsafe { libc::getppid() }) != Ok(launcher) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = launcher;
    // The child is in a background process group; with `stty tostop`, writing to the terminal would stop it.
    // SAFETY: a system call that ignores a signal and installs no handler.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_launcher_are_removed() {
        let typed = ["run", "--nproc", "4", "--out", "x", "--max-restarts=2", "--nproc=4", "--nprocess", "--set", "a=b"];
        let rest = without(&["--nproc", "--max-restarts"], typed.iter().map(Into::into));
        assert_eq!(rest, ["run", "--out", "x", "--nprocess", "--set", "a=b"]);
    }

    #[test]
    fn exit_statuses_are_classified() {
        let exit = |code: i32| WorkerExit::of(ExitStatus::from_raw(code << 8));
        assert_eq!((exit(0), exit(75), exit(1)), (WorkerExit::Done, WorkerExit::Interrupted, WorkerExit::Failed(1)));
        assert_eq!(exit(3).to_string(), "exited with code 3");
        assert_eq!(WorkerExit::of(ExitStatus::from_raw(9)).to_string(), "killed by SIGKILL (9)");
    }

    fn spec(store_secret: &Secret) -> WorkerSpec<'_> {
        WorkerSpec { rank: 1, world_size: 2, alone: false, store_port: 1, store_secret, attempt: 0, threads: None }
    }

    #[test]
    fn a_worker_alone_does_not_know_of_ranks() {
        let secret = Secret::none();
        assert!(spec(&secret).environment().iter().any(|(name, _)| *name == "RANK"));
        assert_eq!(WorkerSpec { rank: 0, world_size: 1, alone: true, ..spec(&secret) }.environment(), []);
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let command = WorkerCommand { program: "/no/such/program".into(), arguments: Vec::new() };
        let error = Worker::start(&command, &spec(&Secret::none()), &std::sync::mpsc::channel().0).expect_err("no program");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn dropping_a_worker_kills_and_reaps_it() {
        let command = WorkerCommand { program: "sleep".into(), arguments: vec!["1000".into()] };
        let (forwarding, output) = std::sync::mpsc::channel();
        let mut worker = Worker::start(&command, &spec(&Secret::none()), &forwarding).expect("a worker");
        drop(forwarding);
        assert!(worker.is_running() && !worker.reap().expect("reap"));
        drop(worker);
        // Its pipes are closed.
        assert_eq!(output.recv(), Err(std::sync::mpsc::RecvError));
    }
}
