//! Steps that several commands have in common: opening a data set, its task and weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use glm_remote::is_url;
use glm_schemas::manifest::{Manifest, SHARDS_FOLDER, TaskName, Tokenizer};
use glm_text::tokenize::TokenizerError;
use libtorch_ext::stream::available_bytes;
use tch::{Device, Kind, TchError};
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::sizes::checked_sizes;
use crate::checkpoint::weights::Weights;
use crate::config::{Config, MICRO_BATCH_TOKENS, SettingsError};
use crate::data::DataError;
use crate::data::mmap::DataSet;
use crate::device::DeviceError;
use crate::distributed::{DistributedError, World};
use crate::model::memory::{Workload, tokens_that_fit};
use crate::model::preset::Vocabulary;
use crate::model::{Glm, ModelConfig, Pass};
use crate::record::metrics::MetricsError;
use crate::task::cloze::ClozeForm;
use crate::task::{self, Objective, Task, TaskSettings};

/// Data folder of the published benchmark.
const PUBLISHED_DATA: &str = "/home/data/perf/glm";
/// Environment variable with the data folder.
const DATA_VARIABLE: &str = "GLM_DATA_DIR";

/// Setup errors: something is missing, or parts do not fit together.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Weights or checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Settings.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// Device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Metrics file.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Communication with other ranks.
    #[error(transparent)]
    Distributed(#[from] DistributedError),
    /// libtorch.
    #[error(transparent)]
    Torch(#[from] TchError),
    /// Missing or mismatched parts, with a remedy.
    #[error("{0}")]
    Invalid(String),
}

/// Returns the data folder: `given`, else `$GLM_DATA_DIR`, else that of the published benchmark.
pub fn data_folder(given: Option<PathBuf>) -> PathBuf {
    given
        .or_else(|| std::env::var_os(DATA_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(PUBLISHED_DATA))
}

/// Opens a data set.
///
/// # Errors
/// [`SetupError`] with the command that creates a missing data set.
pub fn open_data(folder: &Path) -> Result<DataSet, SetupError> {
    let is_local = !is_url(folder);
    if is_local && folder.is_file() {
        return Err(SetupError::Invalid(format!(
            "{} is a file; specify the folder given to `glm-prep ingest`: --data {}",
            folder.display(),
            ingested(folder).display()
        )));
    }
    if is_local && !folder.is_dir() {
        return Err(SetupError::Invalid(format!(
            "folder {} does not exist; specify the data folder or URL with --data DIR or {DATA_VARIABLE}. \
             `glm-prep ingest DIR` creates a data set from the raw ReCoRD files in DIR",
            folder.display()
        )));
    }
    let data = DataSet::open(folder)?;
    let Manifest { fingerprint, settings, tokenizer, splits, .. } = data.manifest();
    let splits: Vec<String> = splits.iter().map(|(split, content)| format!("{split} {}", content.rows)).collect();
    tracing::debug!(
        "data set in {}: {} {}, format {}, vocabulary {}, fingerprint {fingerprint}",
        data.place().display(),
        data.manifest().task.rows(),
        splits.join(", "),
        settings.format,
        tokenizer.name
    );
    Ok(data)
}

/// Returns the folder that was most likely given to `ingest`, from a file in it or in its folders.
fn ingested(file: &Path) -> &Path {
    let is_inner = |folder: &&Path| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !matches!(name, SHARDS_FOLDER | "data" | "ReCoRD")
    };
    let folder = file.ancestors().skip(1).find(is_inner).unwrap_or(file);
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Checks that a data set has the table of an objective, if one is given.
///
/// # Errors
/// [`SetupError::Invalid`] that names both.
pub fn check_objective(wanted: Option<Objective>, data: &DataSet) -> Result<(), SetupError> {
    let table = data.manifest().task;
    match wanted.filter(|wanted| wanted.table() != table) {
        None => Ok(()),
        Some(wanted) => Err(SetupError::Invalid(format!(
            "--task {} needs a data set made by `glm-prep ingest DIR --task {}`, but the one in {} is for --task {}; omit --task, \
             or specify another data set",
            wanted.name(),
            wanted.table().name(),
            data.place().display(),
            Objective::on(table).name()
        ))),
    }
}

/// Opens the task of a data set.
pub fn open_task(config: &Config, manifest: &Manifest) -> Arc<dyn Task> {
    let form = manifest.cloze.as_ref().map(ClozeForm::of).unwrap_or_default();
    task::open(manifest.task, TaskSettings { form, ..config.task(manifest.special_ids) })
}

/// Replaces what the settings leave to the data set by what its manifest says.
///
/// # Errors
/// [`SetupError::Invalid`] if the manifest names an unknown metric.
pub fn complete(config: &mut Config, data: &DataSet) -> Result<(), SetupError> {
    let Some(manifest) = &data.manifest().cloze else { return Ok(()) };
    config.cloze.complete(manifest).map_err(|error| {
        SetupError::Invalid(format!(
            "the metrics of the data set in {}: {error}; choose others with --set cloze.metrics=NAMES",
            data.place().display()
        ))
    })
}

/// Checks that there is a position for every token of a target.
///
/// # Errors
/// [`SetupError::Settings`] if the maximum length of targets exceeds that of contexts, which determines the number of positions.
pub fn check_target_length(config: &Config, task: TaskName) -> Result<(), SetupError> {
    let length = config.seq2seq.max_target_len;
    if task != TaskName::Seq2seq || length <= config.data.max_seq_len {
        return Ok(());
    }
    let rule = "at most data.max_seq_len";
    Err(SettingsError::Range { key: "seq2seq.max_target_len", value: length.to_string(), rule }.into())
}

/// Sets the number of CPU threads of libtorch's operators.
pub fn set_threads(config: &Config) {
    if config.train.threads > 0 {
        tch::set_num_threads(i32::try_from(config.train.threads).unwrap_or(i32::MAX));
    }
}

/// Gives `data.micro_batch_tokens = 0` its number for a model on its device, which holds everything but activations: on a GPU
/// what the available memory of all ranks allows. `scored_share`: that of the tokens of a batch, see [`Task::scored_share`]; `trains`:
/// false for forward passes alone.
///
/// # Errors
/// [`SetupError`] of the device or of another rank.
pub fn resolve_micro_batch_tokens(
    config: &mut Config,
    scored_share: f64,
    model: &Glm,
    pass: &Pass,
    trains: bool,
    world: Option<&World>,
) -> Result<(), SetupError> {
    if config.data.micro_batch_tokens > 0 {
        let tokens = config.data.micro_batch_tokens;
        tracing::debug!("batches of up to {tokens} tokens, {:?} layout", model.backend(pass).layout());
        return Ok(());
    }
    config.data.micro_batch_tokens = match model.parameters().device() {
        Device::Cuda(index) => {
            let available = available_bytes(index)?;
            let layout = model.backend(pass).layout();
            let work =
                Workload { kind: pass.kind, layout, trains, scored: scored_share, recomputes: model.recomputes_activations() };
            let own = tokens_that_fit(model.config(), &work, available);
            let of_ranks = world.map(|world| world.gather(&[own as f64])).transpose()?.unwrap_or_default();
            let tokens = of_ranks.iter().flatten().fold(own, |least, &tokens| least.min(tokens as usize));
            let available = available as f64 / 1e9;
            tracing::info!(
                "up to {tokens} tokens per batch (data.micro_batch_tokens), for {available:.1} GB of available memory"
            );
            tokens
        }
        _ => MICRO_BATCH_TOKENS,
    };
    tracing::debug!("batches of up to {} tokens, {:?} layout", config.data.micro_batch_tokens, model.backend(pass).layout());
    Ok(())
}

/// Purpose for which a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Training, with buffers of which each parameter takes a multiple of this number of elements, see [`Glm::divisible`].
    Training(usize),
    /// Forward passes with activations of this kind, see [`Glm::for_inference`].
    Inference(Kind),
}

/// Loads a model with the sizes of its weights.
///
/// # Errors
/// [`SetupError`] if the weights cannot be read or do not match the settings or the vocabulary.
pub fn load_model(
    weights: &Weights,
    config: &Config,
    tokenizer: &Tokenizer,
    device: Device,
    purpose: Use,
) -> Result<Glm, SetupError> {
    let stored = checked_sizes(weights, &config.model)?;
    weights.check_vocabulary(tokenizer)?;
    weights.check(&stored)?;
    if tokenizer.vocab_size > stored.vocab_rows {
        return Err(SetupError::Invalid(format!(
            "the weights in {} have {} rows of word embeddings, but the vocabulary {} has {} tokens",
            weights.path().display(),
            stored.vocab_rows,
            tokenizer.name,
            tokenizer.vocab_size
        )));
    }
    let positions = stored.positions.max(config.data.max_seq_len + 1);
    if positions > stored.positions {
        tracing::warn!(
            "{} has {} positions; positions up to {positions}, needed for data.max_seq_len = {}, are initialized randomly",
            weights.path().display(),
            stored.positions,
            config.data.max_seq_len
        );
    }
    tracing::debug!(
        "weights in {}: {} layers, hidden size {}, {} heads, {} rows of word embeddings, {} positions",
        weights.path().display(),
        stored.layers,
        stored.hidden,
        stored.heads,
        stored.vocab_rows,
        stored.positions
    );
    let sizes = config.rates(&ModelConfig { positions, ..stored });
    tch::manual_seed(config.train.seed as i64);
    let model = match purpose {
        Use::Training(multiple) => Glm::divisible(&sizes, Kind::Float, device, multiple)?,
        Use::Inference(kind) => Glm::for_inference(&sizes, kind, device)?,
    };
    weights.load_into(model.parameters())?;
    Ok(model)
}

/// Loads the tokenizer for texts that weights are given: `given`, or the built-in one that the weights were trained with, or BERT's.
///
/// # Errors
/// [`TokenizerError`] if it cannot be loaded.
pub fn tokenizer_for(weights: &Weights, given: Option<&Path>) -> Result<glm_text::tokenize::Tokenizer, TokenizerError> {
    use glm_text::tokenize::Tokenizer;
    match (given, weights.tokenizer(), weights.published_vocabularies().as_slice()) {
        (None, None, [Vocabulary::Gpt2]) => Tokenizer::gpt2(),
        (given, recorded, _) => Tokenizer::load_recorded(given, recorded.as_ref()),
    }
}

/// Loads the tokenizer of a data set, `data.tokenizer` or the built-in one, if the task is evaluated by texts.
///
/// # Errors
/// [`SetupError::Invalid`] if it cannot be loaded or is not that of the data set.
pub fn text_tokenizer(
    path: &str,
    of_data: &Tokenizer,
    task: &dyn Task,
) -> Result<Option<Arc<glm_text::tokenize::Tokenizer>>, SetupError> {
    if task.generation().is_none() {
        return Ok(None);
    }
    let path = Some(Path::new(path)).filter(|path| !path.as_os_str().is_empty());
    let tokenizer = glm_text::tokenize::Tokenizer::load_recorded(path, Some(of_data));
    let tokenizer = tokenizer.map_err(|error| SetupError::Invalid(error.to_string()))?;
    if tokenizer.identity().sha256 != of_data.sha256 {
        return Err(SetupError::Invalid(format!(
            "the data set was made with the tokenizer {}, not with {}; give the path of its file with --set data.tokenizer=PATH",
            of_data.name,
            tokenizer.identity().name
        )));
    }
    Ok(Some(Arc::new(tokenizer)))
}

/// Checks that a model has embeddings for all tokens of a task's samples.
///
/// # Errors
/// [`SetupError::Invalid`] if it has not.
pub fn check_rows(task: &dyn Task, model: &Glm) -> Result<(), SetupError> {
    let rows = model.config().vocab_rows;
    match task.largest_added_id() {
        Some(id) if id as usize >= rows => Err(SetupError::Invalid(format!(
            "the model has {rows} rows of word embeddings, but the mask tokens of the settings have ids up to {id}; \
             set infill.task_mask=false, infill.input_masking=0 and seq2seq.task_mask=false, or use weights with more rows"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use glm_schemas::vocab::SpecialIds;

    use super::*;
    use crate::model::{Kernels, Preset};

    #[test]
    fn a_file_leads_to_its_data_set() {
        for (file, folder) in [
            ("own/train.jsonl", "own"),
            ("train.jsonl", "."),
            ("own/shards/manifest.json", "own"),
            ("own/shards/data/train-00000-of-00001.parquet", "own"),
            ("/a/own/ReCoRD/train.jsonl", "/a/own"),
        ] {
            assert_eq!(ingested(Path::new(file)), Path::new(folder), "{file}");
        }
    }

    #[test]
    fn tokens_per_batch_on_a_cpu_do_not_depend_on_its_memory() {
        let model = Glm::new(&Preset::TINY.config(), Kind::Float, Device::Cpu).expect("model");
        let pass = Pass::evaluation(Kind::Float, Kernels::Auto);
        let mut config = Config::default();
        for (set, expected) in [(0, MICRO_BATCH_TOKENS), (900, 900)] {
            config.data.micro_batch_tokens = set;
            let task = task::open(TaskName::Cloze, config.task(SpecialIds::BERT_UNCASED));
            resolve_micro_batch_tokens(&mut config, task.scored_share(), &model, &pass, true, None).expect("resolved");
            assert_eq!(config.data.micro_batch_tokens, expected);
        }
    }
}
