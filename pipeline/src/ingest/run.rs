//! A complete ingest, a dry run, or the preparation of one part.

use std::collections::BTreeMap;
use std::time::Instant;

use glm_schemas::manifest::{Manifest, SHARDS_FOLDER, Split, TaskName};
use glm_support::files::progress::{Progress, Unit};
use glm_text::tokenize::Tokenizer;

use super::dataset::DataSetBuilder;
use super::error::IngestError;
use super::kind::{Context, RowKind};
use super::options::{IngestOptions, Partition, tool};
use super::outcome::{Outcome, PartSummary};
use super::part::{self, PartWriter, Plan, SplitEnd};
use super::pipeline::{ReadFiles, SplitPipeline, in_flight};
use super::prepare::{Preparation, PreparedBatch};
use super::records::MAX_RECORD_BYTES;
use super::rejects::listed_reasons;
use super::report::{RowRate, Summary};
use super::reuse;
use super::rows::cloze::Questions;
use super::rows::document::Documents;
use super::rows::example::Examples;
use super::rows::pair::Pairs;
use super::stages::Stages;
use crate::pattern::PatternTask;
use crate::shard::publish;
use crate::source::input::{self, Input, InputError};
use crate::source::recognise::{FormatName, Recognised, recognise};
use crate::source::unpack::{fill, unpacked};

/// Reads the raw data of a folder and publishes its shards. Depending on the options, prepares one part or writes nothing.
///
/// # Errors
/// [`IngestError`]; `DIR/shards` is unchanged.
pub fn run(options: &IngestOptions, progress: &dyn Progress) -> Result<Outcome, IngestError> {
    check(options)?;
    match options.task() {
        TaskName::Cloze if options.pattern.is_some() => run_rows::<Examples>(options, progress),
        TaskName::Cloze => run_rows::<Questions>(options, progress),
        TaskName::Text => run_rows::<Documents>(options, progress),
        TaskName::Seq2seq => run_rows::<Pairs>(options, progress),
    }
}

fn run_rows<R: RowKind>(options: &IngestOptions, progress: &dyn Progress) -> Result<Outcome, IngestError> {
    let started = Instant::now();
    let inputs = find(options)?;
    check_holdout(options, &inputs)?;
    let mut tokenizer = Tokenizer::load(options.tokenizer.as_deref())?;
    if !R::HAS_COMMANDS {
        tokenizer = tokenizer.without_commands();
    }
    if options.task_mask {
        tokenizer = tokenizer.with_task_masks()?;
    }
    if let Some(pattern) = &options.pattern {
        pattern.check_tokens(&tokenizer)??;
    }
    if let Some(partition) = options.partition {
        return prepare_part::<R>(options, partition, &inputs, &tokenizer, progress).map(Outcome::Part);
    }
    if !options.dry_run && options.dir.is_dir() {
        publish::clean(&options.dir)?;
    }
    if !options.force
        && !options.dry_run
        && let Some(manifest) = reuse::published(options, &inputs, &tokenizer)?
    {
        let reason = "nothing has changed: raw files, settings and all shards match (--force ingests again)";
        return unchanged(&manifest, options, reason, started).map(|summary| Outcome::Done(Box::new(summary)));
    }
    let mut builder = DataSetBuilder::<R>::new(options, &tokenizer, progress, started)?;
    let stages = Stages::default();
    let mut format = None;
    for inputs in inputs.chunk_by(|a, b| a.split == b.split) {
        let started = Instant::now();
        let split = inputs[0].split;
        let files: Vec<_> = inputs.iter().map(|input| input.name.clone()).collect();
        begin_progress("reading", inputs, progress);
        let mut stage = builder.ordered_stage(split, &files)?;
        let read = read_split::<R>(options, inputs, format, &tokenizer, &stages, |batch| {
            options.stop.check()?;
            progress.advance(batch.raw_bytes);
            stage.take(batch)
        })?;
        progress.end();
        let ordered = stage.finish()?;
        format = Some(read.format);
        builder.format = read.format.to_string();
        builder.add(ordered, &files, read.digests, started);
    }
    builder.stages = stages;
    builder.publish().map(|summary| Outcome::Done(Box::new(summary)))
}

/// Checks that the options belong to the task.
fn check(options: &IngestOptions) -> Result<(), IngestError> {
    let task = options.task();
    if options.pattern.is_some() != options.format.is_some_and(FormatName::needs_pattern) {
        return Err(IngestError::NoPattern);
    }
    if let Some(format) = options.format {
        let found = format.format().content().task();
        if found != task {
            return Err(IngestError::OtherTask { format, found, given: task });
        }
    }
    let special = [
        ("--column", TaskName::Text, options.column.is_some()),
        ("--dedup", TaskName::Text, options.dedup.is_some()),
        ("--max-record-mib", TaskName::Text, options.max_record_bytes != MAX_RECORD_BYTES),
        ("--keep", TaskName::Seq2seq, options.keep.is_some()),
        ("--task-mask", TaskName::Seq2seq, options.task_mask),
    ];
    match special.into_iter().find(|&(_, of, given)| given && task != of) {
        Some((option, of, _)) => Err(IngestError::NoEffect { option, of, task }),
        None => Ok(()),
    }
}

/// Finds the raw files. Files of another task than the one that is assumed are named in the error.
fn find(options: &IngestOptions) -> Result<Vec<Input>, IngestError> {
    if options.task() == TaskName::Text {
        return input::find_any(options.source(), &options.selection).map_err(|error| match error {
            InputError::NoData(dir) => IngestError::NoDocuments(dir),
            other => other.into(),
        });
    }
    input::find(options.source(), &options.selection).map_err(|error| {
        let is_none = matches!(error, InputError::NoData(_) | InputError::NoSplitInName { .. });
        let is_open = is_none && options.task.is_none() && options.format.is_none();
        let found = is_open.then(|| documents(options)).flatten();
        found.unwrap_or_else(|| error.into())
    })
}

/// Returns the error for a folder that has documents, if its first file has.
fn documents(options: &IngestOptions) -> Option<IngestError> {
    let inputs = input::find_any(options.source(), &options.selection).ok()?;
    let first = inputs.first()?;
    let mut found = None;
    let outcome = input::read(&inputs[..1], |_, file| {
        let mut file = unpacked(file)?;
        let head = fill(&mut *file)?;
        let of = |task| recognise(task, head, &first.name);
        // JSON lines with nothing but a text can be questions of LAMBADA, but are more often documents.
        found = match (of(TaskName::Cloze), of(TaskName::Text)) {
            (Recognised::Format(_), Recognised::Format(format)) if format.is_guess() => None,
            (_, Recognised::Format(format)) => Some(format),
            _ => None,
        };
        Ok(false)
    });
    outcome.ok()?;
    found.map(|format| IngestError::Documents { dir: options.source().to_owned(), file: first.name.clone(), format })
}

/// Checks that `--val-fraction` has a training split to divide, and no validation split of its own.
fn check_holdout(options: &IngestOptions, inputs: &[Input]) -> Result<(), IngestError> {
    if options.val_fraction.is_none() {
        return Ok(());
    }
    if let Some(val) = inputs.iter().find(|input| input.split == Split::Val) {
        return Err(IngestError::ValGiven { file: val.name.clone() });
    }
    if inputs.iter().any(|input| input.split == Split::Train) { Ok(()) } else { Err(IngestError::NoTrain) }
}

/// Returns the summary of a published data set that is up to date for the given reason.
pub(super) fn unchanged(
    manifest: &Manifest,
    options: &IngestOptions,
    reason: &'static str,
    started: Instant,
) -> Result<Summary, IngestError> {
    let reasons = listed_reasons(&options.dir.join(SHARDS_FOLDER))?;
    let summary = Summary {
        unchanged: true,
        unchanged_reason: reason,
        rate: RowRate { task: manifest.task, per_second: 0.0 },
        tokens_per_second: 0.0,
        ..Summary::of_manifest(manifest, options, &reasons, &Stages::default(), started)
    };
    let rejected = summary.rejected_records();
    let records = summary.splits.iter().map(|split| split.records).sum();
    let limit = options.max_rejects;
    if !limit.allows(rejected, records) {
        return Err(IngestError::TooManyRejects { rejected, stopped: false, records, limit, reasons: reasons.to_string() });
    }
    Ok(summary)
}

/// Reads the files of one split and passes the prepared batches to `take`, in order.
fn read_split<R: RowKind>(
    options: &IngestOptions,
    inputs: &[Input],
    previous_format: Option<FormatName>,
    tokenizer: &Tokenizer,
    stages: &Stages,
    take: impl FnMut(&PreparedBatch<R::Item>) -> Result<(), IngestError>,
) -> Result<ReadFiles, IngestError> {
    let (labelled, trains) = (inputs[0].split != Split::Test, inputs[0].split == Split::Train);
    let format = FormatName::first(R::TASK).format();
    let IngestOptions { max_seq_len, max_record_bytes, keep_fields, keep, .. } = *options;
    let pattern = options.pattern.as_deref();
    let context = Context { format, tokenizer, max_seq_len, max_record_bytes, keep, pattern, labelled, trains };
    let most_permits = in_flight(options.threads.get());
    let preparation = Preparation { context, keep_fields, most_permits, stages };
    let IngestOptions { format, limit, partition, .. } = *options;
    let (task, threads, column) = (R::TASK, options.threads.get(), options.column.as_deref());
    let pipeline = SplitPipeline {
        inputs,
        task,
        format,
        previous_format,
        column,
        pattern,
        limit,
        max_record_bytes,
        partition,
        keep_fields,
        threads,
        stages,
    };
    pipeline.run::<R>(preparation, take)
}

fn begin_progress(action: &str, inputs: &[Input], progress: &dyn Progress) {
    let more = if inputs.len() > 1 { format!(" and {} more files", inputs.len() - 1) } else { String::new() };
    // 0 means unknown: compressed files do not record their decompressed size.
    let total = if inputs.iter().any(Input::is_packed) { 0 } else { inputs.iter().map(|input| input.bytes).sum() };
    progress.begin(&format!("{action} {}{more}", inputs[0].name), total, Unit::Bytes);
}

/// Reads all raw files and writes the batches of one part to its part file.
fn prepare_part<R: RowKind>(
    options: &IngestOptions,
    partition: Partition,
    inputs: &[Input],
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<PartSummary, IngestError> {
    let started = Instant::now();
    let summary = |file, records, reused| {
        let seconds = started.elapsed().as_secs_f64();
        PartSummary { partition: partition.to_string(), file, records, reused, seconds }
    };
    let count = partition.count.get();
    let mut files: BTreeMap<Split, Vec<String>> = BTreeMap::new();
    for input in inputs {
        files.entry(input.split).or_default().push(input.name.clone());
    }
    let tokenizer_identity = tokenizer.identity().clone();
    let (tool, settings) = (tool(), options.settings());
    let pattern = options.pattern.as_deref().map(PatternTask::source);
    let plan = Plan { tool, task: R::TASK, parts: count, settings, pattern, tokenizer: tokenizer_identity, files };
    if !options.force
        && let Some(records) = reuse::part::<R>(options, partition, &plan, inputs)?
    {
        return Ok(summary(part::path(&options.dir, partition.index, count), records, true));
    }
    let stages = Stages::default();
    let mut records = 0;
    let mut format = None;
    let mut writer = PartWriter::create(&options.dir, partition, &plan)?;
    for inputs in inputs.chunk_by(|a, b| a.split == b.split) {
        begin_progress(&format!("part {partition} of"), inputs, progress);
        let read = read_split::<R>(options, inputs, format, tokenizer, &stages, |batch| {
            options.stop.check()?;
            records += batch.records.len();
            progress.advance(batch.raw_bytes * count as u64);
            Ok(writer.batch(batch)?)
        })?;
        progress.end();
        format = Some(read.format);
        writer.end_split(SplitEnd { format: read.format.to_string(), digests: read.digests })?;
    }
    options.stop.check()?;
    Ok(summary(writer.finish()?, records, false))
}
