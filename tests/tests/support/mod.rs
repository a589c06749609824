//! Shared fixtures of the model tests: the `cloze` set, batches of it, and the tiny GLM with a vocabulary of 512.

use std::path::Path;
use std::sync::Arc;

use glm_schemas::manifest::Split;
use glm_schemas::vocab::SpecialIds;
use glm_tests::{fixtures, ingest};
use glm_trainer::batch::packed::Batch;
use glm_trainer::checkpoint::weights::Weights;
use glm_trainer::config::Config;
use glm_trainer::data::feed::DeviceStep;
use glm_trainer::data::loader::Step;
use glm_trainer::data::mmap::DataSet;
use glm_trainer::data::pack::{Packed, Sample};
use glm_trainer::data::sampler::Position;
use glm_trainer::model::{Glm, ModelConfig, Pass};
use glm_trainer::optim::control::StepControl;
use glm_trainer::task::cloze::{Cloze, ClozeForm, ClozeSettings, Truncation};
use glm_trainer::task::{self, Purpose, Task};
use glm_trainer::train::step::Learner;
use tch::{Device, Kind};

/// Vocabulary size of the tiny model; the published code received token ids modulo this number.
const WORDS: i64 = 512;

/// Ingests the `cloze` set with the real program, both as train and as val.
pub(crate) fn data_set(folder: &Path) -> DataSet {
    // Tests run in parallel, see `glm_tests::command`.
    tch::set_num_threads(1);
    ingest(folder, &fixtures().join("golden/cloze/passages.jsonl"), &["train", "val"]);
    DataSet::open(folder).expect("data set")
}

/// The task of the data set, with default settings.
pub(crate) fn task(data: &DataSet) -> Arc<dyn Task> {
    task::open(data.manifest().task, Config::default().task(data.manifest().special_ids))
}

/// Returns a step that consists of the given rows of the split.
pub(crate) fn step(data: &DataSet, split: Split, orders: &[usize], micro_batch_tokens: usize) -> Step {
    let mut config = Config::default();
    config.data.micro_batch_tokens = micro_batch_tokens;
    let task = task(data);
    let packer = config.packer(Arc::clone(&task), Purpose::Train);
    let group = Arc::new(data.split(split).expect("split").decode(0, &*task).expect("decode"));
    let samples: Vec<_> =
        orders.iter().map(|&row| Sample { group: Arc::clone(&group), row, part: 0, ordinal: row as u64 }).collect();
    let Packed { mut batches, weight, loads } = packer.pack(&samples).expect("pack");
    for batch in &mut batches {
        let Batch { inputs, targets, .. } = batch;
        inputs.ids.iter_mut().chain(&mut targets.token).for_each(|id| *id %= WORDS);
    }
    let batches = batches.into_iter().map(Arc::new).collect();
    Step { batches, samples: samples.into(), weight, loads, position: Position::default() }
}

/// Loads the tiny GLM with golden weights onto a device; `dropout` applies to all dropout layers.
pub(crate) fn tiny(weights: &str, kind: Kind, dropout: f64, device: Device) -> Glm {
    let weights = Weights::open(&fixtures().join("golden/model").join(weights)).expect("weights");
    let config = weights.model_config(Some(4)).expect("sizes");
    assert_eq!((config.layers, config.hidden, config.vocab_rows, config.positions), (2, 64, 512, 513));
    let config = ModelConfig { dropout, attention_dropout: dropout, ..config };
    let mut model = Glm::new(&config, kind, device).expect("model");
    model.alloc_grads().expect("gradients");
    weights.load_into(model.parameters()).expect("load");
    model
}

/// Accumulates the gradients of a step in the parameters, with the loss scale of `control`, if any. Returns the loss, without it.
pub(crate) fn scaled_backward(model: &Glm, step: &Step, pass: &Pass, control: Option<&StepControl>) -> f64 {
    let step = DeviceStep::on(step, model.parameters().device(), model.backend(pass).layout()).expect("step");
    let cloze = Cloze::new(SpecialIds::BERT_UNCASED, 512, Truncation::Choice, ClozeSettings::default(), ClozeForm::default());
    let learner = Learner { task: &cloze, model, pass };
    learner.accumulate_gradients(&step, control, None).expect("backward").double_value(&[])
}
