//! Normalization of raw text, with a map of character positions.

use glm_schemas::cloze::CharSpan;

/// Marker before every highlight of a passage.
const HIGHLIGHT: &str = "@highlight\n";
/// Replacement of the marker.
const BULLET: &str = "- ";
const HIGHLIGHT_CHARS: usize = HIGHLIGHT.len();
const BULLET_CHARS: usize = BULLET.len();

/// Replaces typographic quotes and dashes with plain ones, character by character.
pub fn standardise(text: &str) -> String {
    text.chars().map(plain).collect()
}

fn plain(c: char) -> char {
    match c {
        '\u{201c}' | '\u{201d}' => '"',
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{2013}' => '-',
        other => other,
    }
}

/// A passage with bullets in place of highlight markers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Highlighted {
    /// Text with bullets.
    pub text: String,
    /// Positions of the markers, in code points of the original text.
    markers: Vec<usize>,
}

impl Highlighted {
    /// Replaces every `@highlight\n` with `- `.
    pub fn new(standardised: &str) -> Self {
        let mut markers = Vec::new();
        let mut text = String::with_capacity(standardised.len());
        let mut chars = 0;
        let mut rest = standardised;
        while let Some(at) = rest.find(HIGHLIGHT) {
            chars += rest[..at].chars().count();
            markers.push(chars);
            chars += HIGHLIGHT_CHARS;
            text.push_str(&rest[..at]);
            text.push_str(BULLET);
            rest = &rest[at + HIGHLIGHT.len()..];
        }
        text.push_str(rest);
        Self { text, markers }
    }

    /// Maps a span of the original text to the new text. A span that contains part of a marker is extended to the whole bullet.
    pub fn moved(&self, span: CharSpan) -> CharSpan {
        let shrink = HIGHLIGHT_CHARS - BULLET_CHARS;
        let before_start = self.markers.partition_point(|&marker| marker + HIGHLIGHT_CHARS <= span.start);
        let start = match self.markers.get(before_start) {
            Some(&marker) if marker < span.start => marker - shrink * before_start,
            _ => span.start - shrink * before_start,
        };
        let before_end = self.markers.partition_point(|&marker| marker + HIGHLIGHT_CHARS <= span.end);
        let end = match self.markers.get(before_end) {
            Some(&marker) if marker < span.end => marker + BULLET_CHARS - shrink * before_end,
            _ => span.end - shrink * before_end,
        };
        CharSpan { start, end }
    }
}

/// Map from code points to bytes of a text.
pub struct CharOffsets<'a> {
    text: &'a str,
    /// Byte offset of every code point and of the end; empty if the text is ASCII.
    bytes: Vec<usize>,
}

impl<'a> CharOffsets<'a> {
    /// Creates the map of a text.
    pub fn new(text: &'a str) -> Self {
        if text.is_ascii() {
            return Self { text, bytes: Vec::new() };
        }
        let bytes = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        Self { text, bytes }
    }

    /// Number of code points.
    pub fn chars(&self) -> usize {
        if self.bytes.is_empty() { self.text.len() } else { self.bytes.len() - 1 }
    }

    /// Returns the byte range of a span; `None` if it is out of bounds.
    pub fn bytes(&self, span: CharSpan) -> Option<std::ops::Range<usize>> {
        if span.end > self.chars() || span.start > span.end {
            return None;
        }
        if self.bytes.is_empty() {
            return Some(span.start..span.end);
        }
        Some(self.bytes[span.start]..self.bytes[span.end])
    }

    /// Returns the text of a span; `None` if it is out of bounds.
    pub fn slice(&self, span: CharSpan) -> Option<&'a str> {
        self.text.get(self.bytes(span)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(start: usize, end: usize) -> CharSpan {
        CharSpan { start, end }
    }

    #[test]
    fn only_five_characters_are_replaced() {
        assert_eq!(
            standardise("\u{201c}a\u{201d} \u{2018}b\u{2019} \u{2013} \u{2014} \u{201e}"),
            "\"a\" 'b' - \u{2014} \u{201e}"
        );
    }

    #[test]
    fn highlights_become_bullets_and_spans_move() {
        let text = Highlighted::new("éa\n@highlight\nBo\n@highlight\nCy @highlight");
        assert_eq!(text.text, "éa\n- Bo\n- Cy @highlight");
        assert_eq!(text.moved(span(0, 2)), span(0, 2));
        assert_eq!(text.moved(span(14, 16)), span(5, 7));
        assert_eq!(text.moved(span(28, 30)), span(10, 12));
        // Spans that contain part of a marker, and one over both markers.
        assert_eq!(text.moved(span(1, 5)), span(1, 5));
        assert_eq!(text.moved(span(5, 16)), span(3, 7));
        assert_eq!(text.moved(span(4, 6)), span(3, 5));
        assert_eq!(text.moved(span(0, 30)), span(0, 12));
    }

    proptest! {
        #[test]
        fn a_span_without_a_marker_keeps_its_text(text in "([aé中\n]|@highlight\n|@high){0,12}", a in 0_usize..60, b in 0_usize..60) {
            let before = CharOffsets::new(&text);
            let raw = span(a.min(b).min(before.chars()), a.max(b).min(before.chars()));
            let moved = Highlighted::new(&text);
            let after = CharOffsets::new(&moved.text);
            let new = moved.moved(raw);
            let was = before.slice(raw).expect("in range");
            let now = after.slice(new).expect("in range");
            prop_assert_eq!(&moved.text, &text.replace(HIGHLIGHT, BULLET));
            // The new text of the span contains the replacement of its complete markers.
            prop_assert!(now.contains(was.replace(HIGHLIGHT, BULLET).as_str()) || cuts_a_marker(&text, raw), "{:?} {:?}", was, now);
            if !cuts_a_marker(&text, raw) {
                prop_assert_eq!(now, was.replace(HIGHLIGHT, BULLET));
            }
        }
    }

    fn cuts_a_marker(text: &str, span: CharSpan) -> bool {
        let inside = |at: usize| {
            text.match_indices(HIGHLIGHT).any(|(byte, _)| {
                let marker = text[..byte].chars().count();
                marker < at && at < marker + HIGHLIGHT_CHARS
            })
        };
        inside(span.start) || inside(span.end)
    }
}
