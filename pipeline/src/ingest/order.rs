//! Ordered stage: takes the prepared batches in file order, divides items between splits, lets them become rows, counts.

use glm_schemas::manifest::Split;

use super::error::IngestError;
use super::holdout::Holdout;
use super::kind::{Place, RowCounts, RowKind, SplitRows};
use super::prepare::{PreparedBatch, PreparedRecord, Reject};
use super::rejects::RejectLog;
use super::spool::{Spool, SpoolWriter};
use crate::shard::WriteError;

/// Counts of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FileCounts {
    /// Number of records; blank ones are not counted.
    pub(super) records: usize,
    /// Number of records that were rejected in whole or in part.
    pub(super) rejected_records: usize,
}

/// The ordered stage for the files of one split.
pub(super) struct OrderedStage<'a, R: RowKind> {
    files: Vec<&'a str>,
    rejects: &'a mut RejectLog,
    data_set: &'a mut R::DataSet,
    of_files: R::Files,
    /// Items that go to the second of the splits instead of the first.
    holdout: Option<Holdout>,
    splits: Vec<SplitRows<R>>,
    counts: Vec<FileCounts>,
    rejected_parts: usize,
    left_out: usize,
}

/// Result of an ordered stage.
pub(super) struct Ordered {
    /// Counts per file, in order.
    pub(super) files: Vec<FileCounts>,
    /// Number of parts rejected from records that are not rejected as a whole.
    pub(super) rejected_parts: usize,
    /// Number of items that the filters of the format left out.
    pub(super) left_out: usize,
    /// The splits, each with its sorted rows.
    pub(super) splits: Vec<(Split, Option<Spool>, RowCounts)>,
}

impl<'a, R: RowKind> OrderedStage<'a, R> {
    /// Creates the stage. With a holdout, `splits` are those of the other items and of the held out ones.
    pub(super) fn new(
        files: Vec<&'a str>,
        splits: Vec<SplitRows<R>>,
        holdout: Option<Holdout>,
        data_set: &'a mut R::DataSet,
        rejects: &'a mut RejectLog,
    ) -> Self {
        let counts = vec![FileCounts::default(); files.len()];
        let of_files = R::Files::default();
        Self { files, rejects, data_set, of_files, holdout, splits, counts, rejected_parts: 0, left_out: 0 }
    }

    /// Processes the next batch.
    pub(super) fn take(&mut self, batch: &PreparedBatch<R::Item>) -> Result<(), IngestError> {
        let Some(&file) = self.files.get(batch.file) else { return Ok(()) };
        for record in &batch.records {
            let mut is_rejected = false;
            if let Some(reject) = &record.reject {
                is_rejected = true;
                self.rejected_parts += reject.parts;
                self.rejects.push(file, record.line, reject)?;
            }
            for item in &record.items {
                for reason in self.item(batch.file, record, item)? {
                    is_rejected = true;
                    self.rejected_parts += 1;
                    self.rejects.push(file, record.line, &Reject::of_part(&reason))?;
                }
            }
            if record.items.is_empty() {
                R::skip(&mut self.of_files);
            }
            self.left_out += record.left_out;
            let counts = &mut self.counts[batch.file];
            counts.records += 1;
            counts.rejected_records += usize::from(is_rejected);
            self.rejects.count(is_rejected)?;
        }
        Ok(())
    }

    fn item(&mut self, file: usize, record: &PreparedRecord<R::Item>, item: &R::Item) -> Result<Vec<String>, WriteError> {
        let is_held_out = self.holdout.is_some_and(|holdout| holdout.contains(R::hash(item)));
        let Some(rows) = self.splits.get_mut(usize::from(is_held_out)) else { return Ok(Vec::new()) };
        let line = record.has_line.then_some(record.line);
        let place = Place { file: file as u32, line, extra: record.extra.as_deref() };
        R::order(item, &place, (self.data_set, &mut self.of_files), rows)
    }

    /// Returns all rows in published order, and their counts.
    pub(super) fn finish(self) -> Result<Ordered, WriteError> {
        let sorted = |split: SplitRows<R>| Ok((split.split, split.spool.map(SpoolWriter::finish).transpose()?, split.counts));
        let splits = self.splits.into_iter().map(sorted).collect::<Result<_, WriteError>>()?;
        Ok(Ordered { files: self.counts, rejected_parts: self.rejected_parts, left_out: self.left_out, splits })
    }
}
