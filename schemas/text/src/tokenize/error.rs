//! Errors of loading or using a tokenizer.

use std::io;
use std::path::PathBuf;

use glm_schemas::vocab::TokenId;
use thiserror::Error;

use super::MAX_TEXT_BYTES;

/// Error of loading or using a tokenizer.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("cannot read the tokenizer {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Underlying error.
        source: io::Error,
    },
    /// There is no such file.
    #[error(
        "there is no file {}; a tokenizer is bert-large-uncased, gpt2, or the path of a vocab.txt, tokenizer.json, vocab.json (with merges.txt) or SentencePiece .model; names of other models are not looked up",
        .0.display()
    )]
    NoFile(PathBuf),
    /// A byte-level vocabulary without its merges.
    #[error(
        "{} is a byte-level vocabulary, which needs its merges; put merges.txt next to it",
        .0.display()
    )]
    NoMerges(PathBuf),
    /// The path is a folder.
    #[error("{} is a folder; {}", path.display(), file.as_ref().map_or_else(
        || "a tokenizer is a vocab.txt, tokenizer.json, vocab.json (with merges.txt) or SentencePiece .model, and it holds none by these names".to_owned(),
        |file| format!("use {}", file.display()),
    ))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Tokenizer in the folder, if there is one.
        file: Option<PathBuf>,
    },
    /// The file is JSON of another kind.
    #[error("{name} is not a tokenizer.json: it has no `model`{}", if keys.is_empty() {
        String::new()
    } else {
        format!(", but {keys}; files such as config.json belong to a model, use the tokenizer.json next to them")
    })]
    NotATokenizer {
        /// The file.
        name: String,
        /// Keys at the top of the file.
        keys: String,
    },
    /// The vocabulary is not text.
    #[error("the vocabulary {name} is not UTF-8 text; use a vocab.txt (one token per line) or a tokenizer.json")]
    NotText {
        /// The vocabulary.
        name: String,
    },
    /// The library rejected a tokenizer.json, or cannot build the model.
    #[error("the tokenizer {name} cannot be used: {reason}")]
    Invalid {
        /// The tokenizer.
        name: String,
        /// Message of the library.
        reason: String,
    },
    /// Special tokens are missing.
    #[error("the vocabulary {name} lacks the special tokens {missing}; use one with {}", remedy(missing))]
    MissingSpecial {
        /// The vocabulary.
        name: String,
        /// Missing tokens.
        missing: String,
    },
    /// The vocabulary has another token in place of a mask token.
    #[error(
        "the vocabulary {name} has no room for {token} as token {id}; use one that ends with the special tokens, or leave --task-mask out"
    )]
    NoTaskMasks {
        /// The vocabulary.
        name: String,
        /// The mask token.
        token: &'static str,
        /// Id that the token would have.
        id: TokenId,
    },
    /// The built-in vocabulary is not the published one.
    #[error(
        "a built-in vocabulary has sha256 {found}, which is not the published one; rebuild the program from a clean checkout"
    )]
    BuiltIn {
        /// Actual checksum.
        found: String,
    },
    /// A word is too long to be tokenized.
    #[error("{bytes} bytes without white space or ASCII punctuation between them cannot be tokenized; the limit is {limit}")]
    LongWord {
        /// Length of the word.
        bytes: usize,
        /// Maximum length.
        limit: usize,
    },
    /// A text is too long for a tokenizer.json, whose rules may apply across words.
    #[error("a text of {bytes} bytes cannot be tokenized with a tokenizer.json; the limit is {MAX_TEXT_BYTES}")]
    LongText {
        /// Length of the text.
        bytes: usize,
    },
    /// The library rejected a text.
    #[error("cannot tokenize a text: {0}")]
    Encode(String),
}

/// Special tokens that a vocabulary should have.
fn remedy(missing: &str) -> &'static str {
    if missing.starts_with('<') { "them" } else { "[PAD], [UNK], [CLS], [SEP] and [MASK]" }
}
