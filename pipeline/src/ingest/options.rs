//! What a run is asked to do.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glm_schemas::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::IngestSettings;

use super::{IngestError, RejectLimit};
use crate::choices::{DISTRACTOR_SEED, MAX_DISTRACTORS};
use crate::shard::{ROWS_PER_GROUP, ShardCompression};
use crate::source::input::Selection;
use crate::source::recognise::FormatName;

/// Rows of a shard unless told otherwise.
pub const DEFAULT_ROWS_PER_SHARD: usize = 8192;

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// The folder of the raw data; the shards go to `shards` in it.
    pub dir: PathBuf,
    /// Which raw files.
    pub selection: Selection,
    /// Their format; none to tell it from their first bytes.
    pub format: Option<FormatName>,
    /// A vocab.txt or tokenizer.json; none for the built-in vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Workers. What is written does not depend on it.
    pub threads: NonZeroUsize,
    /// Questions that do not fit this length without their passage are rejected.
    pub max_seq_len: usize,
    /// Records that are read of every split; none for all.
    pub limit: Option<usize>,
    /// Rows of a shard.
    pub rows_per_shard: NonZeroUsize,
    /// How shards are compressed.
    pub compression: ShardCompression,
    /// How many rejected records are too many.
    pub max_rejects: RejectLimit,
    /// Prepare this part only.
    pub partition: Option<Partition>,
    /// Do everything but write.
    pub dry_run: bool,
    /// Also where the published set is what would be written.
    pub force: bool,
}

impl IngestOptions {
    /// The defaults for a folder: one worker a core.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            selection: Selection::default(),
            format: None,
            tokenizer: None,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            max_seq_len: PUBLISHED_SEQUENCE_LENGTH,
            limit: None,
            rows_per_shard: NonZeroUsize::new(DEFAULT_ROWS_PER_SHARD).unwrap_or(NonZeroUsize::MIN),
            compression: ShardCompression::default(),
            max_rejects: RejectLimit::default(),
            partition: None,
            dry_run: false,
            force: false,
        }
    }

    /// What the manifest records of them.
    pub(super) fn settings(&self) -> IngestSettings {
        IngestSettings {
            max_seq_len: self.max_seq_len,
            rows_per_shard: self.rows_per_shard.get(),
            rows_per_group: ROWS_PER_GROUP,
            compression: self.compression.to_string(),
            limit: self.limit,
            format: self.format.map(|format| format.to_string()).unwrap_or_default(),
            max_distractors: MAX_DISTRACTORS,
            distractor_seed: DISTRACTOR_SEED,
        }
    }

    /// The options that such settings come from; the rest as [`IngestOptions::new`].
    pub(super) fn of_settings(dir: &Path, settings: &IngestSettings) -> Result<Self, IngestError> {
        let unknown = |reason: String| IngestError::DifferentParts { folder: super::part::folder(dir), why: reason };
        Ok(Self {
            max_seq_len: settings.max_seq_len,
            limit: settings.limit,
            rows_per_shard: NonZeroUsize::new(settings.rows_per_shard).unwrap_or(NonZeroUsize::MIN),
            compression: settings.compression.parse().map_err(unknown)?,
            ..Self::new(dir)
        })
    }
}

/// One of several parts that an ingest is shared into, as typed: `2/8` is the third of eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Which, from 0.
    pub index: usize,
    /// Of how many.
    pub count: NonZeroUsize,
}

impl Partition {
    /// Whether a batch belongs to the part: they are dealt in turns.
    pub(super) fn holds(self, sequence: u64) -> bool {
        sequence % self.count.get() as u64 == self.index as u64
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no part; the first of eight is 0/8, the last 7/8");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let (index, count): (usize, NonZeroUsize) = (index.parse().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?);
        if index < count.get() && count.get() <= 100_000 { Ok(Self { index, count }) } else { Err(wrong()) }
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
    fn parts_are_counted_from_zero() {
        let part: Partition = "2/8".parse().expect("a part");
        assert_eq!((part.index, part.count.get(), part.to_string().as_str()), (2, 8, "2/8"));
        assert!(part.holds(2) && part.holds(10) && !part.holds(3));
        for wrong in ["", "2", "8/8", "-1/8", "0/0", "a/b", "1/2/3"] {
            assert!(wrong.parse::<Partition>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_lead_back_to_the_options() {
        let options =
            IngestOptions { limit: Some(3), compression: "snappy".parse().expect("snappy"), ..IngestOptions::new("x") };
        let back = IngestOptions::of_settings(Path::new("x"), &options.settings()).expect("known");
        assert_eq!(format!("{options:?}"), format!("{back:?}"));
    }
}
