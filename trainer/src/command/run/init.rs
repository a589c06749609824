//! Weights that a run starts from.

use std::fmt;
use std::path::PathBuf;

use glm_remote::Location;

/// Initial weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// Random weights.
    Random,
    /// A file or folder of weights.
    Path(PathBuf),
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            // The query of a URL may be a signature, which differs each time.
            Self::Path(path) => match Location::of_path(path) {
                Ok(Some(location)) => location.fmt(f),
                _ => path.display().fmt(f),
            },
        }
    }
}
