//! Evaluation: scores the rows of a split and accumulates the task's metrics.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::RecordBatch;
use glm_text::tokenize::Tokenizer;
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::generation::Texts;
use crate::batch::device::DeviceBatch;
use crate::batch::out_of_memory::explain;
use crate::batch::packed::Targets;
use crate::config::Config;
use crate::data::DataError;
use crate::data::feed::{DeviceStep, Feeder};
use crate::data::loader::{Loader, LoaderConfig, Step};
use crate::data::mmap::SplitData;
use crate::data::pack::{Packed, Packer, Sample};
use crate::data::sampler::{Order, Position, Sampler, subset};
use crate::distributed::World;
use crate::model::{Glm, Kernels, Pass};
use crate::task::generation::Prediction;
use crate::task::metrics::{Evaluation, Metrics, Totals};
use crate::task::{Answer, Purpose, Scores, Task};

/// Rows that are sorted by length and packed together; more would pad less and hold more in memory.
const WINDOW: usize = 256;

/// Settings of an evaluation.
#[derive(Debug, Clone)]
pub struct EvaluationConfig {
    /// Kind of the forward pass.
    pub kind: Kind,
    /// Implementation of the operations.
    pub kernels: Kernels,
    /// Packer of batches.
    pub packer: Packer,
    /// Number of decode threads.
    pub threads: usize,
    /// Number of rows, drawn at random as [`subset`] does; 0 for all.
    pub limit: usize,
    /// Tokenizer of the data set, for tasks that are evaluated by texts.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

/// Output of a model for a sample.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Log probabilities alone.
    Scored,
    /// An answer to a question.
    Answer(Answer),
    /// A generated text.
    Text(&'a Prediction),
}

impl EvaluationConfig {
    /// Settings of an evaluation on a device.
    pub fn new(config: &Config, task: Arc<dyn Task>, device: Device) -> Self {
        Self {
            kind: config.train.precision.on(device).kind(),
            kernels: config.train.kernels,
            packer: config.packer(task, Purpose::Evaluate),
            threads: config.data.decode_threads,
            limit: config.train.eval_questions,
            tokenizer: None,
        }
    }

    /// Number of samples of a split that are evaluated.
    pub fn samples(&self, split: &SplitData) -> usize {
        Sampler::new(split.group_rows(), split.row_samples(), self.order(), "").samples()
    }

    /// Settings of the forward pass.
    pub fn pass(&self) -> Pass {
        Pass::evaluation(self.kind, self.kernels)
    }

    fn order(&self) -> Order {
        if self.limit == 0 { Order::Stored } else { Order::Subset { count: self.limit } }
    }
}

/// A row with the log probabilities of its groups.
#[derive(Debug, Clone, Copy)]
pub struct ScoredRow<'a> {
    /// Columns of the row group.
    pub rows: &'a RecordBatch,
    /// Index of the row in the group.
    pub row: usize,
    /// Index of the row in the split.
    pub split_row: usize,
    /// Key of the sample's draws, see [`Packer::key`].
    pub key: u64,
    /// Scores of its groups.
    pub scores: Scores<'a>,
}

/// Evaluates a model on a split and calls `on_sample` for each sample, in stored order.
///
/// In a `world` each rank scores its share of the samples, and gets its own answers only; the metrics are those of all.
///
/// # Errors
/// [`DataError`] where a shard cannot be read, libtorch rejects a batch, or another rank is gone.
pub fn evaluate(
    model: &Glm,
    data: &Arc<SplitData>,
    config: &EvaluationConfig,
    world: Option<&World>,
    mut on_sample: impl FnMut(Outcome<'_>),
) -> Result<Evaluation, DataError> {
    Ok(evaluate_with(model, data, config, world, &[], &mut on_sample)?.0)
}

/// Evaluates a model on all rows of a split, as [`evaluate`] does, and returns the metrics of `config.limit` of them as well.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_all(
    model: &Glm,
    data: &Arc<SplitData>,
    config: &EvaluationConfig,
    world: Option<&World>,
    mut on_sample: impl FnMut(Outcome<'_>),
) -> Result<(Evaluation, Metrics), DataError> {
    let subset = subset(data.rows(), config.limit);
    let config = EvaluationConfig { limit: 0, ..config.clone() };
    evaluate_with(model, data, &config, world, &subset, &mut on_sample)
}

/// Evaluates a model on the rows of `config`, and on those that are also in `subset`, which is in ascending order.
fn evaluate_with(
    model: &Glm,
    data: &Arc<SplitData>,
    config: &EvaluationConfig,
    world: Option<&World>,
    subset: &[usize],
    on_sample: &mut dyn FnMut(Outcome<'_>),
) -> Result<(Evaluation, Metrics), DataError> {
    let start = Instant::now();
    let task = &config.packer.task;
    let (mut evaluator, mut of_subset) = (task.evaluator(), task.evaluator());
    let in_subset = |row: usize| subset.binary_search(&row).is_ok();
    let mut texts = Texts::of_task(model, config.pass(), task.generation(), config.tokenizer.as_ref())?;
    score_split(model, data, config, |scored| {
        if in_subset(scored.split_row) {
            of_subset.add(scored.rows, scored.row, scored.key, scored.scores)?;
        }
        let answer = evaluator.add(scored.rows, scored.row, scored.key, scored.scores)?;
        match (answer, &mut texts) {
            (_, Some(texts)) => {
                texts.add(scored.rows, scored.row, scored.split_row, &mut |text| on_sample(Outcome::Text(text)))?;
            }
            (Some(answer), None) => on_sample(Outcome::Answer(answer)),
            (None, None) => on_sample(Outcome::Scored),
        }
        Ok(())
    })?;
    let predictions = texts.map(|texts| texts.finish(world, &mut |text| on_sample(Outcome::Text(text)))).transpose()?;
    let [totals, totals_of_subset] = over_ranks([evaluator.totals(), of_subset.totals()], world)?;
    let (mut metrics, mut metrics_of_subset) = (evaluator.metrics(&totals), of_subset.metrics(&totals_of_subset));
    if let Some(predictions) = predictions {
        metrics = predictions.metrics(&metrics, |_| true);
        metrics_of_subset = predictions.metrics(&metrics_of_subset, in_subset);
    }
    Ok((Evaluation { metrics, seconds: start.elapsed().as_secs_f64() }, metrics_of_subset))
}

/// Adds the totals of all ranks, in their order.
fn over_ranks<const N: usize>(own: [Totals; N], world: Option<&World>) -> Result<[Totals; N], DataError> {
    let Some(world) = world else { return Ok(own) };
    let mut all = [(); N].map(|()| Totals::default());
    for (of_all, Totals { sums, counts }) in all.iter_mut().zip(own) {
        let sums = world.gather(&sums)?;
        let counts = world.gather_bytes(&serde_json::to_vec(&counts).unwrap_or_default())?;
        for (sums, counts) in sums.iter().zip(counts) {
            let counts = serde_json::from_slice(&counts).map_err(|error| DataError::OtherRank(error.to_string()))?;
            of_all.add(sums, counts);
        }
    }
    Ok(all)
}

/// Scores the rows of a split in stored order and passes each to `on_row`. With several ranks, each gets the share that the
/// packer gives it.
///
/// # Errors
/// [`DataError`] where a shard cannot be read or libtorch rejects a batch, and the errors of `on_row`.
pub fn score_split(
    model: &Glm,
    data: &Arc<SplitData>,
    config: &EvaluationConfig,
    mut on_row: impl FnMut(ScoredRow<'_>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let loader = LoaderConfig {
        order: config.order(),
        batch_size: WINDOW,
        start: Position::default(),
        epochs: 1,
        threads: config.threads,
        prefetch_steps: 2,
        packer: config.packer.clone(),
    };
    let pass = config.pass();
    let loader = Loader::start(Arc::clone(data), "", loader)?;
    let mut feeder = Feeder::start(loader, model.parameters().device(), model.backend(&pass).layout())?;
    while let Some(step) = feeder.next_step()? {
        score_step(model, &step, &config.packer, &pass, &mut on_row)?;
    }
    data.wait_verified()
}

/// Scores rows that are in no split, exactly as [`score_split`] does, in the order of their split rows.
///
/// # Errors
/// [`DataError`] where a row does not fit or libtorch rejects a batch, and the errors of `on_row`.
pub fn score_samples(
    model: &Glm,
    samples: &[Sample],
    config: &EvaluationConfig,
    on_row: impl FnMut(ScoredRow<'_>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let pass = config.pass();
    let Packed { batches, weight, loads } = config.packer.pack(samples)?;
    let batches = batches.into_iter().map(Arc::new).collect();
    let step = Step { batches, samples: samples.into(), weight, loads, position: Position::default() };
    let step = DeviceStep::on(&step, model.parameters().device(), model.backend(&pass).layout())?;
    score_step(model, &step, &config.packer, &pass, on_row)
}

/// Scores the rows of a step. Batches are packed by length; `on_row` gets rows in order.
fn score_step(
    model: &Glm,
    step: &DeviceStep,
    packer: &Packer,
    pass: &Pass,
    mut on_row: impl FnMut(ScoredRow<'_>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut scored = Vec::with_capacity(step.samples.len());
    for batch in &step.batches {
        let failed = |error| explain::<DataError>(error, "an evaluation", batch.host.tokens());
        let (log_probs, greedy) = group_scores(model, batch, pass, packer.task.needs_greedy()).map_err(failed)?;
        for example in &batch.host.examples {
            let own = example.first_group..example.first_group + example.groups;
            let greedy = greedy.get(own.clone()).unwrap_or_default().to_vec();
            scored.push((example.row, example.sample, log_probs[own].to_vec(), greedy));
        }
    }
    scored.sort_by_key(|(row, sample, ..)| (*row, *sample));
    scored.iter().try_for_each(|(split_row, sample, log_probs, greedy)| {
        let sample = &step.samples[*sample];
        let key = packer.key(sample);
        let scores = Scores { log_probs, greedy };
        on_row(ScoredRow { rows: sample.group.columns(), row: sample.row, split_row: *split_row, key, scores })
    })
}

/// Log probability of each group of a batch, and with `needs_greedy` whether each of its targets is the most probable token.
fn group_scores(model: &Glm, batch: &DeviceBatch, pass: &Pass, needs_greedy: bool) -> Result<(Vec<f64>, Vec<bool>), TchError> {
    let on_host = |log_probs: Tensor| Vec::<f64>::try_from(log_probs.f_to_device(Device::Cpu)?.f_totype(Kind::Double)?);
    if !needs_greedy {
        return Ok((on_host(no_grad(|| model.target_log_probs(batch, pass))?)?, Vec::new()));
    }
    let (log_probs, best) = no_grad(|| model.target_log_probs_and_best(batch, pass))?;
    let best = Vec::<i64>::try_from(best.f_to_device(Device::Cpu)?)?;
    let Targets { scored_index, token, group, groups, .. } = &batch.host.targets;
    let mut greedy = vec![true; *groups];
    for ((&scored, &token), &group) in scored_index.iter().zip(token).zip(group) {
        greedy[group as usize] &= best[scored as usize] == token;
    }
    Ok((on_host(log_probs)?, greedy))
}
