//! Colour, and lines that fit the terminal.

use std::io::{self, IsTerminal};

use clap::ValueEnum;

/// Columns of a line where the output is no terminal.
const DEFAULT_WIDTH: usize = 80;
/// A terminal that is narrower than this gets lines as long as this.
const LEAST_WIDTH: usize = 40;

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColourWhen {
    /// On a terminal, unless the variable `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never: marks are brackets.
    Never,
}

/// What is known of where the output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Whether to colour.
    pub colour: bool,
    /// Columns of a line.
    pub width: usize,
}

impl ColourWhen {
    /// What this means for the standard output.
    pub fn for_stdout(self) -> Screen {
        let stdout = io::stdout();
        let colour = match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => stdout.is_terminal() && colour_is_wanted(),
        };
        let columns = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col)).filter(|&n| n > 0);
        Screen { colour, width: columns.unwrap_or(DEFAULT_WIDTH).max(LEAST_WIDTH) }
    }
}

/// Whether lines of the log are coloured: on a terminal, unless the variable `NO_COLOR` is set.
pub fn log_has_colour() -> bool {
    io::stderr().is_terminal() && colour_is_wanted()
}

fn colour_is_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb
}

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Nothing special.
    #[default]
    Plain,
    /// What is said about the text.
    Note,
    /// A mention of a name.
    Name,
    /// A mention of a right answer.
    Answer,
    /// The blank.
    Blank,
}

/// How a character looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// What it belongs to.
    pub kind: Kind,
    /// Whether it belongs to several mentions.
    pub several: bool,
}

impl Style {
    /// One thing alone.
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

/// A character and how it looks.
pub type Glyph = (char, Style);

/// A text in one style. What a terminal would obey is replaced.
pub fn glyphs(text: &str, style: Style) -> impl Iterator<Item = Glyph> + '_ {
    text.chars().map(move |c| (printable(c), style))
}

/// Space that is no place to break a line.
pub const HARD_SPACE: char = '\u{a0}';

/// Control characters would move the cursor or worse; a line break and a space are what they are.
pub fn printable(c: char) -> char {
    match c {
        '\n' => '\n',
        '\t' | '\r' => ' ',
        c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '\u{fffd}',
        c => c,
    }
}

/// Breaks text into lines of at most `width` columns, at spaces where there are some.
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

/// A line as the terminal takes it.
pub fn paint(line: &[Glyph], colour: bool) -> String {
    let mut text = String::with_capacity(line.len());
    let mut now = None;
    for &(c, style) in line {
        let code = style.code().filter(|_| colour);
        if code != now {
            if now.is_some() {
                text.push_str("\x1b[0m");
            }
            if let Some(code) = code {
                text.push_str("\x1b[");
                text.push_str(code);
                text.push('m');
            }
            now = code;
        }
        text.push(if c == HARD_SPACE { ' ' } else { c });
    }
    if now.is_some() {
        text.push_str("\x1b[0m");
    }
    text
}

/// Columns that a text takes.
pub fn text_columns(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// Columns that a character takes: two for East Asian wide ones and pictures, none for those that sit on the one before.
fn columns(c: char) -> usize {
    match c as u32 {
        0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 => 2,
        0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str, width: usize) -> Vec<String> {
        let text: Vec<Glyph> = glyphs(text, Style::default()).collect();
        wrap(&text, width).iter().map(|line| paint(line, true)).collect()
    }

    #[test]
    fn lines_break_at_spaces_and_nowhere_else_if_they_can() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("one\n\ntwo ", 7), ["one", "", "two"]);
        assert_eq!(wrapped("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrapped("1\u{a0}a 2\u{a0}b", 4), ["1 a", "2 b"]);
        assert_eq!(wrapped("中文 字", 5), ["中文", "字"]);
    }

    #[test]
    fn a_colour_ends_with_its_text() {
        let line: Vec<Glyph> = glyphs("a", Style::default()).chain(glyphs("bc", Style::of(Kind::Answer))).collect();
        assert_eq!(paint(&line, true), "a\x1b[1;32mbc\x1b[0m");
        assert_eq!(paint(&line, false), "abc");
    }

    #[test]
    fn a_text_cannot_command_the_terminal() {
        assert_eq!(wrapped("a\x1b[31mb\tc\u{202e}", 40), ["a\u{fffd}[31mb c\u{fffd}"]);
    }
}
