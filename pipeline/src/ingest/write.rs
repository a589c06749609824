//! Writing all shards, several at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use glm_schemas::manifest::{Shard, Split};

use super::spool::Spool;
use super::stages::{Clock, Stage, Stages};
use super::{IngestOptions, Progress, Unit, row};
use crate::shard::{self, ROWS_PER_GROUP, ShardWriter, WriteError};
use glm_text::tokenize::Tokenizer;

/// Everything that is to be written.
pub(super) struct Job<'a> {
    pub(super) splits: &'a [(Split, &'a Spool)],
    pub(super) options: &'a IngestOptions,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) folder: &'a Path,
    pub(super) progress: &'a dyn Progress,
    pub(super) stages: &'a Stages,
}

/// One shard of it.
struct Part<'a> {
    split: Split,
    spool: &'a Spool,
    file: String,
    start: usize,
    rows: usize,
}

impl<'a> Job<'a> {
    /// Writes all shards. Each is the work of one thread, so its bytes do not depend on how many there are.
    pub(super) fn run(&self) -> Result<BTreeMap<Split, Vec<Shard>>, WriteError> {
        let parts = self.parts();
        let rows: usize = parts.iter().map(|part| part.rows).sum();
        self.progress.begin(&format!("writing {} shards", parts.len()), rows as u64, Unit::Rows);

        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let written = Mutex::new(BTreeMap::new());
        let write = || {
            let mut clock = Clock::start();
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = parts.get(index) else { break };
                let outcome = self.write(part);
                failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                written.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(index, outcome);
            }
            clock.lap(Stage::Write);
            self.stages.add(&clock);
        };
        std::thread::scope(|scope| {
            for _ in 0..self.options.threads.get().min(parts.len()) {
                scope.spawn(write);
            }
        });
        self.progress.end();

        let mut shards: BTreeMap<Split, Vec<Shard>> = BTreeMap::new();
        for (index, outcome) in written.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            shards.entry(parts[index].split).or_default().push(outcome?);
        }
        Ok(shards)
    }

    fn parts(&self) -> Vec<Part<'a>> {
        let per_shard = self.options.rows_per_shard.get();
        let of_split = |&(split, spool): &(Split, &'a Spool)| {
            let count = spool.rows().div_ceil(per_shard);
            (0..count).map(move |index| {
                let start = index * per_shard;
                let file = shard::file_name(split, index, count);
                Part { split, spool, file, start, rows: per_shard.min(spool.rows() - start) }
            })
        };
        self.splits.iter().flat_map(of_split).collect()
    }

    fn write(&self, part: &Part<'_>) -> Result<Shard, WriteError> {
        let mut writer =
            ShardWriter::create(self.folder, part.file.clone(), self.tokenizer.identity(), self.options.compression)?;
        let labelled = part.split != Split::Test;
        let mut arena = Vec::new();
        let mut untold = 0;
        part.spool.read(part.start, part.rows, |bytes| {
            untold += 1;
            if untold == ROWS_PER_GROUP {
                self.progress.advance(untold as u64);
                untold = 0;
            }
            row::decode(bytes, labelled, &mut arena, |row| writer.append(row, bytes.len()))
                .ok_or_else(|| part.spool.damaged())?
        })?;
        self.progress.advance(untold as u64);
        writer.finish()
    }
}
