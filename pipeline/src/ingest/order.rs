//! The stage that runs in file order: it draws distractors, makes rows of prepared passages, and counts.

use glm_schemas::encoding::CONTEXT_OVERHEAD;
use glm_schemas::manifest::Split;

use super::prepare::{PreparedBatch, PreparedPassage, PreparedQuestion};
use super::rejects::RejectLog;
use super::row::RowParts;
use super::spool::{Spool, SpoolWriter};
use crate::choices::DistractorDraw;
use crate::shard::WriteError;

/// What was counted of a split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Lines that are not blank.
    pub(super) records: usize,
    /// Lines of which something was rejected.
    pub(super) rejected_records: usize,
    /// Questions that were rejected on lines that are otherwise good.
    pub(super) rejected_questions: usize,
    /// Choices over all rows.
    pub(super) choices: usize,
    /// Context and piece tokens over all rows.
    pub(super) tokens: usize,
}

/// Takes the batches of one file in order.
pub(super) struct OrderedStage<'a> {
    split: Split,
    file: &'a str,
    rejects: &'a mut RejectLog,
    draw: DistractorDraw,
    spool: SpoolWriter,
    counts: Counts,
    chosen: Vec<usize>,
}

impl<'a> OrderedStage<'a> {
    pub(super) fn new(split: Split, file: &'a str, seed: u32, spool: SpoolWriter, rejects: &'a mut RejectLog) -> Self {
        let draw = DistractorDraw::new(seed);
        Self { split, file, rejects, draw, spool, counts: Counts::default(), chosen: Vec::new() }
    }

    /// Takes the next batch.
    pub(super) fn take(&mut self, batch: &PreparedBatch) -> Result<(), WriteError> {
        for record in &batch.records {
            self.counts.records += 1;
            if let Some(reject) = &record.reject {
                self.counts.rejected_records += 1;
                self.counts.rejected_questions += reject.questions;
                self.rejects.push(self.file, reject)?;
            }
            if let Some(passage) = &record.passage {
                for question in &passage.questions {
                    self.question(passage, question)?;
                }
            }
        }
        Ok(())
    }

    /// All rows of the file in published order, and what was counted.
    pub(super) fn finish(self) -> Result<(Spool, Counts), WriteError> {
        Ok((self.spool.finish()?, self.counts))
    }

    fn question(&mut self, passage: &PreparedPassage, question: &PreparedQuestion) -> Result<(), WriteError> {
        let name = format!("p{}-q{}", passage.id, question.id);
        let mut chosen = std::mem::take(&mut self.chosen);
        if self.split == Split::Train {
            // One example an answer, and only that answer is right in it.
            for (number, &answer) in question.answers.iter().enumerate() {
                self.draw.choose(passage.candidates.len(), &question.answers, answer, &mut chosen);
                self.row(&format!("train-{name}-a{number}"), passage, question, &chosen, &[answer])?;
            }
        } else {
            let prefix = if self.split == Split::Val { "dev" } else { "test" };
            chosen.clear();
            chosen.extend(0..passage.candidates.len());
            self.row(&format!("{prefix}-{name}"), passage, question, &chosen, &question.answers)?;
        }
        self.chosen = chosen;
        Ok(())
    }

    /// `chosen` and `correct` are indices of candidates; `correct` ascends.
    fn row(
        &mut self,
        example_id: &str,
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
        self.counts.choices += choices.len();
        self.counts.tokens += tokens;
        self.spool.push(&RowParts { example_id, passage: &passage.encoded, question: &question.encoded, choices: &choices })
    }
}
