//! Styled terminal text: colours and line wrapping.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use unicode_width::UnicodeWidthChar;

/// Line width if the output is not a terminal.
const DEFAULT_WIDTH: usize = 80;
/// Minimum line width, also on narrower terminals.
const MIN_WIDTH: usize = 40;

/// When to colour output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColourWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never; marks are shown as brackets.
    Never,
}

/// Properties of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Use colours.
    pub colour: bool,
    /// Line width in columns.
    pub width: usize,
}

impl ColourWhen {
    /// Determines colour and width for standard output.
    pub fn for_stdout(self) -> Screen {
        let stdout = io::stdout();
        let colour = match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => stdout.is_terminal() && colour_is_wanted(),
        };
        let columns = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col)).filter(|&n| n > 0);
        Screen { colour, width: columns.unwrap_or(DEFAULT_WIDTH).max(MIN_WIDTH) }
    }
}

/// Returns true if log lines are coloured: on a terminal, unless `NO_COLOR` is set.
pub fn log_has_colour() -> bool {
    io::stderr().is_terminal() && colour_is_wanted()
}

fn colour_is_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb
}

/// Role of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Ordinary text.
    #[default]
    Plain,
    /// A remark about the text.
    Note,
    /// A mention of a name.
    Name,
    /// A mention of a correct answer.
    Answer,
    /// The blank.
    Blank,
}

/// Style of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Role of the text that it belongs to.
    pub kind: Kind,
    /// True if several mentions overlap here.
    pub several: bool,
}

impl Style {
    /// The style of text with a single role.
    pub const fn of(kind: Kind) -> Self {
        Self { kind, several: false }
    }

    fn code(self) -> Option<&'static str> {
        Some(match (self.kind, self.several) {
            (Kind::Plain, _) => return None,
            (Kind::Note, _) => "2",
            (Kind::Name, false) => "36",
            (Kind::Name, true) => "4;36",
            (Kind::Answer, false) => "1;32",
            (Kind::Answer, true) => "1;4;32",
            (Kind::Blank, _) => "1;7",
        })
    }
}

/// A character and its style.
pub type Glyph = (char, Style);

/// Converts a text to glyphs of one style, replacing characters that control the terminal.
pub fn glyphs(text: &str, style: Style) -> impl Iterator<Item = Glyph> + '_ {
    text.chars().map(move |c| (printable(c), style))
}

/// Space that does not allow a line break.
pub const HARD_SPACE: char = '\u{a0}';

/// Replaces characters that control the terminal; tabs and carriage returns become spaces, line breaks are kept.
pub fn printable(c: char) -> char {
    match c {
        '\n' => '\n',
        '\t' | '\r' => ' ',
        c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '\u{fffd}',
        c => c,
    }
}

/// Wraps text to lines of at most `width` columns, at spaces if possible.
pub fn wrap(text: &[Glyph], width: usize) -> Vec<Vec<Glyph>> {
    let mut lines = Vec::new();
    for paragraph in text.split(|&(c, _)| c == '\n') {
        let mut line: Vec<Glyph> = Vec::new();
        let mut used = 0;
        for word in paragraph.split_inclusive(|&(c, _)| c == ' ') {
            let bare: usize = word.iter().filter(|&&(c, _)| c != ' ').map(|&(c, _)| columns(c)).sum();
            if used > 0 && used + bare > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            for &(c, style) in word {
                if c != ' ' && used > 0 && used + columns(c) > width {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push((c, style));
                used += columns(c);
            }
        }
        lines.push(line);
    }
    for line in &mut lines {
        while line.last().is_some_and(|&(c, _)| c == ' ') {
            line.pop();
        }
    }
    lines
}

/// Renders a line, with escape sequences if `colour`.
pub fn paint(line: &[Glyph], colour: bool) -> String {
    let mut text = String::with_capacity(line.len());
    let mut active = None;
    for &(c, style) in line {
        let code = style.code().filter(|_| colour);
        if code != active {
            if active.is_some() {
                text.push_str("\x1b[0m");
            }
            if let Some(code) = code {
                text.push_str("\x1b[");
                text.push_str(code);
                text.push('m');
            }
            active = code;
        }
        text.push(if c == HARD_SPACE { ' ' } else { c });
    }
    if active.is_some() {
        text.push_str("\x1b[0m");
    }
    text
}

/// Returns the width of a text in columns.
pub fn text_columns(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(c: char) -> usize {
    // Control characters are shown as a replacement character.
    c.width().unwrap_or(1)
}

/// Shortens a text to one line of at most `chars` characters.
pub fn shorten(text: &str, chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= chars {
        return line;
    }
    let mut cut: String = line.chars().take(chars.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str, width: usize) -> Vec<String> {
        let text: Vec<Glyph> = glyphs(text, Style::default()).collect();
        wrap(&text, width).iter().map(|line| paint(line, true)).collect()
    }

    #[test]
    fn lines_break_at_spaces_if_possible() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("one\n\ntwo ", 7), ["one", "", "two"]);
        assert_eq!(wrapped("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrapped("1\u{a0}a 2\u{a0}b", 4), ["1 a", "2 b"]);
        assert_eq!(wrapped("中文 字", 5), ["中文", "字"]);
    }

    #[test]
    fn colours_are_reset_after_their_text() {
        let line: Vec<Glyph> = glyphs("a", Style::default()).chain(glyphs("bc", Style::of(Kind::Answer))).collect();
        assert_eq!(paint(&line, true), "a\x1b[1;32mbc\x1b[0m");
        assert_eq!(paint(&line, false), "abc");
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(wrapped("a\x1b[31mb\tc\u{202e}", 40), ["a\u{fffd}[31mb c\u{fffd}"]);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shorten("a  b\n c", 9), "a b c");
        assert_eq!(shorten("ééééé", 4), "ééé…");
        assert_eq!(shorten("ab cd", 4), "ab…");
        assert_eq!(shorten("", 0), "");
    }
}
