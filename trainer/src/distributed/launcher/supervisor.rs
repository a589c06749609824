//! One attempt: all workers from their start to the end of the last.

use std::ffi::c_int;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use libtorch_ext::distributed::Store;

use super::signals::{self, Event, Inbox};
use super::worker::{Ending, Place, Worker, WorkerCommand};
use super::{LaunchError, Options, Outcome};
use crate::distributed::failure::{self, Failure};

/// How long to wait for the last output of workers that have ended; only a process that left their group can hold it up.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Verdict {
    /// No worker failed.
    Ended(Outcome),
    /// One did.
    Failed {
        /// The failure that the others follow from.
        cause: Failure,
        /// Whether workers had been asked to stop, so that none is to be started again.
        stopping: bool,
    },
}

/// What is being waited for, beside workers that end.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Nothing.
    Running,
    /// One has failed; until then the others may end by themselves.
    Grace(Instant),
    /// They have got SIGTERM; until then they may obey it.
    Terminating(Instant),
    /// They have got SIGKILL.
    Killed,
}

/// Workers that were started together.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    options: &'a Options,
    store: &'a Store,
    inbox: &'a Inbox,
    number: u32,
    host: String,
    workers: Vec<Worker>,
    /// Has no sender any more when all that workers print has been passed on.
    output: Receiver<()>,
    phase: Phase,
    /// What the launcher knows of failures by itself, in the order in which it learnt of them.
    failures: Vec<Failure>,
    /// Signals to stop that were passed on.
    stops: Vec<c_int>,
}

impl<'a> Attempt<'a> {
    /// Starts all workers. Where one cannot be started those before it are killed.
    pub(super) fn start(
        options: &'a Options,
        command: &WorkerCommand,
        store: &'a Store,
        inbox: &'a Inbox,
        number: u32,
    ) -> Result<Self, LaunchError> {
        let (listening, output) = channel();
        let start = |rank| {
            let Options { world_size, threads, .. } = *options;
            let place = Place { rank, world_size, port: store.port(), attempt: number, threads };
            let program = command.program.clone();
            Worker::start(command, &place, &listening).map_err(|source| LaunchError::Start {
                rank,
                world_size,
                program,
                source,
            })
        };
        let workers = (0..options.world_size).map(start).collect::<Result<_, _>>()?;
        let (host, phase) = (failure::host_name(), Phase::Running);
        Ok(Self { options, store, inbox, number, host, workers, output, phase, failures: Vec::new(), stops: Vec::new() })
    }

    /// Waits until all workers have ended.
    pub(super) fn watch(mut self) -> Result<Verdict, LaunchError> {
        self.reap()?;
        while self.workers.iter().any(Worker::runs) {
            match self.inbox.next(self.phase.until()) {
                Event::Child => {}
                Event::Signal { signal, stops } => self.pass_on(signal, stops),
                Event::Late => self.press(),
            }
            // Whatever woke us: one message may stand for several workers.
            self.reap()?;
        }
        // Nobody sends anything: it is over when the last sender is gone.
        if self.output.recv_timeout(LAST_OUTPUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a process that a worker left behind holds its output open; what it prints from here on is lost");
        }
        Ok(self.verdict())
    }

    /// Takes note of workers that have ended.
    fn reap(&mut self) -> Result<(), LaunchError> {
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            let (rank, pid) = (worker.rank(), worker.pid());
            if !worker.reap().map_err(|source| LaunchError::Wait { rank, source })? {
                continue;
            }
            match worker.ended().cloned() {
                None | Some(Ending::Done | Ending::Interrupted) => {}
                Some(ending) => self.failed(rank, pid, ending),
            }
        }
        Ok(())
    }

    /// Tells of a worker that failed: the terminal, the other workers, and with the first one the time that they have.
    fn failed(&mut self, rank: usize, pid: u32, ending: Ending) {
        // One that had to be ended did not fail by itself.
        let because_of = match self.phase {
            Phase::Terminating(_) | Phase::Killed => self.cause().map(|cause| cause.rank),
            Phase::Running | Phase::Grace(_) => None,
        };
        let reason = match (&ending, because_of) {
            (Ending::Killed(libc::SIGKILL), None) => {
                format!("{ending}; where nobody did that, memory ran out, which the system's log tells")
            }
            _ => ending.to_string(),
        };
        let failure = Failure { rank, host: self.host.clone(), pid, reason, because_of };
        if let Err(error) = failure::publish(self.store, self.number, &failure) {
            tracing::warn!("the other ranks cannot be told: {error}");
        }
        match self.phase {
            Phase::Running if self.workers.iter().any(Worker::runs) => {
                let grace = self.options.grace;
                tracing::error!("{failure}; the other ranks have {} s to end by themselves", grace.as_secs_f64());
            }
            _ => tracing::error!("{failure}"),
        }
        if let Phase::Running = self.phase {
            self.phase = Phase::Grace(Instant::now() + self.options.grace);
        }
        self.failures.push(failure);
    }

    fn pass_on(&mut self, signal: c_int, stops: bool) {
        tracing::debug!("passing {} on to all workers", signals::name(signal));
        self.workers.iter().for_each(|worker| worker.signal(signal));
        if stops {
            self.stops.push(signal);
        }
    }

    /// The next means of ending workers.
    fn press(&mut self) {
        let (signal, next) = match self.phase {
            Phase::Grace(_) => (libc::SIGTERM, Phase::Terminating(Instant::now() + self.options.kill_after)),
            Phase::Terminating(_) => (libc::SIGKILL, Phase::Killed),
            Phase::Running | Phase::Killed => return,
        };
        for worker in self.workers.iter().filter(|worker| worker.runs()) {
            tracing::warn!("rank {} (pid {}) still runs: sending it {}", worker.rank(), worker.pid(), signals::name(signal));
            worker.signal(signal);
        }
        self.phase = next;
    }

    /// The failure that others follow from, of what ranks have written and what the launcher saw.
    fn cause(&self) -> Option<Failure> {
        let written = failure::all(self.store, self.number, self.options.world_size).unwrap_or_else(|error| {
            tracing::warn!("what ranks have written of their failures cannot be read: {error}");
            Vec::new()
        });
        let known = if written.is_empty() { &self.failures } else { &written };
        failure::first_cause(known).cloned()
    }

    fn verdict(&self) -> Verdict {
        let ended = |ending| self.workers.iter().any(|worker| worker.ended() == Some(&ending));
        let stopping = !self.stops.is_empty();
        // A failure that a rank has written is one only if some rank ended as failed, too.
        let cause = self.failures.first().and_then(|_| self.cause());
        match cause {
            // Asked twice, workers end at once, in the midst of what they do with others, and before they can be asked they
            // end by the signal itself.
            Some(cause) if self.stops.len() < 2 && !self.was_stopped(cause.rank) => Verdict::Failed { cause, stopping },
            Some(_) => Verdict::Ended(Outcome::Interrupted),
            None if ended(Ending::Interrupted) => Verdict::Ended(Outcome::Interrupted),
            None => Verdict::Ended(Outcome::Finished),
        }
    }

    /// Whether a rank ended by a signal to stop that was passed on to it.
    fn was_stopped(&self, rank: usize) -> bool {
        let ending = self.workers.iter().find(|worker| worker.rank() == rank).and_then(Worker::ended);
        matches!(ending, Some(Ending::Killed(signal)) if self.stops.contains(signal))
    }
}

impl Phase {
    fn until(self) -> Option<Instant> {
        match self {
            Self::Grace(until) | Self::Terminating(until) => Some(until),
            Self::Running | Self::Killed => None,
        }
    }
}
