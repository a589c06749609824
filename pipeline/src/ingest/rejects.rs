//! Records that go into no shard: the list of them, and how many are too many.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::shard::WriteError;
use crate::shard::publish::REJECTS_FILE;

/// How many records may be rejected in a run that still counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RejectLimit {
    /// 100 records or one in a hundred, whichever is more: a few bad lines stop no small set, and a file of another kind is noticed.
    #[default]
    Lenient,
    /// That many.
    Count(u64),
    /// That many in a hundred.
    Percent(f64),
}

impl RejectLimit {
    /// Whether `rejected` of `records` are within the limit.
    pub fn allows(self, rejected: usize, records: usize) -> bool {
        let share = |percent: f64| rejected as f64 <= records as f64 * percent / 100.0;
        match self {
            Self::Lenient => rejected <= 100 || share(1.0),
            Self::Count(most) => rejected as u64 <= most,
            Self::Percent(most) => share(most),
        }
    }
}

impl FromStr for RejectLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is neither a number of records (20) nor a share of them (0.5%)");
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.trim().parse().map_err(|_| wrong())?;
            return if (0.0..=100.0).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(wrong()) };
        }
        text.parse().map(Self::Count).map_err(|_| wrong())
    }
}

impl fmt::Display for RejectLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lenient => f.write_str("100 or 1%, whichever is more"),
            Self::Count(most) => write!(f, "{most}"),
            Self::Percent(most) => write!(f, "{most}%"),
        }
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    file: &'a str,
    line: u64,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
}

/// Writes the list; the file is there only if something was rejected.
pub(super) struct RejectLog {
    /// None where nothing is written at all.
    path: Option<PathBuf>,
    file: Option<BufWriter<File>>,
    /// The first of them, for messages.
    pub(super) first: Option<String>,
}

impl RejectLog {
    pub(super) fn new(folder: Option<&Path>) -> Self {
        Self { path: folder.map(|folder| folder.join(REJECTS_FILE)), file: None, first: None }
    }

    /// Adds the record on a line of `file`; its text, where it is at hand.
    pub(super) fn push(&mut self, file: &str, line: u64, reason: &str, raw: Option<&str>) -> Result<(), WriteError> {
        tracing::debug!("rejected {file}, line {line}: {reason}");
        self.first.get_or_insert_with(|| format!("{file}, line {line}: {reason}"));
        let Some(path) = &self.path else { return Ok(()) };
        let out = match &mut self.file {
            Some(out) => out,
            none => none.insert(BufWriter::new(File::create(path).map_err(WriteError::io(path))?)),
        };
        serde_json::to_writer(&mut *out, &Entry { file, line, reason, raw }).map_err(|e| WriteError::io(path)(e.into()))?;
        out.write_all(b"\n").map_err(WriteError::io(path))
    }

    /// Brings the list to the disk.
    pub(super) fn finish(self) -> Result<(), WriteError> {
        let (Some(path), Some(file)) = (self.path, self.file) else { return Ok(()) };
        let file = file.into_inner().map_err(|e| WriteError::io(&path)(e.into_error()))?;
        file.sync_all().map_err(WriteError::io(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let lenient = RejectLimit::default();
        assert!(lenient.allows(1, 1) && lenient.allows(100, 200) && lenient.allows(200, 20_000));
        assert!(!lenient.allows(101, 200) && !lenient.allows(201, 20_000));
        let count: RejectLimit = "3".parse().expect("count");
        assert!(count.allows(3, 3) && !count.allows(4, 1_000_000));
        let percent: RejectLimit = "2.5%".parse().expect("percent");
        assert!(percent.allows(5, 200) && !percent.allows(6, 200) && percent.allows(0, 0));
        for wrong in ["", "-1", "%", "101%", "-2%", "NaN%", "many"] {
            assert!(wrong.parse::<RejectLimit>().is_err(), "{wrong}");
        }
    }
}
