//! Raw data: where it lies ([`input`]) and what a record of it says (one module a format behind the trait [`Format`]).
//!
//! Every format becomes the same thing, a [`Passage`] with its questions in standardised text. What is wrong with a record is
//! a [`RecordError`], what is wrong with one question only a [`QuestionError`]: the other questions of its passage stay.
//! Which format a file has is what [`recognise`] tells.

mod archive;
pub mod cbt;
pub mod cloth;
mod discover;
pub mod input;
pub mod lambada;
pub mod original_record;
pub mod plain;
pub mod recognise;
pub mod record;
pub mod unpack;
mod words;

use std::ops::Range;

use glm_schemas::cloze::CharSpan;
use glm_schemas::encoding::EncodingError;
use glm_text::question::QuestionTextError;
use serde::Deserialize;
use thiserror::Error;

/// How the bytes of a file are cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A record a line; blank lines are left out.
    Lines,
    /// The whole file is one record.
    Document,
    /// One JSON document; the elements of the array under its key `data` are the records.
    DataArray,
    /// Records are blocks of lines, parted by blank lines.
    Blocks,
}

/// A format of raw cloze data.
pub trait Format: Sync {
    /// The name for people.
    fn name(&self) -> &'static str;

    /// How a file is cut into records.
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    /// Parses one record: one passage in most formats, and one for every blank where every blank has choices of its own.
    /// With `labelled`, a question without a right answer is an error of that question.
    ///
    /// # Errors
    /// [`RecordError`] where nothing of the record can be used.
    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError>;
}

/// Reads a record that is a JSON object.
fn json_object<'a, T: Deserialize<'a>>(record: &'a str) -> Result<T, RecordError> {
    // The parser would also take a list of the right values for an object.
    if !record.trim_start().starts_with('{') {
        return Err(RecordError::Syntax("no JSON object".to_owned()));
    }
    serde_json::from_str(record).map_err(|e| RecordError::Syntax(e.to_string()))
}

/// A passage, everything that is said about it, in standardised text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Index of the passage in the raw data; none where the format gives none, then passages are numbered in file order.
    pub id: Option<i64>,
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
    /// Index of the question in the raw data; none where the format gives none, then questions are numbered in file order.
    pub id: Option<i64>,
    /// The question's own name in the raw data, where ids are texts.
    pub name: Option<String>,
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
    /// An entity of nothing.
    #[error("entity {position} spans {start} to {end} (inclusive), where the passage has only white space")]
    EntityBlank {
        /// Its place in the list of entities, from 0.
        position: usize,
        /// First code point.
        start: i64,
        /// Last code point.
        end: i64,
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
    /// A text for every blank, and too many blanks for so long a text.
    #[error("a copy of the text for each of its {blanks} blanks is longer than {limit} bytes together; split the text")]
    PassagesTooLong {
        /// How many blanks there are.
        blanks: usize,
        /// How long the copies may be.
        limit: usize,
    },
    /// A text that asks nothing.
    #[error("`{field}` has no blank, which is written `{marker}`; it must have one or more")]
    NoBlank {
        /// Where it is looked for.
        field: &'static str,
        /// How it is written.
        marker: &'static str,
    },
    /// A list that should have an entry for every blank.
    #[error("`{field}` has {found} entries, but the text has {blanks} blanks; it must have one for each")]
    BlankCount {
        /// The list.
        field: &'static str,
        /// Its entries.
        found: usize,
        /// The blanks of the text.
        blanks: usize,
    },
    /// What is wrong with the only question.
    #[error(transparent)]
    Question(#[from] QuestionError),
}

impl From<QuestionTextError> for RecordError {
    fn from(error: QuestionTextError) -> Self {
        Self::Question(error.into())
    }
}

/// Why a question cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuestionError {
    /// A field is missing.
    #[error("no `{0}`")]
    Missing(&'static str),
    /// No blank, or more than one, or no choices.
    #[error(transparent)]
    Text(#[from] QuestionTextError),
    /// Nothing to choose from.
    #[error("the passage has no entities, so there is nothing to choose from")]
    NoCandidates,
    /// The split needs answers.
    #[error("no answers are given")]
    NoAnswers,
    /// A right answer that is not among the candidates.
    #[error("the answer `{0}` is not among the passage's entities")]
    AnswerNotAnEntity(String),
    /// A right answer that is not among the choices.
    #[error("the answer {answer} is none of the {choices} choices; expected {expected}")]
    AnswerNotAChoice {
        /// The answer, as it stands in the record.
        answer: String,
        /// How many choices there are.
        choices: usize,
        /// How an answer is written.
        expected: &'static str,
    },
    /// An open cloze of hardly any words.
    #[error("no word of 3 letters or more stands before the last one, so there is nothing to choose from")]
    NoWords,
    /// An open cloze whose answer is not a word of the text.
    #[error("the last word `{0}` is not among the words to choose from: those of 3 letters or more that stand before it")]
    LastWordIsNew(String),
    /// A question that was there before.
    #[error("a question {} came before in this split; give every question an id of its own", match name { Some(name) => format!("named `{name}`"), None => "with this idx".to_owned() })]
    Repeated {
        /// Its name, where it has one.
        name: Option<String>,
    },
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
