//! Deviations of the tiny GLM from outputs of the published code on the `cloze` set: scores, loss, gradients and learning curves,
//! in any precision, on any device.

use std::collections::BTreeMap;
use std::io::Read;

use glm_schemas::manifest::Split;
use glm_tests::fixtures;
use glm_trainer::config::Config;
use glm_trainer::data::feed::DeviceStep;
use glm_trainer::data::loader::Step;
use glm_trainer::data::mmap::DataSet;
use glm_trainer::device::Precision;
use glm_trainer::model::{Glm, Kernels, Pass};
use glm_trainer::optim::adamw::AdamW;
use glm_trainer::optim::clip::global_norm;
use glm_trainer::optim::control::{ControlState, StepControl};
use glm_trainer::train::step::Stepper;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::support::{scaled_backward, step, task, tiny};

/// Rows of the train split of which the published code computed loss and gradients.
const BATCH: [usize; 4] = [2, 14, 24, 34];
/// Token budget that makes a single batch of a step.
pub(crate) const ONE_BATCH: usize = 20000;
/// Loss scale for fp16: large enough that no gradient of the tiny GLM underflows.
const LOSS_SCALE: f64 = 1024.0;

/// Device, precision and operations of the tiny GLM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Device of the parameters.
    pub(crate) device: Device,
    /// Kind of the activations. Parameters are fp64 with fp64, else fp32.
    pub(crate) kind: Kind,
    /// Implementation of the operations.
    pub(crate) kernels: Kernels,
}

impl Mode {
    /// Loads the tiny GLM; `dropout` applies to all dropout layers.
    pub(crate) fn model(self, weights: &str, dropout: f64) -> Glm {
        let kind = if self.kind == Kind::Double { Kind::Double } else { Kind::Float };
        tiny(weights, kind, dropout, self.device)
    }

    /// Pass without dropout.
    pub(crate) fn pass(self) -> Pass {
        Pass::evaluation(self.kind, self.kernels)
    }

    fn precision(self) -> Precision {
        match self.kind {
            Kind::Half => Precision::Fp16,
            Kind::BFloat16 => Precision::Bf16,
            _ => Precision::Fp32,
        }
    }

    /// Settings of the published learning curves, in this mode.
    fn config(self) -> Config {
        let mut config = Config::default();
        (config.optim.lr, config.optim.decay_steps) = (1e-3, 20);
        (config.train.kernels, config.train.spike_zscore) = (self.kernels, 0.0);
        config.loss_scale.init_scale = LOSS_SCALE;
        config
    }

    /// Training of the tiny GLM with the settings of the published learning curves; `seed` is that of dropout.
    pub(crate) fn stepper(self, data: &DataSet, dropout: f64, seed: u64) -> Stepper {
        let (mut config, model) = (self.config(), self.model("tiny", dropout));
        config.train.seed = seed;
        let optimizer = AdamW::new(config.adamw(), model.parameters()).expect("optimizer");
        let state = ControlState::new(config.loss_scale(self.precision()));
        Stepper::new(task(data), model, optimizer, &config, self.precision(), state, None).expect("stepper")
    }

    /// Accumulates the gradients of a step in the parameters, with a loss scale for fp16. Returns the loss and that scale.
    pub(crate) fn backward(self, model: &Glm, step: &Step, pass: &Pass) -> (f64, f64) {
        if self.kind != Kind::Half {
            return (scaled_backward(model, step, pass, None), 1.0);
        }
        let config = self.config();
        let state = ControlState::new(config.loss_scale(self.precision()));
        let control = StepControl::new(config.schedule(), 1.0, config.spikes(), state, self.device).expect("control");
        (scaled_backward(model, step, pass, Some(&control)), LOSS_SCALE)
    }
}

/// Largest deviations from the published values that rounding explains, relative to the published value.
struct Tolerances {
    scores: f64,
    loss: f64,
    /// Norms of gradients.
    norms: f64,
    /// Norm of the difference to a gradient, relative to the norm of the gradient.
    elements: f64,
    curve_loss: f64,
    /// Deviations of losses below this number are relative to it, because those of scores are relative to the scores.
    loss_floor: f64,
    curve_norm: f64,
    weights: f64,
    attention_biases: f64,
}

impl Tolerances {
    /// Tolerances of activations of this kind.
    fn of(kind: Kind) -> Self {
        let fp32 = Self {
            scores: 1e-5,
            loss: 1e-5,
            norms: 1e-5,
            elements: 1e-5,
            curve_loss: 1e-4,
            loss_floor: 1e-3,
            curve_norm: 1e-3,
            weights: 1e-4,
            attention_biases: 1e-3,
        };
        match kind {
            // Published gradients are stored in single precision, and only this rounding may differ.
            Kind::Double => Self { scores: 1e-9, loss: 1e-9, norms: 1e-9, elements: 1e-7, ..fp32 },
            // A rounding error of half of this in every activation. Fused kernels on a CPU, and both implementations on an H100, deviate
            // by at most half of these tolerances.
            Kind::BFloat16 => Self::of_activations(2_f64.powi(-8)),
            Kind::Half => Self::of_activations(2_f64.powi(-11)),
            _ => fp32,
        }
    }

    /// Tolerances for activations with this distance between 1 and the next number. AdamW divides by the size of gradients, so
    /// that the errors of small ones grow from step to step.
    fn of_activations(spacing: f64) -> Self {
        Self {
            scores: spacing,
            loss: spacing,
            norms: 4.0 * spacing,
            elements: 8.0 * spacing,
            curve_loss: 20.0 * spacing,
            loss_floor: 0.1,
            curve_norm: 20.0 * spacing,
            weights: 0.2 * spacing,
            attention_biases: 16.0 * spacing,
        }
    }
}

/// Largest deviation of a kind of value from the published ones, and its tolerance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// Kind of value.
    pub(crate) name: &'static str,
    /// Largest deviation.
    pub(crate) value: f64,
    /// Place of the largest deviation.
    pub(crate) at: String,
    /// Largest deviation that is allowed.
    pub(crate) tolerance: f64,
}

impl Figure {
    /// A figure without deviations.
    pub(crate) fn new(name: &'static str, tolerance: f64) -> Self {
        Self { name, value: 0.0, at: String::new(), tolerance }
    }

    /// Adds a deviation; one that is not a number counts as larger than all others.
    pub(crate) fn add(&mut self, deviation: f64, at: impl FnOnce() -> String) {
        if deviation > self.value || deviation.is_nan() {
            (self.value, self.at) = (deviation, at());
        }
    }

    /// Returns true if no deviation is larger than the tolerance.
    pub(crate) fn is_within(&self) -> bool {
        self.value <= self.tolerance
    }
}

/// Learning curve of the published code.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Curve {
    /// The same batch in each step.
    FixedBatch,
    /// 48 of the 50 questions fill twelve steps; then the cycle repeats.
    Cycle,
}

impl Curve {
    fn name(self) -> &'static str {
        match self {
            Self::FixedBatch => "curve_fixed_batch",
            Self::Cycle => "curve_cycle44_in_order",
        }
    }

    /// Rows of the train split in a step.
    pub(crate) fn rows(self, step: usize) -> [usize; 4] {
        match self {
            Self::FixedBatch => BATCH,
            Self::Cycle => std::array::from_fn(|i| 4 * (step % 12) + i),
        }
    }
}

/// Outputs of the published code.
#[derive(Debug)]
pub(crate) struct Golden {
    /// The `cloze` set.
    pub(crate) data: DataSet,
    outputs: Value,
    scores: Value,
}

impl Golden {
    /// Reads the outputs.
    pub(crate) fn open(data: DataSet) -> Self {
        Self { data, outputs: json("model_golden.json"), scores: json("scores_fp64.json") }
    }

    /// Deviation of the scores of all choices of both splits.
    pub(crate) fn scores(&self, mode: Mode, weights: &str, micro_batch_tokens: usize) -> Figure {
        let mut deviation = Figure::new("scores", Tolerances::of(mode.kind).scores);
        let (model, pass) = (mode.model(weights, 0.0), mode.pass());
        for (split, name) in [(Split::Train, "train"), (Split::Val, "dev")] {
            let questions = self.scores[name].as_array().expect("questions");
            let orders: Vec<usize> = (0..questions.len()).collect();
            let found = scores(&model, &step(&self.data, split, &orders, micro_batch_tokens), &pass);
            assert_eq!(found.len(), questions.len());
            for (order, question) in questions.iter().enumerate() {
                let expected = numbers(&question["logits"]);
                assert_eq!(found[&order].len(), expected.len());
                for (found, expected) in found[&order].iter().zip(expected) {
                    deviation.add(relative(*found, expected), || format!("{weights} {name} {order}"));
                }
            }
        }
        deviation
    }

    /// Deviations of loss and gradients of the published batch, in as many batches as the budget makes of it.
    pub(crate) fn gradients(&self, mode: Mode, micro_batch_tokens: usize) -> [Figure; 3] {
        assert_eq!(numbers(&self.outputs["batch_train_order_idx"]), BATCH.map(|order| order as f64));
        let published = &self.outputs[if mode.kind == Kind::Double { "fp64" } else { "fp32" }];
        let step = step(&self.data, Split::Train, &BATCH, micro_batch_tokens);
        assert_eq!(step.batches.len(), if micro_batch_tokens == ONE_BATCH { 1 } else { BATCH.len() });
        let tolerances = Tolerances::of(mode.kind);
        let mut losses = Figure::new("loss", tolerances.loss);
        let mut norms = Figure::new("gradient norms", tolerances.norms);
        let mut elements = Figure::new("gradients", tolerances.elements);
        let model = mode.model("tiny", 0.0);
        let (loss, scale) = mode.backward(&model, &step, &mode.pass());
        losses.add(relative(loss, number(&published["loss_no_float_cast"])), String::new);
        let golden_norms = &published["grad_norms"];
        assert_eq!(golden_norms.as_object().expect("norms").len(), model.parameters().len());
        let archive = std::fs::File::open(fixtures().join("golden/model/grads_fp64.npz")).expect("open");
        let mut golden = zip::ZipArchive::new(archive).expect("npz");
        for parameter in model.parameters().iter() {
            let name = &parameter.name;
            let found = parameter.tensor.grad().to_device(Device::Cpu).to_kind(Kind::Double) / scale;
            let expected = singles(&mut golden.by_name(&format!("{name}.npy")).expect("gradient"));
            let expected = Tensor::from_slice(&expected).to_kind(Kind::Double).reshape(parameter.tensor.size());
            norms.add(relative(norm(&found), number(&golden_norms[name])), || name.clone());
            elements.add(norm(&(found - &expected)) / norm(&expected), || name.clone());
        }
        let total = global_norm(model.parameters()).expect("norm").double_value(&[]) / scale;
        norms.add(relative(total, number(&published["total_grad_norm"])), || "all parameters".to_owned());
        [losses, norms, elements]
    }

    /// Deviations of 20 training steps.
    pub(crate) fn curve(&self, mode: Mode, curve: Curve) -> [Figure; 5] {
        let golden = &self.outputs[curve.name()];
        let tolerances = Tolerances::of(mode.kind);
        let mut losses = Figure::new("losses of 20 steps", tolerances.curve_loss);
        let mut norms = Figure::new("gradient norms of 20 steps", tolerances.curve_norm);
        let mut lrs = Figure::new("learning rates", 1e-12);
        let mut weights = Figure::new("norms of the weights after 20 steps", tolerances.weights);
        // Softmax does not depend on the bias of the keys, so its gradient is rounding error alone, of which AdamW makes steps as
        // large as any other: this part of the bias depends on the processor.
        let mut biases = Figure::new("norms of the attention biases after 20 steps", tolerances.attention_biases);
        let mut stepper = mode.stepper(&self.data, 0.0, 0);
        let rows = golden["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 20);
        for (i, row) in rows.iter().enumerate() {
            let step = step(&self.data, Split::Train, &curve.rows(i), ONE_BATCH);
            let step = DeviceStep::on(&step, mode.device, stepper.backend().layout()).expect("step");
            let outcome = stepper.step(&step, false).expect("step").read().expect("report");
            let (at, loss) = (|| format!("{} step {i}", curve.name()), number(&row["loss"]));
            losses.add((outcome.loss - loss).abs() / loss.max(tolerances.loss_floor), at);
            norms.add(relative(outcome.gradient_norm, number(&row["grad_norm"])), at);
            lrs.add(relative(outcome.lr, number(&row["lr"])), at);
        }
        for parameter in stepper.model.parameters().iter() {
            let expected = number(&golden["final_param_norms"][&parameter.name]);
            let is_bias = parameter.name.ends_with("query_key_value.bias");
            let figure = if is_bias { &mut biases } else { &mut weights };
            figure.add(relative(norm(&parameter.tensor), expected), || format!("{} {}", curve.name(), parameter.name));
        }
        [losses, norms, lrs, weights, biases]
    }
}

/// Returns the scores of the questions of `step` by row.
fn scores(model: &Glm, step: &Step, pass: &Pass) -> BTreeMap<usize, Vec<f64>> {
    let mut by_row = BTreeMap::new();
    for batch in &step.batches {
        let on_device = batch.to_device(model.parameters().device(), model.backend(pass).layout()).expect("batch");
        let scores = tch::no_grad(|| model.target_log_probs(&on_device, pass)).expect("scores");
        let scores = Vec::<f64>::try_from(scores.to_device(Device::Cpu).to_kind(Kind::Double)).expect("numbers");
        for question in &batch.examples {
            by_row.insert(question.row, scores[question.first_group..][..question.groups].to_vec());
        }
    }
    by_row
}

/// Reads an array in NumPy's format, which must contain little-endian single precision in C order.
fn singles(file: &mut impl Read) -> Vec<f32> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let description = String::from_utf8_lossy(&bytes[10..header]).into_owned();
    assert!(description.contains("'<f4'") && description.contains("'fortran_order': False"), "{description}");
    bytes[header..].chunks_exact(4).map(|chunk| f32::from_le_bytes(chunk.try_into().expect("4 bytes"))).collect()
}

fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join("golden/model").join(name)).expect("read");
    serde_json::from_str(&text).expect("json")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("number")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("list").iter().map(number).collect()
}

fn norm(x: &Tensor) -> f64 {
    x.to_kind(Kind::Double).norm().double_value(&[])
}

fn relative(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected.abs().max(1e-12)
}
