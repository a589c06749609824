//! Data loading: [`mmap`] reads rows from shards, [`verify`] checks their checksums, [`sampler`] orders them, [`pack`] packs them into
//! [batches](crate::batch::packed), [`loader`] runs these stages on background threads, and [`feed`] copies the next steps to
//! the device.

pub mod balance;
pub mod feed;
mod find;
pub mod loader;
#[cfg(test)]
mod loader_tests;
pub mod mmap;
pub mod pack;
pub(crate) mod partition;
mod prefetcher;
pub mod sampler;
#[cfg(test)]
mod synthetic;
mod threads;
pub mod verify;

use std::path::PathBuf;

use glm_remote::RemoteError;
use glm_schemas::cloze::{ValueError, ViewError};
use glm_schemas::manifest::{ManifestError, Split};
use thiserror::Error;

use crate::batch::out_of_memory::OutOfMemory;
use crate::generate::GenerateError;
use crate::task::RowError;

/// Data loading errors.
#[derive(Debug, Error)]
pub enum DataError {
    /// The path holds no data set.
    #[error("no data set in {}: there is no manifest.json; `glm-prep ingest {}` creates one from raw data", path.display(), path.display())]
    NotADataSet {
        /// The path.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The manifest is invalid.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// The reason.
        source: ManifestError,
    },
    /// The data set has no such split.
    #[error(
        "the data set in {} has no split `{split}`; it has {}. Add its raw data and run `glm-prep ingest` again",
        path.display(), names(found)
    )]
    NoSplit {
        /// The data set.
        path: PathBuf,
        /// The requested split.
        split: Split,
        /// Splits of the data set.
        found: Vec<Split>,
    },
    /// A split has no rows.
    #[error("split `{split}` of the data set in {} has no rows; see `glm-prep stats`", path.display())]
    EmptySplit {
        /// The data set.
        path: PathBuf,
        /// The requested split.
        split: Split,
    },
    /// Texts are evaluated, and there is no tokenizer.
    #[error("texts cannot be decoded without a tokenizer; give the vocabulary of the data set with --set data.tokenizer=PATH")]
    NoTokenizer,
    /// Generation failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The results of another rank cannot be read.
    #[error("cannot read the predictions of another rank: {0}")]
    OtherRank(String),
    /// A shard's size differs from the manifest.
    #[error("{}: {found} bytes, the manifest lists {expected}; the file was truncated or replaced: ingest the raw data again", path.display())]
    Size {
        /// The shard.
        path: PathBuf,
        /// Size of the file in bytes.
        found: u64,
        /// Size in the manifest in bytes.
        expected: u64,
    },
    /// A shard's number of rows differs from the manifest.
    #[error("{}: {found} rows, the manifest lists {expected}; ingest the raw data again", path.display())]
    Rows {
        /// The shard.
        path: PathBuf,
        /// Number of rows in the file.
        found: usize,
        /// Number of rows in the manifest.
        expected: usize,
    },
    /// A shard is damaged or not a Parquet file.
    #[error("{}, row group {group}: {source}; `glm-prep verify` checks the whole data set", path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// The row group.
        group: usize,
        /// The reason.
        source: parquet::errors::ParquetError,
    },
    /// A shard's columns violate the data contract.
    #[error("{}: {source}; ingest the raw data again", path.display())]
    Columns {
        /// The shard.
        path: PathBuf,
        /// The reason.
        source: ViewError,
    },
    /// A row violates the data contract.
    #[error("{}, row group {group}, {fault}; the file is damaged: copy it or ingest the raw data again; `glm-prep verify` checks the whole data set", path.display())]
    Values {
        /// The shard.
        path: PathBuf,
        /// The row group.
        group: usize,
        /// The row, and what is wrong with it.
        fault: ValueError,
    },
    /// A shard differs from its checksum in the manifest.
    #[error("{}: the content does not match its checksum in the manifest, it was modified or damaged; copy it or ingest the raw data again", path.display())]
    Checksum {
        /// The shard.
        path: PathBuf,
    },
    /// A row cannot be packed.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A thread of the loader panicked.
    #[error("a data loading thread panicked; see its message above")]
    Panicked,
    /// A batch does not fit into memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A data set in an object store cannot be read.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// libtorch failed to make tensors.
    #[error("cannot make tensors of a batch: {0}")]
    Torch(#[from] tch::TchError),
}

fn names(splits: &[Split]) -> String {
    match splits {
        [] => "none".to_owned(),
        splits => splits.iter().map(|split| format!("`{split}`")).collect::<Vec<_>>().join(" and "),
    }
}
