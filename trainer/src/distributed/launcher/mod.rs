//! Launcher of `glm-trainer run --nproc N`: starts one worker per rank on this machine and supervises them.
//!
//! The launcher does not train. It serves the store for rendezvous, which therefore survives the failure of any worker and lets
//! the others read which rank failed and why ([`super::failure`]). Workers get these environment variables of torchrun: RANK,
//! LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT and TORCHELASTIC_RESTART_COUNT. GLM_STORE_SERVER=launcher
//! marks that the launcher serves the store, and GLM_STORE_SECRET is its random secret.
//!
//! # Failures
//! A worker has failed if it was killed by a signal, or if its exit code is neither 0 nor [`INTERRUPTED`]. The others then have
//! [`Options::grace`] to exit. After that they receive SIGTERM, and SIGKILL after another [`Options::kill_after`]. If restarts
//! are left ([`Options::max_restarts`]), all workers are restarted once none is running.
//!
//! # Signals
//! SIGINT, SIGTERM, SIGHUP and SIGUSR1 are forwarded to all workers each time they are received, and the launcher exits after
//! the workers. If the launcher itself is killed by SIGKILL, the workers receive SIGTERM (Linux only).
//!
//! [`INTERRUPTED`]: crate::exit_code::INTERRUPTED

mod error;
mod options;
mod output;
mod processes;
mod signals;
mod supervisor;
mod worker;

use std::time::Duration;

use libtorch_ext::distributed::{Secret, Store, StoreOptions};

use signals::SignalQueue;
use supervisor::{Attempt, AttemptResult, Service};
use worker::STORE_HOST;

pub use error::LaunchError;
pub use options::{Options, Outcome};
pub use processes::{OtherLauncher, Processes, ProcessesError, check_environment, threads_per_worker};
pub use worker::WorkerCommand;

/// Runs `command` once per rank and waits until all workers have exited. No worker is left running, also after an error.
///
/// It must be called on the main thread, because on Linux workers end with the thread that started them. From then on SIGINT,
/// SIGTERM and SIGHUP have no default action in this process, also after the function has returned.
///
/// # Errors
/// A [`LaunchError`] if a worker fails and no restarts are left, or if it cannot be started.
pub fn launch(options: &Options, command: &WorkerCommand) -> Result<Outcome, LaunchError> {
    let signals = SignalQueue::open().map_err(LaunchError::Signals)?;
    let secret = Secret::random().map_err(LaunchError::Store)?;
    let timeout = Duration::from_secs(30);
    let store = Store::serve(&StoreOptions { host: STORE_HOST.into(), port: 0, secret: secret.clone(), timeout });
    let service = Service { store: store.map_err(LaunchError::Store)?, secret };
    let mut attempt = 0;
    loop {
        match Attempt::start(options, command, &service, &signals, attempt)?.supervise()? {
            AttemptResult::Ended(outcome) => return Ok(outcome),
            AttemptResult::Failed { cause, stopping } if stopping || attempt == options.max_restarts => {
                return Err(LaunchError::Worker(cause));
            }
            AttemptResult::Failed { cause, .. } => {
                attempt += 1;
                tracing::warn!(
                    "{cause}: restarting all {} workers from the latest checkpoint, attempt {} of {}",
                    options.world_size,
                    u64::from(attempt) + 1,
                    u64::from(options.max_restarts) + 1,
                );
            }
        }
    }
}
