//! Errors of `verify`.

use std::io;
use std::path::PathBuf;

use glm_remote::RemoteError;
use thiserror::Error;

use crate::shard::DataSetError;

/// Error of `verify`. An unsound data set is not an error but reported as a [`Fault`](super::Fault).
#[derive(Debug, Error)]
pub enum VerifyError {
    /// There is no data set, or it cannot be read.
    #[error(transparent)]
    DataSet(#[from] DataSetError),
    /// A file in an object store cannot be read.
    #[error("{0}; the data set cannot be checked")]
    Remote(#[from] RemoteError),
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}; the data set cannot be checked", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Underlying error.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}
