//! Tokenizers by path or name.

use std::io;
use std::path::{Path, PathBuf};

use glm_schemas::manifest;
use glm_schemas::vocab::BERT_UNCASED_SHA256;

use super::{Tokenizer, TokenizerError};

/// Name of the built-in vocabulary of the published English weights up to 515M.
pub const BERT_UNCASED_NAME: &str = "bert-large-uncased";
/// Name of the built-in vocabulary of the published 2B and 10B weights.
pub const GPT2_NAME: &str = "gpt2";
/// Files of a folder that hold a tokenizer, in the order of preference.
const FILES: [&str; 4] = ["tokenizer.json", "vocab.txt", "vocab.json", "cog-pretrain.model"];
/// Extension of the file of a SentencePiece model.
const SENTENCE_PIECE: &str = "model";

impl Tokenizer {
    /// Loads a tokenizer by name ([`BERT_UNCASED_NAME`], [`GPT2_NAME`]) or with [`Tokenizer::from_path`]; `None` is
    /// [`Tokenizer::bert_uncased`].
    ///
    /// # Errors
    /// Errors of these functions.
    pub fn load(path: Option<&Path>) -> Result<Self, TokenizerError> {
        match path.and_then(Path::to_str) {
            None if path.is_none() => Self::bert_uncased(),
            Some(BERT_UNCASED_NAME) if !path.is_some_and(Path::exists) => Self::bert_uncased(),
            Some(GPT2_NAME) if !path.is_some_and(Path::exists) => Self::gpt2(),
            _ => Self::from_path(path.unwrap_or(Path::new(""))),
        }
    }

    /// As [`Tokenizer::load`], but without a path the built-in tokenizer that `recorded` describes, if there is one.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn load_recorded(path: Option<&Path>, recorded: Option<&manifest::Tokenizer>) -> Result<Self, TokenizerError> {
        match (path, recorded) {
            (None, Some(recorded)) => Self::built_in(&recorded.sha256)?.map_or_else(Self::bert_uncased, Ok),
            _ => Self::load(path),
        }
    }

    /// Returns the built-in tokenizer with this checksum; `None` if it is not built in.
    ///
    /// # Errors
    /// [`TokenizerError::BuiltIn`].
    pub fn built_in(sha256: &str) -> Result<Option<Self>, TokenizerError> {
        if sha256 == BERT_UNCASED_SHA256 {
            return Self::bert_uncased().map(Some);
        }
        let gpt2 = Self::gpt2()?;
        Ok((gpt2.identity().sha256 == sha256).then_some(gpt2))
    }

    /// Loads a tokenizer, recognised by its extension: a `tokenizer.json`; the `vocab.json` of a byte-level vocabulary, with the
    /// `merges.txt` next to it; the `.model` of SentencePiece; or else a `vocab.txt`.
    ///
    /// # Errors
    /// [`TokenizerError`] if a file cannot be read, is invalid, or lacks special tokens.
    pub fn from_path(path: &Path) -> Result<Self, TokenizerError> {
        if path.is_dir() {
            let file = FILES.map(|name| path.join(name)).into_iter().find(|file| file.is_file());
            return Err(TokenizerError::Folder { path: path.to_owned(), file });
        }
        let bytes = read(path)?;
        let name = path.display().to_string();
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("json") if Self::is_byte_level(&bytes) => {
                let merges = merges_of(path).ok_or_else(|| TokenizerError::NoMerges(path.to_owned()))?;
                Self::from_byte_level(&name, &bytes, &read(&merges)?)
            }
            Some("json") => Self::from_json(&name, &bytes),
            Some(SENTENCE_PIECE) => Self::from_sentencepiece(&name, &bytes),
            _ => Self::from_vocabulary(&name, &bytes),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    std::fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => TokenizerError::NoFile(path.to_owned()),
        _ => TokenizerError::Read { path: path.to_owned(), source },
    })
}

/// Finds the merges of a `vocab.json`: `merges.txt` next to it, or of `NAME-vocab.json` the file `NAME-merges.txt`.
fn merges_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_stem()?.to_str()?;
    let names = [format!("{}.txt", name.replace("vocab", "merges")), "merges.txt".to_owned()];
    names.into_iter().map(|name| path.with_file_name(name)).find(|file| file.is_file() && file != path)
}
