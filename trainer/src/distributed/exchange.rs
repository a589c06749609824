//! Values that ranks exchange on a background thread, while training continues.

use std::time::Instant;

use libtorch_ext::distributed::Store;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::RankContext;
use super::error::DistributedError;
use super::values::{missing, put, take};

/// A connection of its own to the store. It does not use the process group, whose collectives must have one order on all ranks.
#[derive(Debug)]
pub struct Exchange {
    context: RankContext,
    store: Store,
}

impl Exchange {
    pub(super) fn new(context: RankContext, store: Store) -> Self {
        Self { context, store }
    }

    /// Rank of this process.
    pub fn rank(&self) -> usize {
        self.context.rank
    }

    /// Number of ranks.
    pub fn ranks(&self) -> usize {
        self.context.world_size
    }

    /// Publishes the value of this rank under a name, which must be new.
    ///
    /// # Errors
    /// A [`DistributedError`] of the store.
    pub fn publish(&self, name: &str, value: &impl Serialize) -> Result<(), DistributedError> {
        put(&self.context, &self.store, &self.key(name, self.rank()), value)
    }

    /// Waits for the value that another rank publishes under a name.
    ///
    /// # Errors
    /// A [`DistributedError`] if a rank has failed, or after the timeout.
    pub fn wait<T: DeserializeOwned>(&self, name: &str, rank: usize) -> Result<T, DistributedError> {
        let timed_out = || missing(&self.context, vec![rank]);
        take(&self.context, &self.store, &self.key(name, rank), rank, Instant::now(), timed_out)
    }

    fn key(&self, name: &str, rank: usize) -> String {
        self.context.key(&format!("{name}/{rank}"))
    }
}
