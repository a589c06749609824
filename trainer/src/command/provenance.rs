//! Provenance of a result: its weights and its data.

use std::fmt;
use std::path::{Path, PathBuf};

use glm_schemas::manifest::Split;
use serde::Serialize;

use crate::checkpoint::locate::step_of;
use crate::data::mmap::DataSet;

/// Weights and data that a result was computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The weights.
    pub weights: WeightsSource,
    /// The data.
    pub data: DataSource,
}

/// A file of weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightsSource {
    /// The file.
    pub path: PathBuf,
    /// Optimizer steps that the weights were trained for, according to the name of their folder.
    pub step: Option<u64>,
}

impl WeightsSource {
    /// Describes the file `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), step: step_of(path) }
    }
}

/// A split of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataSource {
    /// Folder of the shards.
    pub path: PathBuf,
    /// The split.
    pub split: Split,
    /// Fingerprint in the manifest.
    pub fingerprint: String,
}

impl DataSource {
    /// Describes a split of a data set.
    pub fn new(data: &DataSet, split: Split) -> Self {
        Self { path: data.folder().to_owned(), split, fingerprint: data.manifest().fingerprint.clone() }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weights, data } = self;
        writeln!(f, "{:<20}  {}", "weights", weights.path.display())?;
        writeln!(f, "{:<20}  {}, split {}", "data", data.path.display(), data.split)
    }
}
