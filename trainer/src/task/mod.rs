//! Tasks: training objectives and their metrics.
//!
//! A [`Task`] defines the columns that it reads, how a row becomes part of a packed batch (input and targets), the loss, the weight of
//! an example in the mean over all ranks, the metrics, and the metric that selects the best checkpoint. Everything else, from
//! mapped shards to the optimizer, is the same for all tasks:
//!
//! ```text
//! row -> RowPacker -> Batch -> model -> log probability per group -> Task::loss, or Evaluator -> metrics
//! row -> Generation -> context -> model -> text -> metrics            (tasks whose texts are evaluated)
//! ```
//!
//! A new task requires one module here, one line each in [`open`], [`metrics_of`], [`words_of`] and [`Objective`], and the name of its
//! table in [`TaskName`].

mod answer;
pub mod cloze;
pub mod generation;
pub mod infill;
pub mod lm;
pub mod metrics;
pub mod seq2seq;

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use clap::ValueEnum;
use glm_schemas::cloze::encoding::EncodingError;
use glm_schemas::column::{ValueError, ViewError};
use glm_schemas::manifest::TaskName;
use glm_schemas::seq2seq::encoding::PairError;
use glm_schemas::vocab::{SpecialIds, TokenId};
use serde::Serialize;
use tch::{TchError, Tensor};
use thiserror::Error;

pub use self::answer::{Answer, ScoredChoice};
use self::cloze::{Cloze, ClozeForm, ClozeSettings, Truncation};
use self::generation::Generation;
use self::infill::{Infill, InfillSettings};
use self::metrics::{MetricInfo, Metrics, Totals};
use self::seq2seq::{Seq2seq, Seq2seqSettings};
use crate::batch::device::DeviceBatch;
use crate::batch::packed::Batch;
use crate::batch::work::Work;

/// Purpose of packing rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Training: rows without a training signal, such as questions without an answer, are errors.
    Train,
    /// Evaluation and prediction.
    Evaluate,
}

/// Training objective on the rows of a data set.
pub trait Task: fmt::Debug + Send + Sync {
    /// Name of the task in manifests and reports.
    fn name(&self) -> TaskName;

    /// Columns of a shard that training and evaluation read.
    fn columns(&self) -> &'static [&'static str];

    /// Checks the columns of a decoded row group.
    ///
    /// # Errors
    /// Returns a [`ViewError`] that names the missing column or the one of another type.
    fn check(&self, rows: &RecordBatch) -> Result<(), ViewError>;

    /// Checks the values of a row group whose columns were checked, against a vocabulary of `vocab_size` tokens. Called for every row
    /// group that is read, so it must be fast.
    ///
    /// # Errors
    /// Returns a [`ValueError`] with the first row that violates the data contract.
    fn check_values(&self, rows: &RecordBatch, vocab_size: usize) -> Result<(), ValueError>;

    /// Columns that [`Self::samples`] reads; none if every row is one sample of an epoch.
    fn size_columns(&self) -> &'static [&'static str] {
        &[]
    }

    /// Number of samples that each row is used for in an epoch, at least 1. Only called with [`Self::size_columns`].
    ///
    /// # Errors
    /// Returns a [`ViewError`] if the columns violate the contract.
    fn samples(&self, rows: &RecordBatch) -> Result<Vec<u32>, ViewError> {
        Ok(vec![1; rows.num_rows()])
    }

    /// Creates a packer of rows, which reuses its buffers.
    fn row_packer<'a>(&'a self, purpose: Purpose) -> Box<dyn RowPacker<'a> + 'a>;

    /// Loss summed over the batch's examples, from the log probability of each of its groups `[groups]`.
    ///
    /// The loss is a sum: the caller divides by the weight of the whole optimizer step, so that batches of different sizes are
    /// weighted correctly.
    ///
    /// # Errors
    /// Returns errors of libtorch.
    fn loss(&self, log_probs: &Tensor, batch: &DeviceBatch) -> Result<Tensor, TchError>;

    /// Label smoothing ε of training: log probabilities of targets are `(1 - ε) log p(target) + ε u`, where `u` is the mean of `log p`
    /// over the vocabulary.
    fn label_smoothing(&self) -> f64 {
        0.0
    }

    /// Weight of an example in the mean loss: 1 for a mean over examples, [`Work::targets`] for a mean over target tokens.
    fn weight(&self, work: &Work) -> f64;

    /// Largest token id that samples can have beyond the vocabulary of the data set, if any.
    fn largest_added_id(&self) -> Option<TokenId> {
        None
    }

    /// Share of a batch's tokens that are scored, at most, for an estimate of memory: 8 % of ReCoRD's, more where contexts are short.
    fn scored_share(&self) -> f64 {
        0.1
    }

    /// Creates an accumulator of metrics.
    fn evaluator(&self) -> Box<dyn Evaluator>;

    /// Descriptions of the metrics; the first quality metric selects the best checkpoint.
    fn metrics(&self) -> Vec<&'static MetricInfo>;

    /// True if the evaluator needs to know whether the model would have written the targets of a group itself, see [`Scores::greedy`].
    fn needs_greedy(&self) -> bool {
        false
    }

    /// Generation of texts, if the task is evaluated by them besides its log probabilities.
    fn generation(&self) -> Option<&dyn Generation> {
        None
    }

    /// Words for rows and samples in messages.
    fn words(&self) -> Words {
        words_of(self.name())
    }
}

/// Words for the rows and samples of a task in messages, and the unit of its mean loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// Rows of a split, in the plural. Evaluations count them.
    pub rows: &'static str,
    /// Samples, in the plural. Training counts them.
    pub samples: &'static str,
    /// Name of the metric that counts the samples of an evaluation.
    pub evaluated: &'static str,
    /// Unit of the mean loss, see [`Task::weight`].
    pub mean_of: MeanOf,
}

impl Words {
    /// The word for samples at the start of a sentence.
    pub fn title(&self) -> String {
        let mut letters = self.samples.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    }
}

/// Unit of a mean loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeanOf {
    /// Samples.
    Samples,
    /// Target tokens.
    Targets,
}

/// Turns rows into parts of packed batches.
pub trait RowPacker<'a> {
    /// Measures a sample of a row, to be packed later by its number: samples are numbered in the order in which they are measured.
    /// Random draws that make a sample from its row are a function of `key`, see [`crate::batch::key::sample_key`].
    ///
    /// # Errors
    /// Returns a [`RowError`] if the row cannot be packed.
    fn measure(&mut self, rows: &'a RecordBatch, row: usize, key: u64) -> Result<RowSize, RowError>;

    /// Appends sample `number` to a batch, whose number in the order of samples is `ordinal`; returns its number of groups.
    ///
    /// # Errors
    /// Returns a [`RowError`] if the row cannot be packed.
    fn pack(&mut self, number: usize, ordinal: u64, batch: &mut Batch) -> Result<usize, RowError>;

    /// Fills [`Batch::task_columns`] once all examples are in the batch, and prepares for the next batch.
    fn finish(&mut self, batch: &mut Batch);
}

/// Size of a packed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSize {
    /// Work without padding.
    pub work: Work,
    /// Number of tokens of its longest row in the batch.
    pub longest_row: usize,
}

/// Row that cannot be packed.
#[derive(Debug, Error)]
pub enum RowError {
    /// A column violates the data contract.
    #[error(transparent)]
    Columns(#[from] ViewError),
    /// A question exceeds the maximum sequence length.
    #[error(
        "question {example_id}: {source}. Train with a larger data.max_seq_len, or ingest with a smaller --max-seq-len, which \
         rejects such questions"
    )]
    Encoding {
        /// The question.
        example_id: String,
        /// The reason.
        source: EncodingError,
    },
    /// The tokens of a pair besides its source exceed the maximum source length.
    #[error(
        "pair {example_id}: {source}. Train with a larger data.max_seq_len, or ingest with a smaller --max-seq-len, which rejects \
         such pairs"
    )]
    Pair {
        /// The pair.
        example_id: String,
        /// The reason.
        source: PairError,
    },
    /// A training pair without a target.
    #[error(
        "pair {example_id} has no target and cannot be used for training; `glm-prep ingest` rejects such pairs of train and val"
    )]
    NoTarget {
        /// The pair.
        example_id: String,
    },
    /// A question with several choices where one is expected.
    #[error(
        "question {example_id} has {choices} choices, but with cloze.loss = token_cross_entropy the only choice of a question is its \
         answer; choose another loss, such as generative"
    )]
    SeveralChoices {
        /// The question.
        example_id: String,
        /// Number of its choices.
        choices: usize,
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

/// Output of a model for the groups of a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scores<'a> {
    /// Log probability of each group: the sum of those of its targets.
    pub log_probs: &'a [f64],
    /// For each group, true if each of its targets is the most probable token in its place, the first of equal ones; empty without
    /// [`Task::needs_greedy`].
    pub greedy: &'a [bool],
}

/// Accumulates the metrics of an evaluation.
pub trait Evaluator {
    /// Adds a sample with the scores of its groups; returns the answer, if the task has answers. `key` is that with which it was packed,
    /// see [`RowPacker::measure`].
    ///
    /// # Errors
    /// Returns a [`RowError`] if the columns violate the contract.
    fn add(&mut self, rows: &RecordBatch, row: usize, key: u64, scores: Scores<'_>) -> Result<Option<Answer>, RowError>;

    /// Returns the sums over the examples so far, which are added over all ranks.
    fn totals(&self) -> Totals;

    /// Computes the metrics from such sums.
    fn metrics(&self, totals: &Totals) -> Metrics;
}

/// Returns the descriptions of the metrics of a task; none for an unknown one.
pub fn metrics_of(task: TaskName) -> &'static [MetricInfo] {
    match task {
        TaskName::Cloze => &cloze::METRICS,
        TaskName::Text => &infill::METRICS,
        TaskName::Seq2seq => &seq2seq::METRICS,
    }
}

/// Task to train, as on the command line. It follows from the table of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Questions with choices
    Cloze,
    /// Blank infilling of documents: pretraining
    Infill,
    /// Targets generated for sources
    Seq2seq,
}

impl Objective {
    /// The objective on a table.
    pub fn on(table: TaskName) -> Self {
        match table {
            TaskName::Cloze => Self::Cloze,
            TaskName::Text => Self::Infill,
            TaskName::Seq2seq => Self::Seq2seq,
        }
    }

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloze => "cloze",
            Self::Infill => "infill",
            Self::Seq2seq => "seq2seq",
        }
    }

    /// The table that it needs.
    pub fn table(self) -> TaskName {
        match self {
            Self::Cloze => TaskName::Cloze,
            Self::Infill => TaskName::Text,
            Self::Seq2seq => TaskName::Seq2seq,
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns the words for rows and samples of a task.
pub fn words_of(task: TaskName) -> Words {
    let rows = task.rows();
    match task {
        TaskName::Cloze => Words { rows, samples: rows, evaluated: "questions", mean_of: MeanOf::Samples },
        TaskName::Text => Words { rows, samples: "samples", evaluated: "evaluated_samples", mean_of: MeanOf::Targets },
        TaskName::Seq2seq => Words { rows, samples: rows, evaluated: "pairs", mean_of: MeanOf::Targets },
    }
}

/// Settings of tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskSettings {
    /// Ids of special tokens of the data set's vocabulary.
    pub special: SpecialIds,
    /// Maximum number of tokens of one sequence.
    pub max_seq_len: usize,
    /// Truncation of contexts.
    pub truncation: Truncation,
    /// Questions with choices.
    pub cloze: ClozeSettings,
    /// Form of their encoding, of which the manifest tells; [`Default`] is that of ReCoRD.
    pub form: ClozeForm,
    /// Blank infilling.
    pub infill: InfillSettings,
    /// Sequence to sequence.
    pub seq2seq: Seq2seqSettings,
}

/// Makes the task with this name.
pub fn open(task: TaskName, settings: TaskSettings) -> Arc<dyn Task> {
    let TaskSettings { special, max_seq_len, truncation, cloze, form, infill, seq2seq } = settings;
    match task {
        TaskName::Cloze => Arc::new(Cloze::new(special, max_seq_len, truncation, cloze, form)),
        TaskName::Text => Arc::new(Infill::new(special, max_seq_len, infill)),
        TaskName::Seq2seq => Arc::new(Seq2seq::new(special, max_seq_len, seq2seq)),
    }
}
