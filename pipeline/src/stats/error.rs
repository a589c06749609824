//! Errors of `stats`.

use std::io;
use std::path::PathBuf;

use arrow_schema::ArrowError;
use glm_schemas::cloze::ViewError;
use parquet::errors::ParquetError;
use thiserror::Error;

use crate::shard::DataSetError;

/// Error of `stats`.
#[derive(Debug, Error)]
pub enum StatsError {
    /// There is no data set, or it cannot be read.
    #[error(transparent)]
    DataSet(#[from] DataSetError),
    /// A shard cannot be opened.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The shard.
        path: PathBuf,
        /// Underlying error.
        source: io::Error,
    },
    /// A Parquet file is damaged.
    #[error("{} is damaged: {source}; `glm-prep verify` locates the damage", path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// Error of the Parquet reader.
        source: ParquetError,
    },
    /// A row group is damaged.
    #[error("{} is damaged: {source}; `glm-prep verify` locates the damage", path.display())]
    Arrow {
        /// The shard.
        path: PathBuf,
        /// Error of the Parquet reader.
        source: ArrowError,
    },
    /// A Parquet file is not a shard.
    #[error("{} is not a shard of cloze questions: {source}; ingest the raw data again", path.display())]
    NotAShard {
        /// The file.
        path: PathBuf,
        /// Underlying error.
        source: ViewError,
    },
    /// Documents are not truncated.
    #[error("documents are not truncated; leave out --max-seq-len")]
    NotTruncated,
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}
