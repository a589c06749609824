//! Division of long words into pieces with the same tokens.
//!
//! The crate `tokenizers` needs about 60 bytes of memory per byte of a word, and some 500 per byte if the word is all punctuation. Text
//! without white space, such as tables and data in base64, is therefore encoded piece by piece.

use std::ops::Range;

use glm_schemas::vocab::SpecialIds;

use super::sigma;

/// Returns the byte ranges of the pieces of a word. They are cut as soon as they have `size` bytes, where BERT's pipeline separates
/// tokens whatever surrounds them; a piece without such a place can be of any length.
pub(super) fn pieces(word: &str, size: usize) -> impl Iterator<Item = Range<usize>> {
    // The lower case of a capital sigma depends on the whole word.
    let is_divisible = !word.contains(sigma::CAPITAL);
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == word.len() {
            return None;
        }
        let end = if is_divisible { cut(&word[start..], size) } else { None };
        let piece = start..end.map_or(word.len(), |length| start + length);
        start = piece.end;
        Some(piece)
    })
}

/// Returns the length of the first piece of a text.
fn cut(text: &str, size: usize) -> Option<usize> {
    let from = (size..text.len()).find(|&at| text.is_char_boundary(at))?;
    let mut before = text[..from].chars().next_back()?;
    for (at, after) in text[from..].char_indices() {
        if are_separate(before, after) {
            return Some(from + at);
        }
        before = after;
    }
    None
}

/// Returns true if two adjacent characters always belong to different tokens, and neither changes the normal form of the other.
fn are_separate(before: char, after: char) -> bool {
    let ends = before.is_ascii_punctuation() || is_ideograph(before);
    let begins = after.is_ascii_graphic() || is_ideograph(after);
    ends && begins && !are_in_a_special_token(before, after)
}

/// The ideographs that BERT separates and whose normal form is themselves.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}')
}

fn are_in_a_special_token(before: char, after: char) -> bool {
    let (Ok(before), Ok(after)) = (u8::try_from(before), u8::try_from(after)) else { return false };
    SpecialIds::BERT_UNCASED.named().iter().any(|(token, _)| token.as_bytes().windows(2).any(|pair| pair == [before, after]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_at_punctuation_and_ideographs() {
        let cut = |word, size| pieces(word, size).map(|piece| &word[piece]).collect::<Vec<_>>();
        assert_eq!(cut("ab,cd,ef", 1), ["ab,", "cd,", "ef"]);
        assert_eq!(cut("ab,cd,ef", 4), ["ab,cd,", "ef"]);
        assert_eq!(cut("a[MASK]b<|endofpiece|>", 1), ["a[MASK]", "b<|endofpiece|>"]);
        assert_eq!(cut("中文é中#\u{301}##", 1), ["中", "文é中", "#\u{301}#", "#"]);
        assert_eq!(cut("a,Σ,b", 1), ["a,Σ,b"]);
        assert_eq!(cut("", 1), [""; 0]);
    }
}
