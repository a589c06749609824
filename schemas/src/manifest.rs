//! Content of `manifest.json`. The manifest is written last; a folder without it is not a data set.

mod cloze;
mod error;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::SCHEMA_VERSION;
use crate::seq2seq::encoding::Keep;
use crate::vocab::SpecialIds;

pub use self::cloze::{ClozeLoss, ClozeManifest};
pub use self::error::ManifestError;
pub use crate::split::Split;

/// File name of the manifest in the folder of the shards.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the folder of the shards in the folder given to `ingest`.
pub const SHARDS_FOLDER: &str = "shards";
/// Name of the folder of the Parquet files, next to the manifest. It contains nothing else, so that readers can take it as a whole.
pub const DATA_FOLDER: &str = "data";

/// Table of a data set: the kind of its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// Cloze questions; see [`cloze`](crate::cloze).
    #[default]
    Cloze,
    /// Documents, for blank infilling; see [`document`](crate::document).
    Text,
    /// Pairs of a source and a target; see [`seq2seq`](crate::seq2seq).
    Seq2seq,
}

impl TaskName {
    /// All kinds of rows.
    pub const ALL: [Self; 3] = [Self::Cloze, Self::Text, Self::Seq2seq];

    /// Name in the manifest and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloze => "cloze",
            Self::Text => "text",
            Self::Seq2seq => "seq2seq",
        }
    }

    /// Word for rows, in the plural.
    pub fn rows(self) -> &'static str {
        match self {
            Self::Cloze => "questions",
            Self::Text => "documents",
            Self::Seq2seq => "pairs",
        }
    }

    /// Schema of the shards.
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Cloze => crate::cloze::schema(),
            Self::Text => crate::document::schema(),
            Self::Seq2seq => crate::seq2seq::schema(),
        }
    }
}

/// Tokenizer of the ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenizer {
    /// Descriptive name, for example `bert-large-uncased`.
    pub name: String,
    /// sha256 of the vocabulary or tokenizer file.
    pub sha256: String,
    /// Number of tokens, including GLM's two.
    pub vocab_size: usize,
}

/// Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// File name in the folder [`DATA_FOLDER`].
    pub file: String,
    /// Number of rows.
    pub rows: usize,
    /// Size of the file.
    pub bytes: u64,
    /// sha256 of the file.
    pub sha256: String,
}

impl Shard {
    /// Returns the path of the file. `folder` is the folder of the manifest.
    pub fn path(&self, folder: &Path) -> PathBuf {
        folder.join(DATA_FOLDER).join(&self.file)
    }
}

/// Content of a split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitManifest {
    /// Number of rows.
    pub rows: usize,
    /// Number of choices over all rows; `None` for rows without choices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<usize>,
    /// Number of tokens over all rows, without truncation: context and choices of a question, prompt and text of a document.
    pub tokens: usize,
    /// Shards, in order.
    pub shards: Vec<Shard>,
}

/// Raw file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawFile {
    /// Path relative to the folder given to `ingest`.
    pub file: String,
    /// Split of the file.
    pub split: Split,
    /// Size after decompression.
    pub bytes: u64,
    /// sha256 of the decompressed content.
    pub sha256: String,
    /// Number of records.
    pub records: usize,
    /// Number of rejected records.
    pub rejects: usize,
}

/// List of the rejected records, a file next to the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectsFile {
    /// Size of the file.
    pub bytes: u64,
    /// sha256 of the file.
    pub sha256: String,
}

/// Settings of `ingest` that affect the data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IngestSettings {
    /// Maximum sequence length; questions that do not fit even without their passage were rejected. `None` if rows have no maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seq_len: Option<usize>,
    /// Maximum number of rows per shard.
    pub rows_per_shard: usize,
    /// Number of rows per Parquet row group.
    pub rows_per_group: usize,
    /// Compression of the shards, for example `zstd:3`.
    #[serde(default)]
    pub compression: String,
    /// Maximum number of records per split; `None` for all. Sizes and checksums of raw files cover the bytes read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Maximum size of a record in bytes, if another than the default was set; larger ones were rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_record_bytes: Option<usize>,
    /// Name of the raw format, as for `--format`.
    #[serde(default)]
    pub format: String,
    /// Maximum number of distractors per training question; `None` for rows without choices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_distractors: Option<usize>,
    /// Seed for choosing the distractors if there are more; `None` for rows without choices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distractor_seed: Option<u32>,
    /// Column of the text in raw Parquet files; `None` for other formats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Rows that were dropped because an earlier one has the same text: `exact`; `None` if all were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<String>,
    /// Part of a source that is kept if it is too long; `None` for that of the format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// True if `[gMASK]` and `[sMASK]` in texts are tokens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub task_mask: bool,
    /// Share of the training passages or documents that became the validation split; `None` if the validation split has its own files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_fraction: Option<f64>,
    /// Seed for choosing them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_seed: Option<u64>,
    /// Name and checksum of the pattern file and choice of a pattern; `None` for rows without a pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// True if unknown fields of the raw records are kept in the column `extra`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_fields: bool,
}

/// Content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the contract, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Kind of the rows.
    pub task: TaskName,
    /// Name and version of the program that wrote the data set.
    pub tool: String,
    /// sha256 of the data set, see [`Manifest::compute_fingerprint`].
    pub fingerprint: String,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    /// Ids of the special tokens.
    pub special_ids: SpecialIds,
    /// Marker of the blank in the column `query`, which depends on the raw format; empty for rows without a query.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub blank: String,
    /// Task of cloze questions; `None` for rows of other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloze: Option<ClozeManifest>,
    /// Splits by name.
    pub splits: BTreeMap<Split, SplitManifest>,
    /// Raw files.
    pub raw_files: Vec<RawFile>,
    /// List of the rejected records; `None` if no record was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<RejectsFile>,
    /// Settings of `ingest`.
    pub settings: IngestSettings,
}

impl Manifest {
    /// Task of the cloze questions; the form of ReCoRD if the manifest names none.
    pub fn cloze(&self) -> ClozeManifest {
        self.cloze.clone().unwrap_or_else(|| ClozeManifest::record(&self.settings.format))
    }

    /// Parses and checks a manifest: every byte of the text is covered by the checksum at its end.
    ///
    /// # Errors
    /// [`ManifestError`] if it is not a manifest, has another version, or does not match its checksum or fingerprint.
    pub fn from_json(text: &str) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let Version { schema_version } = serde_json::from_str(text)?;
        if schema_version != SCHEMA_VERSION {
            return Err(ManifestError::Version { found: schema_version, dir: PathBuf::from("DIR") });
        }
        let manifest: Self = serde_json::from_str(text)?;
        check(text)?;
        let expected = manifest.compute_fingerprint();
        if manifest.fingerprint != expected {
            return Err(ManifestError::Fingerprint { found: manifest.fingerprint, expected });
        }
        Ok(manifest)
    }

    /// Returns the JSON text. Its last key is the sha256 of all text before that key.
    ///
    /// # Errors
    /// Never in practice; the serializer requires it.
    pub fn to_json(&self) -> Result<String, ManifestError> {
        let text = serde_json::to_string_pretty(self)?;
        let content = text.strip_suffix("\n}").unwrap_or(&text);
        Ok(format!("{content}{CHECKSUM_START}{}{CHECKSUM_END}", hex(&Sha256::digest(content))))
    }

    /// Returns the sha256 of contract version, tokenizer, special ids and the checksums of all shards in order. Data sets with
    /// the same fingerprint have the same rows in the same order.
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

/// Text between the content of a manifest and its checksum.
const CHECKSUM_START: &str = ",\n  \"manifest_sha256\": \"";
/// Text after the checksum.
const CHECKSUM_END: &str = "\"\n}\n";

/// Checks the checksum at the end of a manifest.
fn check(text: &str) -> Result<(), ManifestError> {
    let parts = text.strip_suffix(CHECKSUM_END).and_then(|text| text.rsplit_once(CHECKSUM_START));
    let (content, expected) = parts.ok_or(ManifestError::NoChecksum)?;
    let found = hex(&Sha256::digest(content));
    if found == expected { Ok(()) } else { Err(ManifestError::Checksum { found, expected: expected.to_owned() }) }
}

/// Formats bytes as lower-case hexadecimal digits.
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
        let val = SplitManifest { rows: 2, choices: Some(9), tokens: 99, shards: vec![shard] };
        let mut manifest = Manifest {
            schema_version: SCHEMA_VERSION,
            task: TaskName::Cloze,
            tool: "glm-prep 0.1.0".into(),
            fingerprint: String::new(),
            tokenizer: Tokenizer { name: "t".into(), sha256: "cd".into(), vocab_size: 30524 },
            special_ids: SpecialIds::BERT_UNCASED,
            blank: "[BLANK]".into(),
            cloze: Some(ClozeManifest::record("plain")),
            splits: BTreeMap::from([(Split::Val, val)]),
            raw_files: vec![],
            rejects: Some(RejectsFile { bytes: 3, sha256: "ef".into() }),
            settings: IngestSettings {
                max_seq_len: Some(512),
                rows_per_shard: 8192,
                rows_per_group: 1024,
                compression: "zstd:3".into(),
                limit: None,
                max_record_bytes: None,
                format: "record".into(),
                max_distractors: Some(9),
                distractor_seed: Some(42),
                column: None,
                dedup: None,
                keep: None,
                task_mask: false,
                val_fraction: None,
                val_seed: None,
                pattern: None,
                keep_fields: false,
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
    fn edited_manifests_and_other_versions_are_rejected() {
        let text = manifest().to_json().expect("json");
        let edited = text.replace("\"ab\"", "\"ac\"");
        assert!(matches!(Manifest::from_json(&edited), Err(ManifestError::Checksum { .. })));
        assert!(matches!(Manifest::from_json(text.trim_end()), Err(ManifestError::NoChecksum)));
        let other = Manifest { fingerprint: "00".into(), ..manifest() }.to_json().expect("json");
        assert!(matches!(Manifest::from_json(&other), Err(ManifestError::Fingerprint { .. })));
        let older = text.replace("\"schema_version\": 3", "\"schema_version\": 2");
        let error = Manifest::from_json(&older).expect_err("an older version");
        assert_eq!(
            error.at(Path::new("data/own/shards/manifest.json")).to_string(),
            "data set has schema version 2, this program reads version 3; \
             make it anew with `glm-prep ingest data/own` and the options used before"
        );
        assert!(matches!(Manifest::from_json("version https://git-lfs"), Err(ManifestError::Syntax(_))));
    }

    #[test]
    fn every_changed_byte_is_found() {
        let good = manifest().to_json().expect("json").into_bytes();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let parsed = std::str::from_utf8(&bad).map(Manifest::from_json);
                assert!(!matches!(parsed, Ok(Ok(_))), "bit {bit} of byte {at}: {}", String::from_utf8_lossy(&bad));
            }
        }
    }

    #[test]
    fn other_tasks_are_rejected() {
        let text = manifest().to_json().expect("json");
        let error = Manifest::from_json(&text.replace("\"cloze\"", "\"poetry\"")).expect_err("unknown").to_string();
        assert!(error.contains("unknown variant `poetry`, expected one of `cloze`, `text`, `seq2seq`"), "{error}");
    }

    #[test]
    fn hex_digits() {
        assert_eq!(hex(&[0, 0x0f, 0xa5]), "000fa5");
    }
}
