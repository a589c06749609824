//! `glm-prep merge`: parts that several machines or jobs have prepared become one data set, the same to the byte as one run makes.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::part::{self, Frame, PartReader, SplitEnd};
use super::prepare::PreparedBatch;
use super::stages::{Clock, Stage};
use super::{IngestError, IngestOptions, Progress, RejectLimit, Run, SortedSplit, Summary, Unit};
use glm_text::tokenize::Tokenizer;

/// What a merge is asked to do; everything else is settled in the parts.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// The folder of the raw data.
    pub dir: PathBuf,
    /// The vocab.txt or tokenizer.json that the parts were made with; none for the built-in vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Threads that write shards.
    pub threads: NonZeroUsize,
    /// How many rejected records are too many, over all parts.
    pub max_rejects: RejectLimit,
}

/// Merges the parts in `dir` and publishes the data set; the parts are then removed.
///
/// # Errors
/// [`IngestError`]; `DIR/shards` and the parts are then as they were before.
pub fn merge(options: &MergeOptions, progress: &dyn Progress) -> Result<Summary, IngestError> {
    let started = Instant::now();
    let mut parts = open(&options.dir)?;
    let Some(plan) = parts.first().map(|part| part.plan.clone()) else {
        return Err(IngestError::NoParts(options.dir.clone()));
    };
    let tokenizer = Tokenizer::load(options.tokenizer.as_deref())?;
    if tokenizer.identity().sha256 != plan.tokenizer.sha256 {
        return Err(IngestError::OtherTokenizer { parts: plan.tokenizer.name, given: tokenizer.identity().name.clone() });
    }
    let settled = IngestOptions {
        tokenizer: options.tokenizer.clone(),
        threads: options.threads,
        max_rejects: options.max_rejects,
        ..IngestOptions::of_settings(&options.dir, &plan.settings)?
    };
    let mut run = Run::begin(&settled, &tokenizer, progress, started)?;
    for (&split, files) in &plan.files {
        let started = Instant::now();
        progress.begin(&format!("merging {split} of {} parts", parts.len()), 0, Unit::Bytes);
        let mut stage = run.stage(split, files)?;
        let mut clock = Clock::start();
        let end = in_turns(&mut parts, &options.dir, |batch| {
            progress.advance(batch.raw_bytes);
            stage.take(batch).map_err(IngestError::from)
        })?;
        let (spool, counts) = stage.finish()?;
        clock.lap(Stage::Order);
        run.stages.add(&clock);
        progress.end();
        let seconds = started.elapsed().as_secs_f64();
        run.format = end.format;
        run.splits.push(SortedSplit { split, files: files.clone(), digests: end.digests, spool, counts, seconds });
    }
    for part in &mut parts {
        let Frame::End = part.next()? else { return Err(different(&options.dir, "they hold different splits")) };
    }
    let summary = run.publish()?;
    if let Err(error) = fs::remove_dir_all(part::folder(&options.dir)) {
        tracing::warn!("cannot remove the merged parts {}: {error}", part::folder(&options.dir).display());
    }
    Ok(summary)
}

/// All parts; all must be there and belong together.
fn open(dir: &Path) -> Result<Vec<PartReader>, IngestError> {
    let Some(count) = part_count(dir)? else { return Ok(Vec::new()) };
    let mut parts: Vec<PartReader> = Vec::with_capacity(count);
    let mut missing = Vec::new();
    for index in 0..count {
        match PartReader::open(dir, index, count)? {
            Some(part) if parts.first().is_some_and(|first| first.plan != part.plan) => {
                return Err(different(dir, "they were made with different settings, tokenizers or files"));
            }
            Some(part) => parts.push(part),
            None => missing.push(format!("{index}/{count}")),
        }
    }
    if missing.is_empty() {
        return Ok(parts);
    }
    Err(IngestError::MissingParts { dir: dir.to_owned(), missing: missing.join(", ") })
}

/// How many parts there are to be, by the names of those that are there.
fn part_count(dir: &Path) -> Result<Option<usize>, IngestError> {
    let Ok(entries) = fs::read_dir(part::folder(dir)) else { return Ok(None) };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut counts: Vec<usize> =
        names.filter_map(|name| name.strip_prefix("part-")?.split_once("-of-")?.1.parse().ok()).collect();
    counts.sort_unstable();
    counts.dedup();
    match counts.as_slice() {
        [] => Ok(None),
        [count] => Ok(Some(*count)),
        _ => Err(different(dir, "some are of another number of parts")),
    }
}

fn different(dir: &Path, why: &str) -> IngestError {
    IngestError::DifferentParts { folder: part::folder(dir), why: why.to_owned() }
}

/// Batches were dealt to the parts in turns; this takes them back in order, up to the end of a split.
fn in_turns(
    parts: &mut [PartReader],
    dir: &Path,
    mut take: impl FnMut(&PreparedBatch) -> Result<(), IngestError>,
) -> Result<SplitEnd, IngestError> {
    let count = parts.len();
    let mut sequence = 0;
    let mut ends: Vec<Option<SplitEnd>> = vec![None; count];
    while ends.iter().any(Option::is_none) {
        let turn = sequence as usize % count;
        if ends[turn].is_none() {
            match parts[turn].next()? {
                Frame::Batch(batch) if batch.sequence == sequence && ends.iter().all(Option::is_none) => take(&batch)?,
                Frame::SplitEnd(end) => ends[turn] = Some(end),
                _ => return Err(different(dir, "they do not hold one batch after the other")),
            }
        }
        sequence += 1;
    }
    let mut ends = ends.into_iter().flatten();
    let Some(first) = ends.next() else { return Err(different(dir, "a part has no end")) };
    if ends.all(|end| end == first) { Ok(first) } else { Err(different(dir, "the raw files changed between them")) }
}
