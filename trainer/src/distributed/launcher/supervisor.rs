//! Supervision of one attempt: starts all workers and waits until they have exited.

use std::ffi::c_int;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use libtorch_ext::distributed::{Secret, Store};

use super::error::LaunchError;
use super::options::{Options, Outcome};
use super::signals::{self, Event, SignalQueue};
use super::worker::{Worker, WorkerCommand, WorkerExit, WorkerSpec};
use crate::distributed::failure::{self, Failure};

/// Maximum time to wait for the remaining output of exited workers. Only a process that has left their process groups can still
/// hold a pipe open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Store that the launcher serves for all attempts.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) store: Store,
    pub(super) secret: Secret,
}

/// Result of an attempt.
#[derive(Debug)]
pub(super) enum AttemptResult {
    /// No worker failed.
    Ended(Outcome),
    /// At least one worker failed.
    Failed {
        /// The failure that caused the others.
        cause: Failure,
        /// True if workers had been asked to stop, in which case they are not restarted.
        stopping: bool,
    },
}

/// Phase of an attempt. Deadlines are those for the next phase.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// No worker has failed.
    Running,
    /// A worker has failed, and the others may exit by themselves.
    Grace(Instant),
    /// Workers have received SIGTERM.
    Terminating(Instant),
    /// Workers have received SIGKILL.
    Killed,
}

/// Workers that were started together.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    options: &'a Options,
    service: &'a Service,
    signals: &'a SignalQueue,
    number: u32,
    host: String,
    workers: Vec<Worker>,
    /// Disconnected when all output of the workers has been forwarded.
    output: Receiver<()>,
    phase: Phase,
    /// Failures observed by the launcher, in the order of observation.
    failures: Vec<Failure>,
    /// Stop signals that were forwarded.
    stop_signals: Vec<c_int>,
}

impl<'a> Attempt<'a> {
    /// Starts all workers. If one cannot be started, those already started are killed.
    pub(super) fn start(
        options: &'a Options,
        command: &WorkerCommand,
        service: &'a Service,
        signals: &'a SignalQueue,
        number: u32,
    ) -> Result<Self, LaunchError> {
        let (forwarding, output) = channel();
        let start = |rank| {
            let Options { world_size, alone, threads, .. } = *options;
            let spec = WorkerSpec {
                rank,
                world_size,
                alone,
                store_port: service.store.port(),
                store_secret: &service.secret,
                attempt: number,
                threads,
            };
            let program = command.program.clone();
            Worker::start(command, &spec, &forwarding).map_err(|source| LaunchError::Start {
                rank,
                world_size,
                program,
                source,
            })
        };
        let workers = (0..options.world_size).map(start).collect::<Result<_, _>>()?;
        let (host, phase) = (failure::host_name(), Phase::Running);
        let (failures, stop_signals) = (Vec::new(), Vec::new());
        Ok(Self { options, service, signals, number, host, workers, output, phase, failures, stop_signals })
    }

    /// Waits until all workers have exited.
    pub(super) fn supervise(mut self) -> Result<AttemptResult, LaunchError> {
        self.reap()?;
        while self.workers.iter().any(Worker::is_running) {
            match self.signals.next(self.phase.deadline()) {
                Event::ChildExited => {}
                Event::StopSignal(signal) => self.forward(signal),
                Event::Timeout => self.escalate(),
            }
            // After every event, because one SIGCHLD may stand for several workers.
            self.reap()?;
        }
        // Nothing is ever sent: the channel is disconnected when the last sender is dropped.
        if self.output.recv_timeout(OUTPUT_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a process started by a worker is still running; its further output is lost");
        }
        Ok(self.result())
    }

    /// Reaps workers that have exited and handles their failures.
    fn reap(&mut self) -> Result<(), LaunchError> {
        let mut failed = Vec::new();
        for worker in &mut self.workers {
            let (rank, pid) = (worker.rank(), worker.pid());
            if !worker.reap().map_err(|source| LaunchError::Wait { rank, source })? {
                continue;
            }
            match worker.exit().cloned() {
                None | Some(WorkerExit::Done | WorkerExit::Interrupted | WorkerExit::Aborted) => {}
                Some(exit) => failed.push((rank, pid, exit)),
            }
        }
        // If several have exited, one that was killed is the cause of the errors of the others.
        failed.sort_by_key(|(_, _, exit)| !matches!(exit, WorkerExit::Killed(_)));
        failed.into_iter().for_each(|(rank, pid, exit)| self.handle_failure(rank, pid, exit));
        Ok(())
    }

    /// Logs and publishes the failure of a worker. The first failure starts the grace period of the other workers.
    fn handle_failure(&mut self, rank: usize, pid: u32, exit: WorkerExit) {
        // A worker that was terminated by the launcher is not a cause.
        let caused_by = match self.phase {
            Phase::Terminating(_) | Phase::Killed => self.cause().map(|cause| cause.rank),
            Phase::Running | Phase::Grace(_) => None,
        };
        let reason = match (&exit, caused_by) {
            (WorkerExit::Killed(libc::SIGKILL), None) => {
                format!(
                    "{exit}; the system may have run out of memory, which `dmesg` shows: fewer processes or a smaller \
                     data.micro_batch_tokens need less"
                )
            }
            _ => exit.to_string(),
        };
        let failure = Failure { rank, host: self.host.clone(), pid, reason, caused_by };
        if let Err(error) = failure::publish(&self.service.store, self.number, &failure) {
            tracing::warn!("cannot publish the failure to the other ranks: {error}");
        }
        match self.phase {
            // The user has ended it.
            _ if self.was_stopped(rank) => tracing::debug!("{failure}"),
            Phase::Running if self.workers.iter().any(Worker::is_running) => {
                let grace = self.options.grace.as_secs_f64();
                tracing::error!("{failure}; waiting {grace} s for the other ranks to exit");
            }
            _ => tracing::error!("{failure}"),
        }
        if let Phase::Running = self.phase {
            self.phase = Phase::Grace(Instant::now() + self.options.grace);
        }
        self.failures.push(failure);
    }

    /// Forwards a signal to all workers.
    fn forward(&mut self, signal: c_int) {
        tracing::debug!("forwarding {} to all workers", signals::name(signal));
        self.workers.iter().for_each(|worker| worker.signal(signal));
        self.stop_signals.push(signal);
    }

    /// Sends SIGTERM, and SIGKILL the next time, to the workers that are still running.
    fn escalate(&mut self) {
        let (signal, next) = match self.phase {
            Phase::Grace(_) => (libc::SIGTERM, Phase::Terminating(Instant::now() + self.options.kill_after)),
            Phase::Terminating(_) => (libc::SIGKILL, Phase::Killed),
            Phase::Running | Phase::Killed => return,
        };
        for worker in self.workers.iter().filter(|worker| worker.is_running()) {
            let (rank, pid) = (worker.rank(), worker.pid());
            tracing::warn!("rank {rank} (pid {pid}) is still running; sending {}", signals::name(signal));
            worker.signal(signal);
        }
        self.phase = next;
    }

    /// Returns the root cause among the published failures or, if there are none, those observed by the launcher.
    fn cause(&self) -> Option<Failure> {
        let published = failure::all(&self.service.store, self.number, self.options.world_size).unwrap_or_else(|error| {
            tracing::warn!("cannot read the failures published by the ranks: {error}");
            Vec::new()
        });
        let known = if published.is_empty() { &self.failures } else { &published };
        failure::root_cause(known).cloned()
    }

    fn result(&self) -> AttemptResult {
        let any = |exit: WorkerExit| self.workers.iter().any(|worker| worker.exit() == Some(&exit));
        let stopping = !self.stop_signals.is_empty();
        // A published failure counts only if a worker also exited with an error.
        let cause = self.failures.first().and_then(|_| self.cause());
        match cause {
            // After a second stop signal workers exit at once, which makes the calls of other ranks fail.
            Some(_) if self.stop_signals.len() > 1 && any(WorkerExit::Aborted) => AttemptResult::Ended(Outcome::Aborted),
            // A worker that has not begun to watch for signals is killed by the first one, and no checkpoint is written.
            Some(cause) if self.was_stopped(cause.rank) => {
                tracing::warn!("stopped before training began; no checkpoint was written");
                AttemptResult::Ended(Outcome::Aborted)
            }
            Some(cause) => AttemptResult::Failed { cause, stopping },
            None if any(WorkerExit::Aborted) => AttemptResult::Ended(Outcome::Aborted),
            None if any(WorkerExit::Interrupted) => AttemptResult::Ended(Outcome::Interrupted),
            None => AttemptResult::Ended(Outcome::Finished),
        }
    }

    /// Returns true if a rank was killed by a stop signal that was forwarded to it.
    fn was_stopped(&self, rank: usize) -> bool {
        let exit = self.workers.iter().find(|worker| worker.rank() == rank).and_then(Worker::exit);
        matches!(exit, Some(WorkerExit::Killed(signal)) if self.stop_signals.contains(signal))
    }
}

impl Phase {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Grace(deadline) | Self::Terminating(deadline) => Some(deadline),
            Self::Running | Self::Killed => None,
        }
    }
}
