//! The training loop.

pub mod anomaly;
mod error;
pub mod evaluate;
mod generation;
pub mod language_model;
pub mod memory_plan;
mod records;
mod save;
pub mod step;
pub mod stop;
mod validation;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use glm_text::tokenize::Tokenizer;
use tch::Device;

pub use error::TrainError;
pub use records::Records;

use crate::batch::layout::LayoutKind;
use crate::batch::out_of_memory::explain;
use crate::batch::work::Work;
use crate::checkpoint::parts::PartWriter;
use crate::checkpoint::run_folder::RunState;
use crate::checkpoint::snapshot::Snapshots;
use crate::config::plan::Plan;
use crate::config::{Config, TrainSettings};
use crate::data::balance::spread;
use crate::data::feed::Feeder;
use crate::data::loader::Loader;
use crate::data::mmap::SplitData;
use crate::data::pack::{Packer, Sample};
use crate::data::sampler::Position;
use crate::device::Precision;
use crate::distributed::{Phase, World};
use crate::model::flops::flop_rates;
use crate::optim::control::{self, Report};
use crate::record::metrics::Record;
use crate::record::progress::Progress;
use crate::record::window::{LogWindow, StepReport};
use crate::task::metrics::Metrics;
use crate::train::anomaly::{AnomalousStep, Anomaly};
use crate::train::step::Stepper;

/// Outcome of a run. The run has written a checkpoint in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The run has reached its number of epochs, steps or samples.
    Finished,
    /// An evaluation has reached the target.
    TargetReached,
    /// A signal has stopped the run.
    Interrupted,
    /// The run was complete before, so no step was made.
    AlreadyComplete,
}

/// A training run.
#[derive(Debug)]
pub struct Run {
    /// Settings.
    pub config: Config,
    /// Precision of forward and backward pass, resolved for the device.
    pub precision: Precision,
    /// Training split.
    pub train_data: Arc<SplitData>,
    /// Evaluation split, if there is one.
    pub val_data: Option<Arc<SplitData>>,
    /// Packer of training batches.
    pub packer: Packer,
    /// Tokenizer of the data set, for tasks that are evaluated by texts.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Model and optimizer.
    pub stepper: Stepper,
    /// State of the run.
    pub state: RunState,
    /// Copies of the training state.
    pub snapshots: Snapshots,
    /// Output files, on rank 0.
    pub records: Option<Records>,
    /// Parts of checkpoints, on other ranks that have a part of the optimizer state.
    pub parts: Option<PartWriter>,
    /// The other ranks, if any.
    pub world: Option<Rc<World>>,
    /// State in the latest checkpoint, if there is one.
    pub saved: Option<RunState>,
    /// Metrics of the final evaluation, on all questions.
    pub final_metrics: Option<Metrics>,
}

/// Step whose outcome the host has not read yet.
#[derive(Debug)]
struct InFlightStep {
    report: Report,
    samples: Arc<[Sample]>,
    weight: f64,
    spread: f64,
    work: Work,
    position: Position,
}

/// Trains until the run reaches its limits or its target, or `stop` is set. With several ranks, all call it and have the same outcome.
///
/// # Errors
/// [`TrainError`]; checkpoints already written stay intact.
pub fn train(run: &mut Run, stop: &AtomicBool) -> Result<Outcome, TrainError> {
    if run.has_ended() {
        run.leave()?;
        return Ok(Outcome::AlreadyComplete);
    }
    let loader = Loader::start(
        Arc::clone(&run.train_data),
        &run.state.fingerprint,
        run.config.loader(run.packer.clone(), run.state.position),
    )?;
    let mut feeder = run.feed(loader)?;
    let progress = Progress::new(run.plan(), &run.state, run.packer.task.words(), run.records.is_some());
    let mut log = Log { window: LogWindow::start(run.stepper.matmul_flops()), progress };
    let mut in_flight = VecDeque::new();
    let mut outcome = Outcome::Finished;

    loop {
        if run.was_evaluated() && run.reaches_target() {
            outcome = Outcome::TargetReached;
            break;
        }
        // Steps in flight count until they turn out to be skipped.
        if run.limit_reached(&in_flight) {
            run.settle(&mut in_flight, 0, &mut log, &feeder)?;
            if run.limit_reached(&in_flight) {
                break;
            }
        }
        run.publish_phase(Phase::Data);
        let Some(step) = feeder.next_step()? else { break };
        let report = run.stepper.step(&step, stop.load(Ordering::Relaxed));
        let report = report.map_err(|error| explain::<TrainError>(error, "a training step", step.longest()))?;
        let (samples, spread) = (Arc::clone(&step.samples), spread(&step.loads));
        let (weight, work, position, count) = (step.weight, step.work(), step.position, samples.len());
        in_flight.push_back(InFlightStep { report, samples, weight, spread, work, position });
        let mut stopping = run.settle(&mut in_flight, run.max_in_flight(), &mut log, &feeder)?;

        if let Some(records) = &mut run.records {
            records.follow(&log.progress, false);
        }
        let evaluation_due = run.passed(run.config.train.eval_every, &in_flight, count);
        let due = evaluation_due || run.passed(run.config.train.save_every, &in_flight, count);
        if due {
            stopping |= run.settle(&mut in_flight, 0, &mut log, &feeder)?;
        }
        // The end of the run has its own evaluation and checkpoint.
        let due = due && !run.is_complete();
        // If every step from these weights is skipped, the weights may be the cause: keep the checkpoint before them as the latest.
        if due && run.state.skipped_in_a_row == 0 {
            // Nothing that was learned from damaged data is saved.
            run.train_data.wait_verified()?;
            if evaluation_due {
                run.evaluate(run.subset(), &log.progress)?;
            }
            run.save(&log.progress)?;
            log.window.restart(feeder.waited());
        }
        if stopping {
            outcome = Outcome::Interrupted;
            break;
        }
    }
    run.settle(&mut in_flight, 0, &mut log, &feeder)?;
    // An interrupted run must end quickly; its data is verified when it is resumed.
    if outcome != Outcome::Interrupted {
        run.train_data.wait_verified()?;
    }

    // An interrupted run must end quickly; any other run ends with an evaluation of its final weights on all questions.
    if outcome != Outcome::Interrupted {
        run.log_steps(&mut log, &feeder)?;
        if !run.was_evaluated_on_all() {
            run.evaluate(None, &log.progress)?;
        }
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
    if let Some(parts) = &mut run.parts {
        parts.wait();
    }
    run.leave()?;
    Ok(outcome)
}

/// Log of a run.
struct Log {
    window: LogWindow,
    progress: Progress,
}

/// Maximum number of steps in flight on a GPU before the host reads the outcome of the oldest.
const MAX_IN_FLIGHT: usize = 4;

impl Run {
    fn feed(&self, loader: Loader) -> Result<Feeder, TrainError> {
        Ok(Feeder::start(loader, self.device(), self.stepper.backend().layout())?)
    }

    fn device(&self) -> Device {
        self.stepper.model.parameters().device()
    }

    fn max_in_flight(&self) -> usize {
        // On a CPU, a step is complete when the call returns.
        if self.device().is_cuda() { MAX_IN_FLIGHT } else { 0 }
    }

    /// Publishes the phase of this rank to the other ranks.
    fn publish_phase(&self, phase: Phase) {
        if let Some(world) = &self.world {
            world.set_phase(self.stepper.steps(), phase);
        }
    }

    /// Reads outcomes, the oldest first, until only `left` steps are in flight, and logs. Returns true if a rank was asked to
    /// stop; all ranks learn of it after the same step.
    fn settle(
        &mut self,
        in_flight: &mut VecDeque<InFlightStep>,
        left: usize,
        log: &mut Log,
        feeder: &Feeder,
    ) -> Result<bool, TrainError> {
        let mut stopping = false;
        while in_flight.len() > left {
            let Some(InFlightStep { report, samples, weight, spread, work, position }) = in_flight.pop_front() else { break };
            if let Some(world) = &self.world {
                world.wait_until(|| report.has_arrived())?;
            }
            let outcome = report.read()?;
            stopping |= outcome.stop;
            let anomaly = anomaly::follow(&mut self.state, &outcome);
            self.state.samples += samples.len() as u64;
            self.state.position = position;
            if let Some(anomaly) = anomaly {
                let rows: Vec<usize> = samples.iter().map(Sample::split_row).collect();
                self.report_anomaly(anomaly, &outcome, &rows, &log.progress)?;
            }
            let control::Outcome { loss, lr, gradient_norm, skipped, .. } = outcome;
            let flops = flop_rates(self.stepper.model.config()).training(&work);
            let pads = self.stepper.backend().layout() == LayoutKind::Padded;
            let samples = samples.len();
            log.window.add(&StepReport { loss, lr, gradient_norm, pads, skipped, samples, weight, spread, flops, work });
            log.progress.advance(self.state.samples);
            // Skipped steps are included in the log line of the next step that was not skipped.
            if !skipped && self.state.step.is_multiple_of(self.config.train.log_every.max(1)) {
                self.log_steps(log, feeder)?;
            }
        }
        Ok(stopping)
    }

    /// Logs and records the steps since the last log line, if any was not skipped. All ranks call it after the same step.
    fn log_steps(&mut self, log: &mut Log, feeder: &Feeder) -> Result<(), TrainError> {
        if log.window.is_empty() {
            return Ok(());
        }
        let own = log.window.numbers(feeder.waited(), self.device());
        let numbers = match &self.world {
            Some(world) => world.gather(&own)?,
            None => vec![own.to_vec()],
        };
        let record =
            log.window.take(&self.state, self.packer.task.words(), self.train_data.samples(), feeder.waited(), &numbers);
        log.progress.train(&record);
        self.write(&Record::Train(record));
        Ok(())
    }

    /// Logs and records an anomalous step; `rows` are its questions in the split.
    ///
    /// # Errors
    /// [`TrainError::TooManySkippedSteps`] if it is one too many.
    fn report_anomaly(
        &mut self,
        anomaly: Anomaly,
        outcome: &control::Outcome,
        rows: &[usize],
        progress: &Progress,
    ) -> Result<(), TrainError> {
        let word = self.packer.task.words().rows;
        if anomaly == Anomaly::Overflow {
            // A loss scale that starts too high takes some twenty steps.
            let text = AnomalousStep::new(anomaly, outcome, &self.state, Vec::new(), word).to_string();
            match self.state.skipped.is_power_of_two() {
                true => progress.line(&format!("{text} (skipped steps so far: {})", self.state.skipped)),
                false => progress.detail(&text),
            }
            return Ok(());
        }
        let max_consecutive_skips = self.config.train.max_consecutive_skips;
        let is_last = max_consecutive_skips > 0 && self.state.skipped_in_a_row >= max_consecutive_skips;
        if self.records.is_none() && !is_last {
            return Ok(());
        }
        let step = AnomalousStep::new(anomaly, outcome, &self.state, self.train_data.example_ids(rows)?, word);
        progress.warning(&step.to_string());
        if let Some(records) = &mut self.records {
            records.metrics.write(&step.record());
        }
        if !is_last {
            return Ok(());
        }
        let own = self.records.as_mut().map(|records| records.latest_checkpoint(progress));
        let last_checkpoint = match &self.world {
            // Only rank 0 knows it.
            Some(world) => world.broadcast_value("last checkpoint", own)?,
            None => own.flatten(),
        };
        Err(step.into_error(last_checkpoint).into())
    }

    fn write(&mut self, record: &Record) {
        if let Some(records) = &mut self.records {
            records.metrics.write(record);
        }
    }

    /// Returns the length of the run.
    pub fn plan(&self) -> Plan {
        let Plan { steps, samples } = Plan::of(&self.config, self.train_data.samples());
        // Skipped steps use samples, too, and a limit may be lower than what has been done before it was set.
        Plan { steps: steps.max(self.state.step), samples: samples.max(self.state.samples) }
    }

    /// Returns true if there are no more steps to make. Only without steps in flight.
    fn is_complete(&self) -> bool {
        self.limit_reached(&VecDeque::new()) || self.state.position.epoch >= self.config.train.epochs
    }

    /// Returns true if a resumed run has nothing left to do.
    fn has_ended(&self) -> bool {
        let is_at_target = self.was_evaluated() && self.reaches_target();
        self.saved.is_some() && (self.is_complete() || is_at_target) && self.was_evaluated_on_all()
    }

    /// Ends the work with the other ranks.
    fn leave(&self) -> Result<(), TrainError> {
        Ok(self.world.as_ref().map_or(Ok(()), |world| world.finish())?)
    }

    /// Returns true if the run has reached its limits, counting the steps in flight.
    fn limit_reached(&self, in_flight: &VecDeque<InFlightStep>) -> bool {
        let TrainSettings { max_steps, max_samples, .. } = self.config.train;
        let step = self.state.step + in_flight.len() as u64;
        (max_steps > 0 && step >= max_steps) || (max_samples > 0 && self.samples_submitted(in_flight) >= max_samples)
    }

    /// Returns the number of samples used, including steps in flight.
    fn samples_submitted(&self, in_flight: &VecDeque<InFlightStep>) -> u64 {
        self.state.samples + in_flight.iter().map(|step| step.samples.len() as u64).sum::<u64>()
    }

    /// Returns true if the latest step, of `samples` samples, passed a multiple of `every` samples.
    fn passed(&self, every: u64, in_flight: &VecDeque<InFlightStep>, samples: usize) -> bool {
        let submitted = self.samples_submitted(in_flight);
        every > 0 && submitted / every > (submitted - samples as u64) / every
    }
}
