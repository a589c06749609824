//! One pair in full, in readable form.

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

/// Columns of a pair.
#[derive(Debug, Deserialize)]
struct Pair {
    split: Option<String>,
    example_id: String,
    source_id: Option<String>,
    group_id: Option<String>,
    raw_file: Option<String>,
    raw_line: Option<i64>,
    extra: Option<String>,
    source: String,
    prompt: Option<String>,
    target: Option<String>,
    references: Vec<String>,
    prefix_ids: Vec<TokenId>,
    source_ids: Vec<TokenId>,
    suffix_ids: Vec<TokenId>,
    target_ids: Vec<TokenId>,
    keep: String,
    focus: Option<usize>,
}

/// Prints all pairs with this id: one, unless two splits use the same id.
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
        let pair: Pair = read(source, &frame, row)?;
        Page { vocabulary: &vocabulary, screen, out }.print(&pair)?;
    }
    Ok(())
}

/// Output of a pair.
struct Page<'a> {
    vocabulary: &'a Vocabulary,
    screen: &'a Screen,
    out: &'a mut dyn Write,
}

impl Page<'_> {
    fn print(&mut self, pair: &Pair) -> Result<(), InspectError> {
        let heading = [pair.split.as_deref(), Some(&pair.example_id)].into_iter().flatten().collect::<Vec<_>>().join(" ");
        self.text(&heading, 0)?;
        let context = 1 + pair.prefix_ids.len() + pair.source_ids.len() + pair.suffix_ids.len();
        let focus = pair.focus.map(|focus| format!(" token {focus}")).unwrap_or_default();
        let lengths = format!("{context} context tokens, {} target tokens", pair.target_ids.len());
        self.text(&format!("{lengths}; of a long source the {}{focus} is kept", pair.keep), INDENT)?;
        if let Some(file) = &pair.raw_file {
            let line = pair.raw_line.map(|line| line.to_string()).unwrap_or_default();
            let origin = origin_of(file, &line, pair.source_id.as_deref().unwrap_or_default());
            self.text(&format!("record {origin}"), INDENT)?;
        }
        if let Some(group) = &pair.group_id {
            self.text(&format!("window of question {group}"), INDENT)?;
        }
        if let Some(extra) = &pair.extra {
            self.text(&format!("other fields {extra}"), INDENT)?;
        }
        let texts =
            [("prompt", pair.prompt.as_deref()), ("source", Some(pair.source.as_str())), ("target", pair.target.as_deref())];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            self.heading(name)?;
            self.text(text, INDENT)?;
        }
        for reference in pair.references.iter().filter(|&reference| Some(reference) != pair.target.as_ref()) {
            self.heading("reference")?;
            self.text(reference, INDENT)?;
        }
        if let Some(note) = &self.vocabulary.note {
            writeln!(self.out)?;
            self.text(note, 0)?;
        }
        for (title, ids) in [
            ("tokens before the source", &pair.prefix_ids),
            ("tokens of the source", &pair.source_ids),
            ("tokens after the source", &pair.suffix_ids),
            ("tokens of the target", &pair.target_ids),
        ] {
            self.tokens(title, ids)?;
        }
        Ok(())
    }

    fn tokens(&mut self, title: &str, ids: &[TokenId]) -> Result<(), InspectError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.heading(&format!("{title} ({})", ids.len()))?;
        self.text(&self.vocabulary.heading(""), 0)?;
        for (index, &id) in ids.iter().enumerate() {
            let line = self.vocabulary.line(index, id, Kind::Plain, "");
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
