//! Autoregressive blank infilling, GLM's pretraining: spans of a text are replaced by mask tokens and predicted token by token.
//!
//! A document is one sample of an epoch, or several windows of it if it is longer than a sequence. A sample becomes one row of a batch
//! (several if it is cut into short pieces): the context with mask tokens, then for each span a start of piece and its tokens. A row is
//! one group, whose log probability is the sum over its targets; the loss is the cross entropy per target token.
//!
//! The published code concatenates documents until a sequence is full, and lets them see each other. Here a batch holds
//! many samples without padding, and no sample sees another.
//!
//! The objective is drawn for each sample, where the published code draws it for each batch: steps then have the mixture of the settings
//! instead of one objective each, and what a sample becomes does not depend on the size of batches.

mod draws;
mod evaluator;
#[cfg(test)]
mod golden_tests;
mod layout;
mod objective;
mod packer;
#[cfg(test)]
mod property_tests;
mod settings;
mod spans;
#[cfg(test)]
mod statistics_tests;
mod text;
mod window;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use glm_schemas::column::{ValueError, ViewError};
use glm_schemas::document::{DocumentView, TOKEN_COLUMNS};
use glm_schemas::manifest::TaskName;
use glm_schemas::vocab::{SpecialIds, TokenId};
use tch::{TchError, Tensor};

use self::evaluator::InfillEvaluator;
pub use self::evaluator::METRICS;
use self::packer::DocumentPacker;
pub use self::settings::InfillSettings;
use self::spans::Lengths;
use super::metrics::MetricInfo;
use super::{Evaluator, Purpose, RowPacker, Task};
use crate::batch::device::DeviceBatch;
use crate::batch::work::Work;

/// Column with the number of tokens of a document.
const NUM_TOKENS: &str = "num_tokens";

/// Blank infilling.
#[derive(Debug, Clone)]
pub struct Infill {
    special: SpecialIds,
    max_seq_len: usize,
    settings: InfillSettings,
    lengths: Lengths,
}

impl Infill {
    /// Creates the task for a vocabulary with these special tokens and sequences of at most `max_seq_len` tokens of text; mask tokens and
    /// starts of pieces come on top.
    pub fn new(special: SpecialIds, max_seq_len: usize, settings: InfillSettings) -> Self {
        Self { special, max_seq_len, settings, lengths: Lengths::new(settings.mean_span) }
    }
}

impl Task for Infill {
    fn name(&self) -> TaskName {
        TaskName::Text
    }

    fn columns(&self) -> &'static [&'static str] {
        &TOKEN_COLUMNS
    }

    fn check(&self, rows: &RecordBatch) -> Result<(), ViewError> {
        DocumentView::try_new(rows).map(drop)
    }

    fn check_values(&self, rows: &RecordBatch, vocab_size: usize) -> Result<(), ValueError> {
        // Columns of other types are reported by `check`.
        DocumentView::try_new(rows).map_or(Ok(()), |view| view.check_values(vocab_size))
    }

    fn size_columns(&self) -> &'static [&'static str] {
        &[NUM_TOKENS]
    }

    fn samples(&self, rows: &RecordBatch) -> Result<Vec<u32>, ViewError> {
        let column = rows.column_by_name(NUM_TOKENS).ok_or(ViewError::Missing(NUM_TOKENS))?;
        let Some(tokens) = column.as_primitive_opt::<Int32Type>() else {
            let found = column.data_type().to_string();
            return Err(ViewError::Type { column: NUM_TOKENS, found, expected: "int32" });
        };
        let samples = |tokens: i32| window::samples(usize::try_from(tokens).unwrap_or(0), self.max_seq_len) as u32;
        Ok(tokens.values().iter().map(|&tokens| samples(tokens)).collect())
    }

    fn row_packer<'a>(&'a self, _: Purpose) -> Box<dyn RowPacker<'a> + 'a> {
        Box::new(DocumentPacker::new(self))
    }

    /// The sum of the cross entropies of all targets.
    fn loss(&self, log_probs: &Tensor, _: &DeviceBatch) -> Result<Tensor, TchError> {
        log_probs.f_sum(log_probs.f_kind()?)?.f_neg()
    }

    /// Every target token has weight 1.
    fn weight(&self, work: &Work) -> f64 {
        work.targets as f64
    }

    fn largest_added_id(&self) -> Option<TokenId> {
        let (masks, settings) = (self.special.masks(), &self.settings);
        let used = [
            (settings.task_mask && settings.document > 0.0, masks.document),
            (settings.task_mask && settings.sentence > 0.0, masks.sentence),
            (settings.input_masking > 0.0, masks.block),
        ];
        used.into_iter().filter(|(is_used, _)| *is_used).map(|(_, id)| id).max()
    }

    /// Samples of one objective may be side by side in a batch.
    fn scored_share(&self) -> f64 {
        if self.settings.document > 0.0 { 1.0 } else { (2.0 * self.settings.mask_ratio).min(1.0) }
    }

    fn evaluator(&self) -> Box<dyn Evaluator> {
        Box::new(InfillEvaluator::new(self.clone()))
    }

    fn metrics(&self) -> Vec<&'static MetricInfo> {
        METRICS.iter().collect()
    }
}
