//! The training loop.

pub mod anomaly;
mod error;
pub mod evaluate;
pub mod step;
pub mod stop;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use glm_schemas::manifest::Split;
use tch::Device;

pub use error::TrainError;

use crate::batch::work::Work;
use crate::checkpoint::background::Background;
use crate::checkpoint::run_folder::{RunFolder, RunState};
use crate::checkpoint::snapshot::Snapshot;
use crate::config::{Config, TrainSettings};
use crate::data::balance::spread;
use crate::data::feed::Feeder;
use crate::data::loader::{Loader, Position};
use crate::data::mmap::SplitData;
use crate::data::pack::Packer;
use crate::device::Precision;
use crate::distributed::{Phase, World};
use crate::optim::control::Report;
use crate::record::answers::{ANSWERS_FILE, Answers};
use crate::record::metrics::{EvalRecord, Metrics, Record};
use crate::record::progress::{LogWindow, Progress};
use crate::train::evaluate::{EvaluationConfig, evaluate};
use crate::train::step::Stepper;

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
    /// The model and what trains it.
    pub stepper: Stepper,
    /// Where the run stands.
    pub state: RunState,
    /// What it leaves behind; of several ranks, the first one writes.
    pub records: Option<Records>,
    /// The other ranks, where there are any.
    pub world: Option<Rc<World>>,
    /// What the newest checkpoint holds, if there is one.
    pub saved: Option<RunState>,
}

/// Where a run writes.
#[derive(Debug)]
pub struct Records {
    /// Its checkpoints.
    pub checkpoints: Background,
    /// What it says.
    pub metrics: Metrics,
}

impl Records {
    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        self.checkpoints.folder()
    }

    /// Tells what became of a checkpoint; `wait`: of the one under way, else only if it is done. One that failed does not end
    /// training: the ones before it are whole, and the next may fare better.
    pub(crate) fn follow(&mut self, progress: &Progress, wait: bool) {
        match if wait { self.checkpoints.wait() } else { self.checkpoints.poll() } {
            Ok(Some(written)) => progress.checkpoint(&written),
            Ok(None) => {}
            Err(error) => tracing::error!("{error}; training goes on, {}", self.last_good()),
        }
    }

    /// Writes the newest evaluation's answers. Training never ends for the sake of this file.
    fn write_answers(&self, answers: Answers, record: &EvalRecord, split: Split) {
        let written = answers.lines(record, split.name()).map_err(|error| error.to_string());
        let written = written.and_then(|lines| self.folder().write(ANSWERS_FILE, &lines).map_err(|error| error.to_string()));
        if let Err(error) = written {
            tracing::warn!("{error}; training goes on, and {ANSWERS_FILE} is not that of the newest evaluation");
        }
    }

    /// What a run that fails leaves behind.
    fn last_good(&self) -> String {
        match self.folder().latest() {
            Some(path) => format!("and the newest checkpoint is {}", path.display()),
            None => "and there is no checkpoint yet".to_owned(),
        }
    }
}

/// What one optimizer step did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepReport {
    /// Mean loss a question.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Whether padding is computed, as libtorch's own operations do.
    pub pads: bool,
    /// Whether it was skipped.
    pub skipped: bool,
    /// Questions of all ranks.
    pub questions: usize,
    /// How uneven the ranks' shares are, see [`spread`].
    pub spread: f64,
    /// Operations of the model on this rank.
    pub flops: f64,
    /// What this rank worked on.
    pub work: Work,
}

/// A step that was asked for and whose outcome has not been read yet.
#[derive(Debug)]
struct Pending {
    report: Report,
    questions: usize,
    split_rows: Arc<[usize]>,
    spread: f64,
    work: Work,
    position: Position,
}

/// Trains until the run's limits, its target, or `stop`. Where several ranks train, all call it, and all come to the same end.
///
/// # Errors
/// [`TrainError`] of whichever part failed; checkpoints that were written stay whole.
pub fn train(run: &mut Run, stop: &AtomicBool) -> Result<Outcome, TrainError> {
    let loader =
        Loader::start(Arc::clone(&run.train_data), &run.state.fingerprint, run.config.loader(run.packer, run.state.position))?;
    let mut feeder = run.feed(loader)?;
    let progress = Progress::new(run.planned_samples(), run.state.samples, run.records.is_some());
    let mut log = Log { window: LogWindow::start(), progress };
    let mut pending = VecDeque::new();
    let mut outcome = Outcome::Finished;

    loop {
        if run.was_evaluated() && run.reaches_target() {
            outcome = Outcome::TargetReached;
            break;
        }
        // Steps that are under way count until they turn out to have been skipped.
        if run.limit_reached(&pending) {
            run.settle(&mut pending, 0, &mut log, &feeder)?;
            if run.limit_reached(&pending) {
                break;
            }
        }
        run.at(Phase::Data);
        let Some(step) = feeder.next_step()? else { break };
        let report = run.stepper.step(&step, stop.load(Ordering::Relaxed))?;
        let (questions, spread) = (step.questions, spread(&step.loads));
        let (split_rows, work, position) = (Arc::clone(&step.split_rows), step.work(), step.position);
        pending.push_back(Pending { report, questions, split_rows, spread, work, position });
        let mut stopping = run.settle(&mut pending, run.steps_under_way(), &mut log, &feeder)?;

        if let Some(records) = &mut run.records {
            records.follow(&log.progress, false);
        }
        let evaluation_due = run.passed(run.config.train.eval_every, &pending, step.questions);
        let due = evaluation_due || run.passed(run.config.train.save_every, &pending, step.questions);
        if due {
            stopping |= run.settle(&mut pending, 0, &mut log, &feeder)?;
        }
        // Weights from which no step succeeds may be what is wrong: the checkpoint before them stays the newest.
        if due && run.state.skipped_in_a_row == 0 {
            if evaluation_due {
                run.evaluate(&log.progress)?;
            }
            run.save(&log.progress)?;
            log.window.restart(feeder.waited());
        }
        if stopping {
            outcome = Outcome::Interrupted;
            break;
        }
    }
    run.settle(&mut pending, 0, &mut log, &feeder)?;

    // A run that was asked to stop is in a hurry; any other ends with the accuracy of what it leaves behind.
    if outcome == Outcome::Finished && !run.was_evaluated() {
        run.evaluate(&log.progress)?;
        if run.reaches_target() {
            outcome = Outcome::TargetReached;
        }
    }
    run.save(&log.progress)?;
    if let Some(records) = &mut run.records {
        if let Some(written) = records.checkpoints.wait()? {
            log.progress.checkpoint(&written);
        }
        log.progress.finish();
    }
    if let Some(world) = &run.world {
        world.finish()?;
    }
    Ok(outcome)
}

/// What is told of a run.
struct Log {
    window: LogWindow,
    progress: Progress,
}

/// Steps that a GPU may be behind: the host reads a step's outcome when that many have been asked for behind it.
const STEPS_UNDER_WAY: usize = 4;

impl Run {
    fn feed(&self, loader: Loader) -> Result<Feeder, TrainError> {
        Ok(Feeder::start(loader, self.device(), self.stepper.needs_padded_view())?)
    }

    fn device(&self) -> Device {
        self.stepper.model.parameters().device()
    }

    fn steps_under_way(&self) -> usize {
        // A CPU has done a step when the call returns.
        if self.device().is_cuda() { STEPS_UNDER_WAY } else { 0 }
    }

    /// Tells other ranks what this one is doing.
    fn at(&self, phase: Phase) {
        if let Some(world) = &self.world {
            world.set_phase(self.state.step, phase);
        }
    }

    /// Reads outcomes, the oldest first, until only `left` steps are under way, and logs what is due. Whether a rank was asked
    /// to stop: all ranks hear of it behind the same step.
    fn settle(
        &mut self,
        pending: &mut VecDeque<Pending>,
        left: usize,
        log: &mut Log,
        feeder: &Feeder,
    ) -> Result<bool, TrainError> {
        let mut stopping = false;
        while pending.len() > left {
            let Some(Pending { report, questions, split_rows, spread, work, position }) = pending.pop_front() else { break };
            let outcome = report.read()?;
            stopping |= outcome.stop;
            let lr = self.config.schedule().at(self.state.step);
            let trouble = self.state.follow(&outcome, self.config.spikes());
            self.state.samples += questions as u64;
            self.state.position = position;
            if let Some(trouble) = trouble {
                self.tell(trouble, &outcome, &split_rows, &log.progress)?;
            }
            let (loss, gradient_norm, skipped) = (outcome.loss, outcome.gradient_norm, outcome.skipped);
            let flops = work.training_flops(self.stepper.model.config());
            let pads = self.stepper.needs_padded_view();
            log.window.add(&StepReport { loss, lr, gradient_norm, pads, skipped, questions, spread, flops, work });
            log.progress.advance(self.state.samples);
            // A step that was skipped does not count, and is told of with the next one that does.
            if !skipped && self.state.step.is_multiple_of(self.config.train.log_every.max(1)) {
                let own = log.window.numbers(feeder.waited(), self.device());
                let numbers = match &self.world {
                    Some(world) => world.gather(&own)?,
                    None => vec![own.to_vec()],
                };
                let record = log.window.take(&self.state, self.train_data.rows(), feeder.waited(), &numbers);
                log.progress.train(&record);
                self.write(&Record::Train(record));
            }
        }
        Ok(stopping)
    }

    pub(crate) fn write(&mut self, record: &Record) {
        if let Some(records) = &mut self.records {
            records.metrics.write(record);
        }
    }

    /// Questions after which it is at its end.
    pub(crate) fn planned_samples(&self) -> u64 {
        let TrainSettings { epochs, max_steps, max_samples, .. } = self.config.train;
        let all = epochs.saturating_mul(self.train_data.rows() as u64);
        let by_steps = if max_steps == 0 { all } else { max_steps.saturating_mul(self.config.questions_per_update() as u64) };
        let by_samples = if max_samples == 0 { all } else { max_samples };
        all.min(by_steps).min(by_samples)
    }

    /// Whether the run is at its end once all steps under way have counted.
    fn limit_reached(&self, pending: &VecDeque<Pending>) -> bool {
        let TrainSettings { max_steps, max_samples, .. } = self.config.train;
        let step = self.state.step + pending.len() as u64;
        (max_steps > 0 && step >= max_steps) || (max_samples > 0 && self.samples_asked_for(pending) >= max_samples)
    }

    /// Questions used, steps under way included.
    fn samples_asked_for(&self, pending: &VecDeque<Pending>) -> u64 {
        self.state.samples + pending.iter().map(|step| step.questions as u64).sum::<u64>()
    }

    /// Whether the step that was asked for last passed a multiple of `every` questions. On a CPU it is no longer under way.
    fn passed(&self, every: u64, pending: &VecDeque<Pending>, questions: usize) -> bool {
        let samples = self.samples_asked_for(pending);
        every > 0 && samples / every > (samples - questions as u64) / every
    }

    fn evaluate(&mut self, progress: &Progress) -> Result<(), TrainError> {
        self.at(Phase::Evaluation);
        self.state.evaluated_at = Some(self.state.samples);
        let Some(data) = &self.val_data else { return Ok(()) };
        let config = EvaluationConfig {
            kind: self.precision.kind(),
            kernels: self.config.train.kernels,
            packer: Packer { labelled: false, graded: true, ..self.packer },
            threads: self.config.data.decode_threads,
            limit: self.config.train.eval_questions,
        };
        let (world, split) = (self.world.as_deref(), data.split());
        let mut answers = Answers::default();
        let evaluation = evaluate(&self.stepper.model, data, config, world, |answer| answers.add(answer))?;
        let answers = answers.gathered(world)?;
        let record = EvalRecord { step: self.state.step, samples: self.state.samples, evaluation };
        if let Some(records) = &self.records {
            records.write_answers(answers, &record, split);
        }
        progress.evaluation(&record);
        self.write(&Record::Eval(record));
        self.state.accuracy = Some(evaluation.accuracy);
        Ok(())
    }

    /// Whether the newest accuracy is that of the weights as they are.
    fn was_evaluated(&self) -> bool {
        self.state.evaluated_at == Some(self.state.samples)
    }

    fn reaches_target(&self) -> bool {
        let target = self.config.train.target_accuracy;
        target > 0.0 && self.state.accuracy.is_some_and(|accuracy| accuracy >= target)
    }

    /// Starts to write a checkpoint, on the first rank, unless there is one of this state; the one with the best accuracy so
    /// far is marked.
    fn save(&mut self, progress: &Progress) -> Result<(), TrainError> {
        self.at(Phase::Checkpoint);
        let start = Instant::now();
        let is_best = match (self.state.accuracy, self.state.best_accuracy) {
            (Some(accuracy), Some(best)) => accuracy > best,
            (accuracy, None) => accuracy.is_some(),
            (None, _) => false,
        };
        if is_best {
            self.state.best_accuracy = self.state.accuracy;
        }
        self.state.optimizer_steps = self.stepper.optimizer.steps()?;
        if self.saved.as_ref() == Some(&self.state) {
            return Ok(());
        }
        if let Some(world) = &self.world {
            world.check_weights(self.stepper.model.parameters(), self.state.step)?;
        }
        self.saved = Some(self.state.clone());
        let Some(records) = &mut self.records else { return Ok(()) };
        records.follow(progress, true);
        let metrics = records.metrics.lines().to_vec();
        let snapshot = Snapshot::take(&self.stepper.model, &self.stepper.optimizer, self.state.clone(), metrics)?;
        Ok(records.checkpoints.start(snapshot, is_best, start)?)
    }
}
