//! Text to token ids, equal to the published tokenizers, and back.
//!
//! | vocabulary | encoding | models |
//! | --- | --- | --- |
//! | BERT | normalizer (removes control characters, lower-cases, strips accents, separates CJK characters) and WordPiece | English up to 515M |
//! | GPT-2, RoBERTa | byte-level BPE | 2B, 10B; RoBERTa-large |
//! | SentencePiece | normalization by a table in the model's file, unigram or BPE | Chinese |
//! | any `tokenizer.json` | as the file says | |
//!
//! The algorithms are those of the crate `tokenizers`. This module adds GLM's special tokens, which are matched in the raw text; a
//! reader for SentencePiece models; the lower case of a final capital sigma as in Python; and a [`Session`], which caches the tokens
//! of words.
//!
//! ```
//! use glm_text::tokenize::Tokenizer;
//!
//! let tokenizer = Tokenizer::bert_uncased()?;
//! let tokens = tokenizer.session().encode("Zürich, a[MASK]b")?;
//! assert_eq!(tokens.ids, [10204, 1010, 1037, 103, 1038]);
//! assert_eq!(tokens.spans[0], 0..7); // bytes
//! # Ok::<(), glm_text::tokenize::TokenizerError>(())
//! ```

mod build;
mod byte_level;
mod commands;
mod decode;
mod division;
mod documents;
mod error;
mod load;
mod pieces;
mod sentencepiece;
mod session;
mod sigma;

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use glm_schemas::manifest;
use glm_schemas::vocab::{
    BERT_UNCASED_SHA256, CHINESE_SHA256, END_OF_PIECE, GPT2_VOCABULARY_SHA256, ROBERTA_VOCABULARY_SHA256, START_OF_PIECE,
    SpecialIds, TokenId,
};
use sha2::{Digest, Sha256};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Tokenizer as Pipeline};

use commands::{Command, Part};
pub use decode::Decoder;
pub use documents::ends_sentence;
pub use error::TokenizerError;
pub use load::{BERT_UNCASED_NAME, GPT2_NAME};
use sentencepiece::SentencePiece;
pub use session::{MAX_TEXT_BYTES, MAX_WORD_BYTES, Session};

/// Vocabulary of the published weights, see `assets/README.md`.
const BERT_UNCASED: &[u8] = include_bytes!("../assets/bert-large-uncased-vocab.txt");
/// Names of the published vocabularies, by the checksum of their first file.
const PUBLISHED: [(&str, &str); 4] = [
    (BERT_UNCASED_SHA256, BERT_UNCASED_NAME),
    (GPT2_VOCABULARY_SHA256, GPT2_NAME),
    (ROBERTA_VOCABULARY_SHA256, "roberta"),
    (CHINESE_SHA256, "cog-pretrain"),
];
/// Special tokens required of a vocabulary with BERT's; GLM's two are added if missing.
const REQUIRED: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const MAX_WORD_CHARS: usize = 100;
/// Maximum length of a text without white space for SentencePiece, which needs some 40 times as much memory.
const MAX_SENTENCE_PIECE_WORD_BYTES: usize = 4 << 20;
/// Tokens of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<TokenId>,
    /// Byte range of every token in the text. Starts and ends never decrease; tokens overlap if a character is normalized to
    /// several.
    pub spans: Vec<Range<usize>>,
}

/// A tokenizer with GLM's special tokens. Threads share it, each with its own [`Session`].
pub struct Tokenizer {
    family: Family,
    /// Rules of the vocabulary; `None` for SentencePiece.
    pipeline: Option<Pipeline>,
    division: Division,
    /// Special tokens that are matched before the pipeline; empty if the pipeline matches them.
    commands: Vec<Command>,
    special: SpecialIds,
    identity: manifest::Tokenizer,
    /// True if special tokens that are written in a text become tokens.
    has_commands: bool,
    /// For every id, whether the token ends a sentence.
    sentence_ends: OnceLock<Vec<bool>>,
}

/// Way in which the strings of tokens make up a text.
enum Family {
    /// Words, and continuations that begin with `##`.
    WordPiece,
    /// Characters that stand for bytes.
    ByteLevel,
    /// Text with `▁` for a space.
    SentencePiece(Box<SentencePiece>),
}

/// Way in which a text may be divided into parts with the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Division {
    /// Not at all.
    Whole,
    /// At ASCII white space, as BERT's pipeline.
    Spaces,
    /// Before white space, as GPT-2's rules.
    ByteLevel,
    /// At white space that SentencePiece makes one space.
    SentencePiece,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Loads the built-in tokenizer of the published weights.
    ///
    /// # Errors
    /// [`TokenizerError::BuiltIn`] if the built-in vocabulary is not the published one.
    pub fn bert_uncased() -> Result<Self, TokenizerError> {
        let found = manifest::hex(&Sha256::digest(BERT_UNCASED));
        if found != BERT_UNCASED_SHA256 {
            return Err(TokenizerError::BuiltIn { found });
        }
        Self::from_vocabulary(BERT_UNCASED_NAME, BERT_UNCASED)
    }

    /// Builds BERT's uncased pipeline on a vocabulary of one token per line. The line number is the id; `<|startofpiece|>` and
    /// `<|endofpiece|>` are appended if missing.
    ///
    /// # Errors
    /// [`TokenizerError`] if the vocabulary is not text or lacks a special token.
    pub fn from_vocabulary(name: &str, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TokenizerError::NotText { name: name.to_owned() })?;
        // Creates an empty map of a type that the library does not export.
        let mut ids = WordPiece::read_bytes(b"").map_err(|e| invalid(name, e))?;
        let mut rows = 0;
        for line in text.lines() {
            ids.insert(line.trim_end().to_owned(), rows);
            rows += 1;
        }
        for token in [START_OF_PIECE, END_OF_PIECE] {
            ids.entry(token.to_owned()).or_insert_with(|| {
                rows += 1;
                rows - 1
            });
        }
        require_special(name, |token| ids.contains_key(token))?;
        let model = WordPiece::builder()
            .vocab(ids)
            .unk_token("[UNK]".to_owned())
            .max_input_chars_per_word(MAX_WORD_CHARS)
            .build()
            .map_err(|e| invalid(name, e))?;
        let mut pipeline = Pipeline::new(model);
        pipeline.with_normalizer(Some(BertNormalizer::new(true, true, Some(true), true))).map_err(|e| invalid(name, e))?;
        pipeline.with_pre_tokenizer(Some(BertPreTokenizer));
        Self::with_bert_commands(name, bytes, pipeline, rows as usize, Division::Spaces)
    }

    /// Registers BERT's special tokens, so that the pipeline matches them in raw text, and looks up their ids.
    fn with_bert_commands(
        name: &str,
        bytes: &[u8],
        mut pipeline: Pipeline,
        rows: usize,
        division: Division,
    ) -> Result<Self, TokenizerError> {
        let tokens = SpecialIds::BERT_UNCASED.named().map(|(token, _)| AddedToken::from(token, true).normalized(false));
        pipeline.add_special_tokens(tokens).map_err(|e| invalid(name, e))?;
        let id = |token: &str| -> Result<TokenId, TokenizerError> {
            pipeline
                .token_to_id(token)
                .and_then(|id| TokenId::try_from(id).ok())
                .ok_or_else(|| TokenizerError::MissingSpecial { name: name.to_owned(), missing: token.to_owned() })
        };
        let special = SpecialIds {
            pad: id("[PAD]")?,
            unk: id("[UNK]")?,
            cls: id("[CLS]")?,
            sep: id("[SEP]")?,
            mask: id("[MASK]")?,
            sop: id(START_OF_PIECE)?,
            eop: id(END_OF_PIECE)?,
        };
        let sha256 = manifest::hex(&Sha256::digest(bytes));
        let identity = identity(name, &sha256, &sha256, special, rows.max(highest_id(&pipeline)));
        Ok(Self {
            family: Family::WordPiece,
            pipeline: Some(pipeline),
            division,
            commands: Vec::new(),
            special,
            identity,
            has_commands: true,
            sentence_ends: OnceLock::new(),
        })
    }

    /// Returns the ids of the special tokens.
    pub fn special(&self) -> SpecialIds {
        self.special
    }

    /// Returns name, checksum and size, as recorded in the manifest.
    pub fn identity(&self) -> &manifest::Tokenizer {
        &self.identity
    }

    /// Returns the token with this id as in the vocabulary: with `##` if it continues a word, with `Ġ` or `▁` for a space.
    pub fn token(&self, id: TokenId) -> Option<String> {
        if let Some(written) = self.written(id) {
            return Some(written.to_owned());
        }
        match &self.family {
            Family::SentencePiece(model) => model.piece(id).map(str::to_owned),
            Family::WordPiece | Family::ByteLevel => self.pipeline.as_ref()?.id_to_token(u32::try_from(id).ok()?),
        }
    }

    /// Written form of a special token that the pipeline does not know.
    fn written(&self, id: TokenId) -> Option<&'static str> {
        self.commands.iter().find(|command| command.id == id).map(|command| command.written)
    }

    /// Creates an encoder for one thread.
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }

    /// Splits a text at the special tokens that are written in it and that the pipeline does not know.
    fn split_at_commands(&self, text: &str) -> Vec<Part> {
        commands::split(if self.has_commands { &self.commands } else { &[] }, text)
    }

    /// Returns true if SentencePiece makes a character a space.
    fn separates(&self, c: char) -> bool {
        matches!(&self.family, Family::SentencePiece(model) if model.is_space(c))
    }

    /// Encodes a text without dividing it into words: slower than a [`Session`], with the same ids. For comparison.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn encode_at_once(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let mut tokens = Tokens::default();
        if text.trim().is_empty() {
            return Ok(tokens.ids);
        }
        for part in self.split_at_commands(text) {
            match part {
                Part::Command(id, _) => tokens.ids.push(id),
                Part::Text(range) => match &self.family {
                    Family::SentencePiece(model) => {
                        let pieces = model.encode(&text[range], &mut 0.0).map_err(TokenizerError::Encode)?;
                        tokens.ids.extend(pieces.into_iter().map(|(id, _)| id));
                    }
                    _ => self.encode_into(&text[range], 0, &mut tokens)?,
                },
            }
        }
        Ok(tokens.ids)
    }

    /// Appends the tokens of `text`, with `offset` added to their spans. Uncached reference for [`Session`].
    fn encode_into(&self, text: &str, offset: usize, tokens: &mut Tokens) -> Result<(), TokenizerError> {
        if let Family::SentencePiece(model) = &self.family {
            let mut score = 0.0;
            for word in self.words(text) {
                let start = offset + word.start;
                if word.len() > MAX_SENTENCE_PIECE_WORD_BYTES {
                    return Err(TokenizerError::LongWord { bytes: word.len(), limit: MAX_SENTENCE_PIECE_WORD_BYTES });
                }
                for (id, span) in model.encode(&text[word], &mut score).map_err(TokenizerError::Encode)? {
                    tokens.ids.push(id);
                    tokens.spans.push(span.start + start..span.end + start);
                }
            }
            return Ok(());
        }
        let Some(pipeline) = &self.pipeline else { return Ok(()) };
        let lowered = if self.division == Division::Spaces { sigma::lower_final_sigmas(text) } else { text.into() };
        let encoding = pipeline.encode(lowered.as_ref(), false).map_err(|e| TokenizerError::Encode(e.to_string()))?;
        tokens.ids.extend(encoding.get_ids().iter().map(|&id| self.of_text(id as TokenId)));
        let byte_level = matches!(self.family, Family::ByteLevel);
        tokens.spans.extend(encoding.get_offsets().iter().map(|&(start, end)| {
            // The space that a byte-level token begins with is not part of its word.
            let spaces = match byte_level.then(|| text.get(start..end)).flatten() {
                Some(part) => part.len() - part.trim_start().len(),
                None => 0,
            };
            let start = if start + spaces < end { start + spaces } else { start };
            start + offset..end + offset
        }));
        Ok(())
    }
}

/// Name, checksum and size of a vocabulary. `published` is the checksum that identifies a published one; `size` counts the ids of the
/// vocabulary, without the special tokens that follow them.
fn identity(path: &str, published: &str, sha256: &str, special: SpecialIds, size: usize) -> manifest::Tokenizer {
    let file_name = || Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned());
    let known = PUBLISHED.iter().find(|(sha256, _)| *sha256 == published);
    let name = known.map_or_else(file_name, |(_, name)| (*name).to_owned());
    let highest = special.named().into_iter().map(|(_, id)| id as usize + 1).fold(size, usize::max);
    manifest::Tokenizer { name, sha256: sha256.to_owned(), vocab_size: highest }
}

/// Number of ids of a pipeline. They can have gaps: the embedding table needs a row for the highest.
fn highest_id(pipeline: &Pipeline) -> usize {
    pipeline.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
}

fn invalid(name: &str, reason: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Invalid { name: name.to_owned(), reason: reason.to_string() }
}

fn require_special(name: &str, has: impl Fn(&str) -> bool) -> Result<(), TokenizerError> {
    let missing: Vec<_> = REQUIRED.into_iter().filter(|token| !has(token)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(TokenizerError::MissingSpecial { name: name.to_owned(), missing: missing.join(", ") })
}

#[cfg(test)]
mod tests;
