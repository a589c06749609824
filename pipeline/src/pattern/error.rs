//! Errors of pattern files and of the records they are applied to.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Error of a pattern file.
#[derive(Debug, Error)]
pub enum PatternError {
    /// There is no embedded file with this name.
    #[error("there is no pattern `{name}`; `glm-prep patterns` lists all, and a file of your own must end in .toml")]
    Unknown {
        /// Name given.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read the pattern file {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The file is not valid.
    #[error("pattern file {name}: {reason}; `glm-prep patterns superglue/rte` prints one to start from")]
    Invalid {
        /// Name or path of the file.
        name: String,
        /// Description of the fault.
        reason: String,
    },
    /// The file has no pattern of this number.
    #[error("{name} has no pattern {number}, its patterns are 0 to {last}")]
    Number {
        /// Name or path of the file.
        name: String,
        /// Number given.
        number: usize,
        /// Largest number.
        last: usize,
    },
    /// A word is not a single token.
    #[error(
        "pattern {pattern} of {name}: `{word}` has {tokens} tokens, but the words of a task that is not multi-token have one each; \
         use another word, --multi-token, or the --tokenizer for which the pattern is written"
    )]
    Word {
        /// Name or path of the file.
        name: String,
        /// Number of the pattern.
        pattern: usize,
        /// The word.
        word: String,
        /// Number of its tokens.
        tokens: usize,
    },
}

/// Reason for which an example of a record is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExampleError {
    /// The record is not JSON.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// The record is not a JSON object.
    #[error("expected a JSON object")]
    NotAnObject,
    /// A field is missing.
    #[error("the field `{0}` is missing")]
    Missing(String),
    /// A field does not have a mark, in front of or after which the text is.
    #[error("the field `{field}` has no `{mark}`")]
    NoMark {
        /// Name of the field.
        field: String,
        /// The mark.
        mark: String,
    },
    /// Lists whose items belong together have different lengths.
    #[error("the lists `{list}` and `{other}` must have equally many items, but have {expected} and {found}")]
    Lengths {
        /// Name of the first list.
        list: String,
        /// Length of the value.
        expected: usize,
        /// Name of another one.
        other: String,
        /// Length of the other value.
        found: usize,
    },
    /// A field has the wrong type.
    #[error("the field `{field}` holds {found}, expected {expected}")]
    Type {
        /// Name of the field.
        field: String,
        /// Type of the value found.
        found: &'static str,
        /// Type of the value expected.
        expected: &'static str,
    },
    /// A value has no entry in a map.
    #[error("the field `{field}` holds `{found}`, expected one of {expected}")]
    Value {
        /// Name of the field.
        field: String,
        /// Value of the field.
        found: String,
        /// Values that are allowed.
        expected: String,
    },
    /// The label is missing in the training data.
    #[error("no label in the field `{0}`, and examples for training need one")]
    NoLabel(String),
    /// There is nothing to choose from.
    #[error("no choices are given, so there is nothing to choose from")]
    NoChoices,
    /// A choice is empty.
    #[error("choice {0} is empty; every choice must hold some text")]
    EmptyChoice(usize),
    /// The label is not the number of a choice.
    #[error("the label {label} is not the number of one of the {choices} choices, which count from 0")]
    LabelOutOfRange {
        /// Label of the record.
        label: String,
        /// Number of choices.
        choices: usize,
    },
    /// A phrase to be enclosed is not where the record says.
    #[error("the text has no `{phrase}` at character {at}, counted from 0")]
    NoPhrase {
        /// The phrase.
        phrase: String,
        /// Index of the character.
        at: i64,
    },
    /// The word to be marked is not where the record says.
    #[error("the word `{word}` is neither word {index} of the text, counted from 0, nor next to it")]
    NoWord {
        /// The word.
        word: String,
        /// Index of the item.
        index: i64,
    },
}

impl ExampleError {
    /// True if a text is not in the record.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::NoMark { .. })
    }
}
