//! Rejected records: their list and their maximum number.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::IngestError;
use super::prepare::Reject;
use super::reasons::Reasons;
use crate::shard::WriteError;
use crate::shard::publish::REJECTS_FILE;

/// Maximum number of rejected records of a successful run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RejectLimit {
    /// 1 % of the records, but at least 1 and at most 100.
    #[default]
    Strict,
    /// A number of records.
    Count(u64),
    /// A percentage of the records.
    Percent(f64),
}

/// Maximum number of rejected records by default, whatever the number of records.
const MOST_BY_DEFAULT: usize = 100;

impl RejectLimit {
    /// Returns true if `rejected` of `records` records are within the limit.
    pub fn allows(self, rejected: usize, records: usize) -> bool {
        let share = |percent: f64| rejected as f64 <= records as f64 * percent / 100.0;
        match self {
            Self::Strict => rejected <= 1 || (rejected <= MOST_BY_DEFAULT && share(1.0)),
            Self::Count(limit) => rejected as u64 <= limit,
            Self::Percent(limit) => share(limit),
        }
    }

    /// Returns true if the limit is exceeded whatever number of records follows.
    fn is_exceeded(self, rejected: usize) -> bool {
        match self {
            Self::Strict => rejected > MOST_BY_DEFAULT,
            Self::Count(limit) => rejected as u64 > limit,
            Self::Percent(_) => false,
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
            Self::Strict => f.write_str("1%, at least 1 and at most 100"),
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
    /// Length of the record, if `raw` is only its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<u64>,
}

/// Fields of a line of the list that are read again.
#[derive(Deserialize)]
struct ListedReason {
    file: String,
    line: u64,
    reason: String,
}

/// Counts the reasons in the list of a published data set; none if there is no list.
pub(super) fn listed_reasons(shards: &Path) -> Result<Reasons, WriteError> {
    let path = shards.join(REJECTS_FILE);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Reasons::default()),
        opened => opened.map_err(WriteError::io(&path))?,
    };
    let mut reasons = Reasons::default();
    for line in BufReader::new(file).lines() {
        // A line that ingest did not write has no reason to count.
        if let Ok(ListedReason { file, line, reason }) = serde_json::from_str(&line.map_err(WriteError::io(&path))?) {
            reasons.add(&file, line, &reason);
        }
    }
    Ok(reasons)
}

/// Writer of the list. The file is only created if a record is rejected.
pub(super) struct RejectLog {
    /// `None` in a dry run.
    path: Option<PathBuf>,
    file: Option<BufWriter<File>>,
    limit: RejectLimit,
    /// Number of records so far.
    records: usize,
    /// Number of records that were rejected in whole or in part.
    rejected: usize,
    pub(super) reasons: Reasons,
}

impl RejectLog {
    pub(super) fn new(folder: Option<&Path>, limit: RejectLimit) -> Self {
        let path = folder.map(|folder| folder.join(REJECTS_FILE));
        Self { path, file: None, limit, records: 0, rejected: 0, reasons: Reasons::default() }
    }

    /// Adds a reject of the record on a line of `file`.
    pub(super) fn push(&mut self, file: &str, line: u64, reject: &Reject) -> Result<(), WriteError> {
        let Reject { reason, raw, raw_bytes, .. } = reject;
        tracing::debug!("rejected {file}, line {line}: {reason}");
        self.reasons.add(file, line, reason);
        let Some(path) = &self.path else { return Ok(()) };
        let out = match &mut self.file {
            Some(out) => out,
            none => none.insert(BufWriter::new(File::create(path).map_err(WriteError::io(path))?)),
        };
        let entry = Entry { file, line, reason, raw: raw.as_deref(), raw_bytes: *raw_bytes };
        serde_json::to_writer(&mut *out, &entry).map_err(|e| WriteError::io(path)(e.into()))?;
        out.write_all(b"\n").map_err(WriteError::io(path))
    }

    /// Counts a record. Fails as soon as the limit is exceeded whatever follows, so that a file of another kind is not read to its
    /// end.
    pub(super) fn count(&mut self, is_rejected: bool) -> Result<(), IngestError> {
        self.records += 1;
        self.rejected += usize::from(is_rejected);
        if is_rejected && self.limit.is_exceeded(self.rejected) { Err(self.too_many(true)) } else { Ok(()) }
    }

    /// Checks the limit when all records are counted.
    pub(super) fn check(&self) -> Result<(), IngestError> {
        if self.limit.allows(self.rejected, self.records) { Ok(()) } else { Err(self.too_many(false)) }
    }

    fn too_many(&self, stopped: bool) -> IngestError {
        let Self { rejected, records, limit, .. } = *self;
        IngestError::TooManyRejects { rejected, stopped, records, limit, reasons: self.reasons.to_string() }
    }

    /// Returns the number of records that were rejected in whole or in part.
    pub(super) fn rejected(&self) -> usize {
        self.rejected
    }

    /// Flushes the list to disk; returns the reasons.
    pub(super) fn finish(self) -> Result<Reasons, WriteError> {
        if let (Some(path), Some(file)) = (self.path, self.file) {
            let file = file.into_inner().map_err(|e| WriteError::io(&path)(e.into_error()))?;
            file.sync_all().map_err(WriteError::io(&path))?;
        }
        Ok(self.reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed_and_applied() {
        let strict = RejectLimit::default();
        assert!(strict.allows(0, 0) && strict.allows(1, 1) && strict.allows(2, 200) && strict.allows(100, 1_000_000));
        assert!(!strict.allows(2, 199) && !strict.allows(101, 1_000_000));
        let count: RejectLimit = "3".parse().expect("count");
        assert!(count.allows(3, 3) && !count.allows(4, 1_000_000));
        let percent: RejectLimit = "2.5%".parse().expect("percent");
        assert!(percent.allows(5, 200) && !percent.allows(6, 200) && percent.allows(0, 0));
        for invalid in ["", "-1", "%", "101%", "-2%", "NaN%", "many"] {
            assert!(invalid.parse::<RejectLimit>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn counting_stops_when_the_limit_is_exceeded_whatever_follows() {
        for (limit, last) in [(RejectLimit::Strict, 100), (RejectLimit::Count(3), 3)] {
            let mut log = RejectLog::new(None, limit);
            log.count(false).expect("not rejected");
            for _ in 0..last {
                log.count(true).expect("within");
            }
            let error = log.count(true).expect_err("too many").to_string();
            assert!(error.starts_with(&format!("{} of the first {} records were rejected", last + 1, last + 2)), "{error}");
        }
        let mut log = RejectLog::new(None, RejectLimit::Percent(50.0));
        (0..1_000).for_each(|_| log.count(true).expect("others may follow"));
        assert!(log.check().is_err());
        (0..1_000).for_each(|_| log.count(false).expect("not rejected"));
        log.check().expect("half of them");
    }
}
