//! Speed of training by task.

use std::fmt;

use serde::Serialize;
use tch::Device;

use super::training::{self, Subject};
use super::{BenchArgs, BenchError, TrainingSpeed};
use crate::config::Config;
use crate::memory;

/// Training speed of several tasks.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Tasks(pub Vec<TrainingSpeed>);

/// Trains a new model on synthetic data for each task.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(config: &Config, device: Device, args: &BenchArgs) -> Result<Tasks, BenchError> {
    let mut speeds = Vec::new();
    for &task in &args.task {
        let speed = training::measure(config, Subject::Synthetic(task), device, args.plan(device))?;
        tracing::info!("{task}: {:.0} tokens/s", speed.tokens_per_second);
        speeds.push(speed);
        memory::release(device)?;
    }
    Ok(Tasks(speeds))
}

impl fmt::Display for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return Ok(()) };
        first.write_conditions(f)?;
        let [task, tokens, ratio, predicted, length, utilisation] =
            ["task", "tokens/s", "ratio", "predicted/s", "tokens each", "utilisation"];
        writeln!(f, "{task:<9}  {tokens:>9}  {ratio:>5}  {predicted:>11}  {length:>11}  {utilisation:>11}")?;
        for speed in &self.0 {
            writeln!(
                f,
                "{:<9}  {:9.0}  {:5.2}  {:11.0}  {:11.1}  {:>11}",
                speed.task.name(),
                speed.tokens_per_second,
                speed.tokens_per_second / first.tokens_per_second,
                speed.targets_per_second,
                speed.mean_context_tokens + speed.mean_piece_tokens,
                format!("{:.0} %", 100.0 * speed.utilisation),
            )?;
        }
        Ok(())
    }
}
