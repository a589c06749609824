//! The stage that runs in file order: it numbers what has no ids, finds ids that come twice, draws distractors, makes rows of
//! prepared passages, and counts.

use std::collections::HashSet;

use glm_schemas::encoding::CONTEXT_OVERHEAD;
use glm_schemas::manifest::Split;
use roaring::RoaringTreemap;
use sha2::{Digest, Sha256};

use super::prepare::{PreparedBatch, PreparedPassage, PreparedQuestion};
use super::rejects::RejectLog;
use super::row::RowParts;
use super::spool::{Spool, SpoolWriter};
use crate::choices::DistractorDraw;
use crate::shard::WriteError;
use crate::source::{QuestionError, RejectedQuestion};

/// What was counted of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FileCounts {
    /// Records, none of them blank.
    pub(super) records: usize,
    /// Records of which something was rejected.
    pub(super) rejected_records: usize,
}

/// What was counted of a split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Its files, in order.
    pub(super) files: Vec<FileCounts>,
    /// Questions that were rejected in records that are otherwise good.
    pub(super) rejected_questions: usize,
    /// Rows.
    pub(super) rows: usize,
    /// Choices over all rows.
    pub(super) choices: usize,
    /// Context and piece tokens over all rows.
    pub(super) tokens: usize,
}

/// The questions that were seen, so that none comes twice. Ids that follow each other, as in ReCoRD, take a bit each; names take
/// 16 bytes.
#[derive(Default)]
struct Seen {
    ids: RoaringTreemap,
    names: HashSet<u64>,
}

impl Seen {
    /// Whether it is the first of its id or name.
    fn is_new(&mut self, question: &PreparedQuestion) -> bool {
        if let Some(name) = &question.name {
            let [head, ..] = *Sha256::digest(name.as_bytes()).as_chunks::<8>().0 else { return true };
            return self.names.insert(u64::from_le_bytes(head));
        }
        question.id.is_none_or(|id| self.ids.insert(id as u64))
    }
}

/// Takes the batches of one split in order.
pub(super) struct OrderedStage<'a> {
    split: Split,
    files: Vec<&'a str>,
    rejects: &'a mut RejectLog,
    draw: DistractorDraw,
    /// None where rows are only counted.
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

    /// Takes the next batch.
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
                for repeated in self.passage(passage)? {
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

    /// All rows of the split in published order, and what was counted.
    pub(super) fn finish(self) -> Result<(Option<Spool>, Counts), WriteError> {
        Ok((self.spool.map(SpoolWriter::finish).transpose()?, self.counts))
    }

    /// Makes the rows of a passage; returns the questions that came before.
    fn passage(&mut self, passage: &PreparedPassage) -> Result<Vec<RejectedQuestion>, WriteError> {
        let mut repeated = Vec::new();
        for question in &passage.questions {
            if self.seen.is_new(question) {
                self.question(passage, question)?;
                continue;
            }
            let error = QuestionError::Repeated { name: question.name.clone() };
            repeated.push(RejectedQuestion { position: question.position, id: question.id, error });
        }
        self.passages += 1;
        self.questions += passage.asked as i64;
        Ok(repeated)
    }

    fn question(&mut self, passage: &PreparedPassage, question: &PreparedQuestion) -> Result<(), WriteError> {
        let ids = (passage.id.unwrap_or(self.passages), question.id.unwrap_or(self.questions + question.position as i64));
        let name = question.name.clone().unwrap_or_else(|| format!("p{}-q{}", ids.0, ids.1));
        let mut chosen = std::mem::take(&mut self.chosen);
        if self.split == Split::Train {
            // One example an answer, and only that answer is right in it.
            for (number, &answer) in question.answers.iter().enumerate() {
                self.draw.choose(passage.candidates.len(), &question.answers, answer, &mut chosen);
                self.row(&format!("train-{name}-a{number}"), ids, passage, question, &chosen, &[answer])?;
            }
        } else {
            let prefix = if self.split == Split::Val { "dev" } else { "test" };
            chosen.clear();
            chosen.extend(0..passage.candidates.len());
            self.row(&format!("{prefix}-{name}"), ids, passage, question, &chosen, &question.answers)?;
        }
        self.chosen = chosen;
        Ok(())
    }

    /// `chosen` and `correct` are indices of candidates; `correct` ascends.
    fn row(
        &mut self,
        example_id: &str,
        (passage_id, question_id): (i64, i64),
        passage: &PreparedPassage,
        question: &PreparedQuestion,
        chosen: &[usize],
        correct: &[usize],
    ) -> Result<(), WriteError> {
        let mut choices = Vec::with_capacity(chosen.len());
        // Every choice predicts one token more than it has, the end of the piece.
        let mut tokens = passage.tokens + question.tokens + CONTEXT_OVERHEAD + chosen.len();
        for &candidate in chosen {
            let prepared = &passage.candidates[candidate];
            tokens += prepared.tokens;
            choices.push((prepared.encoded.as_slice(), correct.binary_search(&candidate).is_ok()));
        }
        self.counts.rows += 1;
        self.counts.choices += choices.len();
        self.counts.tokens += tokens;
        let (passage, question) = (&passage.encoded, &question.encoded);
        let row = RowParts { example_id, passage_id, question_id, passage, question, choices: &choices };
        self.spool.as_mut().map_or(Ok(()), |spool| spool.push(&row))
    }
}
