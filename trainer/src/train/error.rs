//! Errors of the training loop.

use tch::TchError;
use thiserror::Error;

use crate::batch::out_of_memory::OutOfMemory;
use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::distributed::DistributedError;
use crate::train::anomaly::TooManySkippedSteps;

/// Errors of the training loop.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Data loading.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Consecutive steps were skipped.
    #[error(transparent)]
    TooManySkippedSteps(#[from] TooManySkippedSteps),
    /// Communication with other ranks.
    #[error(transparent)]
    Distributed(#[from] DistributedError),
    /// A batch does not fit into memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] TchError),
}
