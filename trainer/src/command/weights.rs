//! Arguments for weights, and the weights and data of a result.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use glm_schemas::manifest::Split;
use serde::Serialize;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::locate::{CheckpointChoice, Located};
use crate::checkpoint::weights::Weights;

/// Weights that a command uses.
#[derive(Debug, Clone, Args)]
pub struct WeightArgs {
    /// Weights: a file, folder, archive or URL, as for `run --init`; of a run, the best checkpoint
    #[arg(long, value_name = "PATH")]
    pub init: PathBuf,
    /// Checkpoint, if --init is the folder of a run: best, latest or the number of its step [default: best, or latest if none was evaluated]
    #[arg(long, value_name = "WHICH")]
    pub checkpoint: Option<CheckpointChoice>,
}

impl WeightArgs {
    /// Opens the weights.
    ///
    /// # Errors
    /// [`CheckpointError`] if they cannot be read or are damaged.
    pub fn open(&self) -> Result<Weights, CheckpointError> {
        Weights::open_checkpoint(&self.init, self.checkpoint)
    }
}

/// Weights and data of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// File of the weights, and the checkpoint of a run that it belongs to.
    pub weights: Located,
    /// Folder of the data set's shards, or a file.
    pub data: PathBuf,
    /// Split of the data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Fingerprint of the data set, or sha256 of the file.
    pub fingerprint: String,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weights, data, split, .. } = self;
        writeln!(f, "{:<20}  {}", "weights", weights.path.display())?;
        match split {
            Some(split) => writeln!(f, "{:<20}  {}, split {split}", "data", data.display()),
            None => writeln!(f, "{:<20}  {}", "data", data.display()),
        }
    }
}
