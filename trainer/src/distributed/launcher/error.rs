//! Errors of a launch.

use std::ffi::OsString;
use std::io;

use libtorch_ext::distributed::StoreError;
use thiserror::Error;

use crate::distributed::failure::Failure;

/// Error of a launch.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// A worker failed in the last attempt. If several failed, this is the root cause.
    #[error("{0}")]
    Worker(Failure),
    /// The store cannot be served.
    #[error("cannot serve the store for the workers: {0}")]
    Store(StoreError),
    /// Signal handlers cannot be installed.
    #[error("cannot install signal handlers")]
    Signals(#[source] io::Error),
    /// A worker cannot be started.
    #[error(
        "cannot start rank {rank} of {world_size} ({program:?}); check the available memory and the limit on processes \
         (ulimit -u)"
    )]
    Start {
        /// Rank of the worker.
        rank: usize,
        /// Number of workers.
        world_size: usize,
        /// Program of the worker.
        program: OsString,
        /// Error of the system.
        source: io::Error,
    },
    /// The state of a worker cannot be determined.
    #[error("cannot wait for rank {rank}")]
    Wait {
        /// Rank of the worker.
        rank: usize,
        /// Error of the system.
        source: io::Error,
    },
}
