//! Sequence to sequence: a target is generated for a source.
//!
//! A pair becomes one row of a batch: the context with its blank, the start of piece, then the target; or, if the source has blanks of its
//! own, a piece for each. All its targets are one group. The
//! loss is the cross entropy with label smoothing, a mean over the target tokens of the whole optimizer step. The model is evaluated by
//! the texts that it generates with beam search.

mod evaluator;
mod settings;

use arrow_array::RecordBatch;
use glm_schemas::column::{ValueError, ViewError};
use glm_schemas::manifest::TaskName;
use glm_schemas::seq2seq::encoding::{PairEncoder, PairSize, PieceToken};
use glm_schemas::seq2seq::{PairView, TOKEN_COLUMNS};
use glm_schemas::vocab::{SpecialIds, TokenId};
use tch::{TchError, Tensor};

pub use self::evaluator::METRICS;
use self::evaluator::PairEvaluator;
pub use self::settings::{Metric, Seq2seqSettings};
use super::generation::{Generation, Prediction};
use super::metrics::{MetricInfo, Metrics};
use super::{Evaluator, Purpose, RowError, RowPacker, RowSize, Task};
use crate::batch::device::DeviceBatch;
use crate::batch::packed::Batch;
use crate::batch::work::Work;
use crate::generate::{BeamSettings, Context, GenerateError, Hypothesis, fill_blanks};
use crate::model::{Glm, Pass};

/// Sequence to sequence.
#[derive(Debug)]
pub struct Seq2seq {
    encoder: PairEncoder,
    special: SpecialIds,
    settings: Seq2seqSettings,
}

impl Seq2seq {
    /// Creates the task for a vocabulary with these special tokens and contexts of at most `max_seq_len` tokens.
    pub fn new(special: SpecialIds, max_seq_len: usize, settings: Seq2seqSettings) -> Self {
        let mut encoder = PairEncoder::new(special, max_seq_len, settings.max_target_len, settings.layout());
        if settings.task_mask {
            encoder = encoder.with_mask(special.masks().sentence);
        }
        Self { encoder, special, settings }
    }
}

impl Task for Seq2seq {
    fn name(&self) -> TaskName {
        TaskName::Seq2seq
    }

    fn columns(&self) -> &'static [&'static str] {
        &TOKEN_COLUMNS
    }

    fn check(&self, rows: &RecordBatch) -> Result<(), ViewError> {
        PairView::try_new(rows).map(drop)
    }

    fn check_values(&self, rows: &RecordBatch, vocab_size: usize) -> Result<(), ValueError> {
        // Columns of other types are reported by `check`.
        PairView::try_new(rows).map_or(Ok(()), |view| view.check_values(vocab_size))
    }

    fn row_packer<'a>(&'a self, purpose: Purpose) -> Box<dyn RowPacker<'a> + 'a> {
        Box::new(PairPacker { task: self, purpose, pairs: Vec::new(), context: Vec::new() })
    }

    fn loss(&self, log_probs: &Tensor, _batch: &DeviceBatch) -> Result<Tensor, TchError> {
        log_probs.f_sum(log_probs.f_kind()?)?.f_neg()
    }

    fn label_smoothing(&self) -> f64 {
        self.settings.label_smoothing
    }

    /// Every target token has weight 1.
    fn weight(&self, work: &Work) -> f64 {
        work.targets as f64
    }

    fn largest_added_id(&self) -> Option<TokenId> {
        self.settings.task_mask.then(|| self.special.masks().sentence)
    }

    /// Sources may be as short as their targets.
    fn scored_share(&self) -> f64 {
        0.5
    }

    fn evaluator(&self) -> Box<dyn Evaluator> {
        Box::new(PairEvaluator::new(self.encoder))
    }

    fn metrics(&self) -> Vec<&'static MetricInfo> {
        evaluator::metrics_of(self.settings.metric).iter().collect()
    }

    fn generation(&self) -> Option<&dyn Generation> {
        Some(self)
    }
}

impl Generation for Seq2seq {
    fn context(&self, rows: &RecordBatch, row: usize) -> Result<Context, RowError> {
        let view = PairView::try_new(rows)?;
        let mut ids = Vec::new();
        let blanks = self.encoder.push_context(&view.pair(row)?, &mut ids).map_err(unfit(&view, row))?;
        Ok(Context { ids, blanks })
    }

    fn generate(&self, model: &Glm, pass: &Pass, contexts: &[Context]) -> Result<Vec<Hypothesis>, GenerateError> {
        let Seq2seqSettings { beams, length_penalty, ngram, decode_batch_size, .. } = self.settings;
        let (min_length, max_length) = (self.settings.min_target_len, self.settings.max_target_len);
        let settings = BeamSettings { beams, length_penalty, ngram, min_length, max_length, ..BeamSettings::default() };
        let found = fill_blanks(model, pass, self.special, contexts, &settings, decode_batch_size)?;
        Ok(found.into_iter().map(|pieces| joined(pieces, self.special.eop)).collect())
    }

    fn prediction(&self, rows: &RecordBatch, row: usize, text: String, score: f64) -> Result<Prediction, RowError> {
        let view = PairView::try_new(rows)?;
        Ok(Prediction {
            example_id: view.example_id(row).to_owned(),
            source_id: view.source_id(row).map(str::to_owned),
            group_id: view.group_id(row).map(str::to_owned),
            source: view.source(row).unwrap_or_default().to_owned(),
            prediction: text,
            score,
            references: view.references(row).map(str::to_owned).collect(),
        })
    }

    fn metrics(&self, predictions: &[Prediction], targets: &Metrics) -> Metrics {
        evaluator::metrics(self.settings.metric, predictions, targets)
    }
}

/// Joins the best pieces of several blanks, with an end of piece between two.
fn joined(pieces: Vec<Vec<Hypothesis>>, eop: TokenId) -> Hypothesis {
    let mut best = pieces.into_iter().map(|hypotheses| hypotheses.into_iter().next().unwrap_or_default());
    let first = best.next().unwrap_or_default();
    best.fold(first, |mut all, next| {
        all.tokens.push(eop);
        all.log_probs.push(all.end.map_or(0.0, |end| end.log_prob));
        all.tokens.extend(next.tokens);
        all.log_probs.extend(next.log_probs);
        Hypothesis { end: next.end, score: all.score + next.score, ..all }
    })
}

/// Packer of pairs.
struct PairPacker<'a> {
    task: &'a Seq2seq,
    purpose: Purpose,
    /// Columns and row of each measured pair.
    pairs: Vec<(PairView<'a>, usize)>,
    context: Vec<TokenId>,
}

/// Work of a pair without padding.
fn work(size: &PairSize) -> Work {
    let PairSize { context, targets, .. } = *size;
    // The tokens of the piece see the context and the piece up to themselves.
    let scored_pairs = targets * context + targets * (targets + 1) / 2;
    Work {
        examples: 1,
        groups: 1,
        targets,
        tokens: context + targets,
        context,
        scored: targets,
        scored_pairs,
        pairs: context * context + scored_pairs,
        ..Work::default()
    }
}

fn unfit(view: &PairView<'_>, row: usize) -> impl FnOnce(glm_schemas::seq2seq::encoding::PairError) -> RowError {
    let example_id = view.example_id(row).to_owned();
    move |source| RowError::Pair { example_id, source }
}

impl<'a> RowPacker<'a> for PairPacker<'a> {
    fn measure(&mut self, rows: &'a RecordBatch, row: usize, _key: u64) -> Result<RowSize, RowError> {
        let view = PairView::try_new(rows)?;
        let pair = view.pair(row)?;
        let work = work(&self.task.encoder.size(&pair).map_err(unfit(&view, row))?);
        if self.purpose == Purpose::Train && pair.target.is_empty() && view.references(row).len() == 0 {
            return Err(RowError::NoTarget { example_id: view.example_id(row).to_owned() });
        }
        self.pairs.push((view, row));
        Ok(RowSize { work, longest_row: work.tokens })
    }

    /// # Panics
    /// If no row has this number.
    fn pack(&mut self, number: usize, ordinal: u64, batch: &mut Batch) -> Result<usize, RowError> {
        let encoder = &self.task.encoder;
        let (view, row) = &self.pairs[number];
        let pair = view.pair(*row)?;
        self.context.clear();
        let blanks = encoder.push_context(&pair, &mut self.context).map_err(unfit(view, *row))?;
        batch.push_context(&self.context);
        let (group, start) = (batch.targets.groups, self.context.len());
        for PieceToken { input, blank, block_position, target } in encoder.pieces(&pair, &blanks) {
            // Everything after the context sees what comes before it.
            let scored = batch.push_scored(input, blank as i64, block_position as i64, start);
            batch.push_target(scored, target, group);
        }
        batch.end_row(ordinal, 0);
        Ok(1)
    }

    fn finish(&mut self, _batch: &mut Batch) {}
}
