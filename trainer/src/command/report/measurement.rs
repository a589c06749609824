//! Metrics of one evaluation.

use serde::Serialize;

use crate::task::metrics::Metrics;

/// Metrics after a number of steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// Optimizer steps before.
    pub step: u64,
    /// The metrics, named as in `eval --json`.
    #[serde(flatten)]
    pub metrics: Metrics,
}
