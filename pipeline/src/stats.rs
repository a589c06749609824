//! `glm-prep stats`: counts a data set.
//!
//! - `count`: reads the shards batch by batch and counts every split.
//! - `lengths`: how often each length occurs, and what follows from that.
//! - `passages`: passages that occur more than once, by hash.
//! - `print`: tables and bars for people.

mod count;
mod lengths;
mod passages;
mod print;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use clap::Args;
use glm_schemas::cloze::ViewError;
use glm_schemas::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::{Manifest, ManifestError, Split};
use parquet::errors::ParquetError;
use serde::Serialize;
use thiserror::Error;

use crate::verify::{VerifyError, find_manifest};
pub use count::Source;
use count::SplitCounter;
pub use lengths::{Bar, Lengths};
use passages::Passages;
pub use passages::Shared;

/// The arguments.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep stats data/record
  glm-prep stats data/record --max-seq-len 256 --json")]
pub struct StatsArgs {
    /// The folder of a data set: the one given to `ingest`, or its `shards`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The sequence length that questions are truncated to
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH)]
    pub max_seq_len: usize,
    /// Print everything as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Why nothing can be counted.
#[derive(Debug, Error)]
pub enum StatsError {
    /// There is no data set, or its files cannot be read.
    #[error(transparent)]
    Set(#[from] VerifyError),
    /// A manifest that cannot be used.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A shard cannot be opened.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The shard.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A damaged Parquet file.
    #[error("{} is damaged: {source}; `glm-prep verify` says where", path.display())]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// What the Parquet reader said.
        source: ParquetError,
    },
    /// A damaged row group.
    #[error("{} is damaged: {source}; `glm-prep verify` says where", path.display())]
    Arrow {
        /// The shard.
        path: PathBuf,
        /// What the Parquet reader said.
        source: ArrowError,
    },
    /// A Parquet file that is no shard.
    #[error("{} is not a shard of cloze questions: {source}; ingest the raw data again", path.display())]
    NotAShard {
        /// The file.
        path: PathBuf,
        /// What is missing or different.
        source: ViewError,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Everything that is counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// The folder of the shards.
    pub shards: PathBuf,
    /// Fingerprint of the data set.
    pub fingerprint: String,
    /// The sequence length that truncation is counted for.
    pub max_seq_len: usize,
    /// The splits, in order.
    pub splits: Vec<SplitStats>,
    /// Passages that both the training and the validation split hold: the validation split then tells too much good.
    pub in_train_and_val: Shared,
}

/// What is counted of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitStats {
    /// The split.
    pub split: Split,
    /// Number of questions (rows).
    pub questions: usize,
    /// Number of passages, told apart by the passage's index in the raw data.
    pub passages: usize,
    /// Number of passages, told apart by their text.
    pub distinct_passages: usize,
    /// Passages that occur under several indices in this split.
    pub duplicates: Shared,
    /// Choices a question.
    pub choices: Lengths,
    /// Context tokens of a question, nothing truncated.
    pub context: Lengths,
    /// Tokens of a choice, without the end of the piece.
    pub choice: Lengths,
    /// Mentions in a question's passage.
    pub mentions: Lengths,
    /// What the sequence length cuts off.
    pub truncation: Truncation,
    /// Share of `[UNK]` among the tokens of passages, queries and choices.
    pub unknown: Share,
    /// The ten sources with the most questions.
    pub sources: Vec<Source>,
    /// Number of distinct sources.
    pub distinct_sources: usize,
}

/// What a sequence length cuts off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Truncation {
    /// Questions that lose something of their passage with at least one choice.
    pub questions: usize,
    /// Their share of all questions.
    pub share: f64,
    /// Passage tokens lost: of every question those of the choice that loses most.
    pub tokens_lost: usize,
    /// Questions that do not fit at all with at least one choice, even without their passage.
    pub do_not_fit: usize,
}

/// A part of a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Share {
    /// The part.
    pub count: usize,
    /// The whole.
    pub of: usize,
    /// The part over the whole; 0 where there is nothing.
    pub share: f64,
}

impl Share {
    fn new(count: usize, of: usize) -> Self {
        Self { count, of, share: if of == 0 { 0.0 } else { count as f64 / of as f64 } }
    }
}

/// Counts a data set and prints what was counted.
///
/// # Errors
/// [`StatsError`] where it cannot be read, or `out` cannot be written to.
pub fn run(args: &StatsArgs, out: &mut dyn Write) -> Result<(), StatsError> {
    let stats = count(&args.dir, args.max_seq_len)?;
    if args.json {
        serde_json::to_writer(&mut *out, &stats).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print::print(&stats, out)?;
    }
    Ok(())
}

/// Counts a data set. One batch of rows is in memory at a time, and some bytes for every distinct passage.
///
/// # Errors
/// [`StatsError`] where it cannot be read.
pub fn count(dir: &Path, max_seq_len: usize) -> Result<Stats, StatsError> {
    let (shards, bytes) = find_manifest(dir)?;
    let path = shards.join(glm_schemas::manifest::MANIFEST_FILE);
    let text = String::from_utf8_lossy(&bytes);
    let manifest = Manifest::from_json(&text).map_err(|source| StatsError::Manifest { path, source })?;
    let mut train: Option<Passages> = None;
    let mut in_train_and_val = Shared::default();
    let mut splits = Vec::new();
    // In the order of [`Split::ALL`], so the training split is known when the validation split comes.
    for (&split, content) in &manifest.splits {
        let other = train.as_ref().filter(|_| split == Split::Val);
        let mut counter = SplitCounter::new(split, manifest.special_ids, max_seq_len, other);
        for shard in &content.shards {
            counter.add_shard(&shards.join(&shard.file))?;
        }
        let (stats, passages) = counter.finish();
        splits.push(stats);
        match split {
            Split::Train => train = Some(passages),
            Split::Val => in_train_and_val = passages.shared,
            Split::Test => {}
        }
    }
    Ok(Stats { shards, fingerprint: manifest.fingerprint, max_seq_len, splits, in_train_and_val })
}
