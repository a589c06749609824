//! Interface of a raw format.

use serde::Deserialize;

use super::error::RecordError;
use super::head::Head;
use super::passage::Passage;

/// Rule that splits the bytes of a file into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One record per line; blank lines are skipped.
    Lines,
    /// The whole file is one record.
    Document,
    /// One JSON document; the elements of the array under its key `data` are the records.
    DataArray,
    /// Records are blocks of lines, separated by blank lines.
    Blocks,
}

/// Format of raw cloze data.
pub trait Format: Sync {
    /// Name on the command line and in the manifest.
    fn name(&self) -> &'static str;

    /// One line for `--help`.
    fn about(&self) -> &'static str;

    /// Marker of the blank in [`Question::text`](super::Question::text).
    fn blank(&self) -> &'static str;

    /// Rule that splits a file into records.
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    /// Returns true if a file with this beginning has the format.
    fn detect(&self, head: &Head<'_>) -> bool;

    /// Parses one record: one passage in most formats, one per blank where each blank has its own choices.
    /// If `labelled`, a question without a correct answer is an error of that question.
    ///
    /// # Errors
    /// [`RecordError`] if nothing of the record is usable.
    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError>;

    /// Returns true if records may have further fields, for [`Format::extra_fields`].
    fn has_extra_fields(&self) -> bool {
        false
    }

    /// Returns the fields of a valid record that the format does not define, as a JSON object; `None` if there are none.
    fn extra_fields(&self, _record: &str) -> Option<String> {
        None
    }
}

/// Parses a record that is a JSON object.
pub(super) fn json_object<'a, T: Deserialize<'a>>(record: &'a str) -> Result<T, RecordError> {
    // serde would also read an array of the field values as a struct.
    if !record.trim_start().starts_with('{') {
        return Err(RecordError::Syntax("expected a JSON object".to_owned()));
    }
    serde_json::from_str(record).map_err(|e| RecordError::Syntax(e.to_string()))
}
