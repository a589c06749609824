//! `glm-prep merge`: combines the parts of a partitioned ingest into one data set, identical to that of a single run.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use glm_schemas::manifest::{SHARDS_FOLDER, TaskName};
use glm_support::files::progress::{Progress, Unit};
use glm_text::tokenize::Tokenizer;

use super::dataset::DataSetBuilder;
use super::error::IngestError;
use super::kind::RowKind;
use super::options::IngestOptions;
use super::part::{self, Frame, PartReader, SplitEnd};
use super::prepare::PreparedBatch;
use super::reject_limit::RejectLimit;
use super::report::Summary;
use super::rows::cloze::Questions;
use super::rows::document::Documents;
use super::rows::example::Examples;
use super::rows::pair::Pairs;
use super::stages::{Clock, Stage};
use super::stop::Stop;
use super::{reuse, run};
use crate::pattern::PatternTask;
use crate::shard::publish;

/// Options of a merge; the parts determine all other settings.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// Folder of the raw data.
    pub dir: PathBuf,
    /// The vocab.txt or tokenizer.json of the parts; `None` for the built-in vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Number of threads that write shards.
    pub threads: NonZeroUsize,
    /// Maximum number of rejected records in all parts together.
    pub max_rejects: RejectLimit,
    /// Stops the merge.
    pub stop: Stop,
}

/// Merges the parts in `dir`, publishes the data set and then removes the parts. Does nothing if there are no parts but a complete
/// data set, so that a merge can be repeated.
///
/// # Errors
/// [`IngestError`]; `DIR/shards` and the parts are unchanged.
pub fn merge(options: &MergeOptions, progress: &dyn Progress) -> Result<Summary, IngestError> {
    let started = Instant::now();
    let dir = &options.dir;
    let parts = open(dir)?;
    match parts.first().map(|part| part.plan.task) {
        None => merged_before(options, started),
        Some(TaskName::Cloze) if parts[0].plan.pattern.is_some() => merge_rows::<Examples>(options, parts, progress, started),
        Some(TaskName::Cloze) => merge_rows::<Questions>(options, parts, progress, started),
        Some(TaskName::Text) => merge_rows::<Documents>(options, parts, progress, started),
        Some(TaskName::Seq2seq) => merge_rows::<Pairs>(options, parts, progress, started),
    }
}

fn merge_rows<R: RowKind>(
    options: &MergeOptions,
    mut parts: Vec<PartReader>,
    progress: &dyn Progress,
    started: Instant,
) -> Result<Summary, IngestError> {
    let dir = &options.dir;
    let Some(plan) = parts.first().map(|part| part.plan.clone()) else { return Err(IngestError::NoParts(dir.clone())) };
    let mut tokenizer = Tokenizer::load(options.tokenizer.as_deref())?;
    if tokenizer.identity().sha256 != plan.tokenizer.sha256 {
        return Err(IngestError::OtherTokenizer { parts: plan.tokenizer.name, given: tokenizer.identity().name.clone() });
    }
    let pattern = plan.pattern.map(PatternTask::from_source).transpose()?.map(Arc::new);
    let ingest_options = IngestOptions {
        pattern,
        tokenizer: options.tokenizer.clone(),
        threads: options.threads,
        max_rejects: options.max_rejects,
        stop: options.stop.clone(),
        ..IngestOptions::from_settings(dir, R::TASK, &plan.settings).map_err(|difference| different(dir, &difference))?
    };
    if ingest_options.task_mask {
        tokenizer = tokenizer.with_task_masks()?;
    }
    let mut builder = DataSetBuilder::<R>::new(&ingest_options, &tokenizer, progress, started)?;
    for (&split, files) in &plan.files {
        let started = Instant::now();
        progress.begin(&format!("merging {split} from {} parts", parts.len()), 0, Unit::Bytes);
        let mut stage = builder.ordered_stage(split, files)?;
        let mut clock = Clock::start();
        let end = interleave::<R>(&mut parts, dir, |batch| {
            options.stop.check()?;
            progress.advance(batch.raw_bytes);
            stage.take(batch)
        })?;
        let ordered = stage.finish()?;
        clock.lap(Stage::Order);
        builder.stages.add(&clock);
        progress.end();
        builder.format = end.format;
        builder.add(ordered, files, end.digests, started);
    }
    for part in &mut parts {
        let Frame::End = part.next::<R>()? else { return Err(different(dir, "they contain different splits")) };
    }
    let summary = builder.publish()?;
    if let Err(error) = publish::discard(dir, &part::folder(dir)) {
        tracing::warn!("cannot remove the merged parts {}: {error}", part::folder(dir).display());
    }
    Ok(summary)
}

/// Returns the summary of the data set that was published before the parts were removed.
fn merged_before(options: &MergeOptions, started: Instant) -> Result<Summary, IngestError> {
    let dir = &options.dir;
    let no_parts = || IngestError::NoParts(dir.clone());
    if !dir.is_dir() {
        return Err(no_parts());
    }
    publish::clean(dir)?;
    let manifest = reuse::intact(&dir.join(SHARDS_FOLDER)).ok_or_else(no_parts)?;
    let ingest_options = IngestOptions {
        threads: options.threads,
        max_rejects: options.max_rejects,
        ..IngestOptions::from_settings(dir, manifest.task, &manifest.settings).map_err(|_| no_parts())?
    };
    let reason = "nothing to merge: there are no parts, and the data set is complete";
    run::unchanged(&manifest, &ingest_options, reason, started)
}

/// Opens all parts. They must be complete and belong together.
fn open(dir: &Path) -> Result<Vec<PartReader>, IngestError> {
    let Some(count) = part_count(dir)? else { return Ok(Vec::new()) };
    let mut parts: Vec<PartReader> = Vec::with_capacity(count);
    let mut missing = Vec::new();
    for index in 0..count {
        match PartReader::open(dir, index, count)? {
            Some(part) if parts.first().is_some_and(|first| first.plan != part.plan) => {
                return Err(different(dir, "their settings, tokenizers or files differ"));
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

/// Returns the number of parts, which is in the name of every part file.
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
        _ => Err(different(dir, "their numbers of parts differ")),
    }
}

fn different(dir: &Path, difference: &str) -> IngestError {
    IngestError::DifferentParts { folder: part::folder(dir), difference: difference.to_owned() }
}

/// Passes the batches of one split to `take`, in their original order: batches were dealt to the parts round-robin.
fn interleave<R: RowKind>(
    parts: &mut [PartReader],
    dir: &Path,
    mut take: impl FnMut(&PreparedBatch<R::Item>) -> Result<(), IngestError>,
) -> Result<SplitEnd, IngestError> {
    let count = parts.len();
    let mut sequence = 0;
    let mut ends: Vec<Option<SplitEnd>> = vec![None; count];
    while ends.iter().any(Option::is_none) {
        let turn = sequence as usize % count;
        if ends[turn].is_none() {
            match parts[turn].next::<R>()? {
                Frame::Batch(batch) if batch.sequence == sequence && ends.iter().all(Option::is_none) => take(&batch)?,
                Frame::SplitEnd(end) => ends[turn] = Some(end),
                _ => return Err(different(dir, "their batches do not form one sequence")),
            }
        }
        sequence += 1;
    }
    let mut ends = ends.into_iter().flatten();
    let Some(first) = ends.next() else { return Err(different(dir, "a part has no end")) };
    if ends.all(|end| end == first) { Ok(first) } else { Err(different(dir, "the raw files changed between them")) }
}
