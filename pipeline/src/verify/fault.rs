//! What is wrong with a data set, and exactly where.

use std::fmt;
use std::path::Path;

use glm_schemas::manifest::Split;
use serde::Serialize;

use super::VerifyError;

/// What to do about content that no ingest writes.
pub(super) const INGEST_AGAIN: &str = "ingest the raw data again";
/// What to do about bytes that changed after they were written.
pub(super) const COPY_AGAIN: &str = "copy the file again from where it was made, or ingest the raw data again";

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, relative to the folder of the shards.
    pub file: String,
    /// The split that it belongs to, where it belongs to one.
    pub split: Option<Split>,
    /// The row group, from 0.
    pub row_group: Option<usize>,
    /// The row in the file, from 0.
    pub row: Option<usize>,
    /// The column, `column.field` within a list of structs.
    pub column: Option<String>,
    /// The question.
    pub example_id: Option<String>,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
    /// What to do.
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

/// Where a row is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) split: Split,
    pub(super) row_group: usize,
    pub(super) row: usize,
    pub(super) example_id: String,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) column: &'static str,
    pub(super) found: String,
    pub(super) expected: String,
}

impl Wrong {
    pub(super) fn new(column: &'static str, found: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Self { column, found: found.to_string(), expected: expected.to_string() }
    }

    pub(super) fn at(self, place: Place) -> Fault {
        Fault {
            file: place.file,
            split: Some(place.split),
            row_group: Some(place.row_group),
            row: Some(place.row),
            column: Some(self.column.to_owned()),
            example_id: Some(place.example_id),
            found: self.found,
            expected: self.expected,
            advice: INGEST_AGAIN,
        }
    }
}

/// Why a check ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The data set is not sound.
    Fault(Box<Fault>),
    /// It cannot be known.
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

/// From what the file system said about `path`.
pub(super) fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> VerifyError + '_ {
    |source| VerifyError::Read { path: path.to_owned(), source }
}
