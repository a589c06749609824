//! Comparison of the tasks of SuperGLUE with outputs of the published code: scores, predictions and metrics without training, losses,
//! gradients, 24 training steps, and the files of predictions. From the raw data, through the real `glm-prep ingest`.

#[path = "support/formulas.rs"]
mod formulas;
#[path = "support/superglue.rs"]
mod published;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use formulas::formulas;
use glm_schemas::manifest::Split;
use glm_tests::{command, fixtures, json_lines, run};
use glm_trainer::checkpoint::weights::Weights;
use glm_trainer::command::setup::{complete, open_task};
use glm_trainer::config::Config;
use glm_trainer::data::feed::DeviceStep;
use glm_trainer::data::loader::Step;
use glm_trainer::data::mmap::DataSet;
use glm_trainer::data::pack::{Packed, Sample};
use glm_trainer::data::sampler::Position;
use glm_trainer::device::Precision;
use glm_trainer::model::{Glm, Kernels, ModelConfig, Pass};
use glm_trainer::optim::adamw::AdamW;
use glm_trainer::optim::control::ControlState;
use glm_trainer::task::cloze::Loss;
use glm_trainer::task::metrics::Evaluation;
use glm_trainer::task::{Answer, Purpose, Task};
use glm_trainer::train::evaluate::{EvaluationConfig, Outcome, evaluate};
use glm_trainer::train::step::{Learner, Stepper};
use published::{golden, number, numbers, raw, text};
use serde_json::Value;
use tch::{Device, Kind};
use tempfile::TempDir;

/// A budget that makes one batch of a step.
const ONE_BATCH: usize = 20_000;
/// Names of the splits in the golden outputs.
const SPLITS: [(Split, &str); 3] = [(Split::Train, "train"), (Split::Val, "val"), (Split::Test, "test")];

/// A published run on ingested data.
struct Ingested<'a> {
    published: &'a Value,
    /// Holds the data set.
    _folder: TempDir,
    data: DataSet,
    config: Config,
    task: Arc<dyn Task>,
}

fn weights() -> std::path::PathBuf {
    fixtures().join("golden/model/full-vocab/blocklm-tiny")
}

/// Ingests the raw data of a published run, with the real program.
fn ingest(folder: &Path, published: &Value) {
    for split in ["train", "val", "test"] {
        let from = fixtures().join("golden/superglue/raw").join(raw(published)).join(format!("{split}.jsonl"));
        std::fs::copy(from, folder.join(format!("{split}.jsonl"))).expect("copy");
    }
    let (task, mode) = (text(published, "task"), text(published, "mode"));
    let form = if raw(published) == "WSC-negative" { "-candidates" } else { "" };
    let mut command = command("glm-prep");
    command.args(["ingest", "--quiet", "--task", &format!("superglue/{task}{form}")]);
    command.args(["--pattern", &published["pattern"].to_string()]).arg(folder);
    if mode == "multi" && task != "copa" {
        command.arg("--multi-token");
    }
    let finished = run(&mut command);
    // 3: some records were rejected.
    assert!(matches!(finished.code(), Some(0 | 3)), "{}", finished.stderr());
}

impl<'a> Ingested<'a> {
    fn open(published: &'a Value) -> Self {
        // Tests run in parallel, see `glm_tests::command`.
        tch::set_num_threads(1);
        let folder = tempfile::tempdir().expect("folder");
        ingest(folder.path(), published);
        let data = DataSet::open(folder.path()).expect("data set");
        let mut config = Config::default();
        config.data.max_seq_len = published["max_len"].as_u64().expect("length") as usize;
        config.data.micro_batch_tokens = ONE_BATCH;
        match text(published, "mode") {
            // The manifest has the published settings.
            "single" | "multi" | "candidates" | "generative" => {}
            _ => {
                config.cloze.length_penalty = number(&published["length_penalty"]);
                config.cloze.loss = match text(published, "loss_func") {
                    "generative" => Loss::Generative,
                    "hinge" => Loss::Hinge,
                    _ => Loss::CrossEntropy,
                };
            }
        }
        complete(&mut config, &data).expect("metrics");
        let task = open_task(&config, data.manifest());
        Self { published, _folder: folder, data, config, task }
    }

    fn name(&self) -> String {
        format!("{} {}", text(self.published, "task"), text(self.published, "mode"))
    }

    fn model(&self, kind: Kind) -> Glm {
        let weights = Weights::open(&weights()).expect("weights");
        let sizes = weights.model_config(Some(2)).expect("sizes");
        let config = ModelConfig { dropout: 0.0, attention_dropout: 0.0, ..sizes };
        let mut model = Glm::new(&config, kind, Device::Cpu).expect("model");
        model.alloc_grads().expect("gradients");
        weights.load_into(model.parameters()).expect("load");
        model
    }

    fn evaluate(&self, model: &Glm, split: Split, kind: Kind) -> (Evaluation, Vec<Answer>) {
        let config = EvaluationConfig { kind, ..EvaluationConfig::new(&self.config, Arc::clone(&self.task), Device::Cpu) };
        let data = Arc::new(self.data.split(split).expect("split"));
        let mut answers = Vec::new();
        let evaluation = evaluate(model, &data, &config, None, |outcome| {
            if let Outcome::Answer(answer) = outcome {
                answers.push(answer);
            }
        });
        (evaluation.expect("evaluation"), answers)
    }

    /// A step of these rows of the train split.
    fn step(&self, rows: &[usize]) -> Step {
        let packer = self.config.packer(Arc::clone(&self.task), Purpose::Train);
        let group = Arc::new(self.data.split(Split::Train).expect("split").decode(0, &*self.task).expect("decode"));
        let samples: Vec<_> =
            rows.iter().map(|&row| Sample { group: Arc::clone(&group), row, part: 0, ordinal: row as u64 }).collect();
        let Packed { batches, weight, loads } = packer.pack(&samples).expect("pack");
        let batches = batches.into_iter().map(Arc::new).collect();
        Step { batches, samples: samples.into(), weight, loads, position: Position::default() }
    }

    /// The rows of the train split in the published order: mirrored examples follow all others.
    fn train_order(&self) -> Vec<usize> {
        let scores = golden("scores_fp64.json");
        let same = |run: &&Value| ["task", "mode"].iter().all(|key| run[key] == self.published[key]);
        let run = scores.iter().find(same).expect("the run without training");
        let split = self.data.split(Split::Train).expect("split");
        let ids = split.example_ids(&(0..split.rows()).collect::<Vec<_>>()).expect("ids");
        let place = |name: String| ids.iter().position(|id| *id == name).unwrap_or_else(|| panic!("{name} in {ids:?}"));
        names(&run["splits"]["train"]["examples"]).into_iter().map(place).collect()
    }

    /// Compares answers with published examples.
    fn compare(&self, examples: &Value, answers: &[Answer], tolerance: f64) {
        let found: Vec<_> = answers.iter().map(|answer| &answer.example_id).collect();
        assert_eq!(answers.len(), examples.as_array().expect("examples").len(), "{}: {found:?}", self.name());
        for (answer, example) in paired(answers, examples) {
            let at = || format!("{} {}", self.name(), example["guid"]);
            let is_generative = text(self.published, "mode") == "generative";
            let expected = match () {
                () if is_generative => vec![numbers(&example["log_probs"]).iter().sum()],
                () => numbers(example.get("log_probs").unwrap_or(&example["scores"])),
            };
            if has_other_position(self.published, text(example, "guid")) {
                continue;
            }
            let is_wsc = text(self.published, "task") == "wsc";
            let predicted = example["predicted"].as_u64().expect("prediction") as usize;
            match is_wsc {
                // 1 says that the first choice is the answer.
                true => assert_eq!(answer.predicted == Some(0), predicted == 1, "{}", at()),
                false => assert_eq!(answer.predicted, Some(predicted), "{}", at()),
            }
            let found: Vec<f64> = answer.choices.iter().map(|choice| choice.score).collect();
            assert_eq!(found.len(), expected.len(), "{}", at());
            // Where only logits are recorded, their differences are those of the log probabilities.
            let is_logit = !is_generative && text(self.published, "mode") == "single" && example.get("log_probs").is_none();
            let origin = |scores: &[f64]| if is_logit { scores[0] } else { 0.0 };
            let (found_origin, expected_origin) = (origin(&found), origin(&expected));
            for (found, expected) in found.iter().zip(expected) {
                let difference = (found - found_origin) - (expected - expected_origin);
                assert!(
                    difference.abs() <= tolerance * expected.abs().max(1.0),
                    "{}: {found} instead of {expected}, {difference} off",
                    at()
                );
            }
        }
    }
}

/// Names of published examples: examples made of one record have the same there.
fn names(examples: &Value) -> Vec<String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    let name = |example| {
        let guid = text(example, "guid");
        let before = counts.entry(guid).or_default();
        *before += 1;
        if *before == 1 { guid.to_owned() } else { format!("{guid}-{}", *before - 1) }
    };
    examples.as_array().expect("examples").iter().map(name).collect()
}

/// Answers with the published examples of the same name.
fn paired<'a>(answers: &'a [Answer], examples: &'a Value) -> impl Iterator<Item = (&'a Answer, &'a Value)> {
    let examples_by_name = names(examples).into_iter().zip(examples.as_array().expect("examples"));
    examples_by_name.map(move |(name, example)| {
        // An `idx` that is a text names its row here; the published code takes the number of the line.
        let is_named = |answer: &&Answer| answer.example_id == name || name == "dev-9" && answer.example_id == "dev-dev-x9";
        let answer = answers.iter().find(is_named);
        (answer.unwrap_or_else(|| panic!("no answer to {name}")), example)
    })
}

/// True for an example with a literal `[MASK]` after the blank, which the published code takes for the blank.
fn has_other_position(published: &Value, guid: &str) -> bool {
    let pattern = published["pattern"].as_u64().expect("pattern");
    match text(published, "task") {
        "boolq" => guid == "dev-6" && pattern >= 4,
        "rte" => guid == "dev-6" && pattern <= 3,
        "cb" => guid == "dev-8" && pattern <= 3,
        _ => false,
    }
}

/// Compares metrics with those of the published predictions. Questions without a label do not count here, but count as label 0 there: so
/// the published formulas are applied to those with a label.
fn assert_metrics(run: &Value, evaluation: &Evaluation, answers: &[Answer], examples: &Value, published: &Value, at: &str) {
    let (mut pairs, mut groups) = (Vec::new(), Vec::new());
    let mut is_published = true;
    for (answer, example) in paired(answers, examples) {
        if answer.is_labelled() {
            let index = |key: &str| example[key].as_u64().expect("an index") as usize;
            let has_other_position = has_other_position(run, text(example, "guid"));
            is_published &= !has_other_position;
            let predicted = if has_other_position { answer.predicted.expect("an answer") } else { index("predicted") };
            pairs.push((predicted, index("label")));
            groups.push(answer.group_id.clone().unwrap_or_else(|| answer.example_id.clone()));
        }
    }
    assert_eq!(evaluation.metrics.get("questions"), Some(pairs.len() as f64), "{at}");
    let first = evaluation.metrics.iter().next().expect("a metric").0.name;
    assert_eq!(first, if at.starts_with("multirc") { "f1a" } else { "accuracy" });
    let mut compared = 0;
    for (name, expected) in formulas(&pairs, &groups) {
        let Some(found) = evaluation.metrics.get(name) else { continue };
        assert!((found - expected).abs() < 1e-12, "{at}: {name} is {found} instead of {expected}");
        compared += 1;
        let names = [
            ("accuracy", "accuracy", 100.0),
            ("acc", "accuracy", 100.0),
            ("f1-macro", "f1_macro", 1.0),
            ("f1a", "f1a", 1.0),
            ("em", "em", 1.0),
        ];
        for (theirs, _, of) in
            names.into_iter().filter(|(_, ours, _)| is_published && *ours == name && pairs.len() == answers.len())
        {
            let Some(value) = published.get(theirs).map(number) else { continue };
            assert!((found - value / of).abs() < 1e-12, "{at}: {name} is {found} instead of {value}");
        }
    }
    assert_eq!(compared, published.as_object().expect("metrics").len(), "{at}");
}

/// Published runs that a data set can express: all but the pattern with a context for each choice.
fn scored() -> Vec<Value> {
    golden("scores_fp64.json").into_iter().filter(|published| text(published, "mode") != "multi_pattern2").collect()
}

#[test]
fn scores_predictions_and_metrics_are_the_published_ones() {
    for published in scored() {
        let mut ingested = Ingested::open(&published);
        let model = ingested.model(Kind::Double);
        for kernels in [Kernels::Auto, Kernels::Torch] {
            ingested.config.train.kernels = kernels;
            for (split, name) in SPLITS {
                let published = &ingested.published["splits"][name];
                let (evaluation, answers) = ingested.evaluate(&model, split, Kind::Double);
                ingested.compare(&published["examples"], &answers, 1e-9);
                if split == Split::Val {
                    assert_metrics(
                        ingested.published,
                        &evaluation,
                        &answers,
                        &published["examples"],
                        &published["metrics"],
                        &ingested.name(),
                    );
                }
            }
        }
    }
}

#[test]
fn losses_and_gradients_are_the_published_ones() {
    for published in scored() {
        let ingested = Ingested::open(&published);
        let batch = &published["train_batch"];
        let order = ingested.train_order();
        for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
            for kernels in [Kernels::Auto, Kernels::Torch] {
                let model = ingested.model(kind);
                let pass = Pass::evaluation(kind, kernels);
                let step = ingested.step(&order[..4]);
                let step = DeviceStep::on(&step, Device::Cpu, model.backend(&pass).layout()).expect("step");
                let learner = Learner { task: &*ingested.task, model: &model, pass: &pass };
                let loss = learner.accumulate_gradients(&step, None, None).expect("backward").double_value(&[]);
                let at = format!("{} in {kind:?}", ingested.name());
                let expected = number(&batch["loss"]);
                assert!((loss - expected).abs() <= tolerance * expected.abs(), "{at}: loss {loss} instead of {expected}");
                let norms = batch["gradient_norms"].as_object().expect("norms");
                assert_eq!(norms.len(), model.parameters().len());
                for parameter in model.parameters().iter() {
                    let found = parameter.tensor.grad().to_kind(Kind::Double).norm().double_value(&[]);
                    let expected = number(&norms[&parameter.name]);
                    let floor = if kind == Kind::Double { 1e-12 } else { 1e-3 };
                    assert!(
                        (found - expected).abs() <= tolerance * expected.abs().max(floor),
                        "{at}: gradient of {} is {found} instead of {expected}",
                        parameter.name
                    );
                }
            }
        }
    }
}

#[test]
fn learning_curves_follow_the_published_ones() {
    let (fp64, fp32) = ((Kind::Double, 1e-9, 1e-7, 1e-6), (Kind::Float, 1e-4, 1e-3, 1e-3));
    for (published, (kind, tolerance, norm_tolerance, score_tolerance)) in
        golden("curves_fp64.json").into_iter().flat_map(|published| [(published.clone(), fp64), (published, fp32)])
    {
        let mut ingested = Ingested::open(&published);
        let losses = numbers(&published["losses"]);
        (ingested.config.optim.lr, ingested.config.optim.decay_steps) = (1e-2, losses.len() as u64);
        ingested.config.train.spike_zscore = 0.0;
        let config = &ingested.config;
        let model = ingested.model(kind);
        let optimizer = AdamW::new(config.adamw(), model.parameters()).expect("optimizer");
        let state = ControlState::new(config.loss_scale(Precision::Fp32));
        let stepper = Stepper::new(Arc::clone(&ingested.task), model, optimizer, config, Precision::Fp32, state, None);
        let mut stepper = stepper.expect("stepper");
        let order = ingested.train_order();
        for (i, loss) in losses.iter().enumerate() {
            let step = ingested.step(&std::array::from_fn::<_, 4, _>(|row| order[(4 * i + row) % order.len()]));
            let step = DeviceStep::on(&step, Device::Cpu, stepper.backend().layout()).expect("step");
            let outcome = stepper.step(&step, false).expect("step").read().expect("report");
            let at = format!("{} {kind:?} step {i}", ingested.name());
            let near =
                |found: f64, expected: f64, tolerance: f64| (found - expected).abs() <= tolerance * expected.abs().max(1e-3);
            assert!(near(outcome.loss, *loss, tolerance), "{at}: loss {} instead of {loss}", outcome.loss);
            let (norm, lr) = (number(&published["gradient_norms"][i]), number(&published["learning_rates"][i]));
            assert!(
                near(outcome.gradient_norm, norm, norm_tolerance),
                "{at}: norm {} instead of {norm}",
                outcome.gradient_norm
            );
            assert!((outcome.lr - lr).abs() <= 1e-9 * lr, "{at}: rate {} instead of {lr}", outcome.lr);
        }
        let (evaluation, answers) = ingested.evaluate(&stepper.model, Split::Val, kind);
        ingested.compare(&published["val"], &answers, score_tolerance);
        assert_metrics(&published, &evaluation, &answers, &published["val"], &published["metrics"], &ingested.name());
    }
}

#[test]
fn files_of_predictions_are_the_published_ones() {
    for published in golden("scores_fp64.json").iter().take(8) {
        let folder = tempfile::tempdir().expect("folder");
        ingest(folder.path(), published);
        let out = folder.path().join("answers.jsonl");
        run(command("glm-trainer")
            .args(["predict", "--device", "cpu", "--set", "model.heads=2", "--init"])
            .arg(weights())
            .arg("--data")
            .arg(folder.path())
            .arg("--out")
            .arg(&out))
        .success();
        let file = match (raw(published), text(published, "mode")) {
            ("WSC-negative", _) => "WSC-candidates",
            (_, "generative") => "WSC-generative",
            (file, _) => file,
        };
        let expected = fixtures().join("golden/superglue/predictions").join(format!("{file}.jsonl"));
        assert_eq!(json_lines(&out), json_lines(&expected), "{file}");
    }
}
