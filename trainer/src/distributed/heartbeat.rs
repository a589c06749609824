//! Heartbeats: every rank publishes its step and phase in the store at regular intervals.

use std::fmt;
use std::time::Duration;

use libtorch_ext::distributed::{Store, StoreError};
use serde::{Deserialize, Serialize};

use super::context::RankContext;
use super::error::DistributedError;

/// Phase of training, in the order of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the first step.
    Start,
    /// Waiting for data.
    Data,
    /// Forward passes, and backward passes without gradient reduction.
    Compute,
    /// Backward pass with gradient reduction, and the following sums. On a CPU, a rank may wait for another from this phase on.
    Reduce,
    /// Reading the outcome of a step.
    Outcome,
    /// Evaluation.
    Evaluation,
    /// Writing a checkpoint on rank 0.
    Checkpoint,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "starting",
            Self::Data => "waiting for data",
            Self::Compute => "computing",
            Self::Reduce => "reducing gradients",
            Self::Outcome => "reading the outcome",
            Self::Evaluation => "evaluating",
            Self::Checkpoint => "writing a checkpoint",
        })
    }
}

/// Heartbeat of a rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Heartbeat {
    pub(super) rank: usize,
    pub(super) host: String,
    pub(super) pid: u32,
    /// Number of heartbeats so far. It increases as long as the process is alive.
    pub(super) count: u64,
    pub(super) step: u64,
    pub(super) phase: Phase,
    /// Time since the phase began, in seconds.
    pub(super) seconds: f64,
}

impl Heartbeat {
    /// Publishes the heartbeat.
    pub(super) fn write(&self, context: &RankContext, store: &Store) -> Result<(), DistributedError> {
        let key = key(context, self.rank);
        let json = serde_json::to_vec(self);
        let json = json.map_err(|source| DistributedError::InvalidValue { rank: self.rank, key: key.clone(), source })?;
        store.set(&key, &json).map_err(|error| context.store_error(error))
    }

    /// Reads the latest heartbeats of all ranks that have published one.
    pub(super) fn read_all(context: &RankContext, store: &Store) -> Result<Vec<Self>, StoreError> {
        let mut heartbeats = Vec::with_capacity(context.world_size);
        for key in (0..context.world_size).map(|rank| key(context, rank)) {
            if store.check(&[&key])?
                && let Ok(heartbeat) = serde_json::from_slice(&store.get(&key)?)
            {
                heartbeats.push(heartbeat);
            }
        }
        Ok(heartbeats)
    }
}

/// Returns the time between two heartbeats.
pub(super) fn interval(timeout: Duration) -> Duration {
    (timeout / 20).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

fn key(context: &RankContext, rank: usize) -> String {
    context.key(&format!("heartbeat/{rank}"))
}

#[cfg(test)]
mod tests {
    use super::Phase::{Checkpoint, Compute, Data, Evaluation, Outcome, Reduce, Start};

    #[test]
    fn phases_are_in_the_order_of_a_step() {
        assert!([Start, Data, Compute, Reduce, Outcome, Evaluation, Checkpoint].is_sorted());
    }
}
