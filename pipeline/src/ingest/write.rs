//! Shard writing, several shards in parallel.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use glm_schemas::manifest::{Shard, Split};
use glm_support::files::progress::{Progress, Unit};
use glm_text::tokenize::Tokenizer;

use super::kind::RowKind;
use super::options::IngestOptions;
use super::spool::Spool;
use super::stages::{Clock, Stage, Stages};
use crate::shard::upload::Upload;
use crate::shard::{self, ROWS_PER_GROUP, ShardWriter, WriteError};

/// All shards to write.
pub(super) struct Job<'a> {
    pub(super) splits: &'a [SplitRows<'a>],
    pub(super) options: &'a IngestOptions,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) folder: &'a Path,
    /// Receives each shard when it is complete.
    pub(super) upload: Option<&'a Upload>,
    pub(super) progress: &'a dyn Progress,
    pub(super) stages: &'a Stages,
}

/// The rows of a split.
pub(super) struct SplitRows<'a> {
    pub(super) split: Split,
    /// Names of the raw files.
    pub(super) files: &'a [String],
    pub(super) spool: &'a Spool,
}

/// One shard to write.
struct ShardPlan<'a> {
    rows_of: &'a SplitRows<'a>,
    file: String,
    start: usize,
    rows: usize,
}

impl<'a> Job<'a> {
    /// Writes all shards, or some of them if the run is stopped. Each shard is written by one thread, so its bytes do not depend on the number of threads.
    pub(super) fn run<R: RowKind>(&self) -> Result<BTreeMap<Split, Vec<Shard>>, WriteError> {
        let plans = self.plans();
        let rows: usize = plans.iter().map(|plan| plan.rows).sum();
        self.progress.begin(&format!("writing {} shards", plans.len()), rows as u64, Unit::Rows);

        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let written = Mutex::new(BTreeMap::new());
        let write = || {
            let mut clock = Clock::start();
            while !failed.load(Ordering::Relaxed) && !self.options.stop.is_requested() {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(plan) = plans.get(index) else { break };
                let result = self.write::<R>(plan);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                written.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(index, result);
            }
            clock.lap(Stage::Write);
            self.stages.add(&clock);
        };
        std::thread::scope(|scope| {
            for _ in 0..self.options.threads.get().min(plans.len()) {
                scope.spawn(write);
            }
        });
        self.progress.end();

        let mut shards: BTreeMap<Split, Vec<Shard>> = BTreeMap::new();
        for (index, result) in written.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            shards.entry(plans[index].rows_of.split).or_default().push(result?);
        }
        Ok(shards)
    }

    fn plans(&self) -> Vec<ShardPlan<'a>> {
        let per_shard = self.options.rows_per_shard.get();
        let of_split = |rows_of: &'a SplitRows<'a>| {
            let all = rows_of.spool.rows();
            let count = all.div_ceil(per_shard);
            (0..count).map(move |index| {
                let start = index * per_shard;
                let file = shard::file_name(rows_of.split, index, count);
                ShardPlan { rows_of, file, start, rows: per_shard.min(all - start) }
            })
        };
        self.splits.iter().flat_map(of_split).collect()
    }

    fn write<R: RowKind>(&self, plan: &ShardPlan<'_>) -> Result<Shard, WriteError> {
        let (file, compression) = (plan.file.clone(), self.options.compression);
        let mut writer = ShardWriter::<R::Table>::create(self.folder, file, self.tokenizer.identity(), compression)?;
        let SplitRows { split, files, spool } = plan.rows_of;
        let mut unreported = 0;
        spool.read(plan.start, plan.rows, |row: R::Stored| {
            unreported += 1;
            if unreported == ROWS_PER_GROUP {
                self.progress.advance(unreported as u64);
                unreported = 0;
            }
            R::append(&row, *split, files, &mut writer).ok_or_else(|| spool.damaged())?
        })?;
        self.progress.advance(unreported as u64);
        let shard = writer.finish()?;
        if let Some(upload) = self.upload {
            upload.shard(self.folder, &shard)?;
        }
        Ok(shard)
    }
}
