//! Errors of `run`.

use thiserror::Error;

use crate::command::setup::SetupError;
use crate::data::DataError;
use crate::distributed::{DistributedError, World};
use crate::train::TrainError;

/// Errors of `run`.
#[derive(Debug, Error)]
pub enum RunError {
    /// Before training.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// During training.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl RunError {
    /// Publishes the error to the other ranks. If another rank caused it, returns an error that names that rank instead of the
    /// error of the libtorch call that failed as a consequence.
    #[must_use]
    pub fn attribute_to_peer(self, world: &World) -> Self {
        let is_failed_call = matches!(
            &self,
            Self::Setup(
                SetupError::Torch(_)
                    | SetupError::Data(DataError::Torch(_))
                    | SetupError::Distributed(DistributedError::Torch(_))
            ) | Self::Train(
                TrainError::Torch(_)
                    | TrainError::Data(DataError::Torch(_))
                    | TrainError::Distributed(DistributedError::Torch(_))
            )
        );
        let error = match is_failed_call.then(|| world.find_failed_peer()).flatten() {
            Some(peer) => Self::Train(TrainError::Distributed(peer)),
            None => self,
        };
        let caused_by = match &error {
            Self::Train(TrainError::Distributed(error)) | Self::Setup(SetupError::Distributed(error)) => match error {
                DistributedError::PeerFailed { rank, .. } | DistributedError::FailureReported { rank, .. } => Some(*rank),
                DistributedError::StoreLost { .. } => Some(0),
                _ => None,
            },
            _ => None,
        };
        world.publish_failure(error.to_string(), caused_by);
        error
    }
}
