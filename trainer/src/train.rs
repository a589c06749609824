//! The training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Kind, TchError};
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::run_folder::{RunFolder, RunState};
use crate::config::{Config, Precision, SettingsError, TrainSettings};
use crate::data::DataError;
use crate::data::loader::{Loader, LoaderConfig, Step};
use crate::data::mmap::SplitData;
use crate::data::pack::Packer;
use crate::data::sampler::Order;
use crate::device::DeviceError;
use crate::evaluate::{Evaluation, EvaluationConfig, evaluate};
use crate::metrics::{EvalRecord, Metrics, MetricsError, Record};
use crate::model::Glm;
use crate::model::cloze::{choice_scores, loss_sum};
use crate::optim::adamw::AdamW;
use crate::optim::clip::{clip_factor, global_norm};
use crate::progress::{LogWindow, Progress};

/// Why a run failed.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Weights or checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The metrics file.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Things that do not go together, or are missing.
    #[error("{0}")]
    Setup(String),
    /// libtorch.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

/// How a run ended. It has written a checkpoint in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The epochs, steps or samples that were asked for are done.
    Finished,
    /// An evaluation reached the target accuracy.
    TargetReached,
    /// It was asked to stop.
    Interrupted,
}

/// Everything that a run works with.
#[derive(Debug)]
pub struct Run {
    /// The settings.
    pub config: Config,
    /// Format of forward and backward pass, made definite.
    pub precision: Precision,
    /// Questions to train on.
    pub train_data: Arc<SplitData>,
    /// Questions to evaluate on, if there are any.
    pub val_data: Option<Arc<SplitData>>,
    /// How questions become batches.
    pub packer: Packer,
    /// The model.
    pub model: Glm,
    /// The optimizer.
    pub optimizer: AdamW,
    /// Where the run stands.
    pub state: RunState,
    /// Where it writes.
    pub folder: RunFolder,
    /// What it says.
    pub metrics: Metrics,
}

/// What one optimizer step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss a question.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
}

/// Trains until the run's limits, its target, or `stop`.
///
/// # Errors
/// [`TrainError`] of whichever part failed; checkpoints that were written stay whole.
pub fn train(run: &mut Run, stop: &AtomicBool) -> Result<Outcome, TrainError> {
    let mut loader = Loader::start(Arc::clone(&run.train_data), &run.state.fingerprint, run.loader_config())?;
    let mut window = LogWindow::start();
    let progress = Progress::new(run.planned_samples(), run.state.samples);
    let mut evaluated_at = None;
    let mut outcome = Outcome::Finished;

    while !run.limit_reached() {
        let Some(step) = loader.next_step()? else { break };
        let step_before = run.state.step;
        let report = run.optimizer_step(&step)?;
        window.add(&step, &report);
        progress.advance(run.state.samples);

        // A step that was skipped for overflow does not count, and is told of with the next one that does.
        if run.state.step > step_before && run.state.step.is_multiple_of(run.config.train.log_every.max(1)) {
            let record = window.take(&run.state, run.train_data.rows(), loader.waited());
            progress.train(&record);
            run.metrics.write(&Record::Train(record))?;
        }
        if run.evaluation_due(step.questions) {
            let evaluation = run.evaluate(&progress)?;
            evaluated_at = Some(run.state.samples);
            run.save()?;
            window.restart(loader.waited());
            if evaluation.is_some_and(|evaluation| run.reaches_target(evaluation)) {
                outcome = Outcome::TargetReached;
                break;
            }
        }
        if stop.load(Ordering::Relaxed) {
            outcome = Outcome::Interrupted;
            break;
        }
    }

    // A run that was asked to stop is in a hurry; any other ends with the accuracy of what it leaves behind.
    if outcome != Outcome::Interrupted && evaluated_at != Some(run.state.samples) {
        let evaluation = run.evaluate(&progress)?;
        if evaluation.is_some_and(|evaluation| run.reaches_target(evaluation)) {
            outcome = Outcome::TargetReached;
        }
    }
    let checkpoint = run.save()?;
    progress.finish(&format!("checkpoint {}", checkpoint.display()));
    Ok(outcome)
}

impl Run {
    fn loader_config(&self) -> LoaderConfig {
        LoaderConfig {
            order: Order::Shuffled { seed: self.config.train.seed },
            questions_a_step: self.config.data.questions_a_step,
            start: self.state.position,
            epochs: self.config.train.epochs,
            threads: self.config.data.decode_threads,
            queue_steps: self.config.data.queue_steps,
            packer: self.packer,
        }
    }

    /// Forward, backward and update for one step's questions.
    ///
    /// A gradient that is not finite skips the update and does not advance the schedule.
    ///
    /// # Errors
    /// [`TchError`], for example out of memory.
    pub fn optimizer_step(&mut self, step: &Step) -> Result<StepReport, TchError> {
        let scale = self.state.loss_scale.scale();
        let (seed, samples) = (self.config.train.seed, self.state.samples);
        let loss =
            accumulate_gradients(&self.model, step, self.precision.kind(), scale, |batch| dropout_seed(seed, samples, batch))?;
        let gradient_norm = global_norm(self.model.parameters())? / scale;
        let lr = self.config.schedule().at(self.state.step);
        let overflowed = !gradient_norm.is_finite();
        if !overflowed {
            let factor = clip_factor(gradient_norm, self.config.optim.clip) / scale;
            self.optimizer.step(self.model.parameters(), lr, factor)?;
        }
        self.state.loss_scale.update(overflowed);
        self.state.step += u64::from(!overflowed);
        self.state.skipped += u64::from(overflowed);
        self.state.samples += step.questions as u64;
        self.state.position = step.position;
        Ok(StepReport { loss, lr, gradient_norm })
    }

    fn planned_samples(&self) -> u64 {
        let TrainSettings { epochs, max_steps, max_samples, .. } = self.config.train;
        let all = epochs.saturating_mul(self.train_data.rows() as u64);
        let by_steps = if max_steps == 0 { all } else { max_steps.saturating_mul(self.config.data.questions_a_step as u64) };
        let by_samples = if max_samples == 0 { all } else { max_samples };
        all.min(by_steps).min(by_samples)
    }

    fn limit_reached(&self) -> bool {
        let TrainSettings { max_steps, max_samples, .. } = self.config.train;
        (max_steps > 0 && self.state.step >= max_steps) || (max_samples > 0 && self.state.samples >= max_samples)
    }

    /// Whether the step that has just been made passed a multiple of `eval_every`.
    fn evaluation_due(&self, questions: usize) -> bool {
        let every = self.config.train.eval_every;
        every > 0 && self.state.samples / every > (self.state.samples - questions as u64) / every
    }

    fn evaluate(&mut self, progress: &Progress) -> Result<Option<Evaluation>, TrainError> {
        let Some(data) = &self.val_data else { return Ok(None) };
        let config = EvaluationConfig {
            kind: self.precision.kind(),
            packer: Packer { labelled: false, ..self.packer },
            threads: self.config.data.decode_threads,
            limit: self.config.train.eval_questions,
        };
        let evaluation = evaluate(&self.model, data, config, drop)?;
        let record = EvalRecord { step: self.state.step, samples: self.state.samples, evaluation };
        progress.evaluation(&record);
        self.metrics.write(&Record::Eval(record))?;
        self.state.accuracy = Some(evaluation.accuracy);
        Ok(Some(evaluation))
    }

    fn reaches_target(&self, evaluation: Evaluation) -> bool {
        let target = self.config.train.target_accuracy;
        target > 0.0 && evaluation.accuracy >= target
    }

    /// Writes a checkpoint; the one with the best accuracy so far is marked.
    fn save(&mut self) -> Result<std::path::PathBuf, TrainError> {
        let is_best = match (self.state.accuracy, self.state.best_accuracy) {
            (Some(accuracy), Some(best)) => accuracy > best,
            (accuracy, None) => accuracy.is_some(),
            (None, _) => false,
        };
        if is_best {
            self.state.best_accuracy = self.state.accuracy;
        }
        self.state.optimizer_steps = self.optimizer.steps();
        let keep = self.config.train.keep_checkpoints;
        Ok(self.folder.save(&self.model, &self.optimizer, &self.state, is_best, keep)?)
    }
}

/// Forward and backward over a step's batches: leaves the gradient of the mean loss a question, times `scale`, in the
/// parameters, and returns that mean loss. `dropout_seed` gives each batch its seed.
///
/// # Errors
/// A [`TchError`], for example out of memory.
pub fn accumulate_gradients(
    model: &Glm,
    step: &Step,
    kind: Kind,
    scale: f64,
    dropout_seed: impl Fn(usize) -> i64,
) -> Result<f64, TchError> {
    let device = model.parameters().device();
    model.parameters().zero_grad()?;
    let mut loss = 0.0;
    for (i, batch) in step.batches.iter().enumerate() {
        let batch = batch.to_device(device, true)?;
        // Dropout depends on where the run stands and on nothing that happened before, so a resumed run repeats it.
        tch::manual_seed(dropout_seed(i));
        let scores = choice_scores(model, &batch, kind, true)?;
        let mean = loss_sum(&scores, &batch)?.f_div_scalar(step.questions as f64)?;
        mean.f_mul_scalar(scale)?.f_backward()?;
        loss += mean.f_double_value(&[])?;
    }
    Ok(loss)
}

/// A seed for each batch of each step; multiplication by odd constants keeps neighbours apart.
fn dropout_seed(seed: u64, samples: u64, batch: usize) -> i64 {
    let mixed = seed ^ samples.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (batch as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    mixed as i64
}
