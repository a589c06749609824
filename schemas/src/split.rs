//! Parts of a data set.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training.
    Train,
    /// Evaluation during training ("dev" in the published code).
    Val,
    /// Test, without answers.
    Test,
}

impl Split {
    /// All splits, in the order in which they are ingested.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// Name in file names and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// Name in the ids of the published code.
    pub fn published_name(self) -> &'static str {
        match self {
            Self::Val => "dev",
            other => other.name(),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|split| split.name() == name)
            .ok_or_else(|| format!("invalid split `{name}`: expected train, val or test"))
    }
}
