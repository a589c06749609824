//! This rank and its store, as used by everything that reads or writes the store.

use std::time::Duration;

use libtorch_ext::distributed::StoreError;

use super::error::DistributedError;
use super::failure::FailureError;

/// This rank and its store.
#[derive(Debug, Clone)]
pub(super) struct RankContext {
    pub(super) rank: usize,
    pub(super) world_size: usize,
    /// Number of restarts so far. Keys in the store contain it, so that attempts do not interfere.
    pub(super) attempt: u32,
    pub(super) host: String,
    /// Timeout for waiting for another rank.
    pub(super) timeout: Duration,
    /// Process that serves the store, for messages.
    pub(super) server: &'static str,
    /// Address of the store, for messages.
    pub(super) address: String,
}

impl RankContext {
    /// Returns the key with this name in the store.
    pub(super) fn key(&self, name: &str) -> String {
        format!("glm/{}/{name}", self.attempt)
    }

    /// Converts an error of the store.
    pub(super) fn store_error(&self, error: StoreError) -> DistributedError {
        DistributedError::of_store(error, self.server)
    }

    /// Converts an error of reading or writing failures in the store.
    pub(super) fn failure_error(&self, error: FailureError) -> DistributedError {
        match error {
            FailureError::Store(error) => self.store_error(error),
            error => DistributedError::Failure(error),
        }
    }
}
