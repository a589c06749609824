//! Errors of writing a data set.

use std::io;
use std::path::{Path, PathBuf};

use arrow_schema::ArrowError;
use glm_remote::RemoteError;
use parquet::errors::ParquetError;
use thiserror::Error;

/// Error of writing a data set.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The disk is full.
    #[error("no space left on the device for {}; free some space and run it again (nothing was published)", .0.display())]
    NoSpace(PathBuf),
    /// The file system reported another error.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The Parquet library reported an error.
    #[error("cannot write the shard {}: {reason}", path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// Message of the library.
        reason: String,
    },
    /// The path of the data set is taken by something else.
    #[error("{} {found}: not a data set of this program, so it was not replaced; move it away and run it again", path.display())]
    NotOurs {
        /// The path.
        path: PathBuf,
        /// Description of its content.
        found: String,
    },
    /// The data set cannot be published in an object store.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Another run is writing to the same folder.
    #[error("another run is writing to {}; wait until it has finished", .0.display())]
    Locked(PathBuf),
}

impl WriteError {
    /// Converts an I/O error on `path`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    /// Converts an error of the Parquet library on `path`.
    pub(super) fn parquet(path: &Path) -> impl FnOnce(ParquetError) -> Self + '_ {
        |error| match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(source) => Self::io(path)(*source),
                Err(other) => Self::Parquet { path: path.to_owned(), reason: other.to_string() },
            },
            other => Self::Parquet { path: path.to_owned(), reason: other.to_string() },
        }
    }

    /// Converts an error of the Arrow library on `path`.
    pub(super) fn arrow(path: &Path) -> impl FnOnce(ArrowError) -> Self + '_ {
        |error| Self::Parquet { path: path.to_owned(), reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_distinguished_from_other_failures() {
        let path = Path::new("x.parquet");
        let full = ParquetError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(WriteError::parquet(path)(full), WriteError::NoSpace(_)));
        let denied = ParquetError::from(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(matches!(WriteError::parquet(path)(denied), WriteError::Io { .. }));
    }
}
