//! `glm-prep stats`: statistics of a data set.
//!
//! - `count`: counts a split of questions batch by batch.
//! - `documents`: counts documents; `near`: near duplicates of documents.
//! - `pairs`: counts pairs.
//! - `lengths`: distributions of lengths.
//! - `passages`: duplicate passages, by hash.
//! - `summary`: the result.
//! - `print`, `print_documents`, `print_pairs`: the result as text.
//! - `error`: errors of the command.

mod count;
mod documents;
mod error;
mod lengths;
mod near;
mod pairs;
mod passages;
mod print;
mod print_documents;
mod print_pairs;
mod summary;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use glm_schemas::cloze::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::{Split, TaskName};
use serde::Serialize;

use crate::shard::published::{self, Published};
use count::SplitCounter;
pub use documents::{Copies, DocumentSource, DocumentSplit, DocumentStats};
pub use error::StatsError;
pub use lengths::{Bar, Lengths};
pub use pairs::{PairSplit, PairStats};
use passages::Passages;
pub use passages::Shared;
pub use summary::{Share, Source, SplitStats, Stats, Truncation};

/// Number of sources in the statistics of a split.
const MAX_SOURCES: usize = 10;

/// Maximum number of target tokens in training, by default.
pub const MAX_TARGET_LEN: usize = 128;

/// Arguments of `stats`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep stats data/record
  glm-prep stats data/record --max-seq-len 256 --json")]
pub struct StatsArgs {
    /// Folder or URL of a data set: the one given to `ingest`, or its `shards`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Sequence length that questions or contexts of pairs are truncated to [default: the one given to `ingest`]; documents are not truncated
    #[arg(long, value_name = "N")]
    pub max_seq_len: Option<usize>,
    /// Number of tokens that targets of pairs are truncated to
    #[arg(long, value_name = "N", default_value_t = MAX_TARGET_LEN)]
    pub max_target_len: usize,
    /// Print the statistics as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command and prints to `out`.
///
/// # Errors
/// [`StatsError`] if the data set cannot be read, or `out` cannot be written to.
pub fn run(args: &StatsArgs, out: &mut dyn Write) -> Result<(), StatsError> {
    let StatsArgs { max_seq_len, max_target_len, .. } = *args;
    let extent = Extent { max_seq_len, max_target_len, other_lengths: &[], max_sources: MAX_SOURCES };
    match published::read(&args.dir, |set| counts_of(set, &extent))? {
        Counts::Questions(stats) if !args.json => print::print(&stats, out)?,
        Counts::Documents(stats) if !args.json => print_documents::print(&stats, out)?,
        Counts::Pairs(stats) if !args.json => print_pairs::print(&stats, out)?,
        stats => {
            serde_json::to_writer(&mut *out, &stats).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Statistics of a data set of any kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Counts {
    /// Questions.
    Questions(Stats),
    /// Documents.
    Documents(DocumentStats),
    /// Pairs.
    Pairs(PairStats),
}

/// Computes the statistics of a data set that was found.
pub(crate) fn counts_of(published: &Published, extent: &Extent<'_>) -> Result<Counts, StatsError> {
    let manifest = published.parse()?;
    match manifest.task {
        TaskName::Cloze => count_published(published, extent).map(Counts::Questions),
        TaskName::Text if extent.max_seq_len.is_some() => Err(StatsError::NotTruncated),
        TaskName::Text => documents::count(&published.folder, manifest, extent.max_sources).map(Counts::Documents),
        TaskName::Seq2seq => {
            let Extent { max_seq_len, max_target_len, .. } = *extent;
            pairs::count(&published.folder, manifest, max_seq_len, max_target_len).map(Counts::Pairs)
        }
    }
}

/// Data set and lengths to count.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'a> {
    /// Sequence length that truncation is computed for; `None` for the one given to `ingest`.
    pub max_seq_len: Option<usize>,
    /// Number of tokens that targets of pairs are truncated to.
    pub max_target_len: usize,
    /// Further sequence lengths that truncation is computed for.
    pub other_lengths: &'a [usize],
    /// Maximum number of sources per split.
    pub max_sources: usize,
}

/// Computes the statistics of a data set of questions. Memory holds one batch of rows and some bytes per distinct passage.
///
/// # Errors
/// [`StatsError`] if the data set cannot be read.
pub fn count(dir: &Path, extent: &Extent<'_>) -> Result<Stats, StatsError> {
    published::read(dir, |set| count_published(set, extent))
}

/// Computes the statistics of a data set of questions that was found.
fn count_published(published: &Published, extent: &Extent<'_>) -> Result<Stats, StatsError> {
    let shards = published.folder.clone();
    let manifest = published.parse()?;
    let ingested = manifest.settings.max_seq_len.unwrap_or(PUBLISHED_SEQUENCE_LENGTH);
    let max_seq_len = extent.max_seq_len.unwrap_or(ingested);
    let lengths: Vec<usize> = [max_seq_len, ingested].into_iter().chain(extent.other_lengths.iter().copied()).collect();
    let mut train: Option<Passages> = None;
    let mut in_train_and_val = Shared::default();
    let mut splits = Vec::new();
    // Splits are in the order of `Split::ALL`: the training split precedes the validation split.
    for (&split, content) in &manifest.splits {
        let other = train.as_ref().filter(|_| split == Split::Val);
        let mut counter = SplitCounter::new(split, &manifest, &lengths, other);
        for shard in &content.shards {
            counter.add_shard(&shard.path(&shards))?;
        }
        let (stats, passages) = counter.finish(extent.max_sources);
        splits.push(stats);
        match split {
            Split::Train => train = Some(passages),
            Split::Val => in_train_and_val = passages.shared,
            Split::Test => {}
        }
    }
    Ok(Stats { shards, fingerprint: manifest.fingerprint, max_seq_len, splits, in_train_and_val })
}
