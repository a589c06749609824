//! Errors in records and questions.

use glm_schemas::cloze::encoding::EncodingError;
use glm_text::question::QuestionTextError;
use thiserror::Error;

/// Rejected question of a passage.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("question {position}{}: {error}", match id { Some(id) => format!(" (idx {id})"), None => String::new() })]
pub struct RejectedQuestion {
    /// Position in the record, from 0.
    pub position: usize,
    /// Index in the raw data, if it has one.
    pub id: Option<i64>,
    /// Reason.
    pub error: QuestionError,
}

/// Error that rejects a whole record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes are not text.
    #[error("not UTF-8 at byte {position} of the line")]
    NotText {
        /// Offset of the first invalid byte.
        position: usize,
    },
    /// The record exceeds the limit; the file is a book, or probably not text with one record per line.
    #[error("the record has {bytes} bytes; the limit is {limit}, which --max-record-mib raises for documents")]
    TooLong {
        /// Length of the record.
        bytes: u64,
        /// Maximum length of a record.
        limit: usize,
    },
    /// A row has not the fields of its table.
    #[error(
        "expected {expected} fields, one for each column, but found {found}; fields are separated by {}",
        if *is_csv { "commas, and those with commas, quotes or line breaks are in quotes" } else { "tabs, and quotes are part of them" }
    )]
    Fields {
        /// Number of fields of the row.
        found: usize,
        /// Number of columns.
        expected: usize,
        /// True for CSV, false for TSV.
        is_csv: bool,
    },
    /// A field of a CSV file has text after its closing quote.
    #[error("a field has text after its closing quote; a quote in a field that is in quotes is written twice")]
    Quotes,
    /// The record has too many questions.
    #[error("the record has {found} questions; the limit is {limit}")]
    TooManyQuestions {
        /// Number of questions.
        found: usize,
        /// Maximum number of questions.
        limit: usize,
    },
    /// The rows of the record repeat a long text many times.
    #[error(
        "the {rows} rows of the record would take more than {limit} bytes of text, as each repeats the passage; split the record"
    )]
    RowsTooLong {
        /// Number of rows.
        rows: usize,
        /// Maximum length of their texts in bytes.
        limit: usize,
    },
    /// A field is missing or has the wrong type.
    #[error("not a record of format `{format}`: {message}")]
    Syntax {
        /// Name of the format.
        format: &'static str,
        /// Description of the fault.
        message: String,
    },
    /// Not JSON.
    #[error("not valid JSON: {message}")]
    Json {
        /// Message of the parser.
        message: String,
    },
    /// The JSON ends too early.
    #[error("incomplete JSON: {message}; a closing bracket or quote is missing, or the record was cut off")]
    Incomplete {
        /// Message of the parser.
        message: String,
    },
    /// A document is blank.
    #[error("the text is empty")]
    EmptyText,
    /// A document has no tokens, as it has only control characters.
    #[error("the text has no tokens")]
    NoTokens,
    /// A required field is missing.
    #[error("no `{field}`{}", instead.as_ref().map_or(String::new(), |other| format!("; rename the field `{other}` to `{field}`")))]
    Missing {
        /// Name of the field.
        field: &'static str,
        /// Field of the record that is probably meant.
        instead: Option<String>,
    },
    /// An entity lies outside of the text.
    #[error("entity {position} spans {start} to {end} (inclusive), but the passage has {length} code points")]
    EntityOutOfRange {
        /// Position in the list of entities, from 0.
        position: usize,
        /// First code point.
        start: i64,
        /// Last code point.
        end: i64,
        /// Number of code points of the passage.
        length: usize,
    },
    /// An entity consists of white space.
    #[error("entity {position} spans {start} to {end} (inclusive), where the passage has only white space")]
    EntityBlank {
        /// Position in the list of entities, from 0.
        position: usize,
        /// First code point.
        start: i64,
        /// Last code point.
        end: i64,
    },
    /// An entity ends before it starts.
    #[error("entity {position} starts at {start}, after its end at {end} (inclusive)")]
    EntityReversed {
        /// Position in the list of entities, from 0.
        position: usize,
        /// First code point.
        start: i64,
        /// Last code point.
        end: i64,
    },
    /// Overlapping entities repeat a long text many times.
    #[error("the entities are longer than {limit} bytes in total")]
    EntitiesTooLong {
        /// Maximum total length in bytes.
        limit: usize,
    },
    /// The copies of the text, one per blank, are too long.
    #[error("the text copied for each of its {blanks} blanks is longer than {limit} bytes in total; split the text")]
    PassagesTooLong {
        /// Number of blanks.
        blanks: usize,
        /// Maximum total length in bytes.
        limit: usize,
    },
    /// The text has no blank.
    #[error("`{field}` has no blank, which is written `{marker}`; it must have one or more")]
    NoBlank {
        /// Field of the text.
        field: &'static str,
        /// Marker of a blank.
        marker: &'static str,
    },
    /// A list does not have one entry per blank.
    #[error("`{field}` has {found} entries, but the text has {blanks} blanks; it must have one for each")]
    BlankCount {
        /// Field of the list.
        field: &'static str,
        /// Number of its entries.
        found: usize,
        /// Number of blanks of the text.
        blanks: usize,
    },
    /// Error in the only question of the record.
    #[error(transparent)]
    Question(#[from] QuestionError),
}

impl From<QuestionTextError> for RecordError {
    fn from(error: QuestionTextError) -> Self {
        Self::Question(error.into())
    }
}

/// Error that rejects one question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuestionError {
    /// A field is missing.
    #[error("no `{0}`")]
    Missing(&'static str),
    /// The text does not have exactly one blank, or a choice is missing or empty.
    #[error(transparent)]
    Text(#[from] QuestionTextError),
    /// The passage has no candidates.
    #[error("the passage has no entities, so there is nothing to choose from")]
    NoCandidates,
    /// The split needs answers and the question has none.
    #[error("no answers are given")]
    NoAnswers,
    /// An answer is not among the candidates.
    #[error("the answer `{0}` is not among the passage's entities")]
    AnswerNotAnEntity(String),
    /// An answer is not among the choices.
    #[error("the answer {answer} is not one of the {choices} choices; expected {expected}")]
    AnswerNotAChoice {
        /// Answer as written in the record.
        answer: String,
        /// Number of choices.
        choices: usize,
        /// Expected form of an answer.
        expected: &'static str,
    },
    /// An open cloze has no words to choose from.
    #[error("no word of 3 letters or more precedes the last one, so there is nothing to choose from")]
    NoWords,
    /// The answer of an open cloze does not occur in its text.
    #[error("the last word `{0}` is not among the choices, the words of 3 letters or more that precede it")]
    LastWordIsNew(String),
    /// A right and a wrong choice have the same tokens.
    #[error("the right choice `{right}` and the wrong choice `{wrong}` have the same tokens, so no model can tell them apart")]
    Indistinguishable {
        /// A right choice.
        right: String,
        /// A wrong choice with the same tokens.
        wrong: String,
    },
    /// Another question of the split has the same id.
    #[error("another question of this split {}; give each question its own id", match name { Some(name) => format!("is named `{name}`"), None => "has this idx".to_owned() })]
    Repeated {
        /// Name of the question, if it has one.
        name: Option<String>,
    },
    /// The question does not fit the sequence length, even without its passage.
    #[error(transparent)]
    TooLong(#[from] EncodingErrorText),
}

/// Message of an [`EncodingError`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct EncodingErrorText(String);

impl From<EncodingError> for QuestionError {
    fn from(error: EncodingError) -> Self {
        Self::TooLong(EncodingErrorText(error.to_string()))
    }
}
