//! Text to token ids, equal to the published tokenizer.
//!
//! BERT's normalizer (control characters dropped, lower case, accents stripped, CJK characters apart) and WordPiece, from the
//! crate `tokenizers`; the special tokens are found in the raw text before anything is normalized. Two things are added here:
//! a final capital sigma is lower-cased as Python does it (`sigma`), and a [`Session`] remembers words that it has seen.
//!
//! ```
//! use glm_text::tokenize::Tokenizer;
//!
//! let tokenizer = Tokenizer::bert_uncased()?;
//! let tokens = tokenizer.session().encode("Zürich, a[MASK]b")?;
//! assert_eq!(tokens.ids, [10204, 1010, 1037, 103, 1038]);
//! assert_eq!(tokens.spans[0], 0..7); // bytes of the text
//! # Ok::<(), glm_text::tokenize::TokenizerError>(())
//! ```

mod session;
mod sigma;

use std::ops::Range;
use std::path::{Path, PathBuf};

use glm_schemas::manifest;
use glm_schemas::vocab::{BERT_UNCASED_SHA256, END_OF_PIECE, START_OF_PIECE, SpecialIds, TokenId};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Tokenizer as Pipeline};

pub use session::Session;

/// The vocabulary that the published weights use, see `assets/README.md`.
const BERT_UNCASED: &[u8] = include_bytes!("../assets/bert-large-uncased-vocab.txt");
const BERT_UNCASED_NAME: &str = "bert-large-uncased";
/// The special tokens that a vocabulary must bring; GLM's two are added where they are missing.
const REQUIRED: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const MAX_WORD_CHARS: usize = 100;

/// The tokens of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The ids.
    pub ids: Vec<TokenId>,
    /// Bytes of the text that each token comes from. Starts and ends never decrease; two tokens can share a character
    /// (one that is normalized to several).
    pub spans: Vec<Range<usize>>,
}

/// Why a tokenizer cannot be had, or cannot encode.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("cannot read the tokenizer {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A vocabulary that is no text.
    #[error("the vocabulary {name} is not UTF-8 text; give a vocab.txt (a token a line) or a tokenizer.json")]
    NotText {
        /// The vocabulary.
        name: String,
    },
    /// A tokenizer.json that the library does not take, or a model that cannot be built.
    #[error("the tokenizer {name} cannot be used: {reason}")]
    Invalid {
        /// The tokenizer.
        name: String,
        /// What the library said.
        reason: String,
    },
    /// Special tokens are missing.
    #[error(
        "the vocabulary {name} lacks the special tokens {missing}; give one that has [PAD], [UNK], [CLS], [SEP] and [MASK]"
    )]
    MissingSpecial {
        /// The vocabulary.
        name: String,
        /// The tokens that are missing.
        missing: String,
    },
    /// The vocabulary in the program is not the published one.
    #[error(
        "the built-in vocabulary has sha256 {found}, expected {BERT_UNCASED_SHA256}; build the program again from a clean checkout"
    )]
    BuiltIn {
        /// What it has.
        found: String,
    },
    /// The library refused a text.
    #[error("a text cannot be tokenized: {0}")]
    Encode(String),
}

/// A tokenizer with GLM's special tokens. Shared by all threads; each makes its own [`Session`].
pub struct Tokenizer {
    pipeline: Pipeline,
    special: SpecialIds,
    identity: manifest::Tokenizer,
    /// Whether text may be cut at ASCII white space without changing its tokens: so for BERT's pipeline, not for any.
    splits_at_spaces: bool,
}

impl Tokenizer {
    /// The tokenizer of the published weights; needs no file.
    ///
    /// # Errors
    /// [`TokenizerError::BuiltIn`] if the vocabulary in the program is not the published one.
    pub fn bert_uncased() -> Result<Self, TokenizerError> {
        let found = manifest::hex(&Sha256::digest(BERT_UNCASED));
        if found != BERT_UNCASED_SHA256 {
            return Err(TokenizerError::BuiltIn { found });
        }
        Self::from_vocabulary(BERT_UNCASED_NAME, BERT_UNCASED)
    }

    /// The tokenizer of a file, as [`Tokenizer::from_path`], or without one [`Tokenizer::bert_uncased`].
    ///
    /// # Errors
    /// As those two.
    pub fn load(path: Option<&Path>) -> Result<Self, TokenizerError> {
        path.map_or_else(Self::bert_uncased, Self::from_path)
    }

    /// A tokenizer from a `tokenizer.json` (by its extension) or, with any other name, a `vocab.txt`.
    ///
    /// # Errors
    /// [`TokenizerError`] where the file cannot be read, is neither, or lacks the special tokens.
    pub fn from_path(path: &Path) -> Result<Self, TokenizerError> {
        let bytes = std::fs::read(path).map_err(|source| TokenizerError::Read { path: path.to_owned(), source })?;
        let name = path.display().to_string();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            return Self::from_json(&name, &bytes);
        }
        Self::from_vocabulary(&name, &bytes)
    }

    /// BERT's uncased pipeline on a vocabulary of one token a line. The line number is the id; `<|startofpiece|>` and
    /// `<|endofpiece|>` go behind the last line unless they are there.
    ///
    /// # Errors
    /// [`TokenizerError`] where it is no text or lacks a special token.
    pub fn from_vocabulary(name: &str, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TokenizerError::NotText { name: name.to_owned() })?;
        // An empty map of the library's own type, which is not exported.
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
        Self::finish(name, bytes, pipeline, rows as usize, true)
    }

    /// Whatever pipeline a `tokenizer.json` describes; its padding and truncation are left out.
    ///
    /// # Errors
    /// [`TokenizerError`] where the library does not take it, or where it lacks a special token.
    pub fn from_json(name: &str, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let mut pipeline = Pipeline::from_bytes(bytes).map_err(|e| invalid(name, e))?;
        pipeline.with_padding(None);
        pipeline.with_truncation(None).map_err(|e| invalid(name, e))?;
        require_special(name, |token| pipeline.token_to_id(token).is_some())?;
        Self::finish(name, bytes, pipeline, 0, false)
    }

    /// Registers the special tokens, so that they are found in raw text, and looks up their ids.
    fn finish(
        name: &str,
        bytes: &[u8],
        mut pipeline: Pipeline,
        rows: usize,
        splits_at_spaces: bool,
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
        // Ids can have gaps: the table of embeddings needs a row for the highest.
        let highest = pipeline.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let sha256 = manifest::hex(&Sha256::digest(bytes));
        let file_name =
            || Path::new(name).file_name().map_or_else(|| name.to_owned(), |name| name.to_string_lossy().into_owned());
        let name = if sha256 == BERT_UNCASED_SHA256 { BERT_UNCASED_NAME.to_owned() } else { file_name() };
        let identity = manifest::Tokenizer { name, sha256, vocab_size: rows.max(highest) };
        Ok(Self { pipeline, special, identity, splits_at_spaces })
    }

    /// Ids of the special tokens.
    pub fn special(&self) -> SpecialIds {
        self.special
    }

    /// Name, checksum and size, as the manifest records them.
    pub fn identity(&self) -> &manifest::Tokenizer {
        &self.identity
    }

    /// The token with this id, as the vocabulary has it (`##` where it continues a word).
    pub fn token(&self, id: TokenId) -> Option<String> {
        self.pipeline.id_to_token(u32::try_from(id).ok()?)
    }

    /// An encoder for one thread.
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }

    /// Appends the tokens of `text`; `offset` is added to their spans. Nothing is remembered: the reference for [`Session`].
    fn encode_into(&self, text: &str, offset: usize, tokens: &mut Tokens) -> Result<(), TokenizerError> {
        let text = if self.splits_at_spaces { sigma::lower_final_sigmas(text) } else { text.into() };
        let encoding = self.pipeline.encode(text.as_ref(), false).map_err(|e| TokenizerError::Encode(e.to_string()))?;
        tokens.ids.extend(encoding.get_ids().iter().map(|&id| id as TokenId));
        tokens.spans.extend(encoding.get_offsets().iter().map(|&(start, end)| start + offset..end + offset));
        Ok(())
    }
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
mod tests {
    use super::*;

    #[test]
    fn the_built_in_vocabulary_has_the_published_ids() {
        let tokenizer = Tokenizer::bert_uncased().expect("built in");
        assert_eq!(tokenizer.special(), SpecialIds::BERT_UNCASED);
        assert_eq!(tokenizer.identity().name, BERT_UNCASED_NAME);
        assert_eq!(tokenizer.identity().sha256, BERT_UNCASED_SHA256);
        assert_eq!(tokenizer.identity().vocab_size, 30524);
        assert_eq!(tokenizer.token(30522).as_deref(), Some("<|startofpiece|>"));
    }

    #[test]
    fn a_vocabulary_without_special_tokens_is_refused_in_one_sentence() {
        let error = Tokenizer::from_vocabulary("v.txt", b"[PAD]\n[UNK]\n[SEP]\nthe\n").err().expect("refused").to_string();
        assert_eq!(
            error,
            "the vocabulary v.txt lacks the special tokens [CLS], [MASK]; give one that has [PAD], [UNK], [CLS], [SEP] and [MASK]"
        );
        assert!(matches!(Tokenizer::from_vocabulary("v.txt", b"\xff\xfe"), Err(TokenizerError::NotText { .. })));
        assert!(matches!(Tokenizer::from_json("t.json", b"{}"), Err(TokenizerError::Invalid { .. })));
        assert!(matches!(Tokenizer::from_path(Path::new("/no/such/vocab.txt")), Err(TokenizerError::Read { .. })));
    }

    #[test]
    fn ids_are_line_numbers_even_where_a_line_is_repeated() {
        let tokenizer =
            Tokenizer::from_vocabulary("v.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nthe\r\n##m\n").expect("vocabulary");
        assert_eq!(tokenizer.session().encode("The THEM").expect("encode").ids, [6, 6, 7]);
        assert_eq!((tokenizer.special().sop, tokenizer.special().eop), (8, 9));
        assert_eq!(tokenizer.identity().vocab_size, 10);
    }

    #[test]
    fn a_tokenizer_json_gives_the_same_tokens_as_its_vocabulary() {
        let reference = Tokenizer::bert_uncased().expect("built in");
        let json = reference.pipeline.to_string(false).expect("json");
        let tokenizer = Tokenizer::from_json("bert.json", json.as_bytes()).expect("json");
        assert_eq!(tokenizer.special(), reference.special());
        assert_eq!(tokenizer.identity().vocab_size, 30524);
        let text = "Amélie Rousselot’s team\nin Zürich [MASK] 中文x";
        assert_eq!(tokenizer.session().encode(text).expect("encode"), reference.session().encode(text).expect("encode"));
        let without = json.replace("[MASK]", "[HOLE]");
        assert!(matches!(Tokenizer::from_json("bert.json", without.as_bytes()), Err(TokenizerError::MissingSpecial { .. })));
    }
}
