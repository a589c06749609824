//! Result of a run.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::report::Summary;

/// Result of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A data set; in a dry run its counts.
    Done(Box<Summary>),
    /// A part of a data set.
    Part(PartSummary),
}

impl Outcome {
    /// Returns the summary of the data set; `None` if the run prepared a part.
    pub fn done(self) -> Option<Summary> {
        match self {
            Self::Done(summary) => Some(*summary),
            Self::Part(_) => None,
        }
    }
}

/// Summary of the preparation of a part.
#[derive(Debug, Clone, Serialize)]
pub struct PartSummary {
    /// The part, for example `0/8`.
    pub partition: String,
    /// Path of the part file.
    pub file: PathBuf,
    /// Number of records in the part.
    pub records: usize,
    /// True if the part file existed already, made from the same files with the same settings.
    pub reused: bool,
    /// Wall time in seconds.
    pub seconds: f64,
}

impl fmt::Display for PartSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, file, records, reused, seconds } = self;
        let action = if *reused { "unchanged, verified" } else { "prepared" };
        writeln!(f, "part {partition}: {records} records {action} in {seconds:.1} s: {}", file.display())?;
        writeln!(f, "run `glm-prep merge` when all parts are complete")
    }
}
