//! Cards: rows of a data set that fold, each with a link of its own.

use maud::{Markup, html};

/// A card.
#[derive(Debug, Clone, Copy)]
pub struct Card<'a> {
    /// Distinguishes the anchors of several lists of cards.
    pub prefix: &'a str,
    /// Id of the row, the heading.
    pub id: &'a str,
    /// Short remark next to the id.
    pub about: &'a str,
    /// Open, or folded.
    pub open: bool,
}

impl Card<'_> {
    /// Renders the card around a text and, next to it if the page is wide, what belongs to it.
    #[must_use]
    pub fn render(&self, text: &Markup, aside: Option<&Markup>) -> Markup {
        let anchor = anchor(self.prefix, self.id);
        html! {
            details.folding open[self.open] {
                summary { h3 { bdi { (self.id) } } @if !self.about.is_empty() { " " span.note { (self.about) } } }
                // Browsers open what is folded if the target of a link is inside.
                div.card id=(anchor) {
                    div.text { (text) }
                    @if let Some(aside) = aside { div.aside { (aside) } }
                    p.note { a href={ "#" (anchor) } { "Link to this card" } }
                }
            }
        }
    }
}

/// Returns the anchor of a card: letters, digits and hyphens of its id, and the codes of all else, so that ids that differ have anchors
/// that differ.
fn anchor(prefix: &str, id: &str) -> String {
    let mut anchor = format!("{prefix}-");
    for c in id.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' => anchor.push(c),
            other => anchor.push_str(&format!("_{:x}_", u32::from(other))),
        }
    }
    anchor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_fold_and_have_anchors() {
        let card = Card { prefix: "hardest", id: "q<1>", about: "a & b", open: false };
        let folded = card.render(&html! { "text" }, None).into_string();
        assert!(folded.starts_with("<details class=\"folding\"><summary><h3><bdi>q&lt;1&gt;</bdi></h3>"), "{folded}");
        assert!(folded.contains("id=\"hardest-q_3c_1_3e_\"") && folded.contains("href=\"#hardest-q_3c_1_3e_\""), "{folded}");
        assert!(folded.contains("a &amp; b") && !folded.contains("aside"), "{folded}");
        let open = Card { open: true, ..card }.render(&html! {}, Some(&html! { "more" })).into_string();
        assert!(open.starts_with("<details class=\"folding\" open>") && open.contains("<div class=\"aside\">more"), "{open}");
        assert_ne!(anchor("q", "a_b"), anchor("q", "a b"));
    }
}
