//! Lines of JSON, or rows of tables, that a pattern turns into cloze questions.
//!
//! The pattern is not part of the raw data, so the records are parsed where it is known: see [`crate::pattern`].

use crate::source::format::{Content, Format};
use crate::source::head::Head;

/// Records that fill a pattern.
#[derive(Debug, Clone, Copy)]
pub struct PatternLines;

impl Format for PatternLines {
    fn name(&self) -> &'static str {
        "pattern"
    }

    fn about(&self) -> &'static str {
        "lines of JSON or rows of tables that fill a pattern: with --task superglue/boolq or --pattern my.toml"
    }

    fn signs(&self) -> &'static str {
        "lines of JSON or rows of tables with the fields that a pattern names"
    }

    /// The pattern says what the fields are, not the data.
    fn detect(&self, _: &Head<'_>) -> bool {
        false
    }

    fn content(&self) -> Content<'_> {
        Content::Examples
    }
}
