//! Parsed raw data: a passage with its questions.

use std::ops::Range;

use glm_schemas::cloze::CharSpan;

use super::error::RejectedQuestion;

/// Passage with mentions, candidates and questions, in standard form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Index of the passage in the raw data. `None` if the format has none; passages are then numbered in file order.
    pub id: Option<i64>,
    /// Origin of the text, for example a newspaper.
    pub source: String,
    /// Text to be tokenized.
    pub text: String,
    /// Mentions of entities, in code points of `text`, in the order of the record. No mention is empty.
    pub mentions: Vec<CharSpan>,
    /// Candidate answers: the distinct entities, sorted by code point.
    pub candidates: Vec<String>,
    /// For every candidate, its index in the record's list of choices; the first index if it is repeated there.
    pub choice_indices: Vec<usize>,
    /// Questions, in the order of the record.
    pub questions: Vec<Result<Question, RejectedQuestion>>,
}

/// Cloze question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Index of the question in the raw data. `None` if the format has none; questions are then numbered in file order.
    pub id: Option<i64>,
    /// Name of the question in the raw data, if its id is a string.
    pub name: Option<String>,
    /// Query, including the marker of the blank.
    pub text: String,
    /// Position of the blank, in bytes of `text`.
    pub blank: Range<usize>,
    /// Correct answers: indices of the passage's candidates, ascending. Empty if the split has no answers.
    pub answers: Vec<usize>,
}
