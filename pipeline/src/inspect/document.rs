//! One document in full, in readable form.

use std::io::Write;

use glm_schemas::vocab::TokenId;
use serde::Deserialize;

use super::error::InspectError;
use super::question::{find, read};
use super::rows::origin_of;
use super::source::Source;
use super::tokens::Vocabulary;
use glm_support::command::paint::{Kind, Screen, Style, glyphs, paint, wrap};

const INDENT: usize = 2;

/// Columns of a document.
#[derive(Debug, Deserialize)]
struct Document {
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

/// Prints all documents with this id: one, unless two splits use the same id.
pub(super) fn print(
    source: &Source,
    id: &str,
    tokenizer: Option<&std::path::Path>,
    screen: &Screen,
    out: &mut dyn Write,
) -> Result<(), InspectError> {
    let frame = find(source, id)?;
    let vocabulary = Vocabulary::find(source, tokenizer)?;
    for row in 0..frame.height() {
        if row > 0 {
            writeln!(out)?;
        }
        let document: Document = read(source, &frame, row)?;
        Page { vocabulary: &vocabulary, screen, out }.print(&document)?;
    }
    Ok(())
}

/// Output of a document.
struct Page<'a> {
    vocabulary: &'a Vocabulary,
    screen: &'a Screen,
    out: &'a mut dyn Write,
}

impl Page<'_> {
    fn print(&mut self, document: &Document) -> Result<(), InspectError> {
        let Document { split, example_id, source, prompt, text, prompt_ids, ids, sentence_ends, .. } = document;
        let heading = [split.as_deref(), Some(example_id)].into_iter().flatten().collect::<Vec<_>>().join(" ");
        self.text(&heading, 0)?;
        let from = if source.is_empty() { String::new() } else { format!("source {source}, ") };
        self.text(
            &format!("{from}{} tokens, {} ends of sentences", prompt_ids.len() + ids.len(), sentence_ends.len()),
            INDENT,
        )?;
        if let Some(file) = &document.raw_file {
            let line = document.raw_line.map(|line| line.to_string()).unwrap_or_default();
            let origin = origin_of(file, &line, document.source_id.as_deref().unwrap_or_default());
            self.text(&format!("record {origin}"), INDENT)?;
        }
        if let Some(extra) = &document.extra {
            self.text(&format!("other fields {extra}"), INDENT)?;
        }
        if let Some(prompt) = prompt {
            self.heading("prompt")?;
            self.text(prompt, INDENT)?;
        }
        self.heading("text")?;
        self.text(text, INDENT)?;
        if let Some(note) = &self.vocabulary.note {
            writeln!(self.out)?;
            self.text(note, 0)?;
        }
        if !prompt_ids.is_empty() {
            self.tokens("tokens of the prompt", prompt_ids, &[])?;
        }
        self.tokens("tokens of the text", ids, sentence_ends)
    }

    fn tokens(&mut self, title: &str, ids: &[TokenId], sentence_ends: &[usize]) -> Result<(), InspectError> {
        self.heading(&format!("{title} ({})", ids.len()))?;
        self.text(&self.vocabulary.heading(""), 0)?;
        for (index, &id) in ids.iter().enumerate() {
            let is_end = sentence_ends.binary_search(&(index + 1)).is_ok();
            let (kind, about) = if is_end { (Kind::Name, "end of a sentence") } else { (Kind::Plain, "") };
            let line = self.vocabulary.line(index, id, kind, about);
            writeln!(self.out, "{}", paint(&line, self.screen.colour))?;
        }
        Ok(())
    }

    fn heading(&mut self, text: &str) -> Result<(), InspectError> {
        Ok(writeln!(self.out, "\n{text}")?)
    }

    fn text(&mut self, text: &str, indent: usize) -> Result<(), InspectError> {
        let width = self.screen.width.saturating_sub(indent);
        for paragraph in text.lines() {
            for line in wrap(&glyphs(paragraph, Style::default()).collect::<Vec<_>>(), width) {
                writeln!(self.out, "{}", format!("{:indent$}{}", "", paint(&line, self.screen.colour)).trim_end())?;
            }
        }
        Ok(())
    }
}
