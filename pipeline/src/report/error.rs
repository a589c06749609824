//! Errors of `report`.

use std::io;
use std::path::PathBuf;

use glm_support::files::output::OutputError;
use thiserror::Error;

use crate::shard::DataSetError;
use crate::stats::StatsError;

/// Error of `report`.
#[derive(Debug, Error)]
pub enum ReportError {
    /// There is no data set, or it cannot be read.
    #[error(transparent)]
    DataSet(#[from] DataSetError),
    /// The shards cannot be read.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// A file next to the shards cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Underlying error.
        source: io::Error,
    },
    /// The page cannot be written.
    #[error(transparent)]
    Write(#[from] OutputError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}
