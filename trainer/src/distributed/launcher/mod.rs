//! `glm-trainer run --nproc N`: starts a worker for every rank on this machine, and watches over them until all have ended.
//!
//! The launcher computes nothing. It serves the store through which workers find each other, and which outlives any of them,
//! so that the others learn from it which rank failed and why ([`super::failure`]). What a worker is told is what torchrun
//! tells: RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, TORCHELASTIC_USE_AGENT_STORE and
//! TORCHELASTIC_RESTART_COUNT.
//!
//! # When a worker fails
//! It ends with an exit code other than 0 and [`INTERRUPTED`], or by a signal. The others have [`Options::grace`] to notice
//! and to end by themselves, then they get SIGTERM, and behind [`Options::kill_after`] SIGKILL. With
//! [`Options::max_restarts`] all are started again when none is left.
//!
//! # Signals
//! SIGINT, SIGTERM, SIGHUP and SIGUSR1 are passed on to all workers, each as often as it comes, and end the launcher when the
//! workers have ended. A launcher that is killed by SIGKILL takes them with it on Linux: each gets SIGTERM.

mod output;
mod processes;
mod signals;
mod supervisor;
mod worker;

use std::io;
use std::time::Duration;

use libtorch_ext::distributed::{Store, StoreOptions};
use tch::TchError;
use thiserror::Error;

use super::failure::Failure;
use signals::Inbox;
use supervisor::{Attempt, Verdict};

pub use processes::{OtherLauncher, Processes, ProcessesError, check_environment, threads_each};
pub use worker::WorkerCommand;

/// Exit code of a run that was asked to stop and can be resumed: EX_TEMPFAIL of sysexits.h.
pub const INTERRUPTED: u8 = 75;

/// Where the store is: workers are on this machine.
const ADDRESS: &str = "127.0.0.1";

/// How workers are started and ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many workers; at least one.
    pub world_size: usize,
    /// How often all are started again after a failure.
    pub max_restarts: u32,
    /// How long, after one has failed, the others may take to end by themselves.
    pub grace: Duration,
    /// How long they may take behind SIGTERM, until SIGKILL.
    pub kill_after: Duration,
    /// OMP_NUM_THREADS of each worker where the environment has none; `None` leaves it to libtorch. For workers on the CPU,
    /// see [`threads_each`].
    pub threads: Option<usize>,
}

impl Options {
    /// `world_size` workers, no restarts, 10 seconds for each way to end.
    pub fn new(world_size: usize) -> Self {
        let patience = Duration::from_secs(10);
        Self { world_size, max_restarts: 0, grace: patience, kill_after: patience, threads: None }
    }
}

/// How a launch ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All workers are done.
    Finished,
    /// Workers were asked to stop, and did.
    Interrupted,
}

/// Why a launch failed.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// A worker failed, in the last attempt that there was; of several the one that the others follow from.
    #[error("{0}")]
    Worker(Failure),
    /// The store could not be served.
    #[error("cannot serve the store that workers meet in")]
    Store(#[from] TchError),
    /// Signals could not be watched.
    #[error("cannot watch for signals")]
    Signals(#[source] io::Error),
    /// A worker could not be started.
    #[error(
        "cannot start rank {rank} of {world_size} ({program:?}): is there memory, and are more processes allowed (ulimit -u)?"
    )]
    Start {
        /// Its rank.
        rank: usize,
        /// How many there were to be.
        world_size: usize,
        /// Its program.
        program: std::ffi::OsString,
        /// What the system says.
        source: io::Error,
    },
    /// The system does not say whether a worker still runs.
    #[error("cannot wait for rank {rank}")]
    Wait {
        /// Its rank.
        rank: usize,
        /// What the system says.
        source: io::Error,
    },
}

/// Starts `command` for every rank and returns when all have ended; none is left behind, whatever it returns.
///
/// To be called from the main thread: on Linux workers end with the thread that started them. From then on SIGINT, SIGTERM and
/// SIGHUP do nothing to this process but what is said above, also behind the return.
///
/// # Errors
/// A [`LaunchError`]: a worker failed, once more often than there are restarts, or could not be started.
pub fn launch(options: &Options, command: &WorkerCommand) -> Result<Outcome, LaunchError> {
    let inbox = Inbox::open().map_err(LaunchError::Signals)?;
    let store = Store::serve(&StoreOptions {
        host: ADDRESS.into(),
        port: 0,
        world_size: options.world_size,
        timeout: Duration::from_secs(30),
        listen: None,
    })?;
    let mut attempt = 0;
    loop {
        match Attempt::start(options, command, &store, &inbox, attempt)?.watch()? {
            Verdict::Ended(outcome) => return Ok(outcome),
            Verdict::Failed { cause, stopping } if stopping || attempt == options.max_restarts => {
                return Err(LaunchError::Worker(cause));
            }
            Verdict::Failed { cause, .. } => {
                attempt += 1;
                tracing::warn!(
                    "{cause}: restarting all {} workers from the newest checkpoint, attempt {} of {}",
                    options.world_size,
                    u64::from(attempt) + 1,
                    u64::from(options.max_restarts) + 1,
                );
            }
        }
    }
}
