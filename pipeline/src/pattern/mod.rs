//! Patterns: cloze tasks as data.
//!
//! A pattern file is a TOML file that says how the fields of a raw record become a context with one blank and choices to fill it. The
//! tasks of SuperGLUE and GLUE are such files, embedded in the program ([`catalogue`]); anybody's own task is another one.
//!
//! - [`file`](mod@file): content of a pattern file.
//! - `template`: contexts and words, such as `{premise*} question: {hypothesis}? {blank}`.
//! - `record`: fields of raw records, lists of lists included.
//! - `text`: changes of texts: standard punctuation, punctuation at the end, marking of a word.
//! - [`example`]: a record as a filled pattern.
//! - [`task`]: a pattern file with one of its patterns chosen.

pub mod catalogue;
pub mod command;
mod error;
pub mod example;
pub mod file;
mod record;
pub mod task;
mod template;
mod text;

pub use error::{ExampleError, PatternError};
pub use task::PatternTask;
