//! From what was typed to a run that can start: finds data and weights, and says which command brings what is missing.

mod args;
mod resume;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use glm_schemas::manifest::{Manifest, Split, Tokenizer};
use glm_schemas::vocab::embedding_rows;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::checkpoint::background::Background;
use crate::checkpoint::run_folder::{RunFolder, RunState};
use crate::checkpoint::sizes::checked_sizes;
use crate::checkpoint::weights::Weights;
use crate::config::Config;
use crate::data::mmap::DataSet;
use crate::data::pack::Share;
use crate::device::{DeviceChoice, Precision};
use crate::distributed::{Environment, Identity, OnHang, World};
use crate::model::config::PublishedWeights;
use crate::model::flops::flop_rates;
use crate::model::{Glm, ModelConfig, Preset};
use crate::optim::adamw::AdamW;
use crate::optim::control::ControlState;
use crate::record::files::unix_seconds;
use crate::record::metrics::MetricsFile;
use crate::record::sessions::Session;
use crate::task::{self, Purpose, Task};
use crate::train::step::Stepper;
use crate::train::{Records, Run, TrainError};

pub use args::RunArgs;

/// Where the published benchmark keeps its data.
const PUBLISHED_DATA: &str = "/home/data/perf/glm";
/// The variable that names the data folder.
const DATA_VARIABLE: &str = "GLM_DATA_DIR";

/// What a run was asked for, beside its settings.
#[derive(Debug, Clone)]
pub struct Request {
    /// The data set; `None`: the published place.
    pub data: Option<PathBuf>,
    /// Initial weights; `None`: the published ones of the preset if there are any, else random ones.
    pub init: Option<Init>,
    /// The device.
    pub device: DeviceChoice,
    /// The run's folder; `None`: a new one under `runs`.
    pub out: Option<PathBuf>,
    /// Whether to go on from the folder's newest checkpoint.
    pub resume: Resume,
    /// Settings that may be others than those that the run began with.
    pub allow: Vec<String>,
}

/// Whether a run goes on from the newest checkpoint in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// If it is the same run: the command that began it was typed again.
    IfSame,
    /// It does, also to a later end.
    Yes,
    /// It does if there is a checkpoint: for a launcher that starts it again.
    IfPossible,
}

/// What a model starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// Random weights.
    Random,
    /// A file or folder of weights.
    Path(PathBuf),
}

impl std::fmt::Display for Init {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// The folder of the data: as said, else `$GLM_DATA_DIR`, else where the published benchmark has it.
pub fn data_folder(said: Option<PathBuf>) -> PathBuf {
    said.or_else(|| std::env::var_os(DATA_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(PUBLISHED_DATA))
}

/// Opens the data set, or says what brings one.
///
/// # Errors
/// [`TrainError`].
pub fn open_data(folder: &Path) -> Result<DataSet, TrainError> {
    if !folder.is_dir() {
        return Err(TrainError::Setup(format!(
            "there is no folder {}: say where the data is with --data DIR or {DATA_VARIABLE}; \
             `glm-prep ingest DIR` makes a data set of the raw ReCoRD files in DIR",
            folder.display()
        )));
    }
    Ok(DataSet::open(folder)?)
}

/// Opens the task of a data set.
///
/// # Errors
/// [`TrainError`] where this version does not have it.
pub fn open_task(config: &Config, manifest: &Manifest) -> Result<Arc<dyn Task>, TrainError> {
    // Later: the manifest's own.
    task::open(task::CLOZE, config.task(manifest.special_ids)).map_err(|error| TrainError::Setup(error.to_string()))
}

/// Sets the number of threads that libtorch's operators on a CPU use.
pub fn use_threads(config: &Config) {
    if config.train.threads > 0 {
        tch::set_num_threads(i32::try_from(config.train.threads).unwrap_or(i32::MAX));
    }
}

/// Loads a model of the sizes that the weights have. `Kind::Float` for everything but tests against double precision.
///
/// # Errors
/// [`TrainError`] where the weights cannot be read, or do not go with the settings or the vocabulary.
pub fn load_model(
    weights: &Weights,
    config: &Config,
    tokenizer: &Tokenizer,
    device: Device,
    kind: Kind,
) -> Result<Glm, TrainError> {
    let stored = checked_sizes(weights, &config.model)?;
    if tokenizer.vocab_size > stored.vocab_rows {
        let (tokens, rows) = (tokenizer.vocab_size, stored.vocab_rows);
        return Err(mismatch(
            weights,
            &format!("{rows} rows of word embeddings, but the vocabulary {} has {tokens} tokens", tokenizer.name),
        ));
    }
    let positions = stored.positions.max(config.data.max_seq_len + 1);
    if positions > stored.positions {
        tracing::warn!(
            "{} has {} positions; rows up to {positions}, for data.max_seq_len = {}, start from random values",
            weights.path().display(),
            stored.positions,
            config.data.max_seq_len
        );
    }
    let sizes = config.rates(&ModelConfig { positions, ..stored });
    tch::manual_seed(config.train.seed as i64);
    let model = Glm::new(&sizes, kind, device)?;
    weights.load_into(model.parameters())?;
    Ok(model)
}

fn mismatch(weights: &Weights, reason: &str) -> TrainError {
    TrainError::Setup(format!("the weights in {} have {reason}", weights.path().display()))
}

/// Finds the device, and joins the other processes if the environment says that there are any. `on_hang`: see
/// [`World::join`].
///
/// # Errors
/// [`TrainError`].
pub fn join(
    device: DeviceChoice,
    config: &Config,
    environment: Option<Environment>,
    on_hang: OnHang,
) -> Result<(Device, Option<Rc<World>>), TrainError> {
    use_threads(config);
    let Some(environment) = environment else { return Ok((device.resolve()?, None)) };
    let device = device.resolve_for(environment.local_rank)?;
    let world = World::join(environment, device, &config.distributed, on_hang)?;
    Ok((device, Some(Rc::new(world))))
}

/// What the first rank begins with, and the others take from it.
#[derive(Debug, Serialize, Deserialize)]
struct Start {
    sizes: ModelConfig,
    state: RunState,
    goes_on: bool,
}

/// Gets a run ready to start. In a `world`, all ranks read the data, and the first one alone reads weights and writes files.
///
/// # Errors
/// [`TrainError`] in one sentence that says what is missing and what brings it.
pub fn prepare(request: Request, config: Config, device: Device, world: Option<Rc<World>>) -> Result<Run, TrainError> {
    let precision = config.train.precision.on(device);
    let folder = data_folder(request.data.clone());
    let data = open_data(&folder)?;
    let manifest = data.manifest();
    if let Some(world) = &world {
        let kind = if device.is_cuda() { "a GPU" } else { "the CPU" };
        world.check_identity(&Identity::of_process(&config, &manifest.fingerprint, kind))?;
    }
    let train_data = Arc::new(data.split(Split::Train)?);
    let val_data = match manifest.splits.contains_key(&Split::Val) {
        true => Some(Arc::new(data.split(Split::Val)?)),
        false => {
            tracing::warn!("{} has no split `val`: accuracy will not be measured", data.folder().display());
            None
        }
    };
    let begun = match world.as_deref().filter(|world| !world.is_rank_zero()) {
        None => begin(&request, &folder, &config, precision, manifest, device)?,
        Some(world) => {
            let Start { sizes, state, goes_on } = world.broadcast_value(START, None)?;
            let mut model = Glm::new(&sizes, Kind::Float, device)?;
            model.alloc_grads()?;
            let mut optimizer = AdamW::new(config.adamw(), model.parameters())?;
            optimizer.set_steps(state.optimizer_steps)?;
            Begun { model, optimizer, state, goes_on, records: None }
        }
    };
    let Begun { model, optimizer, state, goes_on, records } = begun;
    let task = open_task(&config, manifest)?;
    let mut packer = config.packer(Arc::clone(&task), Purpose::Train);
    if let Some(world) = &world {
        if world.is_rank_zero() {
            world.broadcast_value(START, Some(Start { sizes: model.config().clone(), state: state.clone(), goes_on }))?;
        }
        let weights = model.parameters().groups().iter().map(|group| &group.values);
        world.broadcast(weights.chain([optimizer.exp_avg(), optimizer.exp_avg_sq()]))?;
        packer.share = Some(Share { rank: world.rank(), ranks: world.size(), rates: flop_rates(model.config()) });
    }
    if let Some(records) = &records {
        let ranks = world.as_ref().map_or_else(String::new, |world| format!(" on each of {} ranks", world.size()));
        tracing::info!("{} parameters on {device:?} in {precision:?}{ranks}", model.config().parameters());
        let evaluated = val_data.as_ref().map_or(0, |data| data.rows());
        tracing::info!("{} training questions, {evaluated} to evaluate on", train_data.rows());
        tracing::info!("writing to {}", records.folder().root().display());
    }
    let saved = goes_on.then(|| state.clone());
    let control = ControlState { step: state.step, loss_scale: state.loss_scale, spikes: state.spikes };
    let stepper = Stepper::new(task, model, optimizer, &config, precision, control, world.clone())?;
    let run = Run { config, precision, train_data, val_data, packer, stepper, state, records, world, saved };
    if let Some(records) = &run.records {
        session(&run, data.folder(), device).note(records.folder().root());
    }
    Ok(run)
}

/// What is noted of a run that starts on the data set in `data`.
fn session(run: &Run, data: &Path, device: Device) -> Session {
    Session {
        time: unix_seconds() as u64,
        step: run.state.step,
        samples: run.state.samples,
        planned_samples: run.planned_samples(),
        task: run.packer.task.name().to_owned(),
        data: std::path::absolute(data).unwrap_or_else(|_| data.to_owned()),
        fingerprint: run.state.fingerprint.clone(),
        init: run.state.init.clone(),
        device: format!("{device:?}"),
        precision: run.precision,
        ranks: run.world.as_ref().map_or(1, |world| world.size()),
        parameters: run.stepper.model.config().parameters(),
        train_questions: run.train_data.rows(),
        val_questions: run.val_data.as_ref().map_or(0, |data| data.rows()),
    }
}

/// Under which name the first rank leaves what a run begins with.
const START: &str = "start";

/// Model, optimizer and state of a new run, or of one that goes on.
struct Begun {
    model: Glm,
    optimizer: AdamW,
    state: RunState,
    /// Whether the state is that of a checkpoint.
    goes_on: bool,
    /// The files that it writes, on the first rank.
    records: Option<Records>,
}

fn begin(
    request: &Request,
    data: &Path,
    config: &Config,
    precision: Precision,
    manifest: &Manifest,
    device: Device,
) -> Result<Begun, TrainError> {
    let root = match &request.out {
        Some(root) => root.clone(),
        None => new_run_folder(config.model.preset)?,
    };
    let folder = RunFolder::create(&root)?;
    let checkpoint = resume::point(&folder, request, config, manifest)?;
    let mut model = match &checkpoint {
        Some((path, _)) => load_model(&Weights::open(path)?, config, &manifest.tokenizer, device, Kind::Float)?,
        None => initial_model(request.init.as_ref(), data, config, manifest, device)?,
    };
    model.alloc_grads()?;
    let mut optimizer = AdamW::new(config.adamw(), model.parameters())?;
    let (state, so_far, goes_on) = match checkpoint {
        None => {
            let init = request.init.as_ref().map(ToString::to_string);
            let state = RunState::new(config.clone(), config.loss_scale(precision), manifest.fingerprint.clone(), init);
            (state, Vec::new(), false)
        }
        Some((path, state)) => {
            RunFolder::load_optimizer(&path, &model, &mut optimizer, &state)?;
            tracing::info!("going on from {} ({} questions)", path.display(), state.samples);
            (RunState { config: config.clone(), ..state }, RunFolder::metrics(&path)?, true)
        }
    };
    let resolved = toml::to_string(config).map_err(|error| TrainError::Setup(format!("cannot write settings: {error}")))?;
    folder.write("config.toml", resolved.as_bytes())?;
    let metrics = MetricsFile::begin(&root, so_far)?;
    let checkpoints = Background::new(folder, config.train.keep_checkpoints);
    Ok(Begun { model, optimizer, state, goes_on, records: Some(Records { checkpoints, metrics }) })
}

fn initial_model(
    init: Option<&Init>,
    data: &Path,
    config: &Config,
    manifest: &Manifest,
    device: Device,
) -> Result<Glm, TrainError> {
    let path = match init {
        Some(Init::Path(path)) => path.clone(),
        Some(Init::Random) => return random_model(config, manifest, device),
        None => match config.model.preset.weights {
            Some(weights) => published_weights(data, weights)?,
            None => {
                tracing::info!("no --init given: GLM-{} starts from random weights", config.model.preset.name);
                return random_model(config, manifest, device);
            }
        },
    };
    load_model(&Weights::open(&path)?, config, &manifest.tokenizer, device, Kind::Float)
}

fn random_model(config: &Config, manifest: &Manifest, device: Device) -> Result<Glm, TrainError> {
    let sizes = config.random_model(embedding_rows(manifest.tokenizer.vocab_size))?;
    tch::manual_seed(config.train.seed as i64);
    Ok(Glm::random(&sizes, Kind::Float, device)?)
}

/// Finds published weights next to the data or its `shards`: their folder, or the archive that contains it.
fn published_weights(data: &Path, weights: PublishedWeights) -> Result<PathBuf, TrainError> {
    let (folder, archive) = (weights.folder, weights.archive());
    let parents = || [Some(data), data.parent()].into_iter().flatten();
    let mut places = [folder, archive.as_str()].into_iter().flat_map(|name| parents().map(move |parent| parent.join(name)));
    places.find(|path| path.exists()).ok_or_else(|| {
        TrainError::Setup(format!(
            "there are no weights to start from, neither {folder} nor {archive} in {dir}: \
             download them with `glm-trainer fetch {name} {dir}`, use other weights with --init PATH, \
             or start from random weights with --init random",
            name = weights.name,
            dir = data.display()
        ))
    })
}

/// `runs/large-001` or the next number that is free.
fn new_run_folder(preset: Preset) -> Result<PathBuf, TrainError> {
    (1..=9999)
        .map(|number| PathBuf::from(format!("runs/{}-{number:03}", preset.name)))
        .find(|path| !path.exists())
        .ok_or_else(|| TrainError::Setup("runs/ holds 9,999 runs: choose a folder with --out".to_owned()))
}
