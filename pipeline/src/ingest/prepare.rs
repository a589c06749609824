//! Worker stage: turns the records of a batch into items, each independently of all others.

use glm_text::tokenize::{Session, TokenizerError};
use serde::{Deserialize, Serialize};

use super::kind::{Context, PrepareError, RowKind};
use super::records::{KEPT_OF_REJECT, Record, RecordBatch, RowFault};
use super::stages::{Clock, Stages};
use crate::source::{Framing, RecordError};

/// Inputs of the worker stage that all batches share.
#[derive(Clone, Copy)]
pub(super) struct Preparation<'a> {
    pub(super) context: Context<'a>,
    /// True if fields that the format does not define are kept.
    pub(super) keep_fields: bool,
    /// Number of permits that a batch takes at most.
    pub(super) most_permits: usize,
    pub(super) stages: &'a Stages,
}

/// Result of a record batch.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PreparedBatch<T> {
    pub(super) sequence: u64,
    /// Index among the files of the split.
    pub(super) file: usize,
    pub(super) raw_bytes: u64,
    /// Number of permits that the raw batch holds; not in part files.
    #[serde(skip)]
    pub(super) permits: usize,
    pub(super) records: Vec<PreparedRecord<T>>,
}

/// Result of a record.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PreparedRecord<T> {
    /// First line in the file, from 1.
    pub(super) line: u64,
    /// True if records of the format begin on a line of their own; false if the whole file is one record.
    pub(super) has_line: bool,
    /// Fields that the format does not define as a JSON object, if they are kept.
    pub(super) extra: Option<String>,
    /// Empty if the whole record is rejected or left out.
    pub(super) items: Vec<T>,
    /// Number of items that the filters of the format leave out.
    pub(super) left_out: usize,
    /// Set if the record or parts of it are rejected.
    pub(super) reject: Option<Reject>,
}

/// Entry of the list of rejects for a record or for some of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reject {
    /// Number of rejected parts; 0 if the whole record is rejected.
    pub(super) parts: usize,
    pub(super) reason: String,
    /// Beginning of the record; `None` for a part whose record is kept.
    pub(super) raw: Option<String>,
    /// Length of the record, if `raw` is only its beginning.
    pub(super) raw_bytes: Option<u64>,
}

/// Maximum length of a reason, in characters: messages of parsers can quote the whole record.
const REASON_CHARS: usize = 500;

impl Reject {
    /// Creates the entry for a record, of which `bytes` is all or the beginning.
    fn of_record(parts: usize, reason: &str, record: Record, bytes: &[u8]) -> Self {
        let kept = &bytes[..bytes.len().min(KEPT_OF_REJECT)];
        let is_cut = record.is_too_long || kept.len() < bytes.len();
        let mut raw = String::from_utf8_lossy(kept).into_owned();
        if is_cut {
            // The last character may be cut, which must not look like an error of the data.
            raw.truncate(raw.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
        }
        Self { parts, reason: shortened(reason), raw: Some(raw), raw_bytes: is_cut.then_some(record.bytes) }
    }

    /// Creates the entry for a part of a record that the ordered stage rejects.
    pub(super) fn of_part(reason: &str) -> Self {
        Self { parts: 1, reason: shortened(reason), raw: None, raw_bytes: None }
    }
}

fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARS) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

impl Preparation<'_> {
    /// Prepares all records of a batch.
    pub(super) fn batch<R: RowKind>(
        &self,
        session: &mut Session<'_>,
        batch: &RecordBatch,
    ) -> Result<PreparedBatch<R::Item>, TokenizerError> {
        let mut clock = Clock::start();
        let prepared = batch.records().map(|(record, bytes)| self.record::<R>(session, record, bytes, &mut clock));
        let records = prepared.collect::<Result<_, _>>()?;
        self.stages.add(&clock);
        let RecordBatch { sequence, file, raw_bytes, .. } = *batch;
        Ok(PreparedBatch { sequence, file, raw_bytes, permits: batch.permits(self.most_permits), records })
    }

    fn record<R: RowKind>(
        &self,
        session: &mut Session<'_>,
        record: Record,
        bytes: &[u8],
        clock: &mut Clock,
    ) -> Result<PreparedRecord<R::Item>, TokenizerError> {
        let format = self.context.format;
        let (line, has_line) = (record.line, format.framing() != Framing::Document);
        let place = match format.framing() {
            Framing::Array(key) => format!("{key}[{}]: ", record.position),
            _ => String::new(),
        };
        let reject = |parts: usize, reason: &str| Reject::of_record(parts, &format!("{place}{reason}"), record, bytes);
        let text = text(record, bytes, self.context.max_record_bytes);
        let prepared = text.as_ref().map_err(|error| PrepareError::from(error.clone()));
        match prepared.and_then(|text| R::prepare(&self.context, session, text, clock)) {
            Ok(found) => {
                let extra = if self.keep_fields { text.ok().and_then(|text| format.extra_fields(text)) } else { None };
                let reject = found.rejected.map(|(parts, reason)| reject(parts, &reason));
                Ok(PreparedRecord { line, has_line, extra, items: found.items, left_out: found.left_out, reject })
            }
            Err(PrepareError::Reject(reason)) => {
                let reject = Some(reject(0, &reason));
                Ok(PreparedRecord { line, has_line, extra: None, items: Vec::new(), left_out: 0, reject })
            }
            Err(PrepareError::Tokenizer(error)) => Err(error),
        }
    }
}

/// Returns the text of a record, which is all or the beginning of its bytes.
fn text(record: Record, bytes: &[u8], max_record_bytes: usize) -> Result<&str, RecordError> {
    if record.is_too_long {
        return Err(RecordError::TooLong { bytes: record.bytes, limit: max_record_bytes });
    }
    match record.fault {
        Some(RowFault::Fields { found, expected, is_csv }) => return Err(RecordError::Fields { found, expected, is_csv }),
        Some(RowFault::Quotes) => return Err(RecordError::Quotes),
        None => {}
    }
    std::str::from_utf8(bytes).map_err(|e| RecordError::NotText { position: e.valid_up_to() })
}
