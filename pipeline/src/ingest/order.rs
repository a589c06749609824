//! Ordered stage: numbers records without ids, rejects repeated ids, divides passages between splits, draws distractors, builds rows,
//! counts.

use std::borrow::Cow;
use std::collections::HashSet;

use glm_schemas::cloze::encoding::CONTEXT_OVERHEAD;
use glm_schemas::manifest::Split;
use roaring::RoaringTreemap;
use sha2::{Digest, Sha256};

use super::error::IngestError;
use super::holdout::Holdout;
use super::prepare::{PreparedBatch, PreparedPassage, PreparedQuestion, PreparedRecord, Reject};
use super::rejects::RejectLog;
use super::row::{Choice, Row};
use super::spool::{Spool, SpoolWriter};
use crate::choices::DistractorDraw;
use crate::shard::WriteError;
use crate::source::{QuestionError, RejectedQuestion};

/// Counts of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FileCounts {
    /// Number of records; blank ones are not counted.
    pub(super) records: usize,
    /// Number of records that were rejected in whole or in part.
    pub(super) rejected_records: usize,
}

/// Counts of the rows of a split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RowCounts {
    /// Number of rows.
    pub(super) rows: usize,
    /// Number of choices of all rows.
    pub(super) choices: usize,
    /// Number of context and piece tokens of all rows.
    pub(super) tokens: usize,
    /// Number of rows with a single choice.
    pub(super) single_choice: usize,
    /// Number of rows in which several choices have the same tokens.
    pub(super) indistinguishable: usize,
    /// Number of rows whose passage is also in the training split.
    pub(super) in_train: usize,
    /// Number of passages that are also in the training split.
    pub(super) passages_in_train: usize,
}

/// Ids and names of the questions so far, to detect repetitions. Consecutive ids, as in ReCoRD, take one bit each; names take
/// 16 bytes.
#[derive(Default)]
struct Seen {
    ids: RoaringTreemap,
    names: HashSet<u64>,
}

impl Seen {
    /// Returns true if no earlier question has this id or name.
    fn is_new(&mut self, question: &PreparedQuestion) -> bool {
        if let Some(name) = &question.name {
            let [head, ..] = *Sha256::digest(name.as_bytes()).as_chunks::<8>().0 else { return true };
            return self.names.insert(u64::from_le_bytes(head));
        }
        question.id.is_none_or(|id| self.ids.insert(id as u64))
    }
}

/// Passages of the training split, by hash, to find those of the validation split among them. A passage takes about 16 bytes.
pub(super) type TrainPassages = HashSet<u64>;

/// Rows of one split.
pub(super) struct SplitRows {
    pub(super) split: Split,
    draw: DistractorDraw,
    /// `None` in a dry run.
    spool: Option<SpoolWriter>,
    counts: RowCounts,
    /// Passages of the split, by hash, that were compared with those of the training split.
    compared: HashSet<u64>,
    chosen: Vec<usize>,
}

/// The ordered stage for the files of one split.
pub(super) struct OrderedStage<'a> {
    files: Vec<&'a str>,
    rejects: &'a mut RejectLog,
    train: &'a mut TrainPassages,
    /// Passages that go to the second of the splits instead of the first.
    holdout: Option<Holdout>,
    splits: Vec<SplitRows>,
    counts: Vec<FileCounts>,
    rejected_questions: usize,
    seen: Seen,
    passages: i64,
    questions: i64,
}

/// Result of an ordered stage.
pub(super) struct Ordered {
    /// Counts per file, in order.
    pub(super) files: Vec<FileCounts>,
    /// Number of questions rejected from records that are not rejected as a whole.
    pub(super) rejected_questions: usize,
    /// The splits, each with its sorted rows.
    pub(super) splits: Vec<(Split, Option<Spool>, RowCounts)>,
}

/// A passage with its questions, and its place in the raw data.
struct Asked<'a> {
    /// Index of the file among those of the split.
    file: usize,
    record: &'a PreparedRecord,
    passage: &'a PreparedPassage,
}

impl<'a> OrderedStage<'a> {
    /// Creates the stage. With a holdout, `splits` are those of the other passages and of the held out ones.
    pub(super) fn new(
        files: Vec<&'a str>,
        splits: Vec<SplitRows>,
        holdout: Option<Holdout>,
        train: &'a mut TrainPassages,
        rejects: &'a mut RejectLog,
    ) -> Self {
        let counts = vec![FileCounts::default(); files.len()];
        let seen = Seen::default();
        Self { files, rejects, train, holdout, splits, counts, rejected_questions: 0, seen, passages: 0, questions: 0 }
    }

    /// Processes the next batch.
    pub(super) fn take(&mut self, batch: &PreparedBatch) -> Result<(), IngestError> {
        let Some(&file) = self.files.get(batch.file) else { return Ok(()) };
        for record in &batch.records {
            let mut is_rejected = false;
            if let Some(reject) = &record.reject {
                is_rejected = true;
                self.rejected_questions += reject.questions;
                self.rejects.push(file, record.line, reject)?;
            }
            for passage in &record.passages {
                for repeated in self.passage(&Asked { file: batch.file, record, passage })? {
                    is_rejected = true;
                    self.rejected_questions += 1;
                    self.rejects.push(file, record.line, &Reject::of_repeated(&repeated))?;
                }
            }
            if record.passages.is_empty() {
                self.passages += 1;
            }
            let counts = &mut self.counts[batch.file];
            counts.records += 1;
            counts.rejected_records += usize::from(is_rejected);
            self.rejects.count(is_rejected)?;
        }
        Ok(())
    }

    /// Returns all rows in published order, and their counts.
    pub(super) fn finish(self) -> Result<Ordered, WriteError> {
        let sorted = |split: SplitRows| Ok((split.split, split.spool.map(SpoolWriter::finish).transpose()?, split.counts));
        let splits = self.splits.into_iter().map(sorted).collect::<Result<_, WriteError>>()?;
        Ok(Ordered { files: self.counts, rejected_questions: self.rejected_questions, splits })
    }

    /// Builds the rows of a passage; returns the questions whose id or name is repeated.
    fn passage(&mut self, asked: &Asked<'_>) -> Result<Vec<RejectedQuestion>, WriteError> {
        let passage = asked.passage;
        let is_held_out = self.holdout.is_some_and(|holdout| holdout.contains(passage.hash));
        let mut repeated = Vec::new();
        for question in &passage.questions {
            if !self.seen.is_new(question) {
                let error = QuestionError::Repeated { name: question.name.clone() };
                repeated.push(RejectedQuestion { position: question.position as usize, id: question.id, error });
                continue;
            }
            let passage_id = passage.id.unwrap_or(self.passages);
            let question_id = question.id.unwrap_or(self.questions + i64::from(question.position));
            if let Some(split) = self.splits.get_mut(usize::from(is_held_out)) {
                split.compare(passage, self.train);
                split.question(asked, question, (passage_id, question_id))?;
            }
        }
        self.passages += 1;
        self.questions += i64::from(passage.question_count);
        Ok(repeated)
    }
}

impl SplitRows {
    /// Creates a split without rows; `spool` is `None` in a dry run.
    pub(super) fn new(split: Split, seed: u32, spool: Option<SpoolWriter>) -> Self {
        let draw = DistractorDraw::new(seed);
        Self { split, draw, spool, counts: RowCounts::default(), compared: HashSet::new(), chosen: Vec::new() }
    }

    /// Counts a question of a passage that is also in the training split.
    fn compare(&mut self, passage: &PreparedPassage, train: &mut TrainPassages) {
        match self.split {
            Split::Train => {
                train.insert(passage.hash);
            }
            Split::Val if train.contains(&passage.hash) => {
                self.counts.in_train += 1;
                self.counts.passages_in_train += usize::from(self.compared.insert(passage.hash));
            }
            Split::Val | Split::Test => {}
        }
    }

    fn question(
        &mut self,
        asked: &Asked<'_>,
        question: &PreparedQuestion,
        ids @ (passage_id, question_id): (i64, i64),
    ) -> Result<(), WriteError> {
        let candidates = asked.passage.candidates.len();
        let name = question.name.clone().unwrap_or_else(|| format!("p{passage_id}-q{question_id}"));
        let mut chosen = std::mem::take(&mut self.chosen);
        if self.split == Split::Train {
            // One example per answer; the question's other answers are not among its choices.
            for (number, &answer) in question.answers.iter().enumerate() {
                self.draw.choose(candidates, &question.answers, answer, &mut chosen);
                self.row(format!("train-{name}-a{number}"), ids, asked, question, &chosen, &[answer])?;
            }
        } else {
            let prefix = if self.split == Split::Val { "dev" } else { "test" };
            chosen.clear();
            chosen.extend(0..candidates);
            self.row(format!("{prefix}-{name}"), ids, asked, question, &chosen, &question.answers)?;
        }
        self.chosen = chosen;
        Ok(())
    }

    /// Adds one row. `chosen` and `correct` are indices of candidates; `correct` is ascending.
    fn row(
        &mut self,
        example_id: String,
        (passage_id, question_id): (i64, i64),
        &Asked { file, record, passage }: &Asked<'_>,
        question: &PreparedQuestion,
        chosen: &[usize],
        correct: &[usize],
    ) -> Result<(), WriteError> {
        let query = &question.query;
        // Every choice predicts one token more than it has: the end of piece.
        let mut tokens =
            passage.data.ids.len() + query.left_ids.len() + query.right_ids.len() + CONTEXT_OVERHEAD + chosen.len();
        let mut choices = Vec::with_capacity(chosen.len());
        for &index in chosen {
            let candidate = &passage.candidates[index];
            tokens += candidate.ids.len();
            choices.push(Choice { candidate: Cow::Borrowed(candidate), correct: correct.binary_search(&index).is_ok() });
        }
        self.counts.rows += 1;
        self.counts.choices += choices.len();
        self.counts.tokens += tokens;
        self.counts.single_choice += usize::from(choices.len() == 1);
        self.counts.indistinguishable += usize::from(passage.has_indistinguishable && has_equal_tokens(&choices));
        let Some(spool) = &mut self.spool else { return Ok(()) };
        spool.push(&Row {
            example_id: example_id.into(),
            source_id: question.source_id(),
            file: file as u32,
            line: record.has_line.then_some(record.line),
            extra: record.extra.as_deref().map(Cow::Borrowed),
            passage_id,
            question_id,
            passage: Cow::Borrowed(&passage.data),
            query: Cow::Borrowed(query),
            choices,
        })
    }
}

/// Returns true if two choices have the same tokens.
fn has_equal_tokens(choices: &[Choice<'_>]) -> bool {
    let mut seen = HashSet::with_capacity(choices.len());
    !choices.iter().all(|choice| seen.insert(&choice.candidate.ids))
}
