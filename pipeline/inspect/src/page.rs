//! Output of one row in full, in readable form: what all kinds of rows have in common.

use std::io::Write;

use glm_schemas::vocab::TokenId;
use glm_support::command::paint::{Glyph, Kind, Screen, Style, glyphs, paint, wrap};
use serde::de::DeserializeOwned;

use super::error::InspectError;
use super::found::{find, read};
use super::rows::origin_of;
use super::source::Source;
use super::tokens::Vocabulary;

/// Spaces before texts.
pub(super) const INDENT: usize = 2;

/// Output of a row.
pub(super) struct Page<'a> {
    pub(super) vocabulary: &'a Vocabulary,
    pub(super) screen: &'a Screen,
    pub(super) out: &'a mut dyn Write,
}

/// Prints all rows with this id, each with `print`: one, unless two splits use the same id.
pub(super) fn print_rows<T: DeserializeOwned>(
    source: &Source,
    id: &str,
    tokenizer: Option<&std::path::Path>,
    screen: &Screen,
    out: &mut dyn Write,
    print: impl Fn(&mut Page<'_>, &T) -> Result<(), InspectError>,
) -> Result<(), InspectError> {
    let frame = find(source, id)?;
    let vocabulary = Vocabulary::find(source, tokenizer)?;
    for row in 0..frame.height() {
        if row > 0 {
            writeln!(out)?;
        }
        print(&mut Page { vocabulary: &vocabulary, screen, out }, &read(source, &frame, row)?)?;
    }
    Ok(())
}

impl Page<'_> {
    /// Prints split and id.
    pub(super) fn title(&mut self, split: Option<&str>, id: &str) -> Result<(), InspectError> {
        self.text(&split.into_iter().chain([id]).collect::<Vec<_>>().join(" "), 0)
    }

    /// Prints the place of the raw record, if it is known.
    pub(super) fn origin(&mut self, file: Option<&str>, line: Option<i64>, id: Option<&str>) -> Result<(), InspectError> {
        let Some(file) = file else { return Ok(()) };
        let line = line.map(|line| line.to_string()).unwrap_or_default();
        self.text(&format!("record {}", origin_of(file, &line, id.unwrap_or_default())), INDENT)
    }

    /// Prints the fields of the raw record that were kept, if there are any.
    pub(super) fn extra(&mut self, extra: Option<&str>) -> Result<(), InspectError> {
        extra.map_or(Ok(()), |extra| self.text(&format!("other fields {extra}"), INDENT))
    }

    /// Prints a text under a heading.
    pub(super) fn section(&mut self, heading: &str, text: &str) -> Result<(), InspectError> {
        self.heading(heading)?;
        self.text(text, INDENT)
    }

    /// Prints the note about the vocabulary, if there is one.
    pub(super) fn note(&mut self) -> Result<(), InspectError> {
        let Some(note) = &self.vocabulary.note else { return Ok(()) };
        writeln!(self.out)?;
        self.wrapped(&glyphs(note, Style::of(Kind::Note)).collect::<Vec<_>>(), 0)
    }

    /// Prints tokens, a line each; `sentence_ends` counts the tokens up to each end of a sentence.
    pub(super) fn tokens(&mut self, title: &str, ids: &[TokenId], sentence_ends: &[usize]) -> Result<(), InspectError> {
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

    /// Prints a heading after an empty line.
    pub(super) fn heading(&mut self, text: &str) -> Result<(), InspectError> {
        Ok(writeln!(self.out, "\n{text}")?)
    }

    /// Prints text in lines of the screen's width; nothing if it is empty.
    pub(super) fn text(&mut self, text: &str, indent: usize) -> Result<(), InspectError> {
        text.lines().try_for_each(|line| self.wrapped(&glyphs(line, Style::default()).collect::<Vec<_>>(), indent))
    }

    /// Prints styled text in lines of the screen's width.
    pub(super) fn wrapped(&mut self, text: &[Glyph], indent: usize) -> Result<(), InspectError> {
        for line in wrap(text, self.screen.width.saturating_sub(indent)) {
            writeln!(self.out, "{}", format!("{:indent$}{}", "", paint(&line, self.screen.colour)).trim_end())?;
        }
        Ok(())
    }
}
