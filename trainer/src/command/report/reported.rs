//! Result of `report` for programs: the state of the run, and where the page is.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Known;
use super::measurement::Measurement;
use super::records::Entry;
use super::sweep::SweepSummary;

/// Result of `report`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reported {
    /// Of a run.
    Run(Box<ReportedRun>),
    /// Of a seed sweep.
    Sweep(ReportedSweep),
}

/// A seed sweep and its page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportedSweep {
    /// The page; `-` is standard output.
    pub page: PathBuf,
    /// The runs, their median and the best of them.
    #[serde(flatten)]
    pub summary: SweepSummary,
}

/// A run and its page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportedRun {
    /// The page; `-` is standard output.
    pub page: PathBuf,
    /// Folder of the run.
    pub run: PathBuf,
    /// Optimizer steps so far.
    pub step: u64,
    /// Questions trained on so far.
    pub trained_questions: u64,
    /// Mean tokens per second of training, excluding padding.
    pub tokens_per_second: Option<f64>,
    /// Mean operations of the model per second.
    pub model_flops_per_second: Option<f64>,
    /// Mean model FLOP utilization, see [`TrainRecord`](crate::record::metrics::TrainRecord).
    pub utilisation: Option<f64>,
    /// True if a process is training in the folder.
    pub in_progress: bool,
    /// Folder of the data set, at the latest start.
    pub data: Option<PathBuf>,
    /// Fingerprint of the data set.
    pub fingerprint: Option<String>,
    /// Steps of the checkpoints `latest` and `best`.
    pub checkpoints: BTreeMap<&'static str, u64>,
    /// The latest evaluation.
    pub latest: Option<Measurement>,
    /// The evaluation with the best value of the first metric.
    pub best: Option<Measurement>,
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => writeln!(f, "{}", run.page.display()),
            Self::Sweep(sweep) => writeln!(f, "{}\n{}", sweep.summary, sweep.page.display()),
        }
    }
}

impl Known {
    /// Describes the run for the page in `page`.
    pub(super) fn reported(&self, page: &Path) -> ReportedRun {
        let checkpoints = ["latest", "best"].into_iter().zip(self.checkpoints).filter_map(|(name, step)| Some((name, step?)));
        ReportedRun {
            page: page.to_owned(),
            run: self.folder.clone(),
            step: self.records.step(),
            trained_questions: self.records.samples(),
            tokens_per_second: self.records.mean("tokens_per_second"),
            model_flops_per_second: self.records.mean("model_flops_per_second"),
            utilisation: self.records.mean("utilisation"),
            in_progress: self.going_on,
            data: self.sessions.last().map(|session| session.data.clone()),
            fingerprint: self.sessions.last().map(|session| session.fingerprint.clone()),
            checkpoints: checkpoints.collect(),
            latest: self.records.evals.last().map(|entry| self.measurement(entry)),
            best: self.best().map(|entry| self.measurement(entry)),
        }
    }
    /// The metrics of an evaluation.
    pub(super) fn measurement(&self, entry: &Entry) -> Measurement {
        let known = self.metrics().iter().filter_map(|info| Some((*info, entry.value(info.name)?)));
        Measurement { step: entry.step, metrics: known.collect() }
    }
}
