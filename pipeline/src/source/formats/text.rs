//! Formats of text corpora: documents to pretrain on.

pub mod json_lines;
pub mod parquet;
pub mod plain_text;
pub mod published;

use crate::source::document::Document;
use crate::source::error::RecordError;

/// Minimum length of a document of the corpora that leave out short ones, in characters.
const MIN_CHARS: usize = 100;

/// Returns the document unless its text is blank.
fn not_blank(document: Document) -> Result<Document, RecordError> {
    if document.text.trim().is_empty() { Err(RecordError::EmptyText) } else { Ok(document) }
}

/// Returns true if a text has more than `chars` characters.
fn is_longer(text: &str, chars: usize) -> bool {
    text.chars().nth(chars).is_some()
}
