//! Rejected records: their list, their number and their reasons.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::RejectsFile;
use serde::{Deserialize, Serialize};

use super::error::IngestError;
use super::prepare::Reject;
use super::reasons::Reasons;
use super::reject_limit::RejectLimit;
use crate::shard::publish::REJECTS_FILE;
use crate::shard::{HashedFile, WriteError};

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
    file: Option<BufWriter<HashedFile>>,
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
            none => none.insert(BufWriter::new(HashedFile::create(path).map_err(WriteError::io(path))?)),
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

    /// Flushes the list to disk. Returns the reasons, and size and checksum of the list; `None` if nothing was rejected.
    pub(super) fn finish(self) -> Result<(Reasons, Option<RejectsFile>), WriteError> {
        let (Some(path), Some(file)) = (self.path, self.file) else { return Ok((self.reasons, None)) };
        let file = file.into_inner().map_err(|e| WriteError::io(&path)(e.into_error()))?;
        let (bytes, sha256) = file.finish().map_err(WriteError::io(&path))?;
        Ok((self.reasons, Some(RejectsFile { bytes, sha256 })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
