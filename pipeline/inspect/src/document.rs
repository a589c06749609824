//! One document in full, in readable form.

use glm_schemas::vocab::TokenId;
use serde::Deserialize;

use super::error::InspectError;
use super::page::{INDENT, Page};

/// Columns of a document.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    split: Option<String>,
    example_id: String,
    source_id: Option<String>,
    raw_file: Option<String>,
    raw_line: Option<i64>,
    extra: Option<String>,
    source: String,
    prompt: Option<String>,
    text: String,
    prompt_ids: Vec<TokenId>,
    ids: Vec<TokenId>,
    sentence_ends: Vec<usize>,
}

/// Prints a document in full.
pub(super) fn document(page: &mut Page<'_>, document: &Document) -> Result<(), InspectError> {
    let Document { source, prompt_ids, ids, sentence_ends, .. } = document;
    page.title(document.split.as_deref(), &document.example_id)?;
    let from = if source.is_empty() { String::new() } else { format!("source {source}, ") };
    let lengths = format!("{} tokens, {} ends of sentences", prompt_ids.len() + ids.len(), sentence_ends.len());
    page.text(&format!("{from}{lengths}"), INDENT)?;
    page.origin(document.raw_file.as_deref(), document.raw_line, document.source_id.as_deref())?;
    page.extra(document.extra.as_deref())?;
    if let Some(prompt) = &document.prompt {
        page.section("prompt", prompt)?;
    }
    page.section("text", &document.text)?;
    page.note()?;
    if !prompt_ids.is_empty() {
        page.tokens("tokens of the prompt", prompt_ids, &[])?;
    }
    page.tokens("tokens of the text", ids, sentence_ends)
}
