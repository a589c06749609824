//! Lower-casing of the Greek capital sigma, the only letter whose lower case depends on its context.
//!
//! Python, and therefore the published tokenizer, lower-cases it to `ς` at the end of a word and to `σ` elsewhere (Unicode's
//! `Final_Sigma`); the normalizer of the crate `tokenizers` converts letter by letter and always produces `σ`.

use std::borrow::Cow;

pub(super) const CAPITAL: char = 'Σ';
const SMALL: char = 'σ';
const FINAL: char = 'ς';

/// Replaces every capital sigma that Python lower-cases to `ς`. Byte offsets do not change: both letters have two bytes.
pub(super) fn lower_final_sigmas(text: &str) -> Cow<'_, str> {
    if !text.contains(CAPITAL) {
        return Cow::Borrowed(text);
    }
    let mut lowered = String::with_capacity(text.len());
    for word in text.split_inclusive(separates_words) {
        // The standard library implements the rule; only sigmas are mapped to sigmas, so the n-th one corresponds to the n-th
        // one.
        let cleaned: String = word.chars().filter(|&c| !is_dropped(c) && !separates_words(c)).collect();
        let small = cleaned.to_lowercase();
        let mut sigmas = small.chars().filter(|&c| c == SMALL || c == FINAL);
        for c in word.chars() {
            let small = if matches!(c, CAPITAL | SMALL | FINAL) { sigmas.next() } else { None };
            lowered.push(if c == CAPITAL && small == Some(FINAL) { FINAL } else { c });
        }
    }
    Cow::Owned(lowered)
}

/// Returns true for characters that the normalizer removes before splitting words.
fn is_dropped(c: char) -> bool {
    c == char::REPLACEMENT_CHARACTER || (c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
}

fn separates_words(c: char) -> bool {
    c.is_whitespace() && !is_dropped(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigmas_are_lower_cased_as_in_python() {
        for (text, expected) in [
            ("ΑΣ", "Ας"),
            ("Σ", "Σ"),
            ("ΣΑ ΑΣΑ ΑΣ. ΑΣ.Α", "ΣΑ ΑΣΑ Ας. ΑΣ.Α"),
            ("ΑΣ\u{2028}Α", "Ας\u{2028}Α"),
            ("ΑΣ\u{0b}Α", "ΑΣ\u{0b}Α"),
            ("σΣ ςΑΣ", "σς ςΑς"),
            ("ΑΣ中Α", "Ας中Α"),
            ("no sigma", "no sigma"),
        ] {
            assert_eq!(lower_final_sigmas(text), expected, "{text:?}");
        }
    }
}
