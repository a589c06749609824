//! `glm-trainer bench`: speed of training and of reading data on this machine.

mod args;
mod print;
mod synthetic;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use glm_schemas::manifest::{Split, TaskName};
use glm_schemas::vocab::{SpecialIds, embedding_rows};
use libtorch_ext::operators::matmul_nt;
use serde::Serialize;
use tch::{Device, Kind, TchError, Tensor};
use thiserror::Error;

use crate::batch::layout::LayoutKind;
use crate::batch::out_of_memory::{OutOfMemory, explain};
use crate::batch::work::Work;
use crate::command::setup::{SetupError, open_task, resolve_micro_batch_tokens};
use crate::config::{Config, SettingsError};
use crate::data::DataError;
use crate::data::feed::{DeviceStep, Feeder};
use crate::data::loader::{Loader, LoaderConfig};
use crate::data::mmap::DataSet;
use crate::data::sampler::Position;
use crate::memory::peak_bytes;
use crate::model::flops::flop_rates;
use crate::model::ops::cpu::clock;
use crate::model::{Glm, ModelConfig};
use crate::optim::adamw::AdamW;
use crate::optim::control::ControlState;
use crate::task::{self, Purpose};
use crate::train::step::Stepper;

pub use args::BenchArgs;

/// Number of token ids of BERT's uncased vocabulary, for synthetic questions.
const VOCABULARY: usize = 30522;
/// Number of matrix products to measure the speed of this machine; the fastest counts.
const PRODUCTS: usize = 5;

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
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A batch does not fit into memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] TchError),
    /// Synthetic questions cannot be built.
    #[error("cannot build synthetic questions: {0}")]
    Synthetic(#[from] ArrowError),
    /// The data set is too small.
    #[error("the data set has too few questions for this number of steps; use a smaller --steps")]
    TooFewQuestions,
}

/// Measurement to make.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Steps before the clock starts.
    pub warmup: usize,
    /// Steps that are timed.
    pub steps: usize,
    /// True to measure the time per kind of operation.
    pub profile: bool,
}

/// Training speed.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingSpeed {
    /// Questions per second, from the median step.
    pub questions_per_second: f64,
    /// Tokens per second, from the median step.
    pub tokens_per_second: f64,
    /// Seconds of each step.
    pub step_seconds: Vec<f64>,
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
    /// Seconds per step and kind of operation, if measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profile: Vec<(&'static str, f64)>,
}

/// Speed of reading data.
#[derive(Debug, Clone, Serialize)]
pub struct ReadingSpeed {
    /// Questions per second.
    pub questions_per_second: f64,
    /// Questions per second of CPU time.
    pub questions_per_cpu_second: f64,
    /// CPU time of all cores, in seconds.
    pub cpu_seconds: f64,
    /// Elapsed time in seconds.
    pub wall_seconds: f64,
    /// Questions read.
    pub questions: usize,
    /// Tokens read.
    pub tokens: usize,
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

/// Trains a model with random weights for a few steps, on the questions of a data set or on synthetic ones of ReCoRD's lengths.
///
/// # Errors
/// [`BenchError`].
pub fn training(config: &Config, data: Option<&DataSet>, device: Device, plan: Plan) -> Result<TrainingSpeed, BenchError> {
    let precision = config.train.precision.on(device);
    let vocabulary = data.map_or(VOCABULARY, |data| data.manifest().tokenizer.vocab_size);
    let sizes = config.random_model(embedding_rows(vocabulary))?;
    tch::manual_seed(config.train.seed as i64);
    let mut model = Glm::random(&sizes, Kind::Float, device)?;
    model.alloc_grads()?;
    let optimizer = AdamW::new(config.adamw(), model.parameters())?;
    let task = match data {
        Some(data) => open_task(config, data.manifest()),
        None => task::open(TaskName::Cloze, config.task(SpecialIds::BERT_UNCASED)),
    };
    let control = ControlState::new(config.loss_scale(precision));
    let mut stepper = Stepper::new(Arc::clone(&task), model, optimizer, config, precision, control, None)?;
    let mut config = config.clone();
    resolve_micro_batch_tokens(&mut config, &stepper.model, stepper.pass(), true, None)?;
    let layout = stepper.backend().layout();
    let mut source = match data {
        Some(data) => {
            let split = Arc::new(data.split(Split::Train)?);
            let packer = config.packer(task, Purpose::Train);
            let endless = LoaderConfig { epochs: u64::MAX, ..config.loader(packer, Position::default()) };
            let loader = Loader::start(split, &data.manifest().fingerprint, endless)?;
            Source::Shards(Box::new(Feeder::start(loader, device, layout)?))
        }
        None => {
            let packer = config.packer(task, Purpose::Train);
            let steps = synthetic::steps(config.questions_per_update(), plan.warmup + plan.steps, &packer)?;
            let steps = steps.iter().map(|step| DeviceStep::on(step, device, layout));
            Source::Synthetic(steps.collect::<Result<Vec<_>, DataError>>()?.into_iter())
        }
    };

    // As in training, a GPU gets the next step before the last one is done.
    let under_way = usize::from(device.is_cuda());
    let (mut pending, mut seconds, mut total, mut batches) = (VecDeque::new(), Vec::new(), Work::default(), 0);
    let (mut loss, mut last, mut waited_before) = (0.0, Instant::now(), Duration::ZERO);
    if plan.profile && plan.warmup == 0 {
        clock::start();
    }
    for i in 0..plan.warmup + plan.steps + under_way {
        if i < plan.warmup + plan.steps {
            let step = source.next()?;
            if i >= plan.warmup {
                total += step.work();
                batches += step.batches.len();
            }
            let report =
                stepper.step(&step, false).map_err(|error| explain::<BenchError>(error, "a training step", step.longest()))?;
            pending.push_back(report);
        }
        if i >= under_way
            && let Some(report) = pending.pop_front()
        {
            loss = report.read()?.loss;
            let now = Instant::now();
            if i - under_way >= plan.warmup {
                seconds.push((now - last).as_secs_f64());
            } else {
                waited_before = source.waited();
                if plan.profile {
                    clock::start();
                }
            }
            last = now;
        }
    }
    let profile = if plan.profile { profile(&seconds) } else { Vec::new() };
    let waited = (source.waited() - waited_before).as_secs_f64();
    let flops = flop_rates(stepper.model.config()).training(&total) / plan.steps as f64;
    let product = product_speed(stepper.model.config(), precision.kind(), device)?;
    let median = median(&seconds);
    let per_question = |count: usize| count as f64 / total.examples.max(1) as f64;
    let (questions, computed) =
        (total.examples as f64 / plan.steps as f64, if layout == LayoutKind::Padded { total.padded } else { total.tokens });
    Ok(TrainingSpeed {
        questions_per_second: questions / median,
        tokens_per_second: total.tokens as f64 / plan.steps as f64 / median,
        batch_size: config.questions_per_update(),
        mean_batches: batches as f64 / plan.steps as f64,
        mean_context_tokens: per_question(total.context),
        mean_piece_tokens: per_question(total.tokens - total.context),
        mean_scored: per_question(total.scored),
        mean_choices: per_question(total.groups),
        padding: 1.0 - total.tokens as f64 / computed.max(1) as f64,
        data_wait: waited / seconds.iter().sum::<f64>(),
        model_flops_per_question: flops / questions,
        model_flops_per_second: flops / median,
        product_flops_per_second: product,
        utilisation: flops / median / product,
        peak_memory_bytes: peak_bytes(device),
        precision: format!("{precision:?}").to_lowercase(),
        device: format!("{device:?}").to_lowercase(),
        threads: tch::get_num_threads() as usize,
        parameters: stepper.model.config().parameters(),
        step_seconds: seconds,
        loss,
        profile,
    })
}

/// Reads one epoch of the training questions of a data set and discards them.
///
/// # Errors
/// [`BenchError`].
pub fn reading(config: &Config, data: &DataSet) -> Result<ReadingSpeed, BenchError> {
    let split = Arc::new(data.split(Split::Train)?);
    let packer = config.packer(open_task(config, data.manifest()), Purpose::Train);
    let (start, before) = (Instant::now(), cpu_seconds());
    let mut loader = Loader::start(split, &data.manifest().fingerprint, config.loader(packer, Position::default()))?;
    let (mut questions, mut tokens) = (0, 0);
    while let Some(step) = loader.next_step()? {
        questions += step.samples.len();
        tokens += step.tokens();
    }
    let (wall_seconds, cpu_seconds) = (start.elapsed().as_secs_f64(), cpu_seconds() - before);
    let (questions_per_second, questions_per_cpu_second) = (questions as f64 / wall_seconds, questions as f64 / cpu_seconds);
    Ok(ReadingSpeed { questions_per_second, questions_per_cpu_second, cpu_seconds, wall_seconds, questions, tokens })
}

/// Seconds per step and kind of operation, and the remainder.
fn profile(seconds: &[f64]) -> Vec<(&'static str, f64)> {
    let steps = seconds.len().max(1) as f64;
    let mut profile: Vec<_> = clock::stop().into_iter().map(|(name, spent)| (name, spent.as_secs_f64() / steps)).collect();
    let known: f64 = profile.iter().map(|(_, seconds)| seconds).sum();
    profile.push(("optimizer, norm and the rest", seconds.iter().sum::<f64>() / steps - known));
    profile
}

/// Operations per second of the matrix product of the feed-forward layer over 2,048 tokens.
fn product_speed(config: &ModelConfig, kind: Kind, device: Device) -> Result<f64, BenchError> {
    let (tokens, hidden) = (2048, config.hidden as i64);
    let random = |rows: i64| Tensor::f_randn([rows, hidden], (Kind::Float, device))?.f_totype(kind);
    let (x, weight) = (random(tokens)?, random(4 * hidden)?);
    let wait = || {
        if let Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
    };
    let mut fastest = f64::INFINITY;
    for _ in 0..PRODUCTS {
        wait();
        let start = Instant::now();
        let _product = matmul_nt(&x, &weight)?;
        wait();
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok((8 * tokens * hidden * hidden) as f64 / fastest)
}

/// The median; the mean of the two in the middle for an even number.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

/// CPU time of all threads of this process, in seconds.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for the answer; where the clock is missing it stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
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

    #[test]
    fn computing_takes_cpu_time() {
        let before = cpu_seconds();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds() > before);
    }
}
