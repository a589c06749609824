//! Tokenizers of byte-level BPE, of SentencePiece models, and of a `tokenizer.json`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use glm_schemas::manifest;
use glm_schemas::vocab::{GPT2_VOCABULARY_SHA256, SpecialIds, TokenId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer as Pipeline;

use super::byte_level;
use super::commands::Command;
use super::load::GPT2_NAME;
use super::sentencepiece::SentencePiece;
use super::{Division, Family, REQUIRED, Tokenizer, TokenizerError, highest_id, identity, invalid, require_special};

/// Maximum number of keys in a message.
const SHOWN_KEYS: usize = 4;

impl Tokenizer {
    /// Loads the built-in byte-level tokenizer of GPT-2.
    ///
    /// # Errors
    /// [`TokenizerError::BuiltIn`] if the built-in vocabulary is not the published one.
    pub fn gpt2() -> Result<Self, TokenizerError> {
        let merges = String::from_utf8_lossy(byte_level::GPT2_MERGES);
        let vocabulary = byte_level::gpt2_vocabulary(&merges).map_err(|error| invalid(GPT2_NAME, error))?;
        let found = manifest::hex(&Sha256::digest(&vocabulary));
        if found != GPT2_VOCABULARY_SHA256 {
            return Err(TokenizerError::BuiltIn { found });
        }
        Self::from_byte_level(GPT2_NAME, vocabulary.as_bytes(), byte_level::GPT2_MERGES)
    }

    /// Builds a byte-level tokenizer, as GPT-2's and RoBERTa's, from its `vocab.json` and `merges.txt`. GLM's special tokens are appended
    /// in the published order.
    ///
    /// # Errors
    /// [`TokenizerError`] if the files are not a vocabulary and its merges, or lack special tokens.
    pub fn from_byte_level(name: &str, vocabulary: &[u8], merges: &[u8]) -> Result<Self, TokenizerError> {
        let ids: BTreeMap<String, u32> = serde_json::from_slice(vocabulary).map_err(|error| invalid(name, error))?;
        let merges_text = std::str::from_utf8(merges).map_err(|_| invalid(name, "its merges are not UTF-8 text"))?;
        let pipeline = byte_level::pipeline(&ids, merges_text).map_err(|error| invalid(name, error))?;
        let size = ids.values().max().map_or(0, |id| *id as usize + 1);
        let id_of = |token: &str| ids.get(token).map(|id| *id as TokenId);
        let special = byte_level::special_ids(id_of, size as TokenId)
            .map_err(|missing| TokenizerError::MissingSpecial { name: name.to_owned(), missing: missing.to_owned() })?;
        let sha256 = Sha256::new().chain_update(vocabulary).chain_update(merges).finalize();
        let identity = identity(name, &manifest::hex(&Sha256::digest(vocabulary)), &manifest::hex(&sha256), special, size);
        Ok(Self::with_commands(Family::ByteLevel, Some(pipeline), Division::ByteLevel, special, identity))
    }

    /// Builds the tokenizer of a SentencePiece model, unigram or BPE. GLM's special tokens follow its pieces.
    ///
    /// # Errors
    /// [`TokenizerError::Invalid`].
    pub fn from_sentencepiece(name: &str, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let model = SentencePiece::parse(bytes).map_err(|error| invalid(name, error))?;
        let division = if model.divides() { Division::SentencePiece } else { Division::Whole };
        let sha256 = manifest::hex(&Sha256::digest(bytes));
        let special = model.special_ids();
        let identity = identity(name, &sha256, &sha256, special, 0);
        Ok(Self::with_commands(Family::SentencePiece(Box::new(model)), None, division, special, identity))
    }

    fn with_commands(
        family: Family,
        pipeline: Option<Pipeline>,
        division: Division,
        special: SpecialIds,
        identity: manifest::Tokenizer,
    ) -> Self {
        let commands = Command::of(&special);
        let sentence_ends = OnceLock::new();
        Self { family, pipeline, division, commands, special, identity, has_commands: true, sentence_ends }
    }

    /// Builds the pipeline of a `tokenizer.json`, without its padding and truncation. A byte-level one without BERT's special tokens gets
    /// those of [`Tokenizer::from_byte_level`].
    ///
    /// # Errors
    /// [`TokenizerError`] if the library rejects it or it lacks a special token.
    pub fn from_json(name: &str, bytes: &[u8]) -> Result<Self, TokenizerError> {
        #[derive(Deserialize)]
        struct Kind {
            r#type: String,
        }
        #[derive(Deserialize)]
        struct Rules {
            decoder: Option<Kind>,
        }
        let top: BTreeMap<String, IgnoredAny> = serde_json::from_slice(bytes).map_err(|e| invalid(name, e))?;
        if !top.contains_key("model") {
            let keys: Vec<_> = top.keys().take(SHOWN_KEYS).map(|key| format!("`{key}`")).collect();
            return Err(TokenizerError::NotATokenizer { name: name.to_owned(), keys: keys.join(", ") });
        }
        let mut pipeline = Pipeline::from_bytes(bytes).map_err(|e| invalid(name, e))?;
        pipeline.with_padding(None);
        pipeline.with_truncation(None).map_err(|e| invalid(name, e))?;
        let rules: Rules = serde_json::from_slice(bytes).map_err(|e| invalid(name, e))?;
        let is_byte_level = rules.decoder.is_some_and(|decoder| decoder.r#type == "ByteLevel");
        let id_of = |token: &str| pipeline.token_to_id(token).and_then(|id| TokenId::try_from(id).ok());
        if is_byte_level && REQUIRED.iter().any(|token| id_of(token).is_none()) {
            let size = highest_id(&pipeline);
            let special = byte_level::special_ids(id_of, size as TokenId)
                .map_err(|missing| TokenizerError::MissingSpecial { name: name.to_owned(), missing: missing.to_owned() })?;
            let sha256 = manifest::hex(&Sha256::digest(bytes));
            let identity = identity(name, &sha256, &sha256, special, size);
            return Ok(Self::with_commands(Family::ByteLevel, Some(pipeline), Division::Whole, special, identity));
        }
        require_special(name, |token| pipeline.token_to_id(token).is_some())?;
        let mut tokenizer = Self::with_bert_commands(name, bytes, pipeline, 0, Division::Whole)?;
        if is_byte_level {
            tokenizer.family = Family::ByteLevel;
        }
        Ok(tokenizer)
    }

    /// Returns true if a JSON file is the vocabulary of a byte-level tokenizer: tokens with their ids.
    pub(super) fn is_byte_level(bytes: &[u8]) -> bool {
        serde_json::from_slice::<BTreeMap<String, u32>>(bytes).is_ok()
    }
}
