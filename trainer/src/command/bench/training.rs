//! Speed of training.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glm_schemas::manifest::Split;
use glm_schemas::vocab::{SpecialIds, embedding_rows};
use serde::Serialize;
use tch::{Device, Kind, TchError};

use super::{BenchError, Plan, synthetic};
use crate::batch::layout::LayoutKind;
use crate::batch::out_of_memory::explain;
use crate::batch::work::Work;
use crate::command::setup::{open_task, resolve_micro_batch_tokens};
use crate::config::Config;
use crate::data::DataError;
use crate::data::feed::{DeviceStep, Feeder};
use crate::data::loader::{Loader, LoaderConfig};
use crate::data::mmap::DataSet;
use crate::data::sampler::Position;
use crate::memory::peak_bytes;
use crate::model::flops::flop_rates;
use crate::model::ops::clock;
use crate::model::{Backend, Glm, matmul_flops};
use crate::optim::adamw::AdamW;
use crate::optim::control::ControlState;
use crate::task::{self, Objective, Purpose};
use crate::train::step::Stepper;

/// Number of token ids of BERT's uncased vocabulary, for synthetic questions.
pub(super) const VOCABULARY: usize = 30522;

/// Data to train on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    /// A data set.
    Data(&'a DataSet),
    /// Synthetic rows of a task.
    Synthetic(Objective),
}

/// Training speed. Questions are samples of documents if the task is blank infilling.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingSpeed {
    /// The task.
    pub task: Objective,
    /// Questions per second, from the median step.
    pub questions_per_second: f64,
    /// Tokens per second, from the median step.
    pub tokens_per_second: f64,
    /// Tokens per second that are predicted, from the median step.
    pub targets_per_second: f64,
    /// Seconds of each step.
    pub step_seconds: Vec<f64>,
    /// Seconds that the host took to queue each step; on a CPU, those of the step.
    pub host_seconds: Vec<f64>,
    /// Timed steps without an update: loss or gradient was not finite, or a spike with `train.skip_on_spike`.
    pub skipped_steps: usize,
    /// Questions of a step.
    pub batch_size: usize,
    /// Batches of a step, on average.
    pub mean_batches: f64,
    /// Context tokens of a question.
    pub mean_context_tokens: f64,
    /// Piece tokens of a question, as computed: the start of piece once a context.
    pub mean_piece_tokens: f64,
    /// Positions of a question that go through the vocabulary projection.
    pub mean_scored: f64,
    /// Choices of a question.
    pub mean_choices: f64,
    /// Share of computed tokens that is padding.
    pub padding: f64,
    /// Share of the time that was spent waiting for data.
    pub data_wait: f64,
    /// Operations of a training step for one question, see [`crate::batch::work::FlopRates::training`].
    pub model_flops_per_question: f64,
    /// Model operations per second, from the median step.
    pub model_flops_per_second: f64,
    /// Operations per second of a matrix product alone, the largest of the model, in the same kind.
    pub product_flops_per_second: f64,
    /// The former over the latter.
    pub utilisation: f64,
    /// Peak memory in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Format of forward and backward pass.
    pub precision: String,
    /// The device.
    pub device: String,
    /// Threads of libtorch's operators on a CPU.
    pub threads: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// Mean loss of the last step.
    pub loss: f64,
    /// Seconds per step and kind of operation, if measured; on a GPU in separate steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profile: Vec<(&'static str, f64)>,
}

/// Source of steps.
enum Source {
    Shards(Box<Feeder>),
    Synthetic(std::vec::IntoIter<DeviceStep>),
}

impl Source {
    fn next(&mut self) -> Result<DeviceStep, BenchError> {
        let step = match self {
            Self::Shards(feeder) => feeder.next_step()?,
            Self::Synthetic(steps) => steps.next(),
        };
        step.ok_or(BenchError::TooFewQuestions)
    }

    fn waited(&self) -> Duration {
        match self {
            Self::Shards(feeder) => feeder.waited(),
            Self::Synthetic(_) => Duration::ZERO,
        }
    }
}

/// Measurements of a series of steps.
#[derive(Debug, Default)]
struct Series {
    seconds: Vec<f64>,
    host_seconds: Vec<f64>,
    work: Work,
    batches: usize,
    skipped: usize,
    waited: Duration,
    loss: f64,
}

impl Series {
    /// Trains `count` steps. As in training, a GPU gets the next step before the last one is done.
    fn train(stepper: &mut Stepper, source: &mut Source, count: usize) -> Result<Self, BenchError> {
        let ahead = usize::from(stepper.model.parameters().device().is_cuda());
        let (mut series, mut pending, waited_before) = (Self::default(), VecDeque::new(), source.waited());
        let mut last = Instant::now();
        for i in 0..count + ahead {
            if i < count {
                let step = source.next()?;
                series.work += step.work();
                series.batches += step.batches.len();
                let begin = Instant::now();
                let report = stepper.step(&step, false);
                let report = report.map_err(|error| explain::<BenchError>(error, "a training step", step.longest()))?;
                pending.push_back(report);
                series.host_seconds.push(begin.elapsed().as_secs_f64());
            }
            if i >= ahead
                && let Some(report) = pending.pop_front()
            {
                let outcome = report.read()?;
                let now = Instant::now();
                series.seconds.push((now - last).as_secs_f64());
                series.skipped += usize::from(outcome.skipped);
                series.loss = outcome.loss;
                last = now;
            }
        }
        series.waited = source.waited() - waited_before;
        Ok(series)
    }

    /// Seconds per step and kind of operation since the clock was started, and the remainder.
    fn profile(&self, backend: Backend) -> Result<Vec<(&'static str, f64)>, TchError> {
        let steps = self.seconds.len().max(1) as f64;
        let mut profile: Vec<_> = clock::stop()?.into_iter().map(|(name, spent)| (name, spent.as_secs_f64() / steps)).collect();
        let known: f64 = profile.iter().map(|(_, seconds)| seconds).sum();
        let rest = if backend == Backend::Torch { "backward of libtorch's operators and the rest" } else { "the rest" };
        profile.push((rest, self.seconds.iter().sum::<f64>() / steps - known));
        Ok(profile)
    }
}

/// Trains a model with random weights for a few steps.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(config: &Config, subject: Subject<'_>, device: Device, plan: Plan) -> Result<TrainingSpeed, BenchError> {
    let precision = config.train.precision.on(device);
    let vocabulary = match subject {
        Subject::Data(data) => data.manifest().tokenizer.vocab_size,
        Subject::Synthetic(_) => VOCABULARY,
    };
    let sizes = config.random_model(embedding_rows(vocabulary))?;
    tch::manual_seed(config.train.seed as i64);
    let mut model = Glm::random(&sizes, Kind::Float, device)?;
    model.alloc_grads()?;
    let optimizer = AdamW::new(config.adamw(), model.parameters())?;
    let task = match subject {
        Subject::Data(data) => open_task(config, data.manifest()),
        Subject::Synthetic(objective) => task::open(objective.table(), config.task(SpecialIds::BERT_UNCASED)),
    };
    let objective = Objective::on(task.name());
    let control = ControlState::new(config.loss_scale(precision));
    let mut stepper = Stepper::new(Arc::clone(&task), model, optimizer, config, precision, control, None)?;
    let backend = stepper.backend();
    let mut config = config.clone();
    resolve_micro_batch_tokens(&mut config, task.scored_share(), &stepper.model, stepper.pass(), true, None)?;
    let layout = backend.layout();
    // The events of a profile take time on a GPU, so they are not recorded in the timed steps.
    let profiled = if plan.profile && device.is_cuda() { plan.steps } else { 0 };
    let packer = config.packer(task, Purpose::Train);
    let mut source = match subject {
        Subject::Data(data) => {
            let split = Arc::new(data.split(Split::Train)?.counted(&*packer.task)?);
            let endless = LoaderConfig { epochs: u64::MAX, ..config.loader(packer, Position::default()) };
            let loader = Loader::start(split, &data.manifest().fingerprint, endless)?;
            Source::Shards(Box::new(Feeder::start(loader, device, layout)?))
        }
        Subject::Synthetic(_) => {
            let steps = synthetic::steps(config.samples_per_update(), plan.warmup + plan.steps + profiled, &packer)?;
            let steps = steps.iter().map(|step| DeviceStep::on(step, device, layout));
            Source::Synthetic(steps.collect::<Result<Vec<_>, DataError>>()?.into_iter())
        }
    };

    Series::train(&mut stepper, &mut source, plan.warmup)?;
    if plan.profile && profiled == 0 {
        clock::start();
    }
    let series = Series::train(&mut stepper, &mut source, plan.steps)?;
    let peak_memory_bytes = peak_bytes(device);
    let profile = match (plan.profile, profiled) {
        (false, _) => Vec::new(),
        (true, 0) => series.profile(backend)?,
        (true, count) => {
            clock::start();
            Series::train(&mut stepper, &mut source, count)?.profile(backend)?
        }
    };
    let Series { seconds, host_seconds, work: total, batches, skipped, waited, loss } = series;
    let flops = flop_rates(stepper.model.config()).training(&total) / plan.steps as f64;
    let product = matmul_flops(stepper.model.config(), precision.kind(), device)?;
    let median = median(&seconds);
    let per_question = |count: usize| count as f64 / total.examples.max(1) as f64;
    let (questions, computed) =
        (total.examples as f64 / plan.steps as f64, if layout == LayoutKind::Padded { total.padded } else { total.tokens });
    Ok(TrainingSpeed {
        questions_per_second: questions / median,
        tokens_per_second: total.tokens as f64 / plan.steps as f64 / median,
        targets_per_second: total.targets as f64 / plan.steps as f64 / median,
        task: objective,
        batch_size: config.samples_per_update(),
        mean_batches: batches as f64 / plan.steps as f64,
        mean_context_tokens: per_question(total.context),
        mean_piece_tokens: per_question(total.tokens - total.context),
        mean_scored: per_question(total.scored),
        mean_choices: per_question(total.groups),
        padding: 1.0 - total.tokens as f64 / computed.max(1) as f64,
        data_wait: waited.as_secs_f64() / seconds.iter().sum::<f64>(),
        model_flops_per_question: flops / questions,
        model_flops_per_second: flops / median,
        product_flops_per_second: product,
        utilisation: flops / median / product,
        peak_memory_bytes,
        precision: format!("{precision:?}").to_lowercase(),
        device: format!("{device:?}").to_lowercase(),
        threads: tch::get_num_threads() as usize,
        parameters: stepper.model.config().parameters(),
        step_seconds: seconds,
        host_seconds,
        skipped_steps: skipped,
        loss,
        profile,
    })
}

/// The median; the mean of the two in the middle for an even number.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
