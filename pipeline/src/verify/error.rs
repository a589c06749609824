//! Errors of `verify`.

use std::io;
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{MANIFEST_FILE, SHARDS_FOLDER};
use thiserror::Error;

/// Error of `verify`. An unsound data set is not an error but reported as a [`Fault`](super::Fault).
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The folder has no manifest.
    #[error(
        "{0} is not a data set: there is neither {0}/{MANIFEST_FILE} nor {0}/{SHARDS_FOLDER}/{MANIFEST_FILE}; `glm-prep ingest {0}` creates one from raw data",
        path.display()
    )]
    NotADataSet {
        /// The folder.
        path: PathBuf,
    },
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

/// Converts an I/O error of reading `path`.
pub(super) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> VerifyError + '_ {
    |source| VerifyError::Read { path: path.to_owned(), source }
}
