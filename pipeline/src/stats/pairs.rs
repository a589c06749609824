//! Statistics of a data set of pairs.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use glm_schemas::cloze::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::column::ViewError;
use glm_schemas::manifest::{Manifest, Split};
use glm_schemas::seq2seq::encoding::{PairEncoder, PairLayout};
use glm_schemas::seq2seq::{PairView, TOKEN_COLUMNS};
use glm_schemas::vocab::SpecialIds;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use super::error::StatsError;
use super::lengths::{LengthCounter, Lengths};
use super::summary::Share;

const BATCH_ROWS: usize = 64;

/// Statistics of a data set of pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairStats {
    /// Folder of the shards.
    pub shards: PathBuf,
    /// Fingerprint of the data set.
    pub fingerprint: String,
    /// Maximum number of context tokens for which truncation is counted.
    pub max_seq_len: usize,
    /// Maximum number of target tokens for which truncation is counted.
    pub max_target_len: usize,
    /// Splits, in order.
    pub splits: Vec<PairSplit>,
}

/// Statistics of a split of pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairSplit {
    /// Split.
    pub split: Split,
    /// Number of pairs (rows).
    pub pairs: usize,
    /// Number of questions that are asked of several windows of a text.
    pub windowed_questions: usize,
    /// Number of pairs without a target.
    pub without_target: usize,
    /// Number of tokens of contexts and targets.
    pub tokens: usize,
    /// Tokens per context, without truncation.
    pub tokens_per_context: Lengths,
    /// Tokens per target, the end included.
    pub tokens_per_target: Lengths,
    /// Pairs whose source is cut.
    pub cut_sources: Share,
    /// Source tokens that are cut.
    pub cut_source_tokens: usize,
    /// Pairs whose target is cut, and then has no end.
    pub cut_targets: Share,
    /// Pairs that do not fit even without their source.
    pub do_not_fit: usize,
    /// Share of `[UNK]` among the tokens.
    pub unknown: Share,
}

/// Counts a data set. Memory holds one batch of rows.
pub(super) fn count(
    shards: &Path,
    manifest: Manifest,
    max_seq_len: Option<usize>,
    max_target_len: usize,
) -> Result<PairStats, StatsError> {
    let max_seq_len = max_seq_len.or(manifest.settings.max_seq_len).unwrap_or(PUBLISHED_SEQUENCE_LENGTH);
    let mut splits = Vec::new();
    for (&split, content) in &manifest.splits {
        let mut counter = Counter::new(split, manifest.special_ids, max_seq_len, max_target_len);
        for shard in &content.shards {
            counter.add_shard(&shard.path(shards))?;
        }
        splits.push(counter.finish());
    }
    Ok(PairStats { shards: shards.to_owned(), fingerprint: manifest.fingerprint, max_seq_len, max_target_len, splits })
}

/// Counts one split.
struct Counter {
    split: Split,
    unk: i32,
    encoder: PairEncoder,
    pairs: usize,
    windowed: usize,
    last_group: Option<String>,
    without_target: usize,
    tokens: usize,
    context: LengthCounter,
    target: LengthCounter,
    cut_sources: usize,
    cut_source_tokens: usize,
    cut_targets: usize,
    do_not_fit: usize,
    unknown: usize,
}

impl Counter {
    fn new(split: Split, special: SpecialIds, max_seq_len: usize, max_target_len: usize) -> Self {
        Self {
            split,
            unk: special.unk,
            encoder: PairEncoder::new(special, max_seq_len, max_target_len, PairLayout::Compact),
            pairs: 0,
            windowed: 0,
            last_group: None,
            without_target: 0,
            tokens: 0,
            context: LengthCounter::default(),
            target: LengthCounter::default(),
            cut_sources: 0,
            cut_source_tokens: 0,
            cut_targets: 0,
            do_not_fit: 0,
            unknown: 0,
        }
    }

    fn add_shard(&mut self, path: &Path) -> Result<(), StatsError> {
        let damaged = |source| StatsError::Parquet { path: path.to_owned(), source };
        let file = File::open(path).map_err(|source| StatsError::Read { path: path.to_owned(), source })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let columns: HashSet<&str> = TOKEN_COLUMNS.into_iter().filter(|&name| name != "source").collect();
        let columns = ProjectionMask::columns(builder.parquet_schema(), columns);
        for batch in builder.with_projection(columns).with_batch_size(BATCH_ROWS).build().map_err(damaged)? {
            let batch = batch.map_err(|source| StatsError::Arrow { path: path.to_owned(), source })?;
            self.add_batch(&batch).map_err(|source| StatsError::NotAShard { path: path.to_owned(), source })?;
        }
        Ok(())
    }

    fn add_batch(&mut self, batch: &RecordBatch) -> Result<(), ViewError> {
        let view = PairView::try_new(batch)?;
        for row in 0..view.len() {
            let pair = view.pair(row)?;
            self.pairs += 1;
            // The windows of a question follow each other.
            let group = view.group_id(row);
            if group.is_some() && group != self.last_group.as_deref() {
                self.windowed += 1;
            }
            self.last_group = group.map(str::to_owned);
            self.tokens += pair.context_tokens() + pair.target.len();
            self.context.add(pair.context_tokens());
            let is_unknown = pair.target.is_empty() && view.references(row).len() == 0;
            self.without_target += usize::from(is_unknown);
            if !is_unknown {
                self.target.add(pair.target.len() + 1);
            }
            match self.encoder.size(&pair) {
                Ok(size) => {
                    self.cut_sources += usize::from(size.cut_source > 0);
                    self.cut_source_tokens += size.cut_source;
                    self.cut_targets += usize::from(size.is_target_cut);
                }
                Err(_) => self.do_not_fit += 1,
            }
            let lists = [pair.prefix, pair.source, pair.suffix, pair.target];
            self.unknown += lists.into_iter().flatten().filter(|&&id| id == self.unk).count();
        }
        Ok(())
    }

    fn finish(self) -> PairSplit {
        PairSplit {
            split: self.split,
            pairs: self.pairs,
            windowed_questions: self.windowed,
            without_target: self.without_target,
            tokens: self.tokens,
            tokens_per_context: self.context.finish(),
            tokens_per_target: self.target.finish(),
            cut_sources: Share::new(self.cut_sources, self.pairs),
            cut_source_tokens: self.cut_source_tokens,
            cut_targets: Share::new(self.cut_targets, self.pairs),
            do_not_fit: self.do_not_fit,
            unknown: Share::new(self.unknown, self.tokens),
        }
    }
}
