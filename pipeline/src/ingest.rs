//! `glm-prep ingest`: the stages and the queues between them.
//!
//! ```text
//! reader ──batches of records──▶ workers ──prepared passages──▶ ordered stage ──rows──▶ spool ──▶ shard writers
//!   ▲          (bounded)         parse, tokenize,   (bounded)    ids, distractors,       sorted       one a shard
//!   └──────── permits ────────── annotate, encode ────────────── counts, rejects         on disk
//! ```
//!
//! The reader needs a permit for every batch and the ordered stage gives it back, so however long one batch takes, only so many
//! are under way: memory is bounded whatever the size of the input. Everything whose result depends on order happens in the
//! ordered stage, so the bytes written do not depend on the number of threads. Only `pipeline` and `write` know about threads.
//!
//! A part of a shared ingest ends behind the workers: it writes its batches to a file (`part`), and [`merge`] takes
//! the batches of all parts in order through the rest.

mod frame;
mod merge;
mod options;
mod order;
mod part;
mod pipeline;
mod prepare;
mod records;
mod rejects;
mod report;
mod reuse;
mod row;
mod run;
mod spool;
mod stages;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use glm_schemas::manifest::Split;
use thiserror::Error;

use self::part::{PartWriter, Plan, SplitEnd};
use self::pipeline::{ReadFiles, Reading};
use self::prepare::{Preparation, PreparedBatch};
use self::run::{Run, SortedSplit};
use self::stages::Stages;
use crate::shard::WriteError;
use crate::source::input::{self, Input, InputError};
use crate::source::recognise::FormatName;
use glm_text::tokenize::{Tokenizer, TokenizerError};

pub use self::merge::{MergeOptions, merge};
pub use self::options::{DEFAULT_ROWS_PER_SHARD, IngestOptions, Partition};
pub use self::records::MAX_LINE_BYTES;
pub use self::rejects::RejectLimit;
pub use self::report::{Outcome, PartSummary, SplitSummary, Summary};
pub use self::stages::StageSeconds;
pub use glm_support::files::progress::{Progress, Silent, Unit};

/// Why a run failed. Nothing was published.
#[derive(Debug, Error)]
pub enum IngestError {
    /// The raw data cannot be had.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The tokenizer cannot be had.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The data set cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// More was rejected than is allowed.
    #[error(
        "{rejected} of {records} records were rejected, --max-rejects allows {limit}; nothing was published (the first was {first}; -v shows all)"
    )]
    TooManyRejects {
        /// Records of which something was rejected.
        rejected: usize,
        /// All records.
        records: usize,
        /// How many may be.
        limit: RejectLimit,
        /// The first of them and what is wrong with it.
        first: String,
    },
    /// Nothing is left to write.
    #[error("no question was found in {files}; nothing was published{}", first.as_ref().map_or(String::new(), |first| format!(" (the first of {rejected} rejected records was {first})")))]
    Empty {
        /// The files that were read.
        files: String,
        /// Records of which something was rejected.
        rejected: usize,
        /// The first of them and what is wrong with it.
        first: Option<String>,
    },
    /// A part of a shared ingest cannot be used.
    #[error("the part {} cannot be used: {reason}; ingest that part again", path.display())]
    Part {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nothing to merge.
    #[error("there are no parts in {}; make them with `glm-prep ingest {} --partition i/n`, for every i from 0 to n - 1", .0.display(), .0.display())]
    NoParts(PathBuf),
    /// Not all parts are there.
    #[error("parts are missing: {missing}; run `glm-prep ingest {} --partition i/n` for each of them, then merge again", dir.display())]
    MissingParts {
        /// The folder of the raw data.
        dir: PathBuf,
        /// Which.
        missing: String,
    },
    /// Parts that do not belong together.
    #[error("the parts in {} do not belong together: {why}; remove that folder and make all parts again", folder.display())]
    DifferentParts {
        /// Where they lie.
        folder: PathBuf,
        /// What differs.
        why: String,
    },
    /// The merge was given another tokenizer.
    #[error("the parts were made with the tokenizer {parts}, not with {given}; give the same with --tokenizer")]
    OtherTokenizer {
        /// That of the parts.
        parts: String,
        /// The one given.
        given: String,
    },
    /// A bug.
    #[error("a worker stopped unexpectedly on a batch of {0}; nothing was published; please report it with that file")]
    Panicked(String),
    /// The manifest cannot be made.
    #[error(transparent)]
    Manifest(#[from] glm_schemas::manifest::ManifestError),
}

/// Reads the raw data of a folder and publishes its shards; or, as the options say, prepares one part of it, or writes nothing.
///
/// # Errors
/// [`IngestError`]; `DIR/shards` is then as it was before.
pub fn run(options: &IngestOptions, progress: &dyn Progress) -> Result<Outcome, IngestError> {
    let started = Instant::now();
    let inputs = input::find(&options.dir, &options.selection)?;
    let tokenizer = Tokenizer::load(options.tokenizer.as_deref())?;
    if let Some(partition) = options.partition {
        return prepare_part(options, partition, &inputs, &tokenizer, progress).map(Outcome::Part);
    }
    if !options.force
        && !options.dry_run
        && let Some(manifest) = reuse::published(options, &inputs, &tokenizer)?
    {
        return run::unchanged(&manifest, options, started).map(Outcome::Done);
    }
    let mut run = Run::begin(options, &tokenizer, progress, started)?;
    let stages = Stages::default();
    let mut before = None;
    for inputs in inputs.chunk_by(|a, b| a.split == b.split) {
        let started = Instant::now();
        let split = inputs[0].split;
        let files: Vec<_> = inputs.iter().map(|input| input.name.clone()).collect();
        begin_part("reading", inputs, progress);
        let mut stage = run.stage(split, &files)?;
        let read = read(options, inputs, before, &tokenizer, &stages, |batch| {
            progress.advance(batch.raw_bytes);
            stage.take(batch).map_err(IngestError::from)
        })?;
        progress.end();
        let (spool, counts) = stage.finish()?;
        let seconds = started.elapsed().as_secs_f64();
        before = Some(read.format);
        run.format = read.format.to_string();
        run.splits.push(SortedSplit { split, files, digests: read.digests, spool, counts, seconds });
    }
    run.stages = stages;
    run.publish().map(Outcome::Done)
}

/// Reads the files of one split.
fn read(
    options: &IngestOptions,
    inputs: &[Input],
    before: Option<FormatName>,
    tokenizer: &Tokenizer,
    stages: &Stages,
    take: impl FnMut(&PreparedBatch) -> Result<(), IngestError>,
) -> Result<ReadFiles, IngestError> {
    let labelled = inputs[0].split != Split::Test;
    let format = FormatName::default().format();
    let preparation = Preparation { format, tokenizer, max_seq_len: options.max_seq_len, labelled, stages };
    let IngestOptions { format, limit, partition, .. } = *options;
    Reading { inputs, format, before, limit, partition, threads: options.threads.get(), stages }.run(preparation, take)
}

fn begin_part(what: &str, inputs: &[Input], progress: &dyn Progress) {
    let more = if inputs.len() > 1 { format!(" and {} more files", inputs.len() - 1) } else { String::new() };
    // 0 is unknown: what is packed has another size than what is read.
    let total = if inputs.iter().any(Input::is_packed) { 0 } else { inputs.iter().map(|input| input.bytes).sum() };
    progress.begin(&format!("{what} {}{more}", inputs[0].name), total, Unit::Bytes);
}

/// Reads everything, prepares what belongs to the part, and leaves it for the merge.
fn prepare_part(
    options: &IngestOptions,
    partition: Partition,
    inputs: &[Input],
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<PartSummary, IngestError> {
    let started = Instant::now();
    let stages = Stages::default();
    let mut plan = Plan {
        tool: run::TOOL.to_owned(),
        parts: partition.count.get(),
        settings: options.settings(),
        tokenizer: tokenizer.identity().clone(),
        files: BTreeMap::new(),
    };
    for input in inputs {
        plan.files.entry(input.split).or_default().push(input.name.clone());
    }
    let partition_name = partition.to_string();
    if !options.force
        && let Some(records) = reuse::part(options, partition, &plan, inputs)?
    {
        let file = part::path(&options.dir, partition.index, partition.count.get());
        let seconds = started.elapsed().as_secs_f64();
        return Ok(PartSummary { partition: partition_name, file, records, reused: true, seconds });
    }
    let mut writer = PartWriter::create(&options.dir, partition, &plan)?;
    let mut records = 0;
    let mut before = None;
    for inputs in inputs.chunk_by(|a, b| a.split == b.split) {
        begin_part(&format!("part {partition} of"), inputs, progress);
        let read = read(options, inputs, before, tokenizer, &stages, |batch| {
            records += batch.records.len();
            progress.advance(batch.raw_bytes * partition.count.get() as u64);
            Ok(writer.batch(batch)?)
        })?;
        progress.end();
        before = Some(read.format);
        writer.end_split(&SplitEnd { format: read.format.to_string(), digests: read.digests })?;
    }
    let file = writer.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(PartSummary { partition: partition_name, file, records, reused: false, seconds })
}
