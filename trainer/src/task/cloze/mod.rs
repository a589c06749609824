//! Cloze: selects the choice that fills the blank of a context.
//!
//! A question becomes one row of a batch, or several if its choices truncate the context differently: the context, the
//! start of piece, then the tokens of its choices. Each choice is a group, and the log probability of the group, divided by a power of the
//! number of its targets if the settings ask for it, is the score of the choice. The loss is by default the cross entropy over a question's
//! choices. Where all choices are single tokens, and no end of piece is predicted, the start of piece alone predicts them all.

mod evaluator;
mod loss;
mod metrics;
#[cfg(test)]
pub(crate) mod questions;
mod settings;
mod text_match;
mod truncate;

use arrow_array::RecordBatch;
use glm_schemas::cloze::encoding::{BlankPosition, ChoiceEncoder};
use glm_schemas::cloze::{ClozeView, TOKEN_COLUMNS, ValueError, ViewError};
use glm_schemas::manifest::{ClozeManifest, TaskName};
use glm_schemas::vocab::{SpecialIds, TokenId};
use tch::{TchError, Tensor};

use self::evaluator::ClozeEvaluator;
use self::loss::LossColumns;
pub use self::metrics::METRICS;
pub use self::settings::{ClozeMetric, ClozeSettings, Loss, MetricList};
use self::truncate::TruncatedQuestion;
pub use self::truncate::Truncation;
use super::metrics::MetricInfo;
use super::{Evaluator, Purpose, RowError, RowPacker, RowSize, Task};
use crate::batch::device::DeviceBatch;
use crate::batch::packed::Batch;
use crate::batch::work::Work;

/// Questions with choices.
#[derive(Debug)]
pub struct Cloze {
    encoder: ChoiceEncoder,
    special: SpecialIds,
    truncation: Truncation,
    settings: ClozeSettings,
}

/// Form of the encoding of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClozeForm {
    /// True if an end of piece is predicted after the tokens of a choice.
    pub end_of_piece: bool,
    /// Position of a piece.
    pub position: BlankPosition,
    /// True if contexts that are too long keep their end.
    pub keep_end: bool,
}

impl Default for ClozeForm {
    fn default() -> Self {
        Self { end_of_piece: true, position: BlankPosition::FirstMask, keep_end: false }
    }
}

impl ClozeForm {
    /// The form of a data set.
    pub fn of(manifest: &ClozeManifest) -> Self {
        let position = if manifest.first_mask { BlankPosition::FirstMask } else { BlankPosition::Blank };
        Self { end_of_piece: manifest.end_of_piece, position, keep_end: manifest.keep_end }
    }
}

impl Cloze {
    /// Creates the task for a vocabulary with these special tokens and sequences of at most `max_seq_len` tokens.
    pub fn new(
        special: SpecialIds,
        max_seq_len: usize,
        truncation: Truncation,
        settings: ClozeSettings,
        form: ClozeForm,
    ) -> Self {
        let ClozeForm { end_of_piece, position, keep_end } = form;
        let encoder = ChoiceEncoder::new(special, max_seq_len).with_form(end_of_piece, position).with_kept_end(keep_end);
        Self { encoder, special, truncation, settings }
    }
}

impl Task for Cloze {
    fn name(&self) -> TaskName {
        TaskName::Cloze
    }

    fn columns(&self) -> &'static [&'static str] {
        &TOKEN_COLUMNS
    }

    fn check(&self, rows: &RecordBatch) -> Result<(), ViewError> {
        ClozeView::try_new(rows).map(drop)
    }

    fn check_values(&self, rows: &RecordBatch, vocab_size: usize) -> Result<(), ValueError> {
        // Columns of other types are reported by `check`.
        ClozeView::try_new(rows).map_or(Ok(()), |view| view.check_values(vocab_size))
    }

    fn row_packer<'a>(&'a self, purpose: Purpose) -> Box<dyn RowPacker<'a> + 'a> {
        Box::new(QuestionPacker {
            task: self,
            purpose,
            questions: Vec::new(),
            truncated: TruncatedQuestion::default(),
            context: Vec::new(),
            labels: Vec::new(),
        })
    }

    fn loss(&self, log_probs: &Tensor, batch: &DeviceBatch) -> Result<Tensor, TchError> {
        let [table, label, targets] = &batch.task_columns[..] else {
            return Err(TchError::Shape("a batch without the columns of the cloze task".to_owned()));
        };
        let ClozeSettings { loss, .. } = self.settings;
        loss::loss(loss, self.settings.penalty(), log_probs, LossColumns { table, label, targets })
    }

    /// Every question has weight 1, or every target.
    fn weight(&self, work: &Work) -> f64 {
        if self.settings.loss.is_of_tokens() { work.targets as f64 } else { work.examples as f64 }
    }

    fn evaluator(&self) -> Box<dyn Evaluator> {
        Box::new(ClozeEvaluator::new(self.settings, self.encoder))
    }

    fn metrics(&self) -> Vec<&'static MetricInfo> {
        metrics::infos(self.settings.metrics)
    }

    fn needs_greedy(&self) -> bool {
        self.settings.loss.is_of_tokens()
    }
}

/// Packer of questions.
struct QuestionPacker<'a> {
    task: &'a Cloze,
    purpose: Purpose,
    /// Columns and row of each measured question.
    questions: Vec<(ClozeView<'a>, usize)>,
    truncated: TruncatedQuestion,
    context: Vec<TokenId>,
    /// First correct choice of each question of the batch; 0 if unknown.
    labels: Vec<i64>,
}

impl QuestionPacker<'_> {
    /// Truncates a question; the result is in `truncated`.
    fn truncate(truncated: &mut TruncatedQuestion, task: &Cloze, view: &ClozeView<'_>, row: usize) -> Result<(), RowError> {
        let lengths = view.choices(row).map(|choice| choice.ids.len());
        truncated
            .question(&task.encoder, task.truncation, &view.question(row), lengths)
            .map_err(|source| RowError::Encoding { example_id: view.example_id(row).to_owned(), source })
    }
}

/// Returns the index of the first correct choice, if it is known.
fn label(view: &ClozeView<'_>, row: usize) -> Option<usize> {
    view.label(row).filter(|&label| label < view.choices(row).len())
}

impl<'a> RowPacker<'a> for QuestionPacker<'a> {
    fn measure(&mut self, rows: &'a RecordBatch, row: usize, _: u64) -> Result<RowSize, RowError> {
        let view = ClozeView::try_new(rows)?;
        Self::truncate(&mut self.truncated, self.task, &view, row)?;
        if self.purpose == Purpose::Train && label(&view, row).is_none() {
            return Err(RowError::Unlabelled { example_id: view.example_id(row).to_owned() });
        }
        let choices = view.choices(row).len();
        if self.task.settings.loss.is_of_tokens() && choices != 1 {
            return Err(RowError::SeveralChoices { example_id: view.example_id(row).to_owned(), choices });
        }
        self.questions.push((view, row));
        Ok(RowSize { work: self.truncated.work(), longest_row: self.truncated.longest_row() })
    }

    /// # Panics
    /// If no row has this number.
    fn pack(&mut self, number: usize, ordinal: u64, batch: &mut Batch) -> Result<usize, RowError> {
        let (view, row) = &self.questions[number];
        let row = *row;
        Self::truncate(&mut self.truncated, self.task, view, row)?;
        let (question, SpecialIds { sop, eop, .. }) = (view.question(row), self.task.special);
        let end_of_piece = self.task.encoder.end_of_piece().then_some(eop);
        let first_group = batch.targets.groups;
        for (number, part) in self.truncated.rows().iter().enumerate() {
            self.context.clear();
            let blank = self.task.encoder.push_context(&question, part.excess, &mut self.context) as i64;
            batch.push_context(&self.context);
            // The start of piece attends to the context and itself only, so all choices share one.
            let start_of_piece = batch.push_scored(sop, blank, 1, part.context);
            let mut index = part.context + 1;
            for (choice, tokens) in view.choices(row).enumerate() {
                if self.truncated.row_of(choice) != number {
                    continue;
                }
                let group = first_group + choice;
                let (mut previous, mut block_position, start) = (start_of_piece, 2, index);
                let mut targets = tokens.ids.iter().copied().chain(end_of_piece).peekable();
                while let Some(id) = targets.next() {
                    batch.push_target(previous, id, group);
                    // The last target is not an input.
                    if targets.peek().is_some() {
                        previous = batch.push_scored(id, blank, block_position, start);
                        (block_position, index) = (block_position + 1, index + 1);
                    }
                }
            }
            batch.end_row(ordinal, number);
        }
        self.labels.push(label(view, row).unwrap_or(0) as i64);
        Ok(view.choices(row).len())
    }

    /// Writes three columns: the groups of each question's choices, padded to the largest number of choices with the number of
    /// groups (the index of a missing choice) `[questions · choices]`, the index of the first correct choice `[questions]`, and the number
    /// of targets of each group `[groups]`, which is left empty without a length penalty.
    fn finish(&mut self, batch: &mut Batch) {
        let max_choices = batch.examples.iter().map(|question| question.groups).max().unwrap_or(0);
        let mut table = Vec::with_capacity(max_choices * batch.examples.len());
        for question in &batch.examples {
            let own = question.first_group..question.first_group + question.groups;
            table.extend(own.map(|choice| choice as i64));
            table.extend(std::iter::repeat_n(batch.targets.groups as i64, max_choices - question.groups));
        }
        let mut targets = Vec::new();
        if self.task.settings.penalty() > 0.0 {
            targets.resize(batch.targets.groups, 0);
            batch.targets.group.iter().for_each(|&group| targets[group as usize] += 1);
        }
        batch.task_columns = vec![table, std::mem::take(&mut self.labels), targets];
    }
}
