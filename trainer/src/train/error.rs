//! Why a run fails, and whose fault it is.

use tch::TchError;
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::config::SettingsError;
use crate::data::DataError;
use crate::device::DeviceError;
use crate::distributed::{DistributedError, World};
use crate::record::metrics::MetricsError;
use crate::train::anomaly::TooManySkippedSteps;

/// Why a run failed.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Weights or checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The metrics file.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Things that do not go together, or are missing.
    #[error("{0}")]
    Setup(String),
    /// Steps that are skipped one behind the other.
    #[error(transparent)]
    TooManySkippedSteps(#[from] TooManySkippedSteps),
    /// Several processes.
    #[error(transparent)]
    Distributed(#[from] DistributedError),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] TchError),
}

impl TrainError {
    /// What an error means where several processes train: if another rank is the reason, that one is named instead of what
    /// libtorch says of a call that failed for it. The others are told.
    #[must_use]
    pub fn attribute_to_peer(self, world: &World) -> Self {
        let of_a_call = match &self {
            Self::Torch(_) | Self::Data(DataError::Torch(_)) => true,
            Self::Distributed(error) => matches!(error, DistributedError::Torch(_)),
            _ => false,
        };
        let error = match of_a_call.then(|| world.find_failed_peer()).flatten() {
            Some(error) => Self::Distributed(error),
            None => self,
        };
        let caused_by = match &error {
            Self::Distributed(DistributedError::PeerFailed { rank, .. } | DistributedError::FailureReported { rank, .. }) => {
                Some(*rank)
            }
            Self::Distributed(DistributedError::StoreLost { .. }) => Some(0),
            _ => None,
        };
        world.publish_failure(error.to_string(), caused_by);
        error
    }
}
