//! Request to stop a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

/// The run was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("stopped; nothing was published")]
pub struct Stopped;

/// Request to stop a run, for example from a signal handler. Clones share it. A run that is stopped removes its temporary files.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Requests that the run stops.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns true if the run is to stop.
    pub(super) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns an error if the run is to stop.
    pub(super) fn check(&self) -> Result<(), Stopped> {
        if self.is_requested() { Err(Stopped) } else { Ok(()) }
    }
}
