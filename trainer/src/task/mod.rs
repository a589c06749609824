//! Tasks: what a model learns from a data set, and how it is judged.
//!
//! A [`Task`] says which columns it reads, how a row becomes part of a packed batch (input and targets), its loss, the weight of
//! an example in the mean over all ranks, its metrics, and the metric that selects the best checkpoint. Everything else, from
//! mapped shards to the optimizer, is the same for all tasks:
//!
//! ```text
//! row -> RowPacker -> Batch -> model -> log probability per group -> Task::loss, or Evaluator -> metrics
//! ```
//!
//! A new task is one module here and one line in [`open`] and [`metrics_of`].

pub mod cloze;
pub mod metrics;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use glm_schemas::cloze::ViewError;
use glm_schemas::encoding::EncodingError;
use glm_schemas::vocab::SpecialIds;
use serde::Serialize;
use tch::{TchError, Tensor};
use thiserror::Error;

use self::cloze::{Cloze, Truncation};
use self::metrics::{MetricInfo, Metrics};
use crate::batch::device::DeviceBatch;
use crate::batch::packed::Batch;
use crate::batch::work::Work;

/// Name of the cloze task in manifests.
pub const CLOZE: &str = "cloze";

/// What rows are packed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Training: a row that cannot be learned from, such as a question without an answer, is an error.
    Train,
    /// Evaluation and prediction.
    Evaluate,
}

/// What is learned from the rows of a data set.
pub trait Task: fmt::Debug + Send + Sync {
    /// Name of the task in manifests and reports.
    fn name(&self) -> &'static str;

    /// Columns of a shard that training and evaluation read.
    fn columns(&self) -> &'static [&'static str];

    /// Checks the columns of a decoded row group.
    ///
    /// # Errors
    /// [`ViewError`] names the column that is missing or has another type.
    fn check(&self, rows: &RecordBatch) -> Result<(), ViewError>;

    /// Makes a packer of rows, which keeps its buffers from row to row.
    fn row_packer(&self, purpose: Purpose) -> Box<dyn RowPacker + '_>;

    /// Loss summed over the batch's examples, from the log probability of each of its groups `[groups]`.
    ///
    /// It is a sum, so that the caller divides by the weight of the whole optimizer step and batches of different size weigh
    /// right.
    ///
    /// # Errors
    /// A [`TchError`].
    fn loss(&self, log_probs: &Tensor, batch: &DeviceBatch) -> Result<Tensor, TchError>;

    /// Weight of an example in the mean loss: 1 for a mean over examples, [`Work::targets`] for a mean over target tokens.
    fn weight(&self, work: &Work) -> f64;

    /// Makes an accumulator of metrics.
    fn evaluator(&self) -> Box<dyn Evaluator>;

    /// Descriptions of the metrics; the first one of quality selects the best checkpoint.
    fn metrics(&self) -> &'static [MetricInfo];
}

/// Turns rows into parts of packed batches.
pub trait RowPacker {
    /// Measures a row without packing it.
    ///
    /// # Errors
    /// [`RowError`] where the row cannot be packed.
    fn measure(&mut self, rows: &RecordBatch, row: usize) -> Result<RowSize, RowError>;

    /// Appends a row to a batch, as the sample with number `ordinal`; returns its number of groups.
    ///
    /// # Errors
    /// [`RowError`] where the row cannot be packed.
    fn pack(&mut self, rows: &RecordBatch, row: usize, ordinal: u64, batch: &mut Batch) -> Result<usize, RowError>;

    /// Fills [`Batch::task_columns`] once all examples are in the batch, and makes ready for the next batch.
    fn finish(&mut self, batch: &mut Batch);
}

/// Size of a packed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSize {
    /// Its work, without padding.
    pub work: Work,
    /// Tokens of the longest of its rows in the batch.
    pub longest_row: usize,
}

/// Row that cannot be packed.
#[derive(Debug, Error)]
pub enum RowError {
    /// A column breaks the data contract.
    #[error(transparent)]
    Columns(#[from] ViewError),
    /// A question does not fit.
    #[error("question {example_id}: {source}; raise data.max_seq_len or ingest with a smaller --max-seq-len")]
    Encoding {
        /// The question.
        example_id: String,
        /// The reason.
        source: EncodingError,
    },
    /// A training question without a correct choice.
    #[error(
        "question {example_id} has no correct choice and cannot be used for training; `glm-prep verify` checks the whole data set"
    )]
    Unlabelled {
        /// The question.
        example_id: String,
    },
}

/// Accumulates the metrics of an evaluation.
pub trait Evaluator {
    /// Adds an example with the log probability of each of its groups; returns the answer, if the task has answers.
    ///
    /// # Errors
    /// [`ViewError`] where the columns break the contract.
    fn add(&mut self, rows: &RecordBatch, row: usize, log_probs: &[f64]) -> Result<Option<Answer>, ViewError>;

    /// Sums over the examples so far. Those of several ranks are added.
    fn totals(&self) -> Vec<f64>;

    /// Metrics from such sums.
    fn metrics(&self, totals: &[f64]) -> Metrics;
}

/// Scored choices of one example: a line of `eval --scores`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Id of the example.
    pub example_id: String,
    /// Score of every choice, a sum of log probabilities.
    pub scores: Vec<f64>,
    /// Index of the best choice; the first one if several are equal.
    pub predicted: usize,
    /// Indices of the correct choices.
    pub correct: Vec<usize>,
    /// True if the best choice is correct.
    pub hit: bool,
}

/// Task for which there is no implementation.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the data set is for the task `{0}`, which this version of glm-trainer does not have; it has: {CLOZE}")]
pub struct UnknownTask(String);

/// Descriptions of the metrics of the task with this name; none for an unknown one.
pub fn metrics_of(name: &str) -> &'static [MetricInfo] {
    match name {
        CLOZE => &cloze::METRICS,
        _ => &[],
    }
}

/// Settings that tasks need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskSettings {
    /// Ids of special tokens of the data set's vocabulary.
    pub special: SpecialIds,
    /// Maximum number of tokens of one sequence.
    pub max_seq_len: usize,
    /// Truncation of contexts.
    pub truncation: Truncation,
}

/// Makes the task with this name.
///
/// # Errors
/// [`UnknownTask`].
pub fn open(name: &str, settings: TaskSettings) -> Result<Arc<dyn Task>, UnknownTask> {
    match name {
        CLOZE => Ok(Arc::new(Cloze::new(settings.special, settings.max_seq_len, settings.truncation))),
        _ => Err(UnknownTask(name.to_owned())),
    }
}
