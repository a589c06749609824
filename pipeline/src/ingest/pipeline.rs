//! Reader thread, worker threads and the queues between them, for the files of one split.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{Receiver, Sender, bounded};
use glm_schemas::manifest::TaskName;
use glm_support::files::checksum::FileDigest;
use glm_text::tokenize::TokenizerError;

use super::error::IngestError;
use super::kind::{Context, RowKind};
use super::options::Partition;
use super::parquet::{self, Columns};
use super::prepare::{Preparation, PreparedBatch};
use super::records::{Batcher, RecordBatch};
use super::stages::{Clock, Stage, Stages};
use super::table;
use crate::pattern::PatternTask;
use crate::source::Framing;
use crate::source::input::{self, Input, InputError, ReadError};
use crate::source::recognise::{FormatName, Recognised, recognise};
use crate::source::unpack::{fill, unpacked};

/// Batches in flight in addition to one per worker, so that workers wait neither for the reader nor for the ordered stage. Batches of
/// large records take the place of several.
const SPARE_BATCHES: usize = 6;

/// Maximum length of the beginning of a file in a message, in characters.
const SHOWN_CHARS: usize = 60;

/// Reader and workers of one split.
#[derive(Clone, Copy)]
pub(super) struct SplitPipeline<'a> {
    pub(super) inputs: &'a [Input],
    pub(super) task: TaskName,
    /// `None` detects the format from the first bytes.
    pub(super) format: Option<FormatName>,
    /// Format of the previous splits; all splits have the same.
    pub(super) previous_format: Option<FormatName>,
    /// Column of the text in Parquet files.
    pub(super) column: Option<&'a str>,
    /// Pattern that records fill.
    pub(super) pattern: Option<&'a PatternTask>,
    pub(super) limit: Option<usize>,
    pub(super) max_record_bytes: usize,
    pub(super) partition: Option<Partition>,
    /// True if fields that the format does not define are kept, which not all formats can.
    pub(super) keep_fields: bool,
    pub(super) threads: usize,
    pub(super) stages: &'a Stages,
}

/// Digests and format of the files that were read.
pub(super) struct ReadFiles {
    /// Digest of each file, in order.
    pub(super) digests: Vec<FileDigest>,
    pub(super) format: FormatName,
}

/// Result of a batch; `None` if the worker panicked.
type WorkerResult<T> = Option<Result<PreparedBatch<T>, TokenizerError>>;

/// Maximum number of batches in flight with this number of workers.
pub(super) fn in_flight(threads: usize) -> usize {
    threads + SPARE_BATCHES
}

impl SplitPipeline<'_> {
    /// Passes the prepared batches to `take` in order, on the calling thread.
    pub(super) fn run<R: RowKind>(
        &self,
        preparation: Preparation<'_>,
        take: impl FnMut(&PreparedBatch<R::Item>) -> Result<(), IngestError>,
    ) -> Result<ReadFiles, IngestError> {
        let in_flight = in_flight(self.threads);
        let (permits, permit) = bounded::<()>(in_flight);
        for _ in 0..in_flight {
            // Cannot fail: the channel has room for all permits.
            let _ = permits.try_send(());
        }
        let (raw, raw_batches) = bounded::<(FormatName, RecordBatch)>(in_flight);
        let (prepared, prepared_batches) = bounded::<WorkerResult<R::Item>>(in_flight);
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || self.read(&permit, &raw));
            for _ in 0..self.threads {
                let (raw_batches, prepared) = (raw_batches.clone(), prepared.clone());
                scope.spawn(move || work::<R>(preparation, &raw_batches, &prepared));
            }
            drop((raw_batches, prepared));
            // Drops its ends of the queues when it returns, with or without an error, which stops the other threads.
            self.in_order(prepared_batches, permits, take)?;
            reader.join().map_err(|_| self.panicked())?.map_err(IngestError::from)
        })
    }

    fn read(&self, permit: &Receiver<()>, raw: &Sender<(FormatName, RecordBatch)>) -> Result<ReadFiles, InputError> {
        let mut digests = Vec::new();
        let mut detected = self.previous_format;
        let mut clock = Clock::start();
        // Set before the first batch of a file is sent.
        let format = Cell::new(self.format.unwrap_or(FormatName::first(self.task)));
        let most_permits = in_flight(self.threads);
        let mut batcher = Batcher::new(self.limit, self.max_record_bytes, |batch: RecordBatch| {
            clock.lap(Stage::Read);
            let is_ours = self.partition.is_none_or(|part| part.contains(batch.sequence));
            let has_room = || (0..batch.permits(most_permits)).all(|_| permit.recv().is_ok());
            let is_wanted = !is_ours || (has_room() && raw.send((format.get(), batch)).is_ok());
            clock.skip();
            is_wanted
        });
        input::read(self.inputs, |number, file| {
            let name = &self.inputs[number].name;
            let mut file = unpacked(file as &mut dyn Read)?;
            let found = self.format_of(name, fill(&mut *file)?, detected)?;
            if self.keep_fields && !found.format().has_extra_fields() {
                let what = format!("is read as `{found}`, which has no further fields to keep; leave out --keep-fields");
                return Err(ReadError::File(InputError::Wrong { name: name.clone(), what }));
            }
            detected = Some(found);
            format.set(found);
            let table = self.pattern.and_then(|pattern| pattern.table(self.inputs[number].split, name));
            let digest = match (table, found.format().framing()) {
                (Some(table), _) => table::read(&mut batcher, number, &mut *file, &table, name)?,
                (None, Framing::Parquet) => {
                    let columns = Columns { text: self.column, name };
                    parquet::read(&mut batcher, number, self.inputs[number].path(), &mut *file, columns)?
                }
                (None, framing) => batcher.read(number, framing, &mut *file)?,
            };
            digests.extend(digest);
            Ok(!batcher.is_done())
        })?;
        drop(batcher);
        clock.lap(Stage::Read);
        self.stages.add(&clock);
        Ok(ReadFiles { digests, format: format.get() })
    }

    /// Returns the format of a file with these first bytes. All files must have the format `previous`, if there is one.
    fn format_of(&self, name: &str, head: &[u8], previous: Option<FormatName>) -> Result<FormatName, ReadError> {
        if head.trim_ascii().is_empty() && head.len() < 1 << 16 {
            return Err(ReadError::File(InputError::Empty(name.to_owned())));
        }
        if let Some(given) = self.format {
            return Ok(given);
        }
        let wrong = |what: String| ReadError::File(InputError::Wrong { name: name.to_owned(), what });
        match (recognise(self.task, head, name), previous) {
            (Recognised::Wrong(what), _) => Err(wrong(what)),
            (Recognised::Format(found), Some(previous)) if found.is_guess() && previous.is_guess() => Ok(previous),
            (Recognised::Format(found), Some(previous)) if found != previous => {
                Err(wrong(format!("seems to be {found}, but the files before it are {previous}; ingest one format at a time")))
            }
            (Recognised::Format(found), _) => {
                if previous.is_none() && is_text_alone(self.task, head) {
                    tracing::warn!("{name} is read as {found} questions; if it holds documents, ingest it with --task text");
                }
                Ok(found)
            }
            (Recognised::Unknown, Some(previous)) => Ok(previous),
            (Recognised::Unknown, None) => {
                let first = String::from_utf8_lossy(head);
                let first: String = first.trim().lines().next().unwrap_or_default().chars().take(SHOWN_CHARS).collect();
                if let (TaskName::Cloze, Recognised::Format(found)) = (self.task, recognise(TaskName::Text, head, name)) {
                    return Err(wrong(format!(
                        "has no known format of cloze questions, it begins with `{first}`; name the format with --format, write one \
                         {{\"context\", \"choices\", \"answer\"}} per line (format `plain`), or ingest it as documents (format \
                         `{found}`) with --task text"
                    )));
                }
                Err(wrong(format!(
                    "has no known format, it begins with `{first}`; name the format with --format, or write one \
                     {{\"context\", \"choices\", \"answer\"}} per line (format `plain`)"
                )))
            }
        }
    }

    fn in_order<T>(
        &self,
        prepared: Receiver<WorkerResult<T>>,
        permits: Sender<()>,
        mut take: impl FnMut(&PreparedBatch<T>) -> Result<(), IngestError>,
    ) -> Result<(), IngestError> {
        let mut early = BTreeMap::new();
        let (mut next, step) = self.partition.map_or((0, 1), |part| (part.index as u64, part.count.get() as u64));
        let mut clock = Clock::start();
        for result in prepared {
            let batch = result.ok_or_else(|| self.panicked())??;
            early.insert(batch.sequence, batch);
            clock.skip();
            while let Some(batch) = early.remove(&next) {
                take(&batch)?;
                next += step;
                for _ in 0..batch.permits {
                    // Fails once the reader has finished, which needs no more permits.
                    let _ = permits.send(());
                }
            }
            clock.lap(Stage::Order);
        }
        self.stages.add(&clock);
        Ok(())
    }

    fn panicked(&self) -> IngestError {
        let names: Vec<_> = self.inputs.iter().take(3).map(|input| input.name.as_str()).collect();
        IngestError::Panicked(names.join(", "))
    }
}

/// Returns true if questions are read from JSON lines with a text and nothing else, as documents are.
fn is_text_alone(task: TaskName, head: &[u8]) -> bool {
    let is_text = || matches!(recognise(TaskName::Text, head, ""), Recognised::Format(found) if found.to_string() == "jsonl");
    task == TaskName::Cloze && is_text()
}

fn work<R: RowKind>(
    preparation: Preparation<'_>,
    raw: &Receiver<(FormatName, RecordBatch)>,
    prepared: &Sender<WorkerResult<R::Item>>,
) {
    let mut session = preparation.context.tokenizer.session();
    for (format, batch) in raw {
        let context = Context { format: format.format(), ..preparation.context };
        let preparation = Preparation { context, ..preparation };
        // The ordered stage would wait forever for a lost batch, so a panic must be reported to it.
        let result = catch_unwind(AssertUnwindSafe(|| preparation.batch::<R>(&mut session, &batch))).ok();
        if prepared.send(result).is_err() {
            return;
        }
    }
}
