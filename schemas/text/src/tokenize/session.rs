//! Encoding with a memory for words.

use std::collections::HashMap;
use std::ops::Range;

use glm_schemas::vocab::TokenId;

use super::{Tokenizer, TokenizerError, Tokens};

/// Words remembered at most: some 10 MB. When it is full it starts anew, which costs less than keeping count of use.
const MAX_WORDS: usize = 65_536;
/// Longer stretches without a space (addresses, Chinese) hardly ever come again.
const MAX_WORD_BYTES: usize = 48;

/// Tokens of a stretch of text between spaces, spans relative to its start.
type Word = Box<[(TokenId, Range<u32>)]>;

/// An encoder for one thread. It gives what the tokenizer gives, but encodes a word only the first time it sees it.
pub struct Session<'a> {
    tokenizer: &'a Tokenizer,
    words: HashMap<Box<str>, Word>,
    scratch: Tokens,
}

impl<'a> Session<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, words: HashMap::new(), scratch: Tokens::default() }
    }

    /// The tokens of a text, special tokens only where they are written out in it.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] where the library refuses the text; BERT's pipeline refuses none.
    pub fn encode(&mut self, text: &str) -> Result<Tokens, TokenizerError> {
        let mut tokens = Tokens::default();
        if !self.tokenizer.splits_at_spaces {
            self.tokenizer.encode_into(text, 0, &mut tokens)?;
            return Ok(tokens);
        }
        let mut start = 0;
        // BERT turns these four into spaces and ends words there; no special token holds one and no rule looks across.
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
        fn a_session_gives_what_the_whole_text_gives_also_the_second_time(
            text in "([a-zA-ZéÅΣσς ]|[ \t\n\r\u{a0}\u{2028}\u{b}]|中|\u{301}|\u{200b}|한|İ|ﬁ|\\PC|\\[MASK\\]|<\\|endofpiece\\|>|[.,']){0,60}",
        ) {
            let mut whole = Tokens::default();
            tokenizer().encode_into(&text, 0, &mut whole).expect("encode");
            let mut session = tokenizer().session();
            prop_assert_eq!(&session.encode(&text).expect("encode"), &whole);
            prop_assert_eq!(&session.encode(&text).expect("encode"), &whole);
        }

        #[test]
        fn spans_lie_in_the_text_at_characters_and_never_go_back(text in "(\\PC|[\u{0}-\u{20}]|\u{301}|Σ|한){0,60}") {
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
