//! Multi-token cloze: selects the choice that fills the blank of a context.
//!
//! A question becomes one row of a batch, or several if its choices truncate the context differently: the context, the
//! start of piece, then the tokens of its choices. Each choice is a group, and the log probability of the group is the score of
//! the choice, without length normalization. The loss is the cross entropy over a question's choices.

mod evaluator;
#[cfg(test)]
pub(crate) mod questions;
mod text_match;
mod truncate;

use arrow::array::RecordBatch;
use glm_schemas::cloze::encoding::ChoiceEncoder;
use glm_schemas::cloze::{ClozeView, TOKEN_COLUMNS, ValueError, ViewError};
use glm_schemas::manifest::TaskName;
use glm_schemas::vocab::{SpecialIds, TokenId};
use tch::{Reduction, TchError, Tensor};

use self::evaluator::ClozeEvaluator;
pub use self::evaluator::{METRICS, answer};
use self::truncate::TruncatedQuestion;
pub use self::truncate::Truncation;
use super::metrics::MetricInfo;
use super::{Evaluator, Purpose, RowError, RowPacker, RowSize, Task};
use crate::batch::device::DeviceBatch;
use crate::batch::packed::Batch;
use crate::batch::work::Work;

/// Score of missing choices, which pad a question to the largest number of choices in the batch; as in the published loss.
const MISSING_CHOICE: f64 = -10000.0;

/// Multi-token cloze.
#[derive(Debug)]
pub struct Cloze {
    encoder: ChoiceEncoder,
    special: SpecialIds,
    truncation: Truncation,
}

impl Cloze {
    /// Creates the task for a vocabulary with these special tokens and sequences of at most `max_seq_len` tokens.
    pub fn new(special: SpecialIds, max_seq_len: usize, truncation: Truncation) -> Self {
        Self { encoder: ChoiceEncoder::new(special, max_seq_len), special, truncation }
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
        let [table, label] = &batch.task_columns[..] else {
            return Err(TchError::Shape("a batch without the columns of the cloze task".to_owned()));
        };
        let missing = Tensor::f_full([1], MISSING_CHOICE, (log_probs.f_kind()?, log_probs.device()))?;
        let with_missing = Tensor::f_cat(&[log_probs, &missing], 0)?;
        let by_question = with_missing.f_index_select(0, table)?.f_view([label.numel() as i64, -1])?;
        by_question.f_cross_entropy_loss(label, None::<&Tensor>, Reduction::Sum, -100, 0.0)
    }

    /// Every question has weight 1.
    fn weight(&self, work: &Work) -> f64 {
        work.examples as f64
    }

    fn evaluator(&self) -> Box<dyn Evaluator> {
        Box::new(ClozeEvaluator::default())
    }

    fn metrics(&self) -> &'static [MetricInfo] {
        &METRICS
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
                let mut previous = start_of_piece;
                for (block_position, &id) in (2..).zip(tokens.ids) {
                    batch.push_target(previous, id, group);
                    previous = batch.push_scored(id, blank, block_position, index);
                }
                batch.push_target(previous, eop, group);
                index += tokens.ids.len();
            }
            batch.end_row(ordinal, number);
        }
        self.labels.push(label(view, row).unwrap_or(0) as i64);
        Ok(view.choices(row).len())
    }

    /// Writes two columns: the groups of each question's choices, padded to the largest number of choices with the number of
    /// groups (the index of a missing choice) `[questions · choices]`, and the index of the first correct choice `[questions]`.
    fn finish(&mut self, batch: &mut Batch) {
        let max_choices = batch.examples.iter().map(|question| question.groups).max().unwrap_or(0);
        let mut table = Vec::with_capacity(max_choices * batch.examples.len());
        for question in &batch.examples {
            let own = question.first_group..question.first_group + question.groups;
            table.extend(own.map(|choice| choice as i64));
            table.extend(std::iter::repeat_n(batch.targets.groups as i64, max_choices - question.groups));
        }
        batch.task_columns = vec![table, std::mem::take(&mut self.labels)];
    }
}
