//! One question in full, in readable form.

use std::io::Write;

use glm_schemas::vocab::TokenId;
use serde::Deserialize;

use super::error::InspectError;
use super::format;
use super::found::find;
use super::marks::{Mark, marked, occurrences};
use super::page::print_rows;
use super::rows::origin_of;
use super::source::{Source, print_error};
use super::tokens::Vocabulary;
use glm_prep::inspect::Format;
use glm_support::command::paint::shorten;
use glm_support::command::paint::{Glyph, Kind, Screen, Style, glyphs, paint, text_columns, wrap};
use glm_text::question::PLACEHOLDER;

/// Maximum width that choices are padded to.
const CHOICE_COLUMNS: usize = 28;
const INDENT: usize = 2;

/// Columns of a question.
#[derive(Debug, Deserialize)]
struct Question {
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

/// Prints all questions with this id: one, unless two splits use the same id.
pub(super) fn print(
    source: &Source,
    id: &str,
    tokenizer: Option<&std::path::Path>,
    screen: &Screen,
    out: &mut dyn Write,
) -> Result<(), InspectError> {
    print_rows(source, id, tokenizer, screen, out, |page, question: &Question| {
        let super::page::Page { vocabulary, screen, out } = page;
        Page { vocabulary, screen, mask: source.special.mask, out }.print(question)
    })
}

/// Prints the same questions with all columns.
pub(super) fn print_as(source: &Source, id: &str, format: Format, out: &mut dyn Write) -> Result<(), InspectError> {
    format::print(&find(source, id)?, format, out).map_err(print_error(source))
}

/// Output of a question.
struct Page<'a> {
    vocabulary: &'a Vocabulary,
    screen: &'a Screen,
    mask: TokenId,
    out: &'a mut dyn Write,
}

impl Page<'_> {
    fn print(&mut self, question: &Question) -> Result<(), InspectError> {
        let Question { split, example_id, passage_id, question_id, source, context_tokens, .. } = question;
        let heading = [split.as_deref(), Some(example_id)].into_iter().flatten().collect::<Vec<_>>().join(" ");
        self.text(&heading, 0)?;
        let about = format!("source {source}, passage {passage_id}, question {question_id}, {context_tokens} context tokens");
        self.text(&about, INDENT)?;
        if let Some(file) = &question.raw_file {
            let line = question.raw_line.map(|line| line.to_string()).unwrap_or_default();
            let origin = origin_of(file, &line, question.source_id.as_deref().unwrap_or_default());
            self.text(&format!("record {origin}"), INDENT)?;
        }
        let ids = [("idx", &question.idx), ("group", &question.group_id), ("label", &question.label_name)];
        let ids: Vec<_> =
            ids.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} {value}"))).collect();
        if !ids.is_empty() {
            self.text(&ids.join(", "), INDENT)?;
        }
        if let Some(extra) = &question.extra {
            self.text(&format!("other fields {extra}"), INDENT)?;
        }
        self.legend()?;

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
            self.heading("passage")?;
            self.wrapped(&marked(&question.passage, &marks, self.screen.colour), INDENT)?;
            self.heading("query")?;
            self.wrapped(&marked(&question.query, &query_marks(question, kind), self.screen.colour), INDENT)?;
        } else {
            // The query of a pattern is the whole context, its passage included.
            self.heading("context")?;
            self.text(&question.query, INDENT)?;
        }
        self.note()?;
        self.choices(&question.choices)?;
        self.tokens(question, &marks)
    }

    fn legend(&mut self) -> Result<(), InspectError> {
        if !self.screen.colour {
            return self.text("[3:a mention and its number] [*4:the right answer] [the blank]", INDENT);
        }
        let mut legend = Vec::new();
        for (kind, text) in [(Kind::Name, "a mention"), (Kind::Answer, "the right answer"), (Kind::Blank, "the blank")] {
            legend.extend(glyphs(text, Style::of(kind)));
            legend.extend(glyphs("  ", Style::default()));
        }
        legend.extend(glyphs("in several mentions", Style { kind: Kind::Name, several: true }));
        self.wrapped(&legend, INDENT)
    }

    fn note(&mut self) -> Result<(), InspectError> {
        let Some(note) = &self.vocabulary.note else { return Ok(()) };
        writeln!(self.out)?;
        self.wrapped(&glyphs(note, Style::of(Kind::Note)).collect::<Vec<_>>(), 0)
    }

    fn choices(&mut self, choices: &[Choice]) -> Result<(), InspectError> {
        self.heading("choices")?;
        let longest = choices.iter().map(|choice| text_columns(&choice.text)).max().unwrap_or(0).min(CHOICE_COLUMNS);
        for (number, choice) in choices.iter().enumerate() {
            let (mark, kind) = if choice.correct { ('*', Kind::Answer) } else { (' ', Kind::Plain) };
            let mut line: Vec<Glyph> = glyphs(&format!("{number:>5} {mark} "), Style::default()).collect();
            line.extend(glyphs(&choice.text.replace('\n', " "), Style::of(kind)));
            let padding = longest.saturating_sub(text_columns(&choice.text));
            line.extend(glyphs(&" ".repeat(padding + 2), Style::default()));
            let indent = 8 + longest + 2;
            let tokens: Vec<Glyph> = glyphs(&self.vocabulary.list(&choice.ids), Style::default()).collect();
            let mut lines = wrap(&tokens, self.screen.width.saturating_sub(indent).max(16)).into_iter();
            if text_columns(&choice.text) <= longest {
                line.extend(lines.next().unwrap_or_default());
            }
            writeln!(self.out, "{}", paint(&line, self.screen.colour).trim_end())?;
            for more in lines {
                writeln!(self.out, "{:indent$}{}", "", paint(&more, self.screen.colour))?;
            }
        }
        Ok(())
    }

    fn tokens(&mut self, question: &Question, marks: &[Mark]) -> Result<(), InspectError> {
        let Some([passage, left, right]) = question.as_record() else { return self.segments(question) };
        self.heading(&format!("tokens of the passage ({})", passage.len()))?;
        self.text(&self.vocabulary.heading("mention"), 0)?;
        for (index, &id) in passage.iter().enumerate() {
            let (mut kind, mut of) = (Kind::Plain, Vec::new());
            for (mention, mark) in question.entities.iter().zip(marks) {
                if (mention.token_start..mention.token_end).contains(&(index as i64)) {
                    kind = if kind == Kind::Answer { kind } else { mark.kind };
                    of.push(format!("{} {}", mark.label, mention.text));
                }
            }
            self.token(index, id, kind, &of.join(", "))?;
        }
        for (mention, mark) in question.entities.iter().zip(marks) {
            if mention.token_start < 0 {
                self.text(&format!("mention {} ({}) has no token", mark.label, mention.text), INDENT)?;
            }
        }
        self.heading(&format!("tokens of the query ({} before the blank, {} after it)", left.len(), right.len()))?;
        self.text(&self.vocabulary.heading(""), 0)?;
        let ids = left.iter().map(|&id| (id, "")).chain([(self.mask, "the blank")]).chain(right.iter().map(|&id| (id, "")));
        for (index, (id, about)) in ids.enumerate() {
            self.token(index, id, if about.is_empty() { Kind::Plain } else { Kind::Blank }, about)?;
        }
        Ok(())
    }

    /// Tokens of a context of any form, with the segment of each.
    fn segments(&mut self, question: &Question) -> Result<(), InspectError> {
        let count: usize = question.segments.iter().map(|segment| segment.ids.len()).sum();
        self.heading(&format!("tokens of the context ({count} and the blank)"))?;
        self.text(&self.vocabulary.heading("segment"), 0)?;
        let mut index = 0;
        for number in 0..=question.segments.len() {
            if number == question.blank {
                self.token(index, self.mask, Kind::Blank, "the blank")?;
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
                self.token(index, id, Kind::Plain, &about)?;
                index += 1;
            }
        }
        Ok(())
    }

    fn token(&mut self, index: usize, id: TokenId, kind: Kind, about: &str) -> Result<(), InspectError> {
        // A long token is not shortened, only the text after it.
        let about = shorten(about, self.screen.width.saturating_sub(34).max(16));
        let line = self.vocabulary.line(index, id, kind, &about);
        Ok(writeln!(self.out, "{}", paint(&line, self.screen.colour))?)
    }

    fn heading(&mut self, text: &str) -> Result<(), InspectError> {
        Ok(writeln!(self.out, "\n{text}")?)
    }

    fn text(&mut self, text: &str, indent: usize) -> Result<(), InspectError> {
        self.wrapped(&glyphs(text, Style::default()).collect::<Vec<_>>(), indent)
    }

    fn wrapped(&mut self, text: &[Glyph], indent: usize) -> Result<(), InspectError> {
        for line in wrap(text, self.screen.width.saturating_sub(indent)) {
            writeln!(self.out, "{}", format!("{:indent$}{}", "", paint(&line, self.screen.colour)).trim_end())?;
        }
        Ok(())
    }
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
