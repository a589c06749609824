//! `glm-trainer bench`: speed of training, of generation and of reading data on this machine.

mod args;
mod baseline;
mod batch_sizes;
mod generation;
mod print;
mod reading;
mod synthetic;
mod tasks;
mod training;

use std::fmt;

use arrow_schema::ArrowError;
use serde::Serialize;
use tch::TchError;
use thiserror::Error;

use crate::batch::out_of_memory::OutOfMemory;
use crate::command::setup::{SetupError, open_data, set_threads};
use crate::config::SettingsError;
use crate::data::DataError;
use crate::generate::GenerateError;
use crate::task::Objective;

pub use args::{BenchArgs, Plan};
pub use baseline::{BaselineError, Comparison, PublishedSpeed};
pub use batch_sizes::BatchSizes;
pub use generation::{BatchSpeed, GenerationSpeed, PlainSpeed};
pub use reading::ReadingSpeed;
pub use tasks::Tasks;
use training::Subject;
pub use training::TrainingSpeed;

/// Errors of `bench`.
#[derive(Debug, Error)]
pub enum BenchError {
    /// Data set, settings or device.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A row cannot be read or packed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Settings that do not go together.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// A batch does not fit into memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] TchError),
    /// Synthetic rows cannot be built.
    #[error("cannot build synthetic data: {0}")]
    Synthetic(#[from] ArrowError),
    /// The published form.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// Generation.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The data set is too small.
    #[error("the data set has too few rows for this number of steps; use a smaller --steps")]
    TooFewQuestions,
}

/// A result of `bench`.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Speed {
    /// Of training.
    Training(Box<TrainingSpeed>),
    /// Of training, beside the published form.
    Comparison(Box<Comparison>),
    /// Of training, for several numbers of questions per step.
    BatchSizes(BatchSizes),
    /// Of generation.
    Generation(Box<GenerationSpeed>),
    /// Of training, for several tasks.
    Tasks(Tasks),
    /// Of reading data.
    Reading(ReadingSpeed),
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Training(speed) => speed.fmt(f),
            Self::Comparison(comparison) => comparison.fmt(f),
            Self::BatchSizes(speeds) => speeds.fmt(f),
            Self::Generation(speed) => speed.fmt(f),
            Self::Tasks(speeds) => speeds.fmt(f),
            Self::Reading(speed) => speed.fmt(f),
        }
    }
}

/// Measures what the arguments ask for.
///
/// # Errors
/// [`BenchError`].
pub fn run(args: &BenchArgs) -> Result<Speed, BenchError> {
    let config = args.resolve()?;
    set_threads(&config);
    let data = args.data.as_deref().map(open_data).transpose()?;
    if let (Some(data), true) = (&data, args.data_only) {
        return reading::measure(&config, data).map(Speed::Reading);
    }
    let device = args.device.resolve().map_err(SetupError::from)?;
    if args.generate {
        return generation::measure(&config, device, args).map(|speed| Speed::Generation(Box::new(speed)));
    }
    if args.baseline {
        return baseline::compare(&config, device, args).map(|comparison| Speed::Comparison(Box::new(comparison)));
    }
    if !args.batch_sizes.is_empty() {
        return batch_sizes::measure(&config, data.as_ref(), device, args).map(Speed::BatchSizes);
    }
    if args.task.len() > 1 {
        return tasks::measure(&config, device, args).map(Speed::Tasks);
    }
    let subject = match &data {
        Some(data) => Subject::Data(data),
        None => Subject::Synthetic(args.task.first().copied().unwrap_or(Objective::Cloze)),
    };
    training::measure(&config, subject, device, args.plan(device)).map(|speed| Speed::Training(Box::new(speed)))
}
