//! Tasks that are evaluated by the texts that a model generates.

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::RowError;
use super::metrics::Metrics;
use crate::generate::{Context, GenerateError, Hypothesis};
use crate::model::{Glm, Pass};

/// Generation for the rows of a data set, and metrics of the texts.
pub trait Generation {
    /// Context of a row, with the blank to fill.
    ///
    /// # Errors
    /// Returns a [`RowError`] if the row does not fit.
    fn context(&self, rows: &RecordBatch, row: usize) -> Result<Context, RowError>;

    /// Generates a piece for each context.
    ///
    /// # Errors
    /// Returns a [`GenerateError`] if a context does not fit the model, or an error of libtorch.
    fn generate(&self, model: &Glm, pass: &Pass, contexts: &[Context]) -> Result<Vec<Hypothesis>, GenerateError>;

    /// Describes the text that was generated for a row.
    ///
    /// # Errors
    /// Returns a [`RowError`] if the columns violate the contract.
    fn prediction(&self, rows: &RecordBatch, row: usize, text: String, score: f64) -> Result<Prediction, RowError>;

    /// Computes the metrics of the predictions of all rows, in stored order, given the metrics of their targets.
    fn metrics(&self, predictions: &[Prediction], targets: &Metrics) -> Metrics;
}

/// Text that a model generated for a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Id of the example.
    pub example_id: String,
    /// Id of the example in the raw data, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// Id of the question, if several examples ask it of windows of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// Text of the source.
    pub source: String,
    /// Generated text.
    pub prediction: String,
    /// Score of the text: the sum of log probabilities, divided by its length to the power of the length penalty.
    pub score: f64,
    /// Texts to compare it with.
    pub references: Vec<String>,
}
