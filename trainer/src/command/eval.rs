//! `glm-trainer eval`: metrics of weights on a split.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use glm_schemas::manifest::Split;
use glm_support::files::atomic::{self, Sink};
use serde::Serialize;
use thiserror::Error;

use crate::command::setup::{Scorer, SetupError};
use crate::command::weights::{Provenance, WeightArgs};
use crate::config::args::SettingArgs;
use crate::data::DataError;
use crate::device::DeviceChoice;
use crate::task::metrics::Evaluation;
use crate::train::evaluate::evaluate;

/// Arguments of `eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// Data set: the folder given to `glm-prep ingest`, or its `shards` [default: $GLM_DATA_DIR, else /home/data/perf/glm]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub weights: WeightArgs,
    /// Split: train or val
    #[arg(long, default_value = "val")]
    pub split: Split,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Write one JSON line per question: example_id, scores, predicted, correct, hit
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

/// Errors of commands that score a split.
#[derive(Debug, Error)]
pub enum EvalError {
    /// Data set, weights, settings or device.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A row cannot be scored.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A split without answers.
    #[error(
        "the test split has no answers, so accuracy cannot be measured; use --split val or train, \
         or write predictions with `glm-trainer predict`"
    )]
    NoAnswers,
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

/// Errors while a file of lines is written.
#[derive(Debug)]
pub(crate) enum LineError {
    Io(io::Error),
    Data(DataError),
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DataError> for LineError {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

/// Writes JSON lines to a file atomically.
pub(crate) fn write_lines(path: &Path, fill: impl FnOnce(&mut dyn Sink) -> Result<(), LineError>) -> Result<(), EvalError> {
    atomic::write(path, fill).map_err(|error| match error {
        LineError::Io(source) => EvalError::Write { path: path.to_owned(), source },
        LineError::Data(error) => EvalError::Data(error),
    })
}

/// Appends a JSON line.
pub(crate) fn write_line(file: &mut dyn Sink, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

/// Result of `eval`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalResult {
    /// Metrics.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Weights and data.
    #[serde(flatten)]
    pub provenance: Provenance,
}

impl fmt::Display for EvalResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.evaluation.fmt(f)
    }
}

/// Evaluates weights on a split, and writes one line per answer to `--scores`.
///
/// # Errors
/// [`EvalError`].
pub fn run(args: &EvalArgs) -> Result<EvalResult, EvalError> {
    if args.split == Split::Test {
        return Err(EvalError::NoAnswers);
    }
    let (Scorer { model, config, .. }, data, provenance) =
        Scorer::with_split(args.data.clone(), args.split, &args.weights, args.device, &args.settings)?;
    let Some(path) = &args.scores else {
        return Ok(EvalResult { evaluation: evaluate(&model, &data, &config, None, drop)?, provenance });
    };
    let mut evaluation = Evaluation::default();
    write_lines(path, |file| {
        let mut written = Ok(());
        evaluation = evaluate(&model, &data, &config, None, |answer| {
            if written.is_ok() {
                written = write_line(file, &answer);
            }
        })?;
        Ok(written?)
    })?;
    Ok(EvalResult { evaluation, provenance })
}
