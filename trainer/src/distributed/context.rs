//! This rank and its store, as used by everything that reads or writes the store.

use std::fmt::Display;
use std::time::Duration;

use super::error::DistributedError;

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

    /// Converts an error of the store: calls fail if its server is gone.
    pub(super) fn store_lost(&self, error: &impl Display) -> DistributedError {
        tracing::debug!("store: {error}");
        DistributedError::StoreLost { server: self.server, address: self.address.clone() }
    }
}
