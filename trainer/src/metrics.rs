//! What a run says about itself: JSON lines in its folder.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use crate::evaluate::Evaluation;
use crate::optim::spikes::Deviation;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// Averages over the optimizer steps since the last such line.
    Train(TrainRecord),
    /// An evaluation.
    Eval(EvalRecord),
    /// A step that was skipped because its loss or gradient was not finite. Overflows that the loss scale takes care of have no
    /// such line.
    Skipped(SkippedRecord),
    /// A step whose loss or gradient norm was far above what it was before.
    Spike(SpikeRecord),
}

/// Averages over a few optimizer steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainRecord {
    /// Completed optimizer steps.
    pub step: u64,
    /// Questions used in all.
    pub samples: u64,
    /// Epochs done, as a fraction.
    pub epoch: f64,
    /// Mean loss a question.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Norm of the last step's gradient, before clipping.
    pub gradient_norm: f64,
    /// The loss scale.
    pub loss_scale: f64,
    /// Steps skipped in all.
    pub skipped: u64,
    /// Questions a second.
    pub samples_per_second: f64,
    /// Tokens a second, padding not counted.
    pub tokens_per_second: f64,
    /// Share of computed tokens that is padding.
    pub padding: f64,
    /// Operations of the model a second, of tokens that carry information (see [`crate::model::flops`]).
    pub model_flops_per_second: f64,
    /// Most bytes that a rank held at a time, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Share of the time spent waiting for data, of the rank that waited most.
    pub data_wait: f64,
    /// Processes that train together.
    pub ranks: usize,
    /// By how much the busiest rank's share of a step exceeds the mean, on average, as a share of the mean.
    pub rank_spread: f64,
}

/// The outcome of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalRecord {
    /// Completed optimizer steps.
    pub step: u64,
    /// Questions trained on in all.
    pub samples: u64,
    /// Its result.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// A skipped step. Numbers that are not finite are `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SkippedRecord {
    /// Optimizer steps completed before.
    pub step: u64,
    /// Questions used in all, this step's included.
    pub samples: u64,
    /// Steps skipped since the last one that was not, this one included.
    pub skipped_in_a_row: u64,
    /// Mean loss a question.
    pub loss: f64,
    /// Norm of the gradient.
    pub gradient_norm: f64,
    /// The loss scale behind it.
    pub loss_scale: f64,
    /// The step's questions on all ranks, in the order of samples.
    pub example_ids: Vec<String>,
}

/// A step out of the ordinary.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpikeRecord {
    /// Completed optimizer steps, with this one unless it was skipped.
    pub step: u64,
    /// Questions used in all, this step's included.
    pub samples: u64,
    /// Whether it was skipped.
    pub skipped: bool,
    /// Mean loss a question.
    pub loss: f64,
    /// Norm of the gradient, before clipping.
    pub gradient_norm: f64,
    /// What was so far off: `quantity`, its `value`, the `mean` before, and the `zscore`.
    #[serde(flatten)]
    pub deviation: Deviation,
    /// The step's questions on all ranks, in the order of samples.
    pub example_ids: Vec<String>,
}

/// A metrics file that cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct MetricsError {
    path: PathBuf,
    source: std::io::Error,
}

/// Appends to `metrics.jsonl`.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file of a run's folder, at its end.
    ///
    /// # Errors
    /// [`MetricsError`] where it cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, MetricsError> {
        let path = folder.join("metrics.jsonl");
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(MetricsError { path, source }),
        }
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`MetricsError`] where it cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<(), MetricsError> {
        // One call a line: a killed run leaves no half line behind.
        let line = serde_json::to_vec(record).map_err(std::io::Error::from).map(|mut line| {
            line.push(b'\n');
            line
        });
        line.and_then(|line| self.file.write_all(&line)).map_err(|source| MetricsError { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended() {
        let folder = tempfile::tempdir().expect("folder");
        let evaluation = Evaluation { accuracy: 0.5, hits: 1, questions: 2, chance: 0.1, most_frequent: 0.2, seconds: 1.0 };
        let eval = EvalRecord { step: 1, samples: 32, evaluation };
        for _ in 0..2 {
            Metrics::open(folder.path()).expect("open").write(&Record::Eval(eval.clone())).expect("write");
        }
        let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).expect("read");
        assert_eq!(text.lines().count(), 2);
        let line: serde_json::Value = serde_json::from_str(text.lines().next().expect("line")).expect("json");
        assert_eq!((line["kind"].as_str(), line["accuracy"].as_f64()), (Some("eval"), Some(0.5)));
    }
}
