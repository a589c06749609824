//! Errors of manifests.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::SCHEMA_VERSION;

/// Error of reading a manifest.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Not JSON, or not a manifest.
    #[error("not a manifest of a data set: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Another version of the contract.
    #[error(
        "data set has schema version {found}, this program reads version {SCHEMA_VERSION}; \
         make it anew with `glm-prep ingest {}` and the options used before",
        dir.display()
    )]
    Version {
        /// Version found.
        found: u32,
        /// Folder of the raw data; see [`ManifestError::at`].
        dir: PathBuf,
    },
    /// The text does not end with its checksum.
    #[error(
        "it does not end with its checksum; the manifest was truncated or edited: copy it again, or ingest the raw data again"
    )]
    NoChecksum,
    /// The text does not match its checksum.
    #[error(
        "its sha256 is {found}, not {expected}; the manifest was damaged or edited: copy it again, or ingest the raw data again"
    )]
    Checksum {
        /// sha256 of the text before the checksum.
        found: String,
        /// Checksum at the end of the text.
        expected: String,
    },
    /// The content does not match its fingerprint.
    #[error(
        "the fingerprint is {found}, but the shards listed have {expected}; the manifest was edited or belongs to other shards"
    )]
    Fingerprint {
        /// Fingerprint in the file.
        found: String,
        /// Fingerprint of the content.
        expected: String,
    },
}

impl ManifestError {
    /// Completes the command in the message with the folder of the raw data; `path` is the path of the manifest.
    pub fn at(self, path: &Path) -> Self {
        match self {
            Self::Version { found, .. } => {
                let dir = path.parent().and_then(Path::parent).filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
                Self::Version { found, dir: dir.to_owned() }
            }
            other => other,
        }
    }
}
