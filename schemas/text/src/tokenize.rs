//! Text to token ids, equal to the published tokenizer.
//!
//! BERT's normalizer (removes control characters, lower-cases, strips accents, separates CJK characters) and WordPiece, both
//! from the crate `tokenizers`; special tokens are matched in the raw text before normalization. This module adds two things: a
//! final capital sigma is lower-cased as Python does (`sigma`), and a [`Session`] caches the tokens of words.
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

mod decode;
mod documents;
mod error;
mod pieces;
mod session;
mod sigma;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use glm_schemas::manifest;
use glm_schemas::vocab::{BERT_UNCASED_SHA256, END_OF_PIECE, START_OF_PIECE, SpecialIds, TokenId};
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Tokenizer as Pipeline};

pub use documents::ends_sentence;
pub use error::TokenizerError;
pub use session::{MAX_TEXT_BYTES, MAX_WORD_BYTES, Session};

/// Vocabulary of the published weights, see `assets/README.md`.
const BERT_UNCASED: &[u8] = include_bytes!("../assets/bert-large-uncased-vocab.txt");
const BERT_UNCASED_NAME: &str = "bert-large-uncased";
/// Special tokens required of a vocabulary; GLM's two are added if missing.
const REQUIRED: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const MAX_WORD_CHARS: usize = 100;
/// Maximum number of keys in a message.
const SHOWN_KEYS: usize = 4;

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
    pipeline: Pipeline,
    special: SpecialIds,
    identity: manifest::Tokenizer,
    /// True if splitting a text at ASCII white space does not change its tokens, which holds for BERT's pipeline.
    splits_at_spaces: bool,
    /// True if special tokens that are written in a text become tokens.
    has_commands: bool,
    /// For every id, whether the token ends a sentence.
    sentence_ends: OnceLock<Vec<bool>>,
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

    /// Loads a tokenizer with [`Tokenizer::from_path`], or [`Tokenizer::bert_uncased`] if `path` is `None`.
    ///
    /// # Errors
    /// Errors of these functions.
    pub fn load(path: Option<&Path>) -> Result<Self, TokenizerError> {
        path.map_or_else(Self::bert_uncased, Self::from_path)
    }

    /// Loads a `tokenizer.json`, recognised by its extension, or else a `vocab.txt`.
    ///
    /// # Errors
    /// [`TokenizerError`] if the file cannot be read, is invalid, or lacks special tokens.
    pub fn from_path(path: &Path) -> Result<Self, TokenizerError> {
        if path.is_dir() {
            let file = ["tokenizer.json", "vocab.txt"].map(|name| path.join(name)).into_iter().find(|file| file.is_file());
            return Err(TokenizerError::Folder { path: path.to_owned(), file });
        }
        let bytes = std::fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => TokenizerError::NoFile(path.to_owned()),
            _ => TokenizerError::Read { path: path.to_owned(), source },
        })?;
        let name = path.display().to_string();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            return Self::from_json(&name, &bytes);
        }
        Self::from_vocabulary(&name, &bytes)
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
        Self::finish(name, bytes, pipeline, rows as usize, true)
    }

    /// Builds the pipeline of a `tokenizer.json`, without its padding and truncation.
    ///
    /// # Errors
    /// [`TokenizerError`] if the library rejects it or it lacks a special token.
    pub fn from_json(name: &str, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let top: BTreeMap<String, IgnoredAny> = serde_json::from_slice(bytes).map_err(|e| invalid(name, e))?;
        if !top.contains_key("model") {
            let keys: Vec<_> = top.keys().take(SHOWN_KEYS).map(|key| format!("`{key}`")).collect();
            return Err(TokenizerError::NotATokenizer { name: name.to_owned(), keys: keys.join(", ") });
        }
        let mut pipeline = Pipeline::from_bytes(bytes).map_err(|e| invalid(name, e))?;
        pipeline.with_padding(None);
        pipeline.with_truncation(None).map_err(|e| invalid(name, e))?;
        require_special(name, |token| pipeline.token_to_id(token).is_some())?;
        Self::finish(name, bytes, pipeline, 0, false)
    }

    /// Registers the special tokens, so that they are matched in raw text, and looks up their ids.
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
        // Ids can have gaps: the embedding table needs a row for the highest.
        let highest = pipeline.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let sha256 = manifest::hex(&Sha256::digest(bytes));
        let file_name =
            || Path::new(name).file_name().map_or_else(|| name.to_owned(), |name| name.to_string_lossy().into_owned());
        let name = if sha256 == BERT_UNCASED_SHA256 { BERT_UNCASED_NAME.to_owned() } else { file_name() };
        let identity = manifest::Tokenizer { name, sha256, vocab_size: rows.max(highest) };
        Ok(Self { pipeline, special, identity, splits_at_spaces, has_commands: true, sentence_ends: OnceLock::new() })
    }

    /// Returns the ids of the special tokens.
    pub fn special(&self) -> SpecialIds {
        self.special
    }

    /// Returns name, checksum and size, as recorded in the manifest.
    pub fn identity(&self) -> &manifest::Tokenizer {
        &self.identity
    }

    /// Returns the token with this id as written in the vocabulary (with `##` if it continues a word).
    pub fn token(&self, id: TokenId) -> Option<String> {
        self.pipeline.id_to_token(u32::try_from(id).ok()?)
    }

    /// Creates an encoder for one thread.
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }

    /// Appends the tokens of `text`, with `offset` added to their spans. Uncached reference for [`Session`].
    fn encode_into(&self, text: &str, offset: usize, tokens: &mut Tokens) -> Result<(), TokenizerError> {
        let text = if self.splits_at_spaces { sigma::lower_final_sigmas(text) } else { text.into() };
        let encoding = self.pipeline.encode(text.as_ref(), false).map_err(|e| TokenizerError::Encode(e.to_string()))?;
        tokens.ids.extend(encoding.get_ids().iter().map(|&id| self.of_text(id as TokenId)));
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
    fn a_vocabulary_without_special_tokens_is_rejected() {
        let error = Tokenizer::from_vocabulary("v.txt", b"[PAD]\n[UNK]\n[SEP]\nthe\n").err().expect("rejected").to_string();
        assert_eq!(
            error,
            "the vocabulary v.txt lacks the special tokens [CLS], [MASK]; use one with [PAD], [UNK], [CLS], [SEP] and [MASK]"
        );
        assert!(matches!(Tokenizer::from_vocabulary("v.txt", b"\xff\xfe"), Err(TokenizerError::NotText { .. })));
        assert!(matches!(Tokenizer::from_json("t.json", b"{\"model\": 1}"), Err(TokenizerError::Invalid { .. })));
        assert!(matches!(Tokenizer::from_json("t.json", b"[cut"), Err(TokenizerError::Invalid { .. })));
    }

    #[test]
    fn other_files_folders_and_names_of_models_are_errors_with_a_remedy() {
        let message = |path: &Path| Tokenizer::from_path(path).err().expect("rejected").to_string();
        let missing = message(Path::new("bert-base-uncased"));
        assert!(
            missing.starts_with("there is no file bert-base-uncased; ") && missing.ends_with("are not looked up"),
            "{missing}"
        );
        let dir = tempfile::tempdir().expect("folder");
        assert!(
            message(dir.path()).ends_with("is a folder; a tokenizer is a vocab.txt or a tokenizer.json, and it holds neither")
        );
        let vocabulary = dir.path().join("vocab.txt");
        std::fs::write(&vocabulary, "[PAD]\n").expect("write");
        assert!(message(dir.path()).ends_with(&format!("is a folder; use {}", vocabulary.display())));
        let config = dir.path().join("config.json");
        std::fs::write(&config, "{\"model_type\": \"bert\", \"architectures\": []}").expect("write");
        assert!(
            message(&config).ends_with(
                "config.json is not a tokenizer.json: it has no `model`, but `architectures`, `model_type`; \
                 files such as config.json belong to a model, use the tokenizer.json next to them"
            ),
            "{}",
            message(&config)
        );
    }

    #[test]
    fn ids_are_line_numbers_also_of_repeated_lines() {
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
