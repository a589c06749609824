//! `manifest.json`: what a data set consists of. It is written last; a data set without it does not exist.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::SCHEMA_VERSION;
use crate::vocab::SpecialIds;

/// The name of the manifest's file inside the folder of the shards.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The name of the folder that `ingest` makes inside the folder it is given.
pub const SHARDS_FOLDER: &str = "shards";

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training.
    Train,
    /// For evaluation while training ("dev" in the published code).
    Val,
    /// Without answers.
    Test,
}

impl Split {
    /// All splits, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The name in file names and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|split| split.name() == name)
            .ok_or_else(|| format!("`{name}` is no split; there are train, val and test"))
    }
}

/// The tokenizer that the ids come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenizer {
    /// A name for people, for example `bert-large-uncased`.
    pub name: String,
    /// sha256 of the vocabulary or tokenizer file.
    pub sha256: String,
    /// Number of tokens, the two that GLM adds included.
    pub vocab_size: usize,
}

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// File name inside the folder of the shards.
    pub file: String,
    /// Number of rows, that is questions.
    pub rows: usize,
    /// Size of the file.
    pub bytes: u64,
    /// sha256 of the file.
    pub sha256: String,
}

/// One split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitManifest {
    /// Number of rows, that is questions.
    pub rows: usize,
    /// Number of choices over all rows.
    pub choices: usize,
    /// Context and piece tokens over all rows, nothing truncated.
    pub tokens: usize,
    /// The shards, in order.
    pub shards: Vec<Shard>,
}

/// One raw file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawFile {
    /// Path relative to the folder given to `ingest`.
    pub file: String,
    /// Which split it became.
    pub split: Split,
    /// Size, unpacked.
    pub bytes: u64,
    /// sha256 of the content, unpacked.
    pub sha256: String,
    /// Number of records (lines that are not empty).
    pub records: usize,
    /// How many of them were rejected.
    pub rejects: usize,
}

/// Settings of `ingest` that change what is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestSettings {
    /// A question that cannot fit this length, even without its passage, is rejected.
    pub max_seq_len: usize,
    /// Rows of a shard.
    pub rows_per_shard: usize,
    /// Rows of a Parquet row group.
    pub rows_per_group: usize,
    /// How shards are compressed, for example `zstd:3`.
    #[serde(default)]
    pub compression: String,
    /// Records that were read of every split; none for all. The raw files' sizes and checksums are of what was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The format of the raw files, by the name that `--format` knows it by.
    #[serde(default)]
    pub format: String,
    /// Most distractors of a training question.
    pub max_distractors: usize,
    /// Seed of the draw among more distractors than that.
    pub distractor_seed: u32,
}

/// Everything that `manifest.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the contract, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name and version of the program that wrote the data set.
    pub tool: String,
    /// sha256 over everything that a reader of the shards can see, see [`Manifest::compute_fingerprint`].
    pub fingerprint: String,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Ids of the special tokens.
    pub special_ids: SpecialIds,
    /// The splits, by name.
    pub splits: BTreeMap<Split, SplitManifest>,
    /// The raw files.
    pub raw_files: Vec<RawFile>,
    /// Settings of the run.
    pub settings: IngestSettings,
}

/// Why a manifest cannot be used.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Not JSON, or not the JSON of a manifest.
    #[error("not a manifest of a cloze data set: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Another version of the contract.
    #[error("data set has schema version {found}, this program reads version {SCHEMA_VERSION}; ingest the raw data again")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The content was changed after it was written.
    #[error(
        "the fingerprint is {found}, but the shards listed have {expected}; the manifest was edited or belongs to other shards"
    )]
    Fingerprint {
        /// The one that is written in the file.
        found: String,
        /// The one that the content has.
        expected: String,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] where it is no manifest, has another version, or contradicts its fingerprint.
    pub fn from_json(text: &str) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let Version { schema_version } = serde_json::from_str(text)?;
        if schema_version != SCHEMA_VERSION {
            return Err(ManifestError::Version { found: schema_version });
        }
        let manifest: Self = serde_json::from_str(text)?;
        let expected = manifest.compute_fingerprint();
        if manifest.fingerprint != expected {
            return Err(ManifestError::Fingerprint { found: manifest.fingerprint, expected });
        }
        Ok(manifest)
    }

    /// The JSON text, ending in a newline.
    ///
    /// # Errors
    /// None in practice; the signature is that of the serializer.
    pub fn to_json(&self) -> Result<String, ManifestError> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// sha256 over contract version, tokenizer, special ids and the checksums of all shards in order. Two data sets with
    /// the same fingerprint hold the same rows in the same order.
    pub fn compute_fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{} {} {}\n", self.schema_version, self.tokenizer.sha256, self.tokenizer.vocab_size));
        for (name, id) in self.special_ids.named() {
            hash.update(format!("{name} {id}\n"));
        }
        for (split, content) in &self.splits {
            for shard in &content.shards {
                hash.update(format!("{split} {} {} {}\n", shard.file, shard.rows, shard.sha256));
            }
        }
        hex(&hash.finalize())
    }
}

/// Lower-case hexadecimal digits, as checksums are written.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('?'));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let shard = Shard { file: "val-00000-of-00001.parquet".into(), rows: 2, bytes: 10, sha256: "ab".into() };
        let val = SplitManifest { rows: 2, choices: 9, tokens: 99, shards: vec![shard] };
        let mut manifest = Manifest {
            schema_version: SCHEMA_VERSION,
            tool: "glm-prep 0.1.0".into(),
            fingerprint: String::new(),
            tokenizer: Tokenizer { name: "t".into(), sha256: "cd".into(), vocab_size: 30524 },
            special_ids: SpecialIds::BERT_UNCASED,
            splits: BTreeMap::from([(Split::Val, val)]),
            raw_files: vec![],
            settings: IngestSettings {
                max_seq_len: 512,
                rows_per_shard: 8192,
                rows_per_group: 1024,
                compression: "zstd:3".into(),
                limit: None,
                format: "record".into(),
                max_distractors: 9,
                distractor_seed: 42,
            },
        };
        manifest.fingerprint = manifest.compute_fingerprint();
        manifest
    }

    #[test]
    fn json_round_trip() {
        let manifest = manifest();
        assert_eq!(Manifest::from_json(&manifest.to_json().expect("json")).expect("parse"), manifest);
    }

    #[test]
    fn an_edited_manifest_or_another_version_is_refused() {
        let text = manifest().to_json().expect("json");
        let edited = text.replace("\"ab\"", "\"ac\"");
        assert!(matches!(Manifest::from_json(&edited), Err(ManifestError::Fingerprint { .. })));
        let newer = text.replace("\"schema_version\": 1", "\"schema_version\": 2");
        assert!(matches!(Manifest::from_json(&newer), Err(ManifestError::Version { found: 2 })));
        assert!(matches!(Manifest::from_json("version https://git-lfs"), Err(ManifestError::Syntax(_))));
    }

    #[test]
    fn hex_digits() {
        assert_eq!(hex(&[0, 0x0f, 0xa5]), "000fa5");
    }
}
