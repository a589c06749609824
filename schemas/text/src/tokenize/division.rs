//! Division of texts into parts that are encoded apart, with the same tokens.

use std::ops::Range;

use super::pieces::pieces;
use super::sentencepiece::SPACE;
use super::{Division, Tokenizer};

/// Ranges of a text.
type Ranges<'t> = Box<dyn Iterator<Item = Range<usize>> + 't>;

impl Tokenizer {
    /// Returns the words of a text that are encoded apart.
    pub(super) fn words<'t>(&'t self, text: &'t str) -> Ranges<'t> {
        match self.division {
            Division::Whole => Box::new(std::iter::once(0..text.len())),
            // BERT treats these four as spaces, which end words; no special token contains one and no rule depends on text across
            // them.
            Division::Spaces => {
                let mut start = 0;
                Box::new(text.split([' ', '\n', '\t', '\r']).map(move |word| {
                    let range = start..start + word.len();
                    start = range.end + 1;
                    range
                }))
            }
            // GPT-2's rules never join a character with white space after it.
            Division::ByteLevel => Box::new(cut_before(text, |before, after| !before.is_whitespace() && after.is_whitespace())),
            // A written `▁` is not one space with those beside it.
            Division::SentencePiece if text.contains(SPACE) => Box::new(std::iter::once(0..text.len())),
            Division::SentencePiece => {
                let is_space = |c: char| matches!(c, ' ' | '\n' | '\t' | '\r') && self.separates(c);
                Box::new(cut_before(text, move |before, after| is_space(before) && stands_alone(after)))
            }
        }
    }

    /// Returns parts of a long word that are encoded apart, of `size` bytes or more where it can be divided.
    pub(super) fn parts<'t>(&self, word: &'t str, size: usize) -> Ranges<'t> {
        match self.division {
            Division::Spaces => Box::new(pieces(word, size)),
            // GPT-2's rules never join a letter or digit with punctuation after it.
            Division::ByteLevel => {
                let mut start = 0;
                let ends = word.char_indices().zip(word.chars().skip(1)).filter(move |&((at, before), after)| {
                    let end = at + before.len_utf8();
                    let cuts = end - start >= size && is_letter(before) && is_mark(after);
                    if cuts {
                        start = end;
                    }
                    cuts
                });
                let ends = ends.map(|((at, before), _)| at + before.len_utf8()).chain([word.len()]);
                Box::new(ranges(ends))
            }
            Division::SentencePiece | Division::Whole => Box::new(std::iter::once(0..word.len())),
        }
    }
}

/// Cuts a text between characters for which `cuts` is true.
fn cut_before(text: &str, mut cuts: impl FnMut(char, char) -> bool) -> impl Iterator<Item = Range<usize>> {
    let pairs = text.chars().zip(text.char_indices().skip(1));
    let ends = pairs.filter_map(move |(before, (at, after))| cuts(before, after).then_some(at)).chain([text.len()]);
    ranges(ends)
}

/// Ranges up to some ends.
fn ranges(ends: impl Iterator<Item = usize>) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    ends.map(move |end| {
        let range = start..end;
        start = end;
        range
    })
}

/// A letter or digit that is one in every version of Unicode.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}')
}

fn is_mark(c: char) -> bool {
    c.is_ascii_punctuation() || matches!(c, '。' | '，' | '、' | '！' | '？' | '；' | '：')
}

/// A character that is normalized in the same way after any other: it is not a combining mark.
fn stands_alone(c: char) -> bool {
    c.is_ascii_graphic()
        || matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{ff01}'..='\u{ff5e}' | '\u{c0}'..='\u{24f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_words_begin_with_their_spaces() {
        let tokenizer = Tokenizer::gpt2().expect("built in");
        let words = |text: &'static str| tokenizer.words(text).map(|range| &text[range]).collect::<Vec<_>>();
        assert_eq!(words("  a b\n\nc "), ["  a", " b", "\n\nc", " "]);
        let parts = |word: &'static str| tokenizer.parts(word, 3).map(|range| &word[range]).collect::<Vec<_>>();
        assert_eq!(parts("ab,cd,ef渡,"), ["ab,cd", ",ef渡", ","]);
    }
}
