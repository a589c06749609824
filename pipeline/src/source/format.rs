//! Interface of a raw format.

use glm_schemas::manifest::TaskName;
use glm_text::question::BLANK;
use serde::Deserialize;
use serde_json::error::Category;

use super::document::Document;
use super::error::RecordError;
use super::head::Head;
use super::pair::RawPair;
use super::passage::Passage;

/// Rule that splits the bytes of a file into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One record per line; blank lines are skipped.
    Lines,
    /// The whole file is one record.
    Document,
    /// One JSON document; the elements of the array under this key are the records.
    Array(&'static str),
    /// Records are blocks of lines, separated by blank lines.
    Blocks,
    /// A Parquet file: a record is a JSON object with the fields of a row that the format reads.
    Parquet,
}

/// Format of raw data.
pub trait Format: Sync {
    /// Name on the command line and in the manifest.
    fn name(&self) -> &'static str;

    /// One line for `--help`.
    fn about(&self) -> &'static str;

    /// Signs that [`Format::detect`] looks for, for messages.
    fn signs(&self) -> &'static str;

    /// Rule that splits a file into records.
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    /// Returns true if a file with this beginning has the format. It is only asked of data of its own task.
    fn detect(&self, head: &Head<'_>) -> bool;

    /// Returns the parser, which determines the task.
    fn content(&self) -> Content<'_>;

    /// Returns true if records may have further fields, for [`Format::extra_fields`].
    fn has_extra_fields(&self) -> bool {
        false
    }

    /// Returns the fields of a valid record that the format does not define, as a JSON object; `None` if there are none.
    fn extra_fields(&self, _record: &str) -> Option<String> {
        None
    }
}

/// Content of a format: the parser of its records.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// Cloze questions.
    Questions(&'a dyn ClozeFormat),
    /// Records that a pattern turns into cloze questions.
    Examples,
    /// Documents.
    Documents(&'a dyn DocumentFormat),
    /// Pairs of a source and a target.
    Pairs(&'a dyn PairFormat),
}

impl Content<'_> {
    /// Returns the task of the data.
    pub fn task(&self) -> TaskName {
        match self {
            Self::Questions(_) | Self::Examples => TaskName::Cloze,
            Self::Documents(_) => TaskName::Text,
            Self::Pairs(_) => TaskName::Seq2seq,
        }
    }

    /// Returns the marker of the blank; empty if there is none.
    pub fn blank(&self) -> &'static str {
        match self {
            Self::Questions(format) => format.blank(),
            Self::Examples => BLANK,
            Self::Documents(_) | Self::Pairs(_) => "",
        }
    }
}

/// Format of cloze questions.
pub trait ClozeFormat: Format {
    /// Marker of the blank in [`Question::text`](super::Question::text).
    fn blank(&self) -> &'static str;

    /// Parses one record: one passage in most formats, one per blank where each blank has its own choices.
    /// If `labelled`, a question without a correct answer is an error of that question.
    ///
    /// # Errors
    /// [`RecordError`] if nothing of the record is usable.
    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError>;

    /// Returns true if a record is a single question.
    fn asks_once(&self) -> bool {
        false
    }

    /// Returns true if the published code reads the format. Its questions are then kept even if no model can answer them.
    fn has_published_recipe(&self) -> bool {
        false
    }
}

/// Format of documents.
pub trait DocumentFormat: Format {
    /// Parses one record: one document in most formats. `None`: one that the published filters of the corpus leave out.
    ///
    /// # Errors
    /// [`RecordError`] if the record is not of the format, or a document is empty.
    fn documents(&self, record: &str) -> Result<Vec<Option<Document>>, RecordError>;

    /// Returns true if typographic quotes and dashes become plain ones, as in the published English corpora.
    fn is_english(&self) -> bool {
        true
    }
}

/// Format of pairs.
pub trait PairFormat: Format {
    /// Parses one record: one pair in most formats. If `labelled`, a pair without a target is an error.
    ///
    /// # Errors
    /// [`RecordError`] if the record is not of the format.
    fn pairs(&self, record: &str, labelled: bool) -> Result<Vec<RawPair>, RecordError>;
}

/// Parses a record that is a JSON object.
pub(super) fn json_object<'a, T: Deserialize<'a>>(format: &'static str, record: &'a str) -> Result<T, RecordError> {
    // serde would also read an array of the field values as a struct.
    if !record.trim_start().starts_with('{') {
        return Err(RecordError::Syntax { format, message: "expected a JSON object".to_owned() });
    }
    serde_json::from_str(record).map_err(|error| {
        // A record on one line needs no line number, which would be taken for that of the file.
        let message = error.to_string().replace(" at line 1 column ", " at column ");
        match error.classify() {
            Category::Eof => RecordError::Incomplete { message },
            Category::Data => RecordError::Syntax { format, message },
            Category::Syntax | Category::Io => RecordError::Json { message },
        }
    })
}
