//! Faults of a data set.

use std::fmt;

use glm_schemas::manifest::Split;
use serde::Serialize;

use super::error::VerifyError;

/// Advice for content that ingest does not write.
pub(super) const INGEST_AGAIN: &str = "ingest the raw data again";
/// Advice for bytes that changed after ingest.
pub(super) const COPY_AGAIN: &str = "copy the file again from its origin, or ingest the raw data again";

/// A fault and its location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// File name: that of the manifest, or of a file in the folder of the Parquet files.
    pub file: String,
    /// Split of the file, if any.
    pub split: Option<Split>,
    /// Row group, from 0.
    pub row_group: Option<usize>,
    /// Row in the file, from 0.
    pub row: Option<usize>,
    /// Column, `column.field` for a list of structs.
    pub column: Option<String>,
    /// Example id of the row.
    pub example_id: Option<String>,
    /// Found content.
    pub found: String,
    /// Expected content.
    pub expected: String,
    /// Advice to the user.
    pub advice: &'static str,
}

impl Fault {
    pub(super) fn new(file: &str, found: impl Into<String>, expected: impl Into<String>, advice: &'static str) -> Self {
        Self {
            file: file.to_owned(),
            split: None,
            row_group: None,
            row: None,
            column: None,
            example_id: None,
            found: found.into(),
            expected: expected.into(),
            advice,
        }
    }

    pub(super) fn of(self, split: Split) -> Self {
        Self { split: Some(split), ..self }
    }

    pub(super) fn in_group(self, row_group: usize) -> Self {
        Self { row_group: Some(row_group), ..self }
    }

    pub(super) fn in_column(self, column: impl Into<String>) -> Self {
        Self { column: Some(column.into()), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(row_group) = self.row_group {
            write!(f, ", row group {row_group}")?;
        }
        if let Some(row) = self.row {
            write!(f, ", row {row}")?;
        }
        if let Some(example_id) = &self.example_id {
            write!(f, " ({example_id:?})")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": found {}, expected {}; {}", self.found, self.expected, self.advice)
    }
}

/// Location of a row.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) file: String,
    pub(super) split: Split,
    pub(super) row_group: usize,
    pub(super) row: usize,
    pub(super) example_id: String,
}

/// Violation of a rule in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) column: &'static str,
    pub(super) found: String,
    pub(super) expected: String,
}

impl Violation {
    pub(super) fn new(column: &'static str, found: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Self { column, found: found.to_string(), expected: expected.to_string() }
    }

    pub(super) fn at(self, location: Location) -> Fault {
        Fault {
            file: location.file,
            split: Some(location.split),
            row_group: Some(location.row_group),
            row: Some(location.row),
            column: Some(self.column.to_owned()),
            example_id: Some(location.example_id),
            found: self.found,
            expected: self.expected,
            advice: INGEST_AGAIN,
        }
    }
}

/// Reason to end a check early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The data set has a fault.
    Fault(Box<Fault>),
    /// The data set cannot be checked.
    Error(VerifyError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<VerifyError> for Stop {
    fn from(error: VerifyError) -> Self {
        Self::Error(error)
    }
}
