//! Text with marked spans.

use std::ops::Range;

use maud::{Markup, html};

/// Kind of a span. Where spans overlap, the last of this list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A mention of an entity.
    Mention,
    /// A wrong choice of the model.
    Wrong,
    /// A correct answer.
    Right,
    /// The blank of a query.
    Blank,
}

impl Kind {
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Mention => "mention",
            Self::Wrong => "wrong",
            Self::Right => "right",
            Self::Blank => "blank",
        }
    }
}

/// A half-open range of code points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Code points.
    pub range: Range<usize>,
    /// Kind of the span.
    pub kind: Kind,
}

/// Renders a text with marked spans. Spans may nest and overlap; they are clipped to the text.
#[must_use]
pub fn marked(text: &str, spans: &[Span]) -> Markup {
    html! {
        @for (piece, kind) in pieces(text, spans) {
            @match kind {
                None => (piece),
                Some(Kind::Blank) => mark.blank title="the blank" { "\u{a0}\u{a0}?\u{a0}\u{a0}" },
                Some(kind) => mark class=(kind.class()) { (piece) },
            }
        }
    }
}

/// Splits the text where the kind changes.
fn pieces<'a>(text: &'a str, spans: &[Span]) -> Vec<(&'a str, Option<Kind>)> {
    // Byte offsets of all code points and of the end.
    let offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
    let last = offsets.len() - 1;
    let mut kinds: Vec<Option<Kind>> = vec![None; last];
    // Borders between adjacent spans, so that two mentions side by side remain two.
    let mut borders = vec![false; last + 1];
    for Span { range, kind } in spans {
        let (start, end) = (range.start.min(last), range.end.min(last));
        if start >= end {
            continue;
        }
        kinds[start..end].iter_mut().for_each(|shown| *shown = (*shown).max(Some(*kind)));
        borders[start] = true;
        borders[end] = true;
    }
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in 1..=last {
        if end == last || kinds[end] != kinds[start] || (borders[end] && kinds[start].is_some()) {
            pieces.push((&text[offsets[start]..offsets[end]], kinds[start]));
            start = end;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(range: Range<usize>, kind: Kind) -> Span {
        Span { range, kind }
    }

    #[test]
    fn the_strongest_kind_is_shown() {
        let spans = [span(0..6, Kind::Mention), span(2..4, Kind::Right), span(3..99, Kind::Wrong), span(5..5, Kind::Blank)];
        let found = pieces("abécdef", &spans);
        let (mention, right, wrong) = (Some(Kind::Mention), Some(Kind::Right), Some(Kind::Wrong));
        assert_eq!(found, [("ab", mention), ("é", right), ("c", right), ("de", wrong), ("f", wrong)]);
        assert_eq!(pieces("", &spans), []);
    }

    #[test]
    fn text_is_escaped_and_the_blank_is_replaced() {
        let text = marked("a <script> @placeholder", &[span(2..10, Kind::Mention), span(11..23, Kind::Blank)]).into_string();
        assert!(text.starts_with("a <mark class=\"mention\">&lt;script&gt;</mark> <mark class=\"blank\""), "{text}");
        assert!(!text.contains("@placeholder"), "{text}");
    }

    proptest! {
        #[test]
        fn no_text_is_lost(text in "[a-z<é中]{0,20}", ranges in prop::collection::vec((0_usize..24, 0_usize..24), 0..6)) {
            let spans: Vec<Span> = ranges.iter().map(|&(a, b)| span(a..b, Kind::Mention)).collect();
            let all: String = pieces(&text, &spans).into_iter().map(|(piece, _)| piece).collect();
            prop_assert_eq!(all, text);
        }
    }
}
