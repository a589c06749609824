//! Rejected records: their list and their maximum number.

use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glm_schemas::manifest::RejectsFile;
use serde::Serialize;

use crate::shard::publish::REJECTS_FILE;
use crate::shard::{HashedFile, WriteError};

/// Maximum number of rejected records of a successful run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RejectLimit {
    /// 100 records or 1 %, whichever is more. A few bad lines are accepted even in a small file, a file in another format is not.
    #[default]
    Lenient,
    /// A number of records.
    Count(u64),
    /// A percentage of the records.
    Percent(f64),
}

impl RejectLimit {
    /// Returns true if `rejected` of `records` records are within the limit.
    pub fn allows(self, rejected: usize, records: usize) -> bool {
        let share = |percent: f64| rejected as f64 <= records as f64 * percent / 100.0;
        match self {
            Self::Lenient => rejected <= 100 || share(1.0),
            Self::Count(limit) => rejected as u64 <= limit,
            Self::Percent(limit) => share(limit),
        }
    }
}

impl FromStr for RejectLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || format!("invalid limit `{text}`: expected a number of records (20) or a percentage (0.5%)");
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.trim().parse().map_err(|_| invalid())?;
            return if (0.0..=100.0).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(invalid()) };
        }
        text.parse().map(Self::Count).map_err(|_| invalid())
    }
}

impl fmt::Display for RejectLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lenient => f.write_str("100 or 1%, whichever is more"),
            Self::Count(limit) => write!(f, "{limit}"),
            Self::Percent(limit) => write!(f, "{limit}%"),
        }
    }
}

/// A line of the list.
#[derive(Serialize)]
struct Entry<'a> {
    file: &'a str,
    line: u64,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
}

/// Writer of the list. The file is only created if a record is rejected.
pub(super) struct RejectLog {
    /// `None` in a dry run.
    path: Option<PathBuf>,
    file: Option<BufWriter<HashedFile>>,
    /// The first rejected record, for messages.
    pub(super) first: Option<String>,
}

impl RejectLog {
    pub(super) fn new(folder: Option<&Path>) -> Self {
        Self { path: folder.map(|folder| folder.join(REJECTS_FILE)), file: None, first: None }
    }

    /// Adds the record on a line of `file`, with its text if available.
    pub(super) fn push(&mut self, file: &str, line: u64, reason: &str, raw: Option<&str>) -> Result<(), WriteError> {
        tracing::debug!("rejected {file}, line {line}: {reason}");
        self.first.get_or_insert_with(|| format!("{file}, line {line}: {reason}"));
        let Some(path) = &self.path else { return Ok(()) };
        let out = match &mut self.file {
            Some(out) => out,
            none => none.insert(BufWriter::new(HashedFile::create(path).map_err(WriteError::io(path))?)),
        };
        serde_json::to_writer(&mut *out, &Entry { file, line, reason, raw }).map_err(|e| WriteError::io(path)(e.into()))?;
        out.write_all(b"\n").map_err(WriteError::io(path))
    }

    /// Flushes the list to disk; `None` if nothing was rejected.
    pub(super) fn finish(self) -> Result<Option<RejectsFile>, WriteError> {
        let (Some(path), Some(file)) = (self.path, self.file) else { return Ok(None) };
        let file = file.into_inner().map_err(|e| WriteError::io(&path)(e.into_error()))?;
        let (bytes, sha256) = file.finish().map_err(WriteError::io(&path))?;
        Ok(Some(RejectsFile { bytes, sha256 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed_and_applied() {
        let lenient = RejectLimit::default();
        assert!(lenient.allows(1, 1) && lenient.allows(100, 200) && lenient.allows(200, 20_000));
        assert!(!lenient.allows(101, 200) && !lenient.allows(201, 20_000));
        let count: RejectLimit = "3".parse().expect("count");
        assert!(count.allows(3, 3) && !count.allows(4, 1_000_000));
        let percent: RejectLimit = "2.5%".parse().expect("percent");
        assert!(percent.allows(5, 200) && !percent.allows(6, 200) && percent.allows(0, 0));
        for invalid in ["", "-1", "%", "101%", "-2%", "NaN%", "many"] {
            assert!(invalid.parse::<RejectLimit>().is_err(), "{invalid}");
        }
    }
}
