//! `glm-prep ingest`: the stages and the queues between them.
//!
//! ```text
//! reader ──batches of lines──▶ workers ──prepared passages──▶ ordered stage ──rows──▶ spool ──▶ shard writers
//!   ▲        (bounded)         parse, tokenize,   (bounded)    distractors,            sorted       one a shard
//!   └────────── permits ────── annotate, encode ────────────── counts, rejects         on disk
//! ```
//!
//! The reader needs a permit for every batch and the ordered stage gives it back, so however long one batch takes, only so many
//! are under way: memory is bounded whatever the size of the input. Everything whose result depends on order happens in the
//! ordered stage, so the bytes written do not depend on the number of threads. This module and [`write`] are the only ones that know about threads.

mod lines;
mod order;
mod prepare;
mod rejects;
mod report;
mod row;
mod spool;
mod write;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded};
use glm_schemas::SCHEMA_VERSION;
use glm_schemas::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::{IngestSettings, MANIFEST_FILE, Manifest, RawFile, Shard, Split, SplitManifest};
use thiserror::Error;

use self::lines::{FileDigest, LineBatch};
use self::order::{Counts, OrderedStage};
use self::prepare::{Preparation, PreparedBatch};
use self::rejects::RejectLog;
use self::spool::{Spool, SpoolWriter};
use crate::choices::{DISTRACTOR_SEED, MAX_DISTRACTORS};
use crate::shard::publish::{REJECTS_FILE, Staging};
use crate::shard::{self, ROWS_PER_GROUP, WriteError};
use crate::source::input::{self, Input, InputError};
use crate::source::record::Record;
use crate::tokenize::{Tokenizer, TokenizerError};

pub use self::lines::MAX_LINE_BYTES;
pub use self::rejects::RejectLimit;
pub use self::report::{SplitSummary, Summary};

/// Batches under way beyond one a worker, so that no worker waits for the reader or for order.
const SPARE_BATCHES: usize = 6;
/// Rows of a shard unless told otherwise.
pub const DEFAULT_ROWS_PER_SHARD: usize = 8192;

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// The folder of the raw data; the shards go to `shards` in it.
    pub dir: PathBuf,
    /// A vocab.txt or tokenizer.json; none for the built-in vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Workers. What is written does not depend on it.
    pub threads: NonZeroUsize,
    /// Questions that do not fit this length without their passage are rejected.
    pub max_seq_len: usize,
    /// Rows of a shard.
    pub rows_per_shard: NonZeroUsize,
    /// How many rejected records are too many.
    pub max_rejects: RejectLimit,
}

impl IngestOptions {
    /// The defaults for a folder: one worker a core.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            tokenizer: None,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            max_seq_len: PUBLISHED_SEQUENCE_LENGTH,
            rows_per_shard: NonZeroUsize::new(DEFAULT_ROWS_PER_SHARD).unwrap_or(NonZeroUsize::MIN),
            max_rejects: RejectLimit::default(),
        }
    }
}

/// Is told how far a run has come. Called from several threads.
pub trait Progress: Sync {
    /// A part begins, for example "reading ReCoRD/train.jsonl", of so many bytes or rows.
    fn begin(&self, part: &str, total: u64, unit: Unit);
    /// So much of it is done in addition.
    fn advance(&self, amount: u64);
    /// The part is done.
    fn end(&self);
}

/// What the progress of a part is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a raw file.
    Bytes,
    /// Rows of shards.
    Rows,
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

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
    /// A bug.
    #[error("a worker stopped unexpectedly on a batch of {0}; nothing was published; please report it with that file")]
    Panicked(String),
    /// The manifest cannot be made.
    #[error(transparent)]
    Manifest(#[from] glm_schemas::manifest::ManifestError),
}

/// A split whose rows are ready to be written.
struct SortedSplit<'a> {
    input: &'a Input,
    digest: FileDigest,
    spool: Spool,
    counts: Counts,
    seconds: f64,
}

/// Reads the raw data of a folder and publishes its shards.
///
/// # Errors
/// [`IngestError`]; `DIR/shards` is then as it was before.
pub fn run(options: &IngestOptions, progress: &dyn Progress) -> Result<Summary, IngestError> {
    let started = Instant::now();
    let inputs = input::find(&options.dir)?;
    let tokenizer = match &options.tokenizer {
        Some(path) => Tokenizer::from_path(path)?,
        None => Tokenizer::bert_uncased()?,
    };
    let staging = Staging::create(&options.dir)?;
    let mut rejects = RejectLog::new(staging.path());

    let mut sorted = Vec::new();
    for input in &inputs {
        sorted.push(sort_split(input, options, &tokenizer, staging.path(), &mut rejects, progress)?);
    }
    check_limits(&sorted, options.max_rejects, &rejects)?;
    rejects.finish()?;

    let plan: Vec<_> = sorted.iter().map(|split| (split.input.split, &split.spool)).collect();
    let shards = write::Job { splits: &plan, options, tokenizer: &tokenizer, folder: staging.path(), progress }.run()?;
    let manifest = manifest(&sorted, shards, options, &tokenizer);
    shard::write_file(&staging.path().join(MANIFEST_FILE), manifest.to_json()?.as_bytes())?;
    let shards = staging.publish()?;
    Ok(summary(&sorted, &manifest, shards, options, started))
}

/// Reads one file: everything up to its sorted rows.
fn sort_split<'a>(
    input: &'a Input,
    options: &IngestOptions,
    tokenizer: &Tokenizer,
    folder: &Path,
    rejects: &mut RejectLog,
    progress: &dyn Progress,
) -> Result<SortedSplit<'a>, IngestError> {
    let started = Instant::now();
    let labelled = input.split != Split::Test;
    let preparation = Preparation { format: &Record, tokenizer, max_seq_len: options.max_seq_len, labelled };
    let spool = SpoolWriter::create(folder)?;
    let mut stage = OrderedStage::new(input.split, &input.name, DISTRACTOR_SEED, spool, rejects);
    progress.begin(&format!("reading {}", input.name), input.bytes, Unit::Bytes);
    let digest = stream(input, preparation, options.threads.get(), |batch| {
        progress.advance(batch.raw_bytes);
        stage.take(batch).map_err(IngestError::from)
    })?;
    progress.end();
    let (spool, counts) = stage.finish()?;
    Ok(SortedSplit { input, digest, spool, counts, seconds: started.elapsed().as_secs_f64() })
}

/// Runs reader and workers; hands the prepared batches to `take` in file order, on the calling thread.
fn stream(
    input: &Input,
    preparation: Preparation<'_>,
    threads: usize,
    take: impl FnMut(&PreparedBatch) -> Result<(), IngestError>,
) -> Result<FileDigest, IngestError> {
    let under_way = threads + SPARE_BATCHES;
    let (permits, permit) = bounded::<()>(under_way);
    for _ in 0..under_way {
        // The channel has room for all of them.
        let _ = permits.try_send(());
    }
    let (raw, raw_batches) = bounded::<LineBatch>(under_way);
    let (prepared, prepared_batches) = bounded::<Outcome>(under_way);
    std::thread::scope(|scope| {
        let reader =
            scope.spawn(move || input.read(|file| lines::read(file, |batch| permit.recv().is_ok() && raw.send(batch).is_ok())));
        for _ in 0..threads {
            let (raw_batches, prepared) = (raw_batches.clone(), prepared.clone());
            scope.spawn(move || work(preparation, &raw_batches, &prepared));
        }
        drop((raw_batches, prepared));
        // Whether it ends well or not, it drops its ends of the queues, and everybody else stops.
        in_order(prepared_batches, permits, &input.name, take)?;
        let read = reader.join().map_err(|_| IngestError::Panicked(input.name.clone()))?;
        Ok(read?.map_err(|source| InputError::Read { name: input.name.clone(), source })?)
    })
}

/// What became of a batch; none if the worker panicked.
type Outcome = Option<Result<PreparedBatch, TokenizerError>>;

fn work(preparation: Preparation<'_>, raw: &Receiver<LineBatch>, prepared: &Sender<Outcome>) {
    let mut session = preparation.tokenizer.session();
    for batch in raw {
        // A batch that is lost would leave the ordered stage waiting for ever, so even a bug must be handed on.
        let outcome = catch_unwind(AssertUnwindSafe(|| preparation.batch(&mut session, &batch))).ok();
        if prepared.send(outcome).is_err() {
            return;
        }
    }
}

fn in_order(
    prepared: Receiver<Outcome>,
    permits: Sender<()>,
    file: &str,
    mut take: impl FnMut(&PreparedBatch) -> Result<(), IngestError>,
) -> Result<(), IngestError> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    for outcome in prepared {
        let batch = outcome.ok_or_else(|| IngestError::Panicked(file.to_owned()))??;
        early.insert(batch.sequence, batch);
        while let Some(batch) = early.remove(&next) {
            take(&batch)?;
            next += 1;
            // Nobody takes it any more when the reader has come to the end.
            let _ = permits.send(());
        }
    }
    Ok(())
}

fn check_limits(sorted: &[SortedSplit<'_>], limit: RejectLimit, rejects: &RejectLog) -> Result<(), IngestError> {
    let rejected = sorted.iter().map(|split| split.counts.rejected_records).sum();
    let records = sorted.iter().map(|split| split.counts.records).sum();
    if sorted.iter().all(|split| split.spool.rows() == 0) {
        let files = sorted.iter().map(|split| split.input.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(IngestError::Empty { files, rejected, first: rejects.first.clone() });
    }
    if !limit.allows(rejected, records) {
        let first = rejects.first.clone().unwrap_or_default();
        return Err(IngestError::TooManyRejects { rejected, records, limit, first });
    }
    Ok(())
}

fn manifest(
    sorted: &[SortedSplit<'_>],
    mut shards: BTreeMap<Split, Vec<Shard>>,
    options: &IngestOptions,
    tokenizer: &Tokenizer,
) -> Manifest {
    let splits = sorted.iter().map(|split| {
        let Counts { choices, tokens, .. } = split.counts;
        let shards = shards.remove(&split.input.split).unwrap_or_default();
        (split.input.split, SplitManifest { rows: split.spool.rows(), choices, tokens, shards })
    });
    let raw_files = sorted.iter().map(|split| RawFile {
        file: split.input.name.clone(),
        split: split.input.split,
        bytes: split.digest.bytes,
        sha256: split.digest.sha256.clone(),
        records: split.counts.records,
        rejects: split.counts.rejected_records,
    });
    let mut manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        tool: concat!("glm-prep ", env!("CARGO_PKG_VERSION")).to_owned(),
        fingerprint: String::new(),
        tokenizer: tokenizer.identity().clone(),
        special_ids: tokenizer.special(),
        splits: splits.collect(),
        raw_files: raw_files.collect(),
        settings: IngestSettings {
            max_seq_len: options.max_seq_len,
            rows_per_shard: options.rows_per_shard.get(),
            rows_per_group: ROWS_PER_GROUP,
            max_distractors: MAX_DISTRACTORS,
            distractor_seed: DISTRACTOR_SEED,
        },
    };
    manifest.fingerprint = manifest.compute_fingerprint();
    manifest
}

fn summary(
    sorted: &[SortedSplit<'_>],
    manifest: &Manifest,
    shards: PathBuf,
    options: &IngestOptions,
    started: Instant,
) -> Summary {
    let splits: Vec<_> = sorted
        .iter()
        .map(|split| {
            let shards = manifest.splits.get(&split.input.split).map_or(&[][..], |content| &content.shards);
            SplitSummary {
                split: split.input.split,
                file: split.input.name.clone(),
                raw_bytes: split.digest.bytes,
                records: split.counts.records,
                rejected_records: split.counts.rejected_records,
                rejected_questions: split.counts.rejected_questions,
                questions: split.spool.rows(),
                choices: split.counts.choices,
                tokens: split.counts.tokens,
                shards: shards.len(),
                shard_bytes: shards.iter().map(|shard| shard.bytes).sum(),
                seconds: split.seconds,
                questions_per_second: split.spool.rows() as f64 / split.seconds,
            }
        })
        .collect();
    let seconds = started.elapsed().as_secs_f64();
    let rejects = shards.join(REJECTS_FILE);
    let total = |count: fn(&SplitSummary) -> u64| splits.iter().map(count).sum::<u64>() as f64;
    Summary {
        fingerprint: manifest.fingerprint.clone(),
        missing: Split::ALL.into_iter().filter(|split| !manifest.splits.contains_key(split)).collect(),
        rejects: splits.iter().any(|split| split.rejected_records > 0).then_some(rejects),
        seconds,
        questions_per_second: total(|split| split.questions as u64) / seconds,
        tokens_per_second: total(|split| split.tokens as u64) / seconds,
        raw_bytes_per_second: total(|split| split.raw_bytes) / seconds,
        threads: options.threads.get(),
        shards,
        splits,
    }
}
