//! Encoder with a word cache.

use std::collections::HashMap;
use std::ops::Range;

use glm_schemas::vocab::TokenId;

use super::commands::Part;
use super::{Division, Family, Tokenizer, TokenizerError, Tokens};

/// Maximum number of cached words, about 10 MB. A full cache is cleared, which is cheaper than tracking use.
const MAX_WORDS: usize = 65_536;
/// Maximum length of a cached word: longer ones (URLs, Chinese) rarely repeat.
const MAX_CACHED_BYTES: usize = 48;
/// Length from which a word is encoded in pieces.
const PIECE_BYTES: usize = 1 << 10;
/// Maximum length of a word, or of a piece of it, that is encoded at once.
pub const MAX_WORD_BYTES: usize = 64 << 10;
/// Maximum length of a text for a tokenizer that must encode it at once.
pub const MAX_TEXT_BYTES: usize = 256 << 10;

/// Tokens of a word, with spans relative to its start.
type Word = Box<[(TokenId, Range<u32>)]>;

/// Encoder for one thread. Produces the same tokens as the tokenizer, but encodes each word only once.
pub struct Session<'a> {
    tokenizer: &'a Tokenizer,
    words: HashMap<Box<str>, Word>,
    scratch: Tokens,
}

impl<'a> Session<'a> {
    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, words: HashMap::new(), scratch: Tokens::default() }
    }

    /// Encodes a text. Special tokens are not added, but recognised where they are written in the text.
    ///
    /// # Errors
    /// [`TokenizerError::LongWord`] and [`TokenizerError::LongText`] if a text needs too much memory;
    /// [`TokenizerError::Encode`] if the library rejects it, which BERT's pipeline never does.
    pub fn encode(&mut self, text: &str) -> Result<Tokens, TokenizerError> {
        let mut tokens = Tokens::default();
        if text.trim().is_empty() {
            return Ok(tokens);
        }
        for part in self.tokenizer.split_at_commands(text) {
            match part {
                Part::Command(id, span) => {
                    tokens.ids.push(id);
                    tokens.spans.push(span);
                }
                Part::Text(range) => self.push_text(&text[range.clone()], range.start, &mut tokens)?,
            }
        }
        Ok(tokens)
    }

    fn push_text(&mut self, text: &str, start: usize, tokens: &mut Tokens) -> Result<(), TokenizerError> {
        match self.tokenizer.family {
            // The pieces of a word can depend on the words before, by rounding.
            Family::SentencePiece(_) => return self.tokenizer.encode_into(text, start, tokens),
            _ if self.tokenizer.division != Division::Whole => {}
            _ if text.len() > MAX_TEXT_BYTES => return Err(TokenizerError::LongText { bytes: text.len() }),
            _ => return self.tokenizer.encode_into(text, start, tokens),
        }
        for word in self.tokenizer.words(text) {
            self.push_word(&text[word.clone()], start + word.start, tokens)?;
        }
        Ok(())
    }

    fn push_word(&mut self, word: &str, start: usize, tokens: &mut Tokens) -> Result<(), TokenizerError> {
        if word.is_empty() {
            return Ok(());
        }
        if word.len() > MAX_CACHED_BYTES {
            for piece in self.tokenizer.parts(word, PIECE_BYTES) {
                if piece.len() > MAX_WORD_BYTES {
                    return Err(TokenizerError::LongWord { bytes: piece.len(), limit: MAX_WORD_BYTES });
                }
                self.tokenizer.encode_into(&word[piece.clone()], start + piece.start, tokens)?;
            }
            return Ok(());
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

    use super::super::pieces::pieces;
    use super::*;

    fn tokenizer() -> &'static Tokenizer {
        static TOKENIZER: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
        TOKENIZER.get_or_init(|| Tokenizer::bert_uncased().expect("built in"))
    }

    #[test]
    fn long_texts_are_encoded_in_pieces_and_longer_words_are_errors() {
        let mut session = tokenizer().session();
        let tokens = session.encode(&"#".repeat(1 << 20)).expect("encode");
        assert_eq!((tokens.ids.len(), tokens.spans.last()), (1 << 20, Some(&((1 << 20) - 1..1 << 20))));
        assert!(tokens.ids.iter().all(|&id| id == tokens.ids[0]));
        let word = "x".repeat(MAX_WORD_BYTES);
        assert_eq!(session.encode(&word).expect("encode").ids, [tokenizer().special().unk]);
        let error = session.encode(&format!("a {word}y")).expect_err("too long").to_string();
        assert_eq!(
            error,
            "65537 bytes without white space or ASCII punctuation between them cannot be tokenized; the limit is 65536"
        );
        let json = Tokenizer::from_json(
            "t.json",
            tokenizer().pipeline.as_ref().expect("pipeline").to_string(false).expect("json").as_bytes(),
        )
        .expect("json");
        assert!(matches!(json.session().encode(&"a ".repeat(MAX_TEXT_BYTES)), Err(TokenizerError::LongText { .. })));
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
        fn pieces_of_a_word_have_the_tokens_of_the_word(
            word in "([a-z]{1,3}|[#$.,'^`]|[中文]|é|\u{301}|[\u{1}\u{7f}\u{200b}]|한|ﬁ|[\\[\\]<>|]|\\[MASK\\]|<\\|endofpiece\\|>|ς|İ|\\PC){0,40}", size in 1_usize..9,
        ) {
            prop_assume!(!word.contains([' ', '\n', '\t', '\r']));
            let mut whole = Tokens::default();
            tokenizer().encode_into(&word, 0, &mut whole).expect("encode");
            let mut parts = Tokens::default();
            let mut end = 0;
            for piece in pieces(&word, size) {
                prop_assert_eq!(piece.start, end);
                end = piece.end;
                tokenizer().encode_into(&word[piece.clone()], piece.start, &mut parts).expect("encode");
            }
            prop_assert_eq!(end, word.len());
            prop_assert_eq!(parts, whole);
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
