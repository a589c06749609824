//! Encoder with a word cache.

use std::collections::HashMap;
use std::ops::Range;

use glm_schemas::vocab::TokenId;

use super::{Tokenizer, TokenizerError, Tokens};

/// Maximum number of cached words, about 10 MB. A full cache is cleared, which is cheaper than tracking use.
const MAX_WORDS: usize = 65_536;
/// Maximum length of a cached word: longer ones (URLs, Chinese) rarely repeat.
const MAX_WORD_BYTES: usize = 48;

/// Tokens of a word, with spans relative to its start.
type Word = Box<[(TokenId, Range<u32>)]>;

/// Encoder for one thread. Produces the same tokens as the tokenizer, but encodes each word only once.
pub struct Session<'a> {
    tokenizer: &'a Tokenizer,
    words: HashMap<Box<str>, Word>,
    scratch: Tokens,
}

impl<'a> Session<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, words: HashMap::new(), scratch: Tokens::default() }
    }

    /// Encodes a text. Special tokens are not added, but recognised where they are written in the text.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] if the library rejects the text; BERT's pipeline rejects none.
    pub fn encode(&mut self, text: &str) -> Result<Tokens, TokenizerError> {
        let mut tokens = Tokens::default();
        if !self.tokenizer.splits_at_spaces {
            self.tokenizer.encode_into(text, 0, &mut tokens)?;
            return Ok(tokens);
        }
        let mut start = 0;
        // BERT treats these four as spaces, which end words; no special token contains one and no rule depends on text across
        // them.
        for word in text.split([' ', '\n', '\t', '\r']) {
            self.push_word(word, start, &mut tokens)?;
            start += word.len() + 1;
        }
        Ok(tokens)
    }

    fn push_word(&mut self, word: &str, start: usize, tokens: &mut Tokens) -> Result<(), TokenizerError> {
        if word.is_empty() {
            return Ok(());
        }
        if word.len() > MAX_WORD_BYTES {
            return self.tokenizer.encode_into(word, start, tokens);
        }
        if let Some(known) = self.words.get(word) {
            tokens.extend(known, start);
            return Ok(());
        }
        self.scratch.ids.clear();
        self.scratch.spans.clear();
        self.tokenizer.encode_into(word, 0, &mut self.scratch)?;
        let spans = self.scratch.spans.iter().map(|span| span.start as u32..span.end as u32);
        let new: Word = self.scratch.ids.iter().copied().zip(spans).collect();
        tokens.extend(&new, start);
        if self.words.len() >= MAX_WORDS {
            self.words.clear();
        }
        self.words.insert(word.into(), new);
        Ok(())
    }
}

impl Tokens {
    fn extend(&mut self, word: &[(TokenId, Range<u32>)], start: usize) {
        for (id, span) in word {
            self.ids.push(*id);
            self.spans.push(start + span.start as usize..start + span.end as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokenizer() -> &'static Tokenizer {
        static TOKENIZER: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
        TOKENIZER.get_or_init(|| Tokenizer::bert_uncased().expect("built in"))
    }

    proptest! {
        #[test]
        fn a_session_equals_the_tokenizer_also_the_second_time(
            text in "([a-zA-ZéÅΣσς ]|[ \t\n\r\u{a0}\u{2028}\u{b}]|中|\u{301}|\u{200b}|한|İ|ﬁ|\\PC|\\[MASK\\]|<\\|endofpiece\\|>|[.,']){0,60}",
        ) {
            let mut whole = Tokens::default();
            tokenizer().encode_into(&text, 0, &mut whole).expect("encode");
            let mut session = tokenizer().session();
            prop_assert_eq!(&session.encode(&text).expect("encode"), &whole);
            prop_assert_eq!(&session.encode(&text).expect("encode"), &whole);
        }

        #[test]
        fn spans_are_on_character_boundaries_and_ascending(text in "(\\PC|[\u{0}-\u{20}]|\u{301}|Σ|한){0,60}") {
            let tokens = tokenizer().session().encode(&text).expect("encode");
            prop_assert_eq!(tokens.ids.len(), tokens.spans.len());
            for span in &tokens.spans {
                prop_assert!(text.get(span.clone()).is_some_and(|part| !part.is_empty()), "{:?}", span);
            }
            for pair in tokens.spans.windows(2) {
                prop_assert!(pair[0].start <= pair[1].start && pair[0].end <= pair[1].end);
            }
        }
    }
}
