//! Ingest options.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::ValueEnum;
use glm_remote::Location;
use glm_schemas::cloze::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::{IngestSettings, SHARDS_FOLDER, TaskName};
use glm_schemas::seq2seq::encoding::Keep;

use super::records::MAX_RECORD_BYTES;
use super::reject_limit::RejectLimit;
use super::stop::Stop;
use crate::choices::{DISTRACTOR_SEED, MAX_DISTRACTORS};
use crate::pattern::PatternTask;
use crate::shard::{ROWS_PER_GROUP, ShardCompression};
use crate::source::input::Selection;
use crate::source::recognise::FormatName;

/// Name, version and revision of the program, as recorded in the manifest.
pub(super) fn tool() -> String {
    format!("glm-prep {}", glm_build_info::SHORT)
}

/// Default number of rows per shard.
pub const DEFAULT_ROWS_PER_SHARD: usize = 8192;

/// Default seed for choosing the passages of the validation split.
pub const DEFAULT_VAL_SEED: u64 = 1;

/// Maximum number of parts of a partitioned ingest: part files have five-digit numbers.
const MAX_PARTS: usize = 100_000;

/// Options of an ingest.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Folder of the raw data, unless `source` is given; the shards are written to its subfolder `shards`.
    pub dir: PathBuf,
    /// Another folder of the raw data, or its URL.
    pub source: Option<PathBuf>,
    /// URL at which the data set is published; `dir` is then a folder for temporary files.
    pub publish: Option<Location>,
    /// Kind of the rows; `None` for that of `format`, or questions.
    pub task: Option<TaskName>,
    /// The raw files to read.
    pub selection: Selection,
    /// Format of the raw files; `None` detects it from the first bytes.
    pub format: Option<FormatName>,
    /// Pattern of cloze questions that the raw records fill; `None` for records that are questions themselves.
    pub pattern: Option<Arc<PatternTask>>,
    /// Column of the text in Parquet files.
    pub column: Option<String>,
    /// Drops rows whose text an earlier row has.
    pub dedup: Option<Dedup>,
    /// Part of a source that is kept if it is too long; `None`: that of the format.
    pub keep: Option<Keep>,
    /// Makes `[gMASK]` and `[sMASK]` in texts tokens, as for the published models that were trained with them.
    pub task_mask: bool,
    /// Name or file of a tokenizer; `None` uses BERT-large-uncased.
    pub tokenizer: Option<PathBuf>,
    /// Number of worker threads. The output does not depend on it.
    pub threads: NonZeroUsize,
    /// Sequence length that a question must fit without its passage; longer questions are rejected.
    pub max_seq_len: usize,
    /// Maximum size of a record in bytes; larger ones are rejected.
    pub max_record_bytes: usize,
    /// Maximum number of records read per split.
    pub limit: Option<usize>,
    /// Number of rows per shard.
    pub rows_per_shard: NonZeroUsize,
    /// Compression of the shards.
    pub compression: ShardCompression,
    /// Share of the training passages that becomes the validation split; `None` for none.
    pub val_fraction: Option<Fraction>,
    /// Seed for choosing them.
    pub val_seed: u64,
    /// Keeps fields that the format does not define, as JSON in the column `extra`.
    pub keep_fields: bool,
    /// Maximum number of rejected records.
    pub max_rejects: RejectLimit,
    /// Prepares only this part.
    pub partition: Option<Partition>,
    /// Reads and counts, but writes nothing.
    pub dry_run: bool,
    /// Ingests even if the published data set is up to date.
    pub force: bool,
    /// Stops the run.
    pub stop: Stop,
}

impl IngestOptions {
    /// Returns the defaults for a folder: one worker per core.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            source: None,
            publish: None,
            task: None,
            selection: Selection::default(),
            format: None,
            pattern: None,
            column: None,
            dedup: None,
            keep: None,
            task_mask: false,
            tokenizer: None,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            max_seq_len: PUBLISHED_SEQUENCE_LENGTH,
            max_record_bytes: MAX_RECORD_BYTES,
            limit: None,
            rows_per_shard: NonZeroUsize::new(DEFAULT_ROWS_PER_SHARD).unwrap_or(NonZeroUsize::MIN),
            compression: ShardCompression::default(),
            val_fraction: None,
            val_seed: DEFAULT_VAL_SEED,
            keep_fields: false,
            max_rejects: RejectLimit::default(),
            partition: None,
            dry_run: false,
            force: false,
            stop: Stop::default(),
        }
    }

    /// Returns the folder of the raw data, or its URL.
    pub fn source(&self) -> &Path {
        self.source.as_deref().unwrap_or(&self.dir)
    }

    /// Returns the folder of the shards, or its URL.
    pub fn shards(&self) -> PathBuf {
        match &self.publish {
            Some(url) => url.join(SHARDS_FOLDER).to_string().into(),
            None => self.dir.join(SHARDS_FOLDER),
        }
    }

    /// Returns the kind of the rows.
    pub fn task(&self) -> TaskName {
        let of_format = || self.format.map(|format| format.format().content().task());
        self.task.or_else(of_format).unwrap_or_default()
    }

    /// Returns the settings that the manifest records.
    pub(super) fn settings(&self) -> IngestSettings {
        let has_distractors = self.task() == TaskName::Cloze && self.pattern.is_none();
        IngestSettings {
            max_seq_len: (self.task() != TaskName::Text).then_some(self.max_seq_len),
            rows_per_shard: self.rows_per_shard.get(),
            rows_per_group: ROWS_PER_GROUP,
            compression: self.compression.to_string(),
            max_record_bytes: (self.max_record_bytes != MAX_RECORD_BYTES).then_some(self.max_record_bytes),
            limit: self.limit,
            format: self.format.map(|format| format.to_string()).unwrap_or_default(),
            max_distractors: has_distractors.then_some(MAX_DISTRACTORS),
            distractor_seed: has_distractors.then_some(DISTRACTOR_SEED),
            column: self.column.clone(),
            dedup: self.dedup.map(|dedup| dedup.to_string()),
            keep: self.keep,
            task_mask: self.task_mask,
            val_fraction: self.val_fraction.map(|Fraction(fraction)| fraction),
            val_seed: self.val_fraction.map(|_| self.val_seed),
            pattern: self.pattern.as_ref().map(|pattern| pattern.identity()),
            keep_fields: self.keep_fields,
        }
    }

    /// Returns options with the given settings; all others are those of [`IngestOptions::new`].
    pub(super) fn from_settings(dir: &Path, task: TaskName, settings: &IngestSettings) -> Result<Self, String> {
        Ok(Self {
            task: Some(task),
            column: settings.column.clone(),
            dedup: settings.dedup.as_deref().map(str::parse).transpose()?,
            keep: settings.keep,
            task_mask: settings.task_mask,
            max_seq_len: settings.max_seq_len.unwrap_or(PUBLISHED_SEQUENCE_LENGTH),
            max_record_bytes: settings.max_record_bytes.unwrap_or(MAX_RECORD_BYTES),
            limit: settings.limit,
            rows_per_shard: NonZeroUsize::new(settings.rows_per_shard).unwrap_or(NonZeroUsize::MIN),
            compression: settings.compression.parse()?,
            val_fraction: settings.val_fraction.map(Fraction),
            val_seed: settings.val_seed.unwrap_or(DEFAULT_VAL_SEED),
            keep_fields: settings.keep_fields,
            ..Self::new(dir)
        })
    }
}

/// Rows to drop because an earlier one has the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dedup {
    /// Those with exactly the same text.
    Exact,
}

impl FromStr for Dedup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "exact" { Ok(Self::Exact) } else { Err(format!("invalid dedup `{text}`: expected exact")) }
    }
}

impl fmt::Display for Dedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
        }
    }
}

/// A number above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fraction(pub(super) f64);

impl FromStr for Fraction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && *number < 1.0);
        number.map(Self).ok_or_else(|| format!("invalid fraction `{text}`: expected a number above 0 and below 1, such as 0.1"))
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One part of a partitioned ingest, written `I/N`: `2/8` is the third of eight parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Number of the part, from 0.
    pub index: usize,
    /// Number of parts.
    pub count: NonZeroUsize,
}

impl Partition {
    /// Returns true if the batch with this number belongs to the part: batches are dealt round-robin.
    pub(super) fn contains(self, sequence: u64) -> bool {
        sequence % self.count.get() as u64 == self.index as u64
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || format!("invalid partition `{text}`: expected I/N with I from 0 to N - 1, for example 0/8");
        let (index, count) = text.split_once('/').ok_or_else(invalid)?;
        let (index, count): (usize, NonZeroUsize) =
            (index.parse().map_err(|_| invalid())?, count.parse().map_err(|_| invalid())?);
        if index < count.get() && count.get() <= MAX_PARTS { Ok(Self { index, count }) } else { Err(invalid()) }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_from_zero() {
        let part: Partition = "2/8".parse().expect("a part");
        assert_eq!((part.index, part.count.get(), part.to_string().as_str()), (2, 8, "2/8"));
        assert!(part.contains(2) && part.contains(10) && !part.contains(3));
        for invalid in ["", "0", "1", "-0.1", "1.5", "NaN", "10%"] {
            assert!(invalid.parse::<Fraction>().is_err(), "{invalid}");
        }
        for invalid in ["", "2", "8/8", "-1/8", "0/0", "a/b", "1/2/3"] {
            assert!(invalid.parse::<Partition>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn options_survive_conversion_to_settings() {
        let options = IngestOptions {
            limit: Some(3),
            max_record_bytes: 9 << 20,
            compression: "snappy".parse().expect("snappy"),
            keep_fields: true,
            val_seed: 7,
            ..IngestOptions::new("x")
        };
        let options = IngestOptions { val_fraction: Some("0.25".parse().expect("a fraction")), ..options };
        for task in TaskName::ALL {
            let keep = (task == TaskName::Seq2seq).then_some(Keep::End);
            let dedup = (task == TaskName::Text).then_some(Dedup::Exact);
            let column = dedup.map(|_| "body".to_owned());
            let options = IngestOptions { task: Some(task), dedup, keep, task_mask: keep.is_some(), column, ..options.clone() };
            let restored = IngestOptions::from_settings(Path::new("x"), task, &options.settings()).expect("valid");
            assert_eq!(format!("{options:?}"), format!("{restored:?}"));
        }
    }
}
