//! Raw data: where it lies ([`input`]) and what a record of it says (one module a format behind the trait [`Format`]).
//!
//! Every format becomes the same thing, a [`Passage`] with its questions in standardised text. What is wrong with a record is
//! a [`RecordError`], what is wrong with one question only a [`QuestionError`]: the other questions of its passage stay.

pub mod input;
pub mod record;
pub mod text;

use std::ops::Range;

use glm_schemas::cloze::CharSpan;
use glm_schemas::encoding::EncodingError;
use thiserror::Error;

/// A format of raw cloze data, one record a line.
pub trait Format: Sync {
    /// The name for people.
    fn name(&self) -> &'static str;

    /// Parses one record. With `labelled`, a question without a right answer is an error of that question.
    ///
    /// # Errors
    /// [`RecordError`] where nothing of the record can be used.
    fn parse(&self, record: &str, labelled: bool) -> Result<Passage, RecordError>;
}

/// A passage, everything that is said about it, in standardised text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Index of the passage in the raw data.
    pub id: i64,
    /// Where it comes from, for example a newspaper.
    pub source: String,
    /// The text, as it is tokenized.
    pub text: String,
    /// Every mention of an entity, in code points of `text`, in the order of the record. None is empty.
    pub mentions: Vec<CharSpan>,
    /// The distinct entities, sorted by code point: the candidate answers.
    pub candidates: Vec<String>,
    /// The questions, in the order of the record.
    pub questions: Vec<Result<Question, RejectedQuestion>>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Index of the question in the raw data.
    pub id: i64,
    /// The query, blank included.
    pub text: String,
    /// Where the blank is: bytes of `text`.
    pub blank: Range<usize>,
    /// The right answers: indices into the passage's candidates, ascending. Empty where answers are not given.
    pub answers: Vec<usize>,
}

/// A question that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("question {position}{}: {error}", match id { Some(id) => format!(" (idx {id})"), None => String::new() })]
pub struct RejectedQuestion {
    /// Its place in the record, from 0.
    pub position: usize,
    /// Its index in the raw data, where it has one.
    pub id: Option<i64>,
    /// What is wrong.
    pub error: QuestionError,
}

/// Why a whole record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Bytes that are no text.
    #[error("not UTF-8 at byte {position} of the line")]
    NotText {
        /// Offset of the first bad byte.
        position: usize,
    },
    /// A line beyond all measure: a file of another kind.
    #[error("the line is longer than {limit} bytes; only its beginning is kept here")]
    TooLong {
        /// The longest line that is read.
        limit: usize,
    },
    /// Not JSON, or a field is missing or of another type.
    #[error("not a record of this format: {0}")]
    Syntax(String),
    /// An entity that is not in the text.
    #[error("entity {position} spans {start} to {end} (inclusive), but the passage has {length} code points")]
    EntityOutOfRange {
        /// Its place in the list of entities, from 0.
        position: usize,
        /// First code point.
        start: i64,
        /// Last code point.
        end: i64,
        /// Code points of the passage.
        length: usize,
    },
    /// An entity that ends before it starts.
    #[error("entity {position} starts at {start} and ends before, at {end} (inclusive)")]
    EntityReversed {
        /// Its place in the list of entities, from 0.
        position: usize,
        /// First code point.
        start: i64,
        /// Last code point.
        end: i64,
    },
    /// Entities that repeat a long text over and over.
    #[error("the entities are longer than {limit} bytes together")]
    EntitiesTooLong {
        /// How long they may be.
        limit: usize,
    },
}

/// Why a question cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuestionError {
    /// A field is missing.
    #[error("no `{0}`")]
    Missing(&'static str),
    /// No blank, or more than one.
    #[error("the query holds `{}` {found} times, it must hold it once", record::PLACEHOLDER)]
    Placeholder {
        /// How often it is there.
        found: usize,
    },
    /// Nothing to choose from.
    #[error("the passage has no entities, so there is nothing to choose from")]
    NoCandidates,
    /// The split needs answers.
    #[error("no answers are given")]
    NoAnswers,
    /// A right answer that is not among the candidates.
    #[error("the answer `{0}` is not among the passage's entities")]
    AnswerNotAnEntity(String),
    /// Too long for the model, whatever is cut off the passage.
    #[error(transparent)]
    TooLong(#[from] EncodingErrorText),
}

/// The message of an [`EncodingError`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct EncodingErrorText(String);

impl From<EncodingError> for QuestionError {
    fn from(error: EncodingError) -> Self {
        Self::TooLong(EncodingErrorText(error.to_string()))
    }
}
