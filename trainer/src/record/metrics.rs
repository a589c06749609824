//! What a run says about itself: JSON lines in its folder.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use crate::optim::spikes::Deviation;
use crate::record::files::{is_at, unix_seconds};
use crate::record::tensorboard::EventFile;
use crate::task::metrics::Evaluation;

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

/// A line as it is written.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    record: &'a Record,
    /// When it was written, in seconds since 1970.
    time: f64,
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
    /// Operations of the model a second, of tokens that carry information (see [`crate::batch::work`]).
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

/// A metrics file that cannot be begun.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct MetricsError {
    path: PathBuf,
    source: io::Error,
}

/// Writes `metrics.jsonl`, and the same for TensorBoard.
///
/// All lines are kept in memory as well (some hundred bytes for every tenth step): checkpoints hold them, and where the file
/// was deleted, or the disk was full for a while, it is made whole again. Training never ends for the sake of this file.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    lines: Vec<u8>,
    /// The file, if it holds all lines.
    file: Option<File>,
    events: EventFile,
}

impl MetricsFile {
    /// Begins the file of a run's folder anew, with the lines `so_far`.
    ///
    /// # Errors
    /// [`MetricsError`] where it cannot be written.
    pub fn begin(folder: &Path, so_far: Vec<u8>) -> Result<Self, MetricsError> {
        let path = folder.join("metrics.jsonl");
        match begin(&path, &so_far) {
            Ok(file) => Ok(Self { path, events: EventFile::begin(folder, &so_far), lines: so_far, file: Some(file) }),
            Err(source) => Err(MetricsError { path, source }),
        }
    }

    /// All lines.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Appends a line. What cannot be written now is written with the next one, and a warning says so.
    pub fn write(&mut self, record: &Record) {
        let before = self.lines.len();
        if let Err(error) = serde_json::to_writer(&mut self.lines, &Line { record, time: unix_seconds() }) {
            self.lines.truncate(before);
            tracing::warn!("a line of metrics cannot be put into words: {error}");
            return;
        }
        self.lines.push(b'\n');
        self.events.append(&self.lines, &self.lines[before..]);
        let was_whole = self.file.is_some();
        let still_there = self.file.as_ref().is_some_and(|file| is_at(file, &self.path));
        if was_whole && !still_there {
            tracing::warn!("{} is gone: it is written again", self.path.display());
        }
        let written = match &mut self.file {
            // One call a line: a killed run leaves no half line behind.
            Some(file) if still_there => file.write_all(&self.lines[before..]),
            file => begin(&self.path, &self.lines).map(|new| *file = Some(new)),
        };
        if let Err(error) = written {
            self.file = None;
            if was_whole {
                let path = self.path.display();
                tracing::warn!(
                    "cannot write {path}: {error}; training goes on, and the lines are kept until it can be written"
                );
            }
        }
    }
}

/// Writes a file whole or not at all, and leaves it open at its end.
fn begin(path: &Path, content: &[u8]) -> io::Result<File> {
    let temporary = path.with_extension("jsonl.tmp");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        std::fs::rename(&temporary, path)?;
        Ok(file)
    };
    write().inspect_err(|_| {
        // It may be what fills the disk; that it cannot be removed either says nothing new.
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::cloze::METRICS;
    use crate::task::metrics::Metrics;

    fn eval(step: u64) -> Record {
        let metrics = Metrics::new(&METRICS, &[0.5, 1.0, 2.0]);
        let evaluation = Evaluation { metrics, seconds: 0.1 };
        Record::Eval(EvalRecord { step, samples: 32, evaluation })
    }

    fn steps(folder: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("read");
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("json");
        text.lines().map(|text| line(text)["step"].as_u64().expect("step")).collect()
    }

    #[test]
    fn a_run_that_goes_on_has_each_line_once() {
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
    fn a_file_that_somebody_deleted_comes_back_whole() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = MetricsFile::begin(folder.path(), Vec::new()).expect("begin");
        metrics.write(&eval(1));
        std::fs::remove_file(&path).expect("remove");
        metrics.write(&eval(2));
        assert_eq!(steps(folder.path()), [1, 2]);
        // A folder in its place cannot be replaced; when it is gone, all lines are there.
        std::fs::remove_file(&path).expect("remove");
        std::fs::create_dir(&path).expect("folder");
        std::fs::write(path.join("x"), "").expect("write");
        metrics.write(&eval(3));
        std::fs::remove_dir_all(&path).expect("remove");
        metrics.write(&eval(4));
        assert_eq!(steps(folder.path()), [1, 2, 3, 4]);
    }
}
