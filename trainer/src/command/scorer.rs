//! A model that is ready to score rows, alone or with the rows of a split: what `eval`, `predict` and `score` need.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use glm_schemas::manifest::{Manifest, Split, TaskName, Tokenizer};
use tch::Device;

use super::setup::{
    SetupError, Use, check_rows, check_target_length, complete, data_folder, load_model, open_data, open_task,
    resolve_micro_batch_tokens, set_threads, text_tokenizer,
};
use super::weights::{Provenance, WeightArgs};
use crate::checkpoint::run_folder::{RunFolder, RunState};
use crate::checkpoint::weights::Weights;
use crate::config::Config;
use crate::config::args::{Flag, SettingArgs};
use crate::config::overrides::Layers;
use crate::config::recipe::Recipe;
use crate::data::mmap::{DataSet, SplitData};
use crate::device::DeviceChoice;
use crate::model::{Glm, Pass};
use crate::task::Task;
use crate::train::evaluate::EvaluationConfig;

/// A model that is ready to score rows.
#[derive(Debug)]
pub struct Scorer {
    /// The model.
    pub model: Glm,
    /// Settings of the evaluation.
    pub config: EvaluationConfig,
    /// Maximum number of tokens of one sequence.
    pub max_seq_len: usize,
    /// Number of positions of the weights: one sequence has fewer tokens.
    pub positions: usize,
}

/// A scorer with a split of a data set.
#[derive(Debug)]
pub struct SplitScorer {
    /// The model.
    pub scorer: Scorer,
    /// The data set.
    pub data: DataSet,
    /// Split that is scored.
    pub split: Arc<SplitData>,
    /// Weights and data, for results.
    pub provenance: Provenance,
}

impl Scorer {
    /// Loads weights.
    ///
    /// If the weights have fewer positions than `data.max_seq_len`, sequences are truncated to these positions.
    ///
    /// # Errors
    /// [`SetupError`] if the weights cannot be read or do not match the settings or the vocabulary.
    pub fn load(
        weights: &Weights,
        mut config: Config,
        tokenizer: &Tokenizer,
        device: Device,
        task: impl FnOnce(&Config) -> Arc<dyn Task>,
    ) -> Result<Self, SetupError> {
        let positions = weights.sizes()?.positions;
        let max_seq_len = positions.saturating_sub(1);
        if config.data.max_seq_len > max_seq_len && max_seq_len > 0 {
            let path = weights.path().display();
            tracing::info!("truncating rows to {max_seq_len} tokens, because {path} has {positions} positions");
            config.data.max_seq_len = max_seq_len;
        }
        let pass = Pass::evaluation(config.train.precision.on(device).kind(), config.train.kernels);
        let model = load_model(weights, &config, tokenizer, device, Use::Inference(pass.kind))?;
        let task = task(&config);
        check_rows(&*task, &model)?;
        resolve_micro_batch_tokens(&mut config, task.scored_share(), &model, &pass, false, None)?;
        let evaluation = EvaluationConfig::new(&config, task, device);
        Ok(Self { model, config: evaluation, max_seq_len: config.data.max_seq_len, positions })
    }

    /// Opens a split of a data set, starts to verify its shards, and loads weights.
    ///
    /// # Errors
    /// [`SetupError`] if the data set or the weights cannot be read, or do not match.
    pub fn with_split(
        data: Option<PathBuf>,
        split: Split,
        weights: &WeightArgs,
        device: DeviceChoice,
        settings: &SettingArgs,
        flags: &[Flag<'_>],
    ) -> Result<SplitScorer, SetupError> {
        // Mistakes in settings show first, whatever the data set.
        settings.resolve(flags)?;
        let data = open_data(&data_folder(data))?;
        let mut config = settings.resolve_over(defaults(data.manifest(), &weights.init), flags)?;
        complete(&mut config, &data)?;
        set_threads(&config);
        let device = device.resolve()?;
        let rows = data.split_verified(split, config.data.verify)?;
        let manifest = data.manifest();
        check_target_length(&config, manifest.task)?;
        let weights = weights.open()?;
        let path = config.data.tokenizer.clone();
        let scorer = Self::load(&weights, config, &manifest.tokenizer, device, |config| open_task(config, manifest))?;
        let rows = Arc::new(rows.counted(&*scorer.config.packer.task)?);
        let tokenizer = text_tokenizer(&path, &manifest.tokenizer, &*scorer.config.packer.task)?;
        let scorer = Self { config: EvaluationConfig { tokenizer, ..scorer.config }, ..scorer };
        let (folder, fingerprint) = (data.place(), manifest.fingerprint.clone());
        let provenance = Provenance { weights: weights.located().clone(), data: folder, split: Some(split), fingerprint };
        Ok(SplitScorer { scorer, data, split: rows, provenance })
    }
}

/// Settings that the command line can change. Lengths, the search of sequence to sequence and the scoring of questions are by default those
/// of the run that made the weights, if a run did; of questions only if it used the same data set. Without such a run, the maximum sequence
/// length of questions is that of the recipe of their task.
fn defaults(manifest: &Manifest, weights: &Path) -> Layers {
    // Weights that cannot be read are an error later.
    let run = Some(weights).filter(|path| path.is_dir()).map(RunFolder::recorded);
    let run = run.and_then(Result::ok).flatten();
    match (manifest.task, run) {
        (TaskName::Seq2seq, Some(RunState { config: run, .. })) => {
            let mut config = Config { seq2seq: run.seq2seq, ..Config::default() };
            (config.data.max_seq_len, config.data.tokenizer) = (run.data.max_seq_len, run.data.tokenizer);
            Layers::over(&config)
        }
        (TaskName::Cloze, Some(RunState { config: run, fingerprint, .. })) if fingerprint == manifest.fingerprint => {
            let mut config = Config { cloze: run.cloze, ..Config::default() };
            (config.data.max_seq_len, config.data.truncation) = (run.data.max_seq_len, run.data.truncation);
            Layers::over(&config)
        }
        (TaskName::Cloze, _) => of_recipe(manifest).map_or_else(Layers::default, |config| Layers::over(&config)),
        _ => Layers::default(),
    }
}

/// The default settings with the maximum sequence length of the recipe of a data set's task, if there is one.
fn of_recipe(manifest: &Manifest) -> Option<Config> {
    let mut layers = Layers::default();
    layers.recipe(Recipe::of_task(&manifest.cloze.as_ref()?.task)?).ok()?;
    let mut config = Config::default();
    config.data.max_seq_len = layers.resolve().ok()?.data.max_seq_len;
    Some(config)
}
