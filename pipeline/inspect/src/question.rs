//! One question in full, in readable form.

use std::io::Write;

use glm_schemas::vocab::TokenId;
use serde::Deserialize;

use super::error::InspectError;
use super::format;
use super::found::find;
use super::marks::{Mark, marked, occurrences};
use super::page::{INDENT, Page};
use super::source::{Source, print_error};
use glm_prep::inspect::Format;
use glm_support::command::paint::{Glyph, Kind, Style, glyphs, paint, shorten, text_columns, wrap};
use glm_text::question::PLACEHOLDER;

/// Maximum width that choices are padded to.
const CHOICE_COLUMNS: usize = 28;

/// Columns of a question.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    split: Option<String>,
    example_id: String,
    source_id: Option<String>,
    raw_file: Option<String>,
    raw_line: Option<i64>,
    extra: Option<String>,
    passage_id: i64,
    question_id: i64,
    source: String,
    passage: String,
    query: String,
    group_id: Option<String>,
    idx: Option<String>,
    segments: Vec<Segment>,
    blank: usize,
    group_b: usize,
    entities: Vec<Mention>,
    choices: Vec<Choice>,
    label_name: Option<String>,
    context_tokens: i64,
}

impl Question {
    /// Tokens of the passage and of both sides of the query; `None` if the context is that of a pattern.
    fn as_record(&self) -> Option<[&[TokenId]; 3]> {
        match &self.segments[..] {
            [passage, left, right] if self.choices.iter().all(|choice| choice.name.is_none()) => {
                Some([&passage.ids, &left.ids, &right.ids])
            }
            _ => None,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Segment {
    ids: Vec<TokenId>,
    truncatable: bool,
}

#[derive(Debug, Deserialize)]
struct Mention {
    text: String,
    char_start: usize,
    char_end: usize,
    /// -1 if no token covers the mention.
    token_start: i64,
    token_end: i64,
}

#[derive(Debug, Deserialize)]
struct Choice {
    text: String,
    /// Label that it stands for, in rows of patterns.
    name: Option<String>,
    ids: Vec<TokenId>,
    correct: bool,
}

/// Prints the same questions with all columns.
pub(super) fn print_as(source: &Source, id: &str, format: Format, out: &mut dyn Write) -> Result<(), InspectError> {
    format::print(&find(source, id)?, format, out).map_err(print_error(source))
}

/// Prints a question in full. `mask` is the token of the blank.
pub(super) fn question(page: &mut Page<'_>, question: &Question, mask: TokenId) -> Result<(), InspectError> {
    let Question { passage_id, question_id, source, context_tokens, .. } = question;
    page.title(question.split.as_deref(), &question.example_id)?;
    let about = format!("source {source}, passage {passage_id}, question {question_id}, {context_tokens} context tokens");
    page.text(&about, INDENT)?;
    page.origin(question.raw_file.as_deref(), question.raw_line, question.source_id.as_deref())?;
    let ids = [("idx", &question.idx), ("group", &question.group_id), ("label", &question.label_name)];
    let ids: Vec<_> = ids.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} {value}"))).collect();
    page.text(&ids.join(", "), INDENT)?;
    page.extra(question.extra.as_deref())?;
    legend(page)?;

    let answers: Vec<&str> = question.choices.iter().filter(|c| c.correct).map(|c| c.text.as_str()).collect();
    let kind = |text: &str| if answers.contains(&text) { Kind::Answer } else { Kind::Name };
    let mentions = question.entities.iter().enumerate();
    let marks: Vec<Mark> = mentions
        .map(|(number, mention)| {
            let kind = kind(&mention.text);
            let star = if kind == Kind::Answer { "*" } else { "" };
            Mark { start: mention.char_start, end: mention.char_end, kind, label: format!("{star}{number}") }
        })
        .collect();
    if question.as_record().is_some() {
        page.heading("passage")?;
        page.wrapped(&marked(&question.passage, &marks, page.screen.colour), INDENT)?;
        page.heading("query")?;
        page.wrapped(&marked(&question.query, &query_marks(question, kind), page.screen.colour), INDENT)?;
    } else {
        // The query of a pattern is the whole context, its passage included.
        page.section("context", &question.query)?;
    }
    page.note()?;
    choices(page, &question.choices)?;
    tokens(page, question, &marks, mask)
}

fn legend(page: &mut Page<'_>) -> Result<(), InspectError> {
    if !page.screen.colour {
        return page.text("[3:a mention and its number] [*4:the right answer] [the blank]", INDENT);
    }
    let mut legend = Vec::new();
    for (kind, text) in [(Kind::Name, "a mention"), (Kind::Answer, "the right answer"), (Kind::Blank, "the blank")] {
        legend.extend(glyphs(text, Style::of(kind)));
        legend.extend(glyphs("  ", Style::default()));
    }
    legend.extend(glyphs("in several mentions", Style { kind: Kind::Name, several: true }));
    page.wrapped(&legend, INDENT)
}

fn choices(page: &mut Page<'_>, choices: &[Choice]) -> Result<(), InspectError> {
    page.heading("choices")?;
    let longest = choices.iter().map(|choice| text_columns(&choice.text)).max().unwrap_or(0).min(CHOICE_COLUMNS);
    for (number, choice) in choices.iter().enumerate() {
        let (mark, kind) = if choice.correct { ('*', Kind::Answer) } else { (' ', Kind::Plain) };
        let mut line: Vec<Glyph> = glyphs(&format!("{number:>5} {mark} "), Style::default()).collect();
        line.extend(glyphs(&choice.text.replace('\n', " "), Style::of(kind)));
        let padding = longest.saturating_sub(text_columns(&choice.text));
        line.extend(glyphs(&" ".repeat(padding + 2), Style::default()));
        let indent = 8 + longest + 2;
        let tokens: Vec<Glyph> = glyphs(&page.vocabulary.list(&choice.ids), Style::default()).collect();
        let mut lines = wrap(&tokens, page.screen.width.saturating_sub(indent).max(16)).into_iter();
        if text_columns(&choice.text) <= longest {
            line.extend(lines.next().unwrap_or_default());
        }
        writeln!(page.out, "{}", paint(&line, page.screen.colour).trim_end())?;
        for more in lines {
            writeln!(page.out, "{:indent$}{}", "", paint(&more, page.screen.colour))?;
        }
    }
    Ok(())
}

fn tokens(page: &mut Page<'_>, question: &Question, marks: &[Mark], mask: TokenId) -> Result<(), InspectError> {
    let Some([passage, left, right]) = question.as_record() else { return segments(page, question, mask) };
    page.heading(&format!("tokens of the passage ({})", passage.len()))?;
    page.text(&page.vocabulary.heading("mention"), 0)?;
    for (index, &id) in passage.iter().enumerate() {
        let (mut kind, mut of) = (Kind::Plain, Vec::new());
        for (mention, mark) in question.entities.iter().zip(marks) {
            if (mention.token_start..mention.token_end).contains(&(index as i64)) {
                kind = if kind == Kind::Answer { kind } else { mark.kind };
                of.push(format!("{} {}", mark.label, mention.text));
            }
        }
        token(page, index, id, kind, &of.join(", "))?;
    }
    for (mention, mark) in question.entities.iter().zip(marks) {
        if mention.token_start < 0 {
            page.text(&format!("mention {} ({}) has no token", mark.label, mention.text), INDENT)?;
        }
    }
    page.heading(&format!("tokens of the query ({} before the blank, {} after it)", left.len(), right.len()))?;
    page.text(&page.vocabulary.heading(""), 0)?;
    let ids = left.iter().map(|&id| (id, "")).chain([(mask, "the blank")]).chain(right.iter().map(|&id| (id, "")));
    for (index, (id, about)) in ids.enumerate() {
        token(page, index, id, if about.is_empty() { Kind::Plain } else { Kind::Blank }, about)?;
    }
    Ok(())
}

/// Tokens of a context of any form, with the segment of each.
fn segments(page: &mut Page<'_>, question: &Question, mask: TokenId) -> Result<(), InspectError> {
    let count: usize = question.segments.iter().map(|segment| segment.ids.len()).sum();
    page.heading(&format!("tokens of the context ({count} and the blank)"))?;
    page.text(&page.vocabulary.heading("segment"), 0)?;
    let mut index = 0;
    for number in 0..=question.segments.len() {
        if number == question.blank {
            token(page, index, mask, Kind::Blank, "the blank")?;
            index += 1;
        }
        let Some(segment) = question.segments.get(number) else { break };
        let mut about = number.to_string();
        if segment.truncatable {
            about.push_str(", truncatable");
        }
        if number >= question.group_b {
            about.push_str(", group B");
        }
        for &id in &segment.ids {
            token(page, index, id, Kind::Plain, &about)?;
            index += 1;
        }
    }
    Ok(())
}

fn token(page: &mut Page<'_>, index: usize, id: TokenId, kind: Kind, about: &str) -> Result<(), InspectError> {
    // A long token is not shortened, only the text after it.
    let about = shorten(about, page.screen.width.saturating_sub(34).max(16));
    let line = page.vocabulary.line(index, id, kind, &about);
    Ok(writeln!(page.out, "{}", paint(&line, page.screen.colour))?)
}

/// Marks of the query: the blank and the texts of the choices, as mentions are not stored for queries.
fn query_marks(question: &Question, kind: impl Fn(&str) -> Kind) -> Vec<Mark> {
    let mut marks: Vec<Mark> = occurrences(&question.query, PLACEHOLDER)
        .into_iter()
        .map(|(start, end)| Mark { start, end, kind: Kind::Blank, label: String::new() })
        .collect();
    for choice in &question.choices {
        let kind = kind(&choice.text);
        let label = if kind == Kind::Answer { "*" } else { "" };
        let places = occurrences(&question.query, &choice.text).into_iter();
        marks.extend(places.map(|(start, end)| Mark { start, end, kind, label: label.to_owned() }));
    }
    marks
}
