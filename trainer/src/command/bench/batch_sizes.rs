//! Speed of training by number of questions per step.

use serde::Serialize;
use tch::Device;

use super::training::{self, Subject};
use super::{BenchArgs, BenchError, TrainingSpeed};
use crate::config::Config;
use crate::data::mmap::DataSet;
use crate::memory;
use crate::task::Objective;

/// Training speed for several numbers of questions per step.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct BatchSizes(pub Vec<TrainingSpeed>);

/// Trains a new model for each number of questions.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(
    config: &Config,
    data: Option<&DataSet>,
    device: Device,
    args: &BenchArgs,
) -> Result<BatchSizes, BenchError> {
    let mut speeds = Vec::new();
    for &batch_size in &args.batch_sizes {
        let mut config = config.clone();
        config.data.batch_size = batch_size;
        config.validate()?;
        let subject = data.map_or(Subject::Synthetic(Objective::Cloze), Subject::Data);
        let speed = training::measure(&config, subject, device, args.plan(device))?;
        // A size that does not fit into memory ends the program, so results are reported as they come.
        tracing::info!("{} questions per step: {:.2} questions/s", speed.batch_size, speed.questions_per_second);
        speeds.push(speed);
        memory::release(device)?;
    }
    Ok(BatchSizes(speeds))
}
