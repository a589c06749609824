//! `glm-prep stats`: statistics of a data set.
//!
//! - `count`: counts a split batch by batch.
//! - `lengths`: distributions of lengths.
//! - `passages`: duplicate passages, by hash.
//! - `summary`: the result.
//! - `print`: the result as text.
//! - `error`: errors of the command.

mod count;
mod error;
mod lengths;
mod passages;
mod print;
mod summary;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use glm_schemas::cloze::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::Split;

use crate::shard::published::{self, Published};
use count::SplitCounter;
pub use error::StatsError;
pub use lengths::{Bar, Lengths};
use passages::Passages;
pub use passages::Shared;
pub use summary::{Share, Source, SplitStats, Stats, Truncation};

/// Arguments of `stats`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep stats data/record
  glm-prep stats data/record --max-seq-len 256 --json")]
pub struct StatsArgs {
    /// Folder of a data set: the one given to `ingest`, or its `shards`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Sequence length that questions are truncated to
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH)]
    pub max_seq_len: usize,
    /// Print the statistics as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command and prints to `out`.
///
/// # Errors
/// [`StatsError`] if the data set cannot be read, or `out` cannot be written to.
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

/// Computes the statistics of a data set. Memory holds one batch of rows and some bytes per distinct passage.
///
/// # Errors
/// [`StatsError`] if the data set cannot be read.
pub fn count(dir: &Path, max_seq_len: usize) -> Result<Stats, StatsError> {
    published::read(dir, |set| count_published(set, max_seq_len))
}

/// Computes the statistics of a data set that was found.
pub(crate) fn count_published(published: &Published, max_seq_len: usize) -> Result<Stats, StatsError> {
    let shards = published.folder.clone();
    let manifest = published.parse()?;
    let mut train: Option<Passages> = None;
    let mut in_train_and_val = Shared::default();
    let mut splits = Vec::new();
    // Splits are in the order of `Split::ALL`: the training split precedes the validation split.
    for (&split, content) in &manifest.splits {
        let other = train.as_ref().filter(|_| split == Split::Val);
        let mut counter = SplitCounter::new(split, manifest.special_ids, max_seq_len, other);
        for shard in &content.shards {
            counter.add_shard(&shard.path(&shards))?;
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
