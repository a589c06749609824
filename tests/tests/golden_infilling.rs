//! Comparison of blank infilling with outputs of the published code: losses, gradients and learning curves of the tiny GLM on recorded
//! batches with several spans, sentences, long spans and suffixes, in fp64 and fp32.

use std::sync::Arc;

use arrow::array::RecordBatch;
use glm_schemas::column::{ValueError, ViewError};
use glm_schemas::manifest::TaskName;
use glm_schemas::vocab::SpecialIds;
use glm_tests::fixtures;
use glm_trainer::batch::device::DeviceBatch;
use glm_trainer::batch::packed::{Batch, Example, RowSpan};
use glm_trainer::batch::work::Work;
use glm_trainer::checkpoint::weights::Weights;
use glm_trainer::config::Config;
use glm_trainer::data::feed::DeviceStep;
use glm_trainer::data::loader::Step;
use glm_trainer::data::sampler::Position;
use glm_trainer::device::Precision;
use glm_trainer::model::{Glm, Kernels, ModelConfig, Pass};
use glm_trainer::optim::adamw::AdamW;
use glm_trainer::optim::clip::global_norm;
use glm_trainer::optim::control::ControlState;
use glm_trainer::optim::schedule::Decay;
use glm_trainer::task::infill::Infill;
use glm_trainer::task::metrics::MetricInfo;
use glm_trainer::task::{Evaluator, Purpose, RowPacker, Task};
use glm_trainer::train::step::{Learner, Stepper};
use serde_json::Value;
use tch::{Device, Kind, TchError, Tensor};

const BATCHES: [&str; 4] = ["token", "sentence", "document", "one"];

fn golden(name: &str) -> Value {
    let path = fixtures().join("golden/infilling/model").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("json")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().expect("a list").iter().map(|number| number.as_i64().expect("a number")).collect()
}

/// A recorded batch without its padding; each of its rows is a group.
fn batch(cases: &Value, name: &str) -> Batch {
    let case = cases["cases"].as_array().expect("cases").iter().find(|case| case["name"] == name).expect("case");
    let expected = &case["expected"];
    let mut batch = Batch::default();
    let Batch { inputs, targets, examples, .. } = &mut batch;
    for (row, context) in numbers(&expected["sep"]).into_iter().enumerate() {
        let column = |name: &str| numbers(&expected[name][row]);
        let [ids, position, block_position] = ["ids", "position", "block_position"].map(column);
        let [target, loss] = ["target", "loss_mask"].map(column);
        let (start, context) = (inputs.ids.len(), context as usize);
        // Only tokens after the context have a block position.
        let length = context + block_position.iter().filter(|position| **position > 0).count();
        inputs.rows.push(RowSpan { start, length, context });
        inputs.ids.extend(&ids[..length]);
        inputs.position.extend(&position[..length]);
        inputs.block_position.extend(&block_position[..length]);
        inputs.piece_start.extend((0..length).map(|token| if token < context { -1 } else { context as i32 }));
        inputs.token_key.extend((0..length).map(|token| (1000 * row + token) as u64));
        inputs.row_key.push(row as u64);
        for token in context..length {
            targets.scored.push((start + token) as i64);
            if loss[token] == 1 {
                targets.scored_index.push(targets.scored.len() as i64 - 1);
                targets.token.push(target[token]);
                targets.group.push(row as i64);
            }
        }
        examples.push(Example { row, sample: row, first_group: row, groups: 1 });
        targets.groups = row + 1;
    }
    batch
}

/// The tiny GLM without dropout.
fn tiny(kind: Kind) -> Glm {
    let weights = Weights::open(&fixtures().join("golden/model/tiny")).expect("weights");
    let config = ModelConfig { dropout: 0.0, attention_dropout: 0.0, ..weights.model_config(Some(4)).expect("sizes") };
    let mut model = Glm::new(&config, kind, Device::Cpu).expect("model");
    model.alloc_grads().expect("gradients");
    weights.load_into(model.parameters()).expect("load");
    model
}

fn step(batches: Vec<Batch>) -> Step {
    let weight = batches.iter().map(|batch| batch.targets.token.len()).sum::<usize>() as f64;
    let batches = batches.into_iter().map(Arc::new).collect();
    Step { batches, samples: Vec::new().into(), weight, loads: Vec::new(), position: Position::default() }
}

fn task() -> Arc<dyn Task> {
    Arc::new(Infill::new(SpecialIds::BERT_UNCASED, 512, Config::default().infill))
}

fn relative(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected.abs().max(1e-30)
}

/// Both implementations of the operations, in both precisions: name of the recorded results, and the tolerance.
fn modes() -> [(Kind, Kernels, &'static str, f64); 4] {
    let of = |kind, kernels| match kind {
        Kind::Double => (kind, kernels, "fp64", 1e-9),
        _ => (kind, kernels, "fp32", 1e-4),
    };
    [
        of(Kind::Double, Kernels::Auto),
        of(Kind::Double, Kernels::Torch),
        of(Kind::Float, Kernels::Auto),
        of(Kind::Float, Kernels::Torch),
    ]
}

#[test]
fn losses_and_gradients_equal_the_published_ones() {
    tch::set_num_threads(1);
    let (cases, outputs) = (golden("batch_cases.json"), golden("infilling_model.json"));
    let task = task();
    for (kind, kernels, precision, tolerance) in modes() {
        let model = tiny(kind);
        let pass = Pass::evaluation(kind, kernels);
        for name in BATCHES {
            let published = &outputs["results"][name][precision];
            let step = step(vec![batch(&cases, name)]);
            let on_device = DeviceStep::on(&step, Device::Cpu, model.backend(&pass).layout()).expect("step");
            let at = format!("{name} {kind:?} {kernels:?}");

            let log_probs = tch::no_grad(|| model.target_log_probs(&on_device.batches[0], &pass)).expect("scores");
            let sums = Vec::<f64>::try_from(log_probs.to_kind(Kind::Double)).expect("numbers");
            let expected = published["sample_loss_sums"].as_array().expect("sums");
            assert_eq!(sums.len(), expected.len());
            for (sum, expected) in sums.iter().zip(expected) {
                assert!(relative(-sum, number(expected)) < tolerance, "{at}: {sum} {expected}");
            }

            let learner = Learner { task: &*task, model: &model, pass: &pass };
            let loss = learner.accumulate_gradients(&on_device, None, None).expect("gradients").double_value(&[]);
            assert!(relative(loss, number(&published["loss"])) < tolerance, "{at}: {loss}");
            for parameter in model.parameters().iter() {
                let found = parameter.tensor.grad().to_kind(Kind::Double).norm().double_value(&[]);
                let expected = number(&published["grad_norms"][&parameter.name]);
                assert!(relative(found, expected) < tolerance, "{at} {}: {found} {expected}", parameter.name);
            }
            let total = global_norm(model.parameters()).expect("norm").double_value(&[]);
            assert!(relative(total, number(&published["grad_norm"])) < tolerance, "{at}: {total}");
        }
    }
}

/// Several batches of a step weigh as much as they have targets, where the published code takes the mean of their means.
#[test]
fn the_loss_of_a_step_is_the_mean_over_its_targets() {
    tch::set_num_threads(1);
    let (cases, outputs) = (golden("batch_cases.json"), golden("infilling_model.json"));
    let model = tiny(Kind::Double);
    let pass = Pass::evaluation(Kind::Double, Kernels::Auto);
    let step = step(vec![batch(&cases, "token"), batch(&cases, "document")]);
    let on_device = DeviceStep::on(&step, Device::Cpu, model.backend(&pass).layout()).expect("step");
    let task = task();
    let learner = Learner { task: &*task, model: &model, pass: &pass };
    let loss = learner.accumulate_gradients(&on_device, None, None).expect("gradients").double_value(&[]);
    let sum = |name: &str, key: &str| -> f64 {
        outputs["results"][name]["fp64"][key].as_array().expect("a list").iter().map(number).sum()
    };
    let [sums, targets] = ["sample_loss_sums", "sample_loss_tokens"].map(|key| sum("token", key) + sum("document", key));
    assert!(relative(loss, sums / targets) < 1e-12, "{loss}");
}

/// Blank infilling with the published loss of a step of several batches: the mean of their means.
#[derive(Debug)]
struct MeanOfMeans {
    infill: Infill,
    /// Number of batches of a step, whose weight must be 1.
    batches: f64,
}

impl Task for MeanOfMeans {
    fn name(&self) -> TaskName {
        self.infill.name()
    }

    fn columns(&self) -> &'static [&'static str] {
        self.infill.columns()
    }

    fn check(&self, rows: &RecordBatch) -> Result<(), ViewError> {
        self.infill.check(rows)
    }

    fn check_values(&self, rows: &RecordBatch, vocab_size: usize) -> Result<(), ValueError> {
        self.infill.check_values(rows, vocab_size)
    }

    fn row_packer<'a>(&'a self, purpose: Purpose) -> Box<dyn RowPacker<'a> + 'a> {
        self.infill.row_packer(purpose)
    }

    fn loss(&self, log_probs: &Tensor, batch: &DeviceBatch) -> Result<Tensor, TchError> {
        let targets = batch.host.targets.token.len() as f64;
        self.infill.loss(log_probs, batch)?.f_div_scalar(targets * self.batches)
    }

    fn weight(&self, work: &Work) -> f64 {
        self.infill.weight(work)
    }

    fn evaluator(&self) -> Box<dyn Evaluator> {
        self.infill.evaluator()
    }

    fn metrics(&self) -> Vec<&'static MetricInfo> {
        self.infill.metrics()
    }
}

/// Trains along a recorded curve. `batches` are the names of the batches of each step.
fn follow_curve(curve: &str, task: &Arc<dyn Task>, batches: impl Fn(usize) -> Vec<&'static str>, means: bool) {
    tch::set_num_threads(1);
    let (cases, outputs) = (golden("batch_cases.json"), golden("infilling_model.json"));
    let recipe = &outputs["recipe"];
    let mut config = Config::default();
    config.optim.lr = number(&recipe["lr"]);
    (config.optim.beta1, config.optim.beta2) = (number(&recipe["betas"][0]), number(&recipe["betas"][1]));
    (config.optim.eps, config.optim.weight_decay) = (number(&recipe["eps"]), number(&recipe["weight_decay"]));
    (config.optim.warmup, config.optim.decay_steps) = (number(&recipe["warmup"]), 15);
    (config.optim.schedule, config.optim.min_lr_ratio) = (Decay::Cosine, number(&recipe["lr_decay_ratio"]));
    config.train.spike_zscore = 0.0;
    for (kind, kernels, precision, tolerance) in modes() {
        config.train.kernels = kernels;
        let model = tiny(kind);
        let optimizer = AdamW::new(config.adamw(), model.parameters()).expect("optimizer");
        let control = ControlState::new(config.loss_scale(Precision::Fp32));
        let task = Arc::clone(task);
        let mut stepper = Stepper::new(task, model, optimizer, &config, Precision::Fp32, control, None).expect("stepper");
        let published = &outputs["curves"][curve][precision];
        for (i, expected) in published["steps"].as_array().expect("steps").iter().enumerate() {
            let mut step = step(batches(i).into_iter().map(|name| batch(&cases, name)).collect());
            if means {
                step.weight = 1.0;
            }
            let step = DeviceStep::on(&step, Device::Cpu, stepper.backend().layout()).expect("step");
            let outcome = stepper.step(&step, false).expect("step").read().expect("report");
            let at = format!("{curve} {precision} {kernels:?} step {i}");
            assert!((outcome.lr - number(&expected["lr"])).abs() < 1e-15, "{at}: lr {}", outcome.lr);
            assert!(relative(outcome.loss, number(&expected["loss"])) < tolerance, "{at}: loss {}", outcome.loss);
            let norm = number(&expected["grad_norm"]);
            assert!(relative(outcome.gradient_norm, norm) < 10.0 * tolerance, "{at}: norm {}", outcome.gradient_norm);
        }
        for parameter in stepper.model.parameters().iter().filter(|_| kind == Kind::Double) {
            // Softmax does not depend on the bias of the keys, whose gradient is rounding error alone.
            let tolerance = if parameter.name.ends_with("query_key_value.bias") { 1e-3 } else { tolerance };
            let found = parameter.tensor.norm().double_value(&[]);
            let expected = number(&published["final_parameter_norms"][&parameter.name]);
            assert!(relative(found, expected) < tolerance, "{curve} {kernels:?} {}: {found} {expected}", parameter.name);
        }
    }
}

#[test]
fn learning_curves_follow_the_published_ones() {
    follow_curve("token", &task(), |_| vec!["token"], false);
    follow_curve("rotating", &task(), |step| vec![BATCHES[step % BATCHES.len()]], false);
}

/// Apart from the weight of the batches, accumulation over two batches is the published one.
#[test]
fn a_learning_curve_with_accumulation_follows_the_published_one_for_its_mean_of_means() {
    let infill = Infill::new(SpecialIds::BERT_UNCASED, 512, Config::default().infill);
    let task: Arc<dyn Task> = Arc::new(MeanOfMeans { infill, batches: 2.0 });
    let pairs = [["token", "document"], ["sentence", "one"]];
    follow_curve("accumulate_2", &task, |step| pairs[step % 2].to_vec(), true);
}
