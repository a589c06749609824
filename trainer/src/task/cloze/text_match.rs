//! F1 and exact match between the text of a chosen answer and the right answers, as defined by SuperGLUE for ReCoRD.
//!
//! Both compare normalized text: lower case, without ASCII punctuation, without the articles a, an and the, and with single
//! spaces. F1 is computed from the multiset of words that two texts share. With several right answers, the best match counts.

use crate::text_metrics::answer::word_f1;

/// Similarity of a chosen text to the right answers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct TextMatch {
    /// Harmonic mean of precision and recall of its words, 0 to 1.
    pub(super) f1: f64,
    /// True if it equals a right answer after normalization.
    pub(super) exact: bool,
}

/// Compares a chosen text with the right answers. Without right answers, nothing matches.
pub(super) fn best_match<'a>(chosen: &str, right: impl IntoIterator<Item = &'a str>) -> TextMatch {
    let chosen = normalised(chosen);
    right.into_iter().fold(TextMatch::default(), |best, right| {
        let right = normalised(right);
        TextMatch { f1: best.f1.max(word_f1(&chosen, &right)), exact: best.exact || chosen == right }
    })
}

/// Returns the normalized words of a text.
fn normalised(text: &str) -> Vec<String> {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut without_articles = String::with_capacity(plain.len());
    // An article is delimited by any characters that are not part of a word, not only spaces: an em dash, for example, is not
    // ASCII punctuation.
    let mut rest = plain.as_str();
    while let Some(first) = rest.chars().next() {
        let in_word = is_in_word(first);
        let end = rest.find(|c| is_in_word(c) != in_word).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(end);
        without_articles.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = tail;
    }
    without_articles.split_whitespace().map(str::to_owned).collect()
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_punctuation_articles_and_spaces_do_not_count() {
        assert_eq!(normalised("The  U.S.\tof an Éclair's—a-b theory"), ["us", "of", "éclairs—ab", "theory"]);
        assert_eq!(normalised("x—the—y"), ["x—", "—y"]);
        assert!(normalised(" A. the ").is_empty());
        assert_eq!(best_match("the U.S.", ["us"]), TextMatch { f1: 1.0, exact: true });
    }

    #[test]
    fn shared_words_are_counted_with_multiplicity() {
        // Precision is two of three words, recall two of four.
        assert_eq!(best_match("New York York", ["new york city hall"]).f1, 2.0 * (2.0 / 3.0) * 0.5 / (2.0 / 3.0 + 0.5));
        assert_eq!(best_match("Bo Bo", ["bo"]), TextMatch { f1: 2.0 / 3.0, exact: false });
        assert_eq!(best_match("Bo", ["Ann", "Bo Lee", "Cy"]).f1, 2.0 / 3.0);
    }

    #[test]
    fn nothing_matches_without_right_answers_or_words() {
        assert_eq!(best_match("Bo", []), TextMatch::default());
        // Texts that consist only of articles are equal and yet share no word.
        assert_eq!(best_match("the", ["a"]), TextMatch { f1: 0.0, exact: true });
    }

    proptest! {
        #[test]
        fn word_order_is_ignored_and_equal_texts_match(words in prop::collection::vec("[b-zB-Z]{1,4}", 1..6), other in "\\PC{0,20}") {
            let text = words.join(" ");
            let reversed: Vec<_> = words.iter().rev().cloned().collect();
            prop_assert_eq!(best_match(&text, [text.as_str()]), TextMatch { f1: 1.0, exact: true });
            prop_assert!((best_match(&reversed.join("  "), [text.as_str()]).f1 - 1.0).abs() < 1e-12);
            let (there, back) = (best_match(&text, [other.as_str()]), best_match(&other, [text.as_str()]));
            prop_assert!((there.f1 - back.f1).abs() < 1e-12 && (0.0..=1.0 + 1e-12).contains(&there.f1));
            prop_assert_eq!(there.exact, back.exact);
        }
    }
}
