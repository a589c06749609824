//! Text with marked mentions: in colour, or in brackets with the number of the mention.

use glm_support::command::paint::{Glyph, Kind, Style, printable};

/// A marked range of a text. Marks may nest and overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// First code point.
    pub(super) start: usize,
    /// Code point after the last one.
    pub(super) end: usize,
    /// Kind of the mark.
    pub(super) kind: Kind,
    /// Label after the opening bracket.
    pub(super) label: String,
}

/// Renders a text with marks. With `colour`, characters have the colour of their mark and are underlined in several marks.
/// Otherwise marks are enclosed in brackets: `[0:Bank of [1:England]]`. A bracket that does not close the last one opened has a
/// label: `[0:ab[1:cd:0]ef]`.
pub(super) fn marked(text: &str, marks: &[Mark], colour: bool) -> Vec<Glyph> {
    let chars: Vec<char> = text.chars().collect();
    let mut opening: Vec<&Mark> = marks.iter().filter(|mark| mark.start < mark.end && mark.end <= chars.len()).collect();
    // Of marks with the same start, the longest opens first.
    opening.sort_by_key(|mark| (mark.start, std::cmp::Reverse(mark.end)));
    let mut opening = opening.into_iter().peekable();
    let mut open: Vec<&Mark> = Vec::new();
    let mut glyphs = Vec::with_capacity(chars.len());
    for at in 0..=chars.len() {
        while let Some(index) = open.iter().rposition(|mark| mark.end == at) {
            let overlaps = index + 1 < open.len();
            let mark = open.remove(index);
            if !colour {
                let label = if overlaps { format!(":{}]", mark.label) } else { "]".to_owned() };
                glyphs.extend(label.chars().map(|c| (c, Style::default())));
            }
        }
        while let Some(mark) = opening.next_if(|mark| mark.start == at) {
            open.push(mark);
            if !colour {
                let colon = if mark.label.is_empty() { "" } else { ":" };
                glyphs.extend(format!("[{}{colon}", mark.label).chars().map(|c| (c, Style::default())));
            }
        }
        if let Some(&c) = chars.get(at) {
            glyphs.push((printable(c), style(&open)));
        }
    }
    glyphs
}

/// Style inside of these marks: a correct answer takes precedence over other names.
fn style(open: &[&Mark]) -> Style {
    let kind = match open.last() {
        None => Kind::Plain,
        Some(_) if open.iter().any(|mark| mark.kind == Kind::Answer) => Kind::Answer,
        Some(mark) => mark.kind,
    };
    Style { kind, several: open.len() > 1 }
}

/// Returns the ranges, in code points, where `name` occurs as whole words.
pub(super) fn occurrences(text: &str, name: &str) -> Vec<(usize, usize)> {
    let length = name.chars().count();
    let mut found = Vec::new();
    if length == 0 {
        return found;
    }
    let mut chars = 0;
    let mut seen = 0;
    for (byte, _) in text.match_indices(name) {
        let before = text[..byte].chars().next_back();
        let after = text[byte + name.len()..].chars().next();
        if [before, after].into_iter().flatten().any(char::is_alphanumeric) {
            continue;
        }
        chars += text[seen..byte].chars().count();
        seen = byte;
        found.push((chars, chars + length));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use glm_support::command::paint::paint;

    fn mark(start: usize, end: usize, label: &str, kind: Kind) -> Mark {
        Mark { start, end, kind, label: label.to_owned() }
    }

    fn bracketed(text: &str, marks: &[Mark]) -> String {
        paint(&marked(text, marks, false), false)
    }

    #[test]
    fn brackets_nest_and_are_labelled_on_overlap() {
        let name = |start, end, label| mark(start, end, label, Kind::Name);
        assert_eq!(bracketed("Zoé in Oslo", &[name(0, 3, "0"), name(7, 11, "1")]), "[0:Zoé] in [1:Oslo]");
        assert_eq!(bracketed("Bank of England.", &[name(8, 15, "0"), name(0, 15, "1")]), "[1:Bank of [0:England]].");
        assert_eq!(bracketed("abcdef", &[name(0, 4, "0"), name(2, 6, "1")]), "[0:ab[1:cd:0]ef]");
        assert_eq!(bracketed("ab", &[name(0, 1, "0"), name(1, 2, "1"), name(0, 1, "2")]), "[0:[2:a]][1:b]");
        assert_eq!(bracketed("ab", &[mark(0, 2, "", Kind::Blank), name(1, 1, "1"), name(1, 9, "2")]), "[ab]");
    }

    #[test]
    fn answers_take_precedence_and_overlaps_are_underlined() {
        let marks = [mark(0, 4, "0", Kind::Name), mark(2, 3, "1", Kind::Answer)];
        assert_eq!(paint(&marked("abcde", &marks, true), true), "\x1b[36mab\x1b[0m\x1b[1;4;32mc\x1b[0m\x1b[36md\x1b[0me");
    }

    #[test]
    fn names_are_found_as_words() {
        assert_eq!(occurrences("Élan of Oslo, Oslo-born; Oslofjord", "Oslo"), [(8, 12), (14, 18)]);
        assert_eq!(occurrences("ab", ""), []);
        assert_eq!(occurrences("中文 (中)", "中"), [(4, 5)]);
    }

    proptest! {
        #[test]
        fn marks_do_not_change_the_text(
            text in "[a-zé]{0,12}", spans in prop::collection::vec((0_usize..14, 0_usize..14), 0..6),
        ) {
            let marks: Vec<_> =
                spans.iter().enumerate().map(|(i, &(start, end))| mark(start, end, &i.to_string(), Kind::Name)).collect();
            prop_assert_eq!(paint(&marked(&text, &marks, true), false), text.clone());
            let bracketed = bracketed(&text, &marks);
            prop_assert_eq!(bracketed.matches('[').count(), bracketed.matches(']').count());
            let bare: String = bracketed.chars().filter(|c| c.is_alphabetic()).collect();
            prop_assert_eq!(bare, text);
        }
    }
}
