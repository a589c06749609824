//! From shards to batches: [`mmap`] gives rows, [`sampler`] their order, [`pack`] makes [`batch`]es of them, [`loader`] does
//! all that on threads of its own, and [`feed`] keeps [`device_batch`]es of the next steps ready for the one that trains.

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

use std::path::PathBuf;

use glm_schemas::cloze::ViewError;
use glm_schemas::manifest::{ManifestError, Split};
use thiserror::Error;

use crate::task::RowError;

/// Why data cannot be read.
#[derive(Debug, Error)]
pub enum DataError {
    /// There is no data set at the path.
    #[error("no data set in {}: there is no manifest.json; `glm-prep ingest {}` makes one from raw data", path.display(), path.display())]
    NotADataSet {
        /// Where it was looked for.
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
    /// The manifest is unusable.
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
        /// The split that was asked for.
        split: Split,
        /// Those that there are.
        found: Vec<Split>,
    },
    /// A split has no rows.
    #[error("split `{split}` of the data set in {} has no questions; `glm-prep stats` counts what there is", path.display())]
    EmptySplit {
        /// The data set.
        path: PathBuf,
        /// The split that was asked for.
        split: Split,
    },
    /// A shard is not the file that the manifest describes.
    #[error("{}: {found} bytes, the manifest says {expected}; the file was cut or replaced: ingest the raw data again", path.display())]
    Size {
        /// The shard.
        path: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// A shard holds another number of rows than the manifest says.
    #[error("{}: {found} rows, the manifest says {expected}; ingest the raw data again", path.display())]
    Rows {
        /// The shard.
        path: PathBuf,
        /// Rows that it has.
        found: usize,
        /// Rows that it should have.
        expected: usize,
    },
    /// A shard is damaged or no Parquet file.
    #[error("{}, row group {group}: {source}; `glm-prep verify` checks the whole data set", path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// The row group.
        group: usize,
        /// The reason.
        source: parquet::errors::ParquetError,
    },
    /// A shard's columns do not keep the contract.
    #[error("{}: {source}; ingest the raw data again", path.display())]
    Columns {
        /// The shard.
        path: PathBuf,
        /// The reason.
        source: ViewError,
    },
    /// A row cannot be packed.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A thread of the loader ended without a word.
    #[error("a data thread panicked; the message above says where")]
    Panicked,
    /// libtorch refused a batch.
    #[error("cannot make tensors of a batch: {0}")]
    Torch(#[from] tch::TchError),
}

fn names(splits: &[Split]) -> String {
    match splits {
        [] => "none".to_owned(),
        splits => splits.iter().map(|split| format!("`{split}`")).collect::<Vec<_>>().join(" and "),
    }
}
