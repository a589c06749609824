//! Ordered stage: numbers records without ids, rejects repeated ids, draws distractors, builds rows, counts.

use std::borrow::Cow;
use std::collections::HashSet;

use glm_schemas::cloze::encoding::CONTEXT_OVERHEAD;
use glm_schemas::manifest::Split;
use roaring::RoaringTreemap;
use sha2::{Digest, Sha256};

use super::prepare::{PreparedBatch, PreparedPassage, PreparedQuestion, PreparedRecord};
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

/// Counts of a split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Counts per file, in order.
    pub(super) files: Vec<FileCounts>,
    /// Number of questions rejected from records that are not rejected as a whole.
    pub(super) rejected_questions: usize,
    /// Number of rows.
    pub(super) rows: usize,
    /// Number of choices of all rows.
    pub(super) choices: usize,
    /// Number of context and piece tokens of all rows.
    pub(super) tokens: usize,
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

/// A passage with its questions, and its place in the raw data.
struct Asked<'a> {
    /// Index of the file among those of the split.
    file: usize,
    record: &'a PreparedRecord,
    passage: &'a PreparedPassage,
}

/// The ordered stage of one split.
pub(super) struct OrderedStage<'a> {
    split: Split,
    files: Vec<&'a str>,
    rejects: &'a mut RejectLog,
    draw: DistractorDraw,
    /// `None` in a dry run.
    spool: Option<SpoolWriter>,
    counts: Counts,
    seen: Seen,
    passages: i64,
    questions: i64,
    chosen: Vec<usize>,
}

impl<'a> OrderedStage<'a> {
    pub(super) fn new(
        split: Split,
        files: Vec<&'a str>,
        seed: u32,
        spool: Option<SpoolWriter>,
        rejects: &'a mut RejectLog,
    ) -> Self {
        let counts = Counts { files: vec![FileCounts::default(); files.len()], ..Counts::default() };
        let draw = DistractorDraw::new(seed);
        Self {
            split,
            files,
            rejects,
            draw,
            spool,
            counts,
            seen: Seen::default(),
            passages: 0,
            questions: 0,
            chosen: Vec::new(),
        }
    }

    /// Processes the next batch.
    pub(super) fn take(&mut self, batch: &PreparedBatch) -> Result<(), WriteError> {
        let Some(&file) = self.files.get(batch.file) else { return Ok(()) };
        for record in &batch.records {
            let mut is_rejected = false;
            if let Some(reject) = &record.reject {
                is_rejected = true;
                self.counts.rejected_questions += reject.questions;
                self.rejects.push(file, record.line, &reject.reason, Some(&reject.raw))?;
            }
            for passage in &record.passages {
                for repeated in self.passage(&Asked { file: batch.file, record, passage })? {
                    is_rejected = true;
                    self.counts.rejected_questions += 1;
                    self.rejects.push(file, record.line, &repeated.to_string(), None)?;
                }
            }
            if record.passages.is_empty() {
                self.passages += 1;
            }
            let counts = &mut self.counts.files[batch.file];
            counts.records += 1;
            counts.rejected_records += usize::from(is_rejected);
        }
        Ok(())
    }

    /// Returns all rows of the split in published order, and their counts.
    pub(super) fn finish(self) -> Result<(Option<Spool>, Counts), WriteError> {
        Ok((self.spool.map(SpoolWriter::finish).transpose()?, self.counts))
    }

    /// Builds the rows of a passage; returns the questions whose id or name is repeated.
    fn passage(&mut self, asked: &Asked<'_>) -> Result<Vec<RejectedQuestion>, WriteError> {
        let mut repeated = Vec::new();
        for question in &asked.passage.questions {
            if self.seen.is_new(question) {
                self.question(asked, question)?;
                continue;
            }
            let error = QuestionError::Repeated { name: question.name.clone() };
            repeated.push(RejectedQuestion { position: question.position as usize, id: question.id, error });
        }
        self.passages += 1;
        self.questions += i64::from(asked.passage.question_count);
        Ok(repeated)
    }

    fn question(&mut self, asked: &Asked<'_>, question: &PreparedQuestion) -> Result<(), WriteError> {
        let passage = asked.passage;
        let passage_id = passage.id.unwrap_or(self.passages);
        let question_id = question.id.unwrap_or(self.questions + i64::from(question.position));
        let name = question.name.clone().unwrap_or_else(|| format!("p{passage_id}-q{question_id}"));
        let ids = (passage_id, question_id);
        let mut chosen = std::mem::take(&mut self.chosen);
        if self.split == Split::Train {
            // One example per answer; the question's other answers are not among its choices.
            for (number, &answer) in question.answers.iter().enumerate() {
                self.draw.choose(passage.candidates.len(), &question.answers, answer, &mut chosen);
                self.row(format!("train-{name}-a{number}"), ids, asked, question, &chosen, &[answer])?;
            }
        } else {
            let prefix = if self.split == Split::Val { "dev" } else { "test" };
            chosen.clear();
            chosen.extend(0..passage.candidates.len());
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
