//! Reader, workers, and the queues between them, for the files of one split.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::prepare::{Preparation, PreparedBatch};
use super::records::{Batcher, RecordBatch};
use super::stages::{Clock, Stage, Stages};
use super::{IngestError, Partition};
use crate::source::input::{self, Input, InputError, ReadError};
use crate::source::recognise::{FormatName, Recognised, recognise};
use crate::source::unpack::{fill, unpacked};
use glm_support::files::checksum::FileDigest;
use glm_text::tokenize::TokenizerError;

/// Batches under way beyond one a worker, so that no worker waits for the reader or for order.
const SPARE_BATCHES: usize = 6;

/// What is to be read, and how.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) inputs: &'a [Input],
    /// None where it is told from the first bytes.
    pub(super) format: Option<FormatName>,
    /// That of the splits before, which have the same.
    pub(super) before: Option<FormatName>,
    pub(super) limit: Option<usize>,
    pub(super) partition: Option<Partition>,
    pub(super) threads: usize,
    pub(super) stages: &'a Stages,
}

/// What was read.
pub(super) struct ReadFiles {
    /// Of every file that was read, in order.
    pub(super) digests: Vec<FileDigest>,
    pub(super) format: FormatName,
}

/// What became of a batch; none if the worker panicked.
type Outcome = Option<Result<PreparedBatch, TokenizerError>>;

impl Reading<'_> {
    /// Hands the prepared batches to `take` in order, on the calling thread.
    pub(super) fn run(
        &self,
        preparation: Preparation<'_>,
        take: impl FnMut(&PreparedBatch) -> Result<(), IngestError>,
    ) -> Result<ReadFiles, IngestError> {
        let under_way = self.threads + SPARE_BATCHES;
        let (permits, permit) = bounded::<()>(under_way);
        for _ in 0..under_way {
            // The channel has room for all of them.
            let _ = permits.try_send(());
        }
        let (raw, raw_batches) = bounded::<(FormatName, RecordBatch)>(under_way);
        let (prepared, prepared_batches) = bounded::<Outcome>(under_way);
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || self.read(&permit, &raw));
            for _ in 0..self.threads {
                let (raw_batches, prepared) = (raw_batches.clone(), prepared.clone());
                scope.spawn(move || work(preparation, &raw_batches, &prepared));
            }
            drop((raw_batches, prepared));
            // Whether it ends well or not, it drops its ends of the queues, and everybody else stops.
            self.in_order(prepared_batches, permits, take)?;
            reader.join().map_err(|_| self.panicked())?.map_err(IngestError::from)
        })
    }

    fn read(&self, permit: &Receiver<()>, raw: &Sender<(FormatName, RecordBatch)>) -> Result<ReadFiles, InputError> {
        let mut digests = Vec::new();
        let mut chosen = self.before;
        let mut clock = Clock::start();
        // Known before a batch of the first file is sent.
        let format = Cell::new(self.format.unwrap_or_default());
        let mut batcher = Batcher::new(self.limit, |batch: RecordBatch| {
            clock.lap(Stage::Read);
            let ours = self.partition.is_none_or(|part| part.holds(batch.sequence));
            let goes_on = !ours || (permit.recv().is_ok() && raw.send((format.get(), batch)).is_ok());
            clock.skip();
            goes_on
        });
        input::read(self.inputs, |number, file| {
            let name = &self.inputs[number].name;
            let mut file = unpacked(file as &mut dyn Read)?;
            let found = self.format_of(name, fill(&mut *file)?, chosen)?;
            chosen = Some(found);
            format.set(found);
            let digest = batcher.read(number, found.format().framing(), &mut *file)?;
            digests.extend(digest);
            Ok(!batcher.is_done())
        })?;
        drop(batcher);
        clock.lap(Stage::Read);
        self.stages.add(&clock);
        Ok(ReadFiles { digests, format: format.get() })
    }

    /// The format of a file that begins like this; all files have one format.
    fn format_of(&self, name: &str, head: &[u8], chosen: Option<FormatName>) -> Result<FormatName, ReadError> {
        if head.trim_ascii().is_empty() && head.len() < 1 << 16 {
            return Err(ReadError::File(InputError::Empty(name.to_owned())));
        }
        if let Some(given) = self.format {
            return Ok(given);
        }
        let wrong = |what: String| ReadError::File(InputError::Wrong { name: name.to_owned(), what });
        match (recognise(head, name), chosen) {
            (Recognised::Wrong(what), _) => Err(wrong(what)),
            (Recognised::Format(found), Some(chosen)) if found != chosen => {
                Err(wrong(format!("seems to be {found}, but the files before it are {chosen}; ingest one format at a time")))
            }
            (Recognised::Format(found), _) => Ok(found),
            (Recognised::Unknown, chosen) => Ok(chosen.unwrap_or_default()),
        }
    }

    fn in_order(
        &self,
        prepared: Receiver<Outcome>,
        permits: Sender<()>,
        mut take: impl FnMut(&PreparedBatch) -> Result<(), IngestError>,
    ) -> Result<(), IngestError> {
        let mut early = BTreeMap::new();
        let (mut next, step) = self.partition.map_or((0, 1), |part| (part.index as u64, part.count.get() as u64));
        let mut clock = Clock::start();
        for outcome in prepared {
            let batch = outcome.ok_or_else(|| self.panicked())??;
            early.insert(batch.sequence, batch);
            clock.skip();
            while let Some(batch) = early.remove(&next) {
                take(&batch)?;
                next += step;
                // Nobody takes it any more when the reader has come to the end.
                let _ = permits.send(());
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

fn work(preparation: Preparation<'_>, raw: &Receiver<(FormatName, RecordBatch)>, prepared: &Sender<Outcome>) {
    let mut session = preparation.tokenizer.session();
    for (format, batch) in raw {
        let preparation = Preparation { format: format.format(), ..preparation };
        // A batch that is lost would leave the ordered stage waiting for ever, so even a bug must be handed on.
        let outcome = catch_unwind(AssertUnwindSafe(|| preparation.batch(&mut session, &batch))).ok();
        if prepared.send(outcome).is_err() {
            return;
        }
    }
}
