//! Metrics of a training run, `RUNDIR/metrics.jsonl`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use glm_support::files::atomic::Draft;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::optim::spikes::Deviation;
use crate::record::files::{is_at, unix_seconds};
use crate::record::tensorboard::EventFile;
use crate::task::metrics::Evaluation;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// Averages over the optimizer steps since the previous train record.
    Train(TrainRecord),
    /// An evaluation.
    Eval(EvalRecord),
    /// A step that was skipped because its loss or gradient was not finite. Overflows handled by the loss scale are not recorded.
    Skipped(SkippedRecord),
    /// A step whose loss or gradient norm was far above its previous mean.
    Spike(SpikeRecord),
}

/// Serialized form of a line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    record: &'a Record,
    /// Time of writing, in seconds since 1970.
    time: f64,
}

/// Averages over several optimizer steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainRecord {
    /// Completed optimizer steps.
    pub step: u64,
    /// Samples used so far.
    pub samples: u64,
    /// Epochs completed, as a fraction.
    pub epoch: f64,
    /// Mean loss per sample or target token, as the task defines it.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Gradient norm of the last step, before clipping.
    pub gradient_norm: f64,
    /// Loss scale.
    pub loss_scale: f64,
    /// Steps skipped so far.
    pub skipped: u64,
    /// Samples per second.
    pub samples_per_second: f64,
    /// Tokens per second, excluding padding.
    pub tokens_per_second: f64,
    /// Target tokens per second, if the loss is the mean over them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets_per_second: Option<f64>,
    /// Fraction of computed tokens that are padding.
    pub padding: f64,
    /// Operations of the model per second, excluding padding (see [`crate::batch::work`]).
    pub model_flops_per_second: f64,
    /// Operations per second of a matrix product alone, of all ranks together, measured when the program started; `None` if that
    /// was not possible.
    pub product_flops_per_second: Option<f64>,
    /// Model FLOP utilization (MFU): operations of the model over those of a matrix product, as `glm-trainer bench` has it.
    pub utilisation: Option<f64>,
    /// Peak memory of a rank in bytes, if the system reports it.
    pub peak_memory_bytes: Option<u64>,
    /// Fraction of time spent waiting for data, on the rank that waited most.
    pub data_wait: f64,
    /// Number of ranks.
    pub ranks: usize,
    /// Mean over the steps of the busiest rank's excess work, relative to the mean over ranks.
    pub rank_spread: f64,
}

/// Outcome of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalRecord {
    /// Completed optimizer steps.
    pub step: u64,
    /// Samples trained on so far.
    pub samples: u64,
    /// Rows of the split. `train.eval_questions` may evaluate a subset of them, whose number is among the metrics.
    #[serde(flatten)]
    pub split_rows: SplitRows,
    /// Result.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// Number of rows of a split, in the file under their name: `"split_questions":962`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitRows {
    /// The number.
    pub count: usize,
    /// The task's word for rows.
    pub word: &'static str,
}

impl SplitRows {
    /// Name of the number in the file.
    pub fn key(word: &str) -> String {
        format!("split_{word}")
    }
}

impl Serialize for SplitRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(Self::key(self.word), self.count)])
    }
}

/// A skipped step. Values that are not finite are `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SkippedRecord {
    /// Optimizer steps completed before.
    pub step: u64,
    /// Samples used so far, including this step.
    pub samples: u64,
    /// Consecutive skipped steps, including this one.
    pub skipped_in_a_row: u64,
    /// Mean loss per sample or target token.
    pub loss: f64,
    /// Gradient norm.
    pub gradient_norm: f64,
    /// Loss scale after the step.
    pub loss_scale: f64,
    /// Rows of the step's samples on all ranks, in the order of samples.
    pub example_ids: Vec<String>,
}

/// A step with an unusually high loss or gradient norm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpikeRecord {
    /// Completed optimizer steps, including this one unless it was skipped.
    pub step: u64,
    /// Samples used so far, including this step.
    pub samples: u64,
    /// True if the step was skipped.
    pub skipped: bool,
    /// Mean loss per sample or target token.
    pub loss: f64,
    /// Gradient norm, before clipping.
    pub gradient_norm: f64,
    /// The deviating `quantity`, its `value`, the previous `mean`, and the `zscore`.
    #[serde(flatten)]
    pub deviation: Deviation,
    /// Rows of the step's samples on all ranks, in the order of samples.
    pub example_ids: Vec<String>,
}

/// Error of creating the metrics file.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct MetricsError {
    path: PathBuf,
    source: io::Error,
}

/// Writer of `metrics.jsonl` and of the TensorBoard event file.
///
/// All lines are also kept in memory (a few hundred bytes for every tenth step). Checkpoints contain them, and they restore the
/// file if it was deleted or the disk was temporarily full. Write errors never end training.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    lines: Vec<u8>,
    /// The file, if it contains all lines.
    file: Option<File>,
    events: EventFile,
}

impl MetricsFile {
    /// Creates the file in a run folder, replacing an existing one, with the lines `so_far`.
    ///
    /// # Errors
    /// Returns a [`MetricsError`] if the file cannot be written.
    pub fn begin(folder: &Path, so_far: Vec<u8>) -> Result<Self, MetricsError> {
        let path = folder.join("metrics.jsonl");
        match begin(&path, &so_far) {
            Ok(file) => Ok(Self { path, events: EventFile::begin(folder, &so_far), lines: so_far, file: Some(file) }),
            Err(source) => Err(MetricsError { path, source }),
        }
    }

    /// Returns all lines.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Appends a record. If writing fails, logs a warning and retries with the next record.
    pub fn write(&mut self, record: &Record) {
        let before = self.lines.len();
        if let Err(error) = serde_json::to_writer(&mut self.lines, &Line { record, time: unix_seconds() }) {
            self.lines.truncate(before);
            tracing::warn!("cannot serialize metrics record: {error}");
            return;
        }
        self.lines.push(b'\n');
        self.events.append(&self.lines, &self.lines[before..]);
        let was_whole = self.file.is_some();
        let still_there = self.file.as_ref().is_some_and(|file| is_at(file, &self.path));
        if was_whole && !still_there {
            tracing::warn!("{} was deleted; writing it again", self.path.display());
        }
        let written = match &mut self.file {
            // One call per line, so that a killed run leaves no partial line.
            Some(file) if still_there => file.write_all(&self.lines[before..]),
            file => begin(&self.path, &self.lines).map(|new| *file = Some(new)),
        };
        if let Err(error) = written {
            self.file = None;
            if was_whole {
                let path = self.path.display();
                tracing::warn!(
                    "cannot write {path}: {error}; training continues, and the lines are kept until it can be written"
                );
            }
        }
    }
}

/// Writes a file atomically, and leaves it open for appending.
fn begin(path: &Path, content: &[u8]) -> io::Result<File> {
    let mut file = Draft::create(path)?;
    file.write_all(content)?;
    file.publish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::cloze::METRICS;
    use crate::task::metrics::Metrics;

    fn eval(step: u64) -> Record {
        let metrics = Metrics::new(&METRICS, &[0.5, 1.0, 2.0]);
        let evaluation = Evaluation { metrics, seconds: 0.1 };
        let split_rows = SplitRows { count: 2, word: "questions" };
        Record::Eval(EvalRecord { step, samples: 32, split_rows, evaluation })
    }

    fn steps(folder: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("read");
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("json");
        text.lines().map(|text| line(text)["step"].as_u64().expect("step")).collect()
    }

    #[test]
    fn a_resumed_run_has_each_line_once() {
        let folder = tempfile::tempdir().expect("folder");
        let mut metrics = MetricsFile::begin(folder.path(), Vec::new()).expect("begin");
        metrics.write(&eval(1));
        let so_far = metrics.lines().to_vec();
        metrics.write(&eval(2));
        let mut again = MetricsFile::begin(folder.path(), so_far).expect("begin");
        again.write(&eval(2));
        again.write(&eval(3));
        assert_eq!(steps(folder.path()), [1, 2, 3]);
        assert_eq!(std::fs::read(folder.path().join("metrics.jsonl")).expect("read"), again.lines());
    }

    #[test]
    fn a_deleted_file_is_restored_completely() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = MetricsFile::begin(folder.path(), Vec::new()).expect("begin");
        metrics.write(&eval(1));
        std::fs::remove_file(&path).expect("remove");
        metrics.write(&eval(2));
        assert_eq!(steps(folder.path()), [1, 2]);
        // A folder in its place cannot be replaced; once it is removed, all lines are written.
        std::fs::remove_file(&path).expect("remove");
        std::fs::create_dir(&path).expect("folder");
        std::fs::write(path.join("x"), "").expect("write");
        metrics.write(&eval(3));
        std::fs::remove_dir_all(&path).expect("remove");
        metrics.write(&eval(4));
        assert_eq!(steps(folder.path()), [1, 2, 3, 4]);
    }
}
