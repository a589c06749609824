//! Last lines of a run's log: what it has reached, and the command that comes next.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use glm_support::page::number::duration;
use tracing::{info, warn};

use crate::config::TrainSettings;
use crate::distributed::Environment;
use crate::task::metrics::{Measured, MetricInfo};
use crate::train::{Outcome, Run};

/// Logs the outcome of a run, on rank 0.
pub fn log_outcome(run: &Run, outcome: Outcome, elapsed: Duration) {
    let Some(records) = &run.records else { return };
    let folder = &*records.checkpoints.place();
    let (step, samples) = (run.state.step, run.state.samples);
    let words = run.packer.task.words();
    let done = || format!("{step} steps, {samples} {}{}", words.samples, quality(run));
    match outcome {
        Outcome::Finished | Outcome::TargetReached => {
            let reached = if outcome == Outcome::TargetReached { "target reached" } else { "done" };
            info!("{reached} in {}: {}", duration(elapsed.as_secs_f64()), done());
            if run.state.skipped > 0 {
                info!("skipped steps, because loss or gradient was not finite: {}", run.state.skipped);
            }
            info!("next: glm-trainer report {}", quoted(folder));
        }
        Outcome::AlreadyComplete => {
            info!("nothing to do: the run in {} is complete: {}", folder.display(), done());
            info!("to train longer: {} {}", resume_command(folder), longer(run));
        }
        Outcome::Interrupted => {
            let steps = run.plan().steps;
            warn!("stopped at step {step} of {steps}; to resume: {}", resume_command(folder));
        }
    }
}

/// Formats the metric that selects the best checkpoint: of the last evaluation, and the best one.
fn quality(run: &Run) -> String {
    let metrics = run.packer.task.metrics();
    let find = |measured: &Measured| metrics.iter().copied().find(|info| info.name == measured.metric);
    let of_questions = |all: bool| match (all, run.config.train.eval_questions, &run.val_data) {
        (false, count, Some(data)) if (1..data.rows()).contains(&count) => {
            format!(" on {count} {}", run.packer.task.words().rows)
        }
        _ => String::new(),
    };
    let shown = |info: &MetricInfo, value| format!("{} {}", info.label, info.format(value));
    let mut text = String::new();
    let last = run.state.latest.as_ref().and_then(|measured| Some((find(measured)?, measured.value)));
    if let Some((info, value)) = last {
        let on_all = run.final_metrics.as_ref().and_then(|metrics| metrics.get(info.name));
        text += &format!(", {}{}", shown(info, on_all.unwrap_or(value)), of_questions(on_all.is_some()));
        if let Some(best) = run.state.best.as_ref().filter(|best| best.value != on_all.unwrap_or(value)) {
            text += &format!(" (best {}{})", shown(info, best.value), of_questions(false));
        }
    }
    text
}

/// Returns the command that resumes the run in a folder.
fn resume_command(folder: &Path) -> String {
    let processes = match Environment::read() {
        Ok(Some(Environment { world_size, local_world_size: Some(local), .. })) if world_size == local => {
            format!(" --nproc {world_size}")
        }
        _ => String::new(),
    };
    format!("glm-trainer run --resume --out {}{processes}", quoted(folder))
}

/// Returns the argument that doubles the length of a run.
fn longer(run: &Run) -> String {
    let TrainSettings { epochs, max_steps, max_samples, .. } = run.config.train;
    let mut arguments = Vec::new();
    if max_steps > 0 {
        arguments.push(format!("--max-steps {}", 2 * run.state.step.max(max_steps)));
    }
    if max_samples > 0 {
        arguments.push(format!("--set train.max_samples={}", 2 * run.state.samples.max(max_samples)));
    }
    let per_epoch = run.train_data.samples() as u64;
    if arguments.is_empty() || run.state.samples + per_epoch > epochs.saturating_mul(per_epoch) {
        arguments.push(format!("--epochs {}", 2 * epochs));
    }
    if run.config.train.target_metric > 0.0 {
        arguments.push("--set train.target_metric=0".to_owned());
    }
    arguments.join(" ")
}

/// Quotes a path for a shell.
pub fn quoted(path: &Path) -> impl Display {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.clone().into_owned(), |quoted| quoted.into_owned())
}
