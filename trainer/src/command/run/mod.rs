//! `glm-trainer run`: finds data and weights and prepares a run.

mod args;
mod error;
mod init;
mod outcome;
mod places;
pub mod plan;
mod recipe;
mod restore;
mod resume;
mod schedule;
mod seeds;
mod source;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use glm_remote::{Location, is_url};
use glm_schemas::manifest::Split;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::checkpoint::background::Background;
use crate::checkpoint::copy::RunCopy;
use crate::checkpoint::locate::CheckpointChoice;
use crate::checkpoint::run_folder::{RunFolder, RunState};
use crate::checkpoint::snapshot::Snapshots;
use crate::command::setup::{
    SetupError, check_objective, check_rows, check_target_length, complete, data_folder, open_data, open_task,
    resolve_micro_batch_tokens, set_threads, text_tokenizer,
};
use crate::config::plan::{keep_recorded, resolve};
use crate::config::recipe::Recipe;
use crate::config::{Config, ShardKind};
use crate::data::DataError;
use crate::data::mmap::DataSet;
use crate::data::pack::{Packer, Share};
use crate::data::verify::Verify;
use crate::device::{DeviceChoice, Precision, device_name};
use crate::distributed::{Environment, Identity, OnHang, World};
use crate::model::flops::flop_rates;
use crate::model::{Glm, ModelConfig, Pass};
use crate::optim::adamw::AdamW;
use crate::optim::control::ControlState;
use crate::optim::shard::Shard;
use crate::record::files::unix_seconds;
use crate::record::metrics::MetricsFile;
use crate::record::sessions::Session;
use crate::task::{Objective, Purpose, Task, words_of};
use crate::train::step::{Ranks, Stepper};
use crate::train::{Records, Run};
use crate::version;

pub use args::RunArgs;
pub use error::RunError;
pub use init::Init;
pub use outcome::{log_outcome, quoted};
use places::new_run_folder;
use restore::{join_checkpoints, restore};
use schedule::log_schedule;
pub use seeds::SeedRuns;
use source::Source;

/// Arguments of a run that are not settings.
#[derive(Debug, Clone)]
pub struct Request {
    /// Data folder; `None`: see [`data_folder`].
    pub data: Option<PathBuf>,
    /// Task to train; `None`: that of the data set.
    pub task: Option<Objective>,
    /// Initial weights; `None`: the published ones of the preset if there are any, else random ones.
    pub init: Option<Init>,
    /// Checkpoint of the run whose folder `init` is; `None`: the best.
    pub checkpoint: Option<CheckpointChoice>,
    /// The device.
    pub device: DeviceChoice,
    /// Run folder; `None`: a new one in `runs`.
    pub out: Option<PathBuf>,
    /// URL of an object store to which the run folder is copied.
    pub copy: Option<Location>,
    /// Handling of checkpoints in the run folder.
    pub resume: Resume,
    /// Settings that may differ from those with which the run was started.
    pub allow: Vec<String>,
    /// Recipe that the settings are based on; `None` for those of a run that is resumed.
    pub recipe: Option<Recipe>,
}

/// Handling of checkpoints in the run folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Resume if the arguments are those of the run in the folder.
    IfSame,
    /// Resume; the run may be made longer.
    Yes,
    /// Resume if there is a checkpoint: for restarts by a launcher.
    IfPossible,
}

/// Resolves the device, and joins the other processes if the environment describes any. `on_hang`: see [`World::join`].
///
/// # Errors
/// [`SetupError`].
pub fn join(
    device: DeviceChoice,
    config: &Config,
    environment: Option<Environment>,
    on_hang: OnHang,
) -> Result<(Device, Option<Rc<World>>), SetupError> {
    set_threads(config);
    let Some(environment) = environment else { return Ok((device.resolve()?, None)) };
    let device = device.resolve_for(environment.local_rank)?;
    let world = World::join(environment, device, &config.distributed, on_hang)?;
    Ok((device, Some(Rc::new(world))))
}

/// Initial state that rank 0 sends to the other ranks.
#[derive(Debug, Serialize, Deserialize)]
struct InitialState {
    sizes: ModelConfig,
    state: RunState,
    /// Folder of the run.
    root: PathBuf,
    /// See [`Glm::checkpoint_activations`].
    recomputes: bool,
    resumed: bool,
}

/// Prepares a run. In a `world`, all ranks read the data; only rank 0 reads weights and writes files.
///
/// # Errors
/// [`SetupError`] with the missing part and a remedy.
pub fn prepare(request: Request, mut config: Config, device: Device, world: Option<Rc<World>>) -> Result<Run, SetupError> {
    let precision = config.train.precision.on(device);
    let folder = data_folder(request.data.clone());
    let data = open_data(&folder)?;
    let manifest = data.manifest();
    check_objective(request.task, &data)?;
    complete(&mut config, &data)?;
    if let Some(world) = &world {
        let kind = if device.is_cuda() { "a GPU" } else { "the CPU" };
        world.check_identity(&Identity::of_process(&config, &manifest.fingerprint, kind))?;
    }
    // One rank per machine reads all files of its copy of the data set.
    let verify = match &world {
        Some(world) if !world.is_first_on_machine() => Verify::Never,
        _ => config.data.verify,
    };
    check_target_length(&config, manifest.task)?;
    let task = open_task(&config, manifest);
    let tokenizer = text_tokenizer(&config.data.tokenizer, &manifest.tokenizer, &*task)?;
    let open_split = |split| Ok::<_, DataError>(Arc::new(data.split_verified(split, verify)?.counted(&*task)?));
    let train_data = open_split(Split::Train)?;
    let val_data = match manifest.splits.contains_key(&Split::Val) {
        true => Some(open_split(Split::Val)?),
        false => {
            tracing::warn!("{} has no split `val`; the model will not be evaluated", data.place().display());
            None
        }
    };
    let begun = match world.as_deref().filter(|world| !world.is_rank_zero()) {
        None => {
            begin(&request, &folder, &mut config, precision, &data, (&*task, train_data.samples()), device, world.as_deref())?
        }
        Some(world) => {
            let InitialState { sizes, state, root, recomputes, resumed } = world.broadcast_value(START, None)?;
            keep_recorded(&mut config, &state.config);
            let model = match world.division(&sizes, device, &passes(&config, precision)) {
                Some(_) => Glm::unallocated(&sizes, Kind::Float, device)?,
                None => Glm::divisible(&sizes, Kind::Float, device, world.multiple())?,
            };
            Begun { model, state, root, checkpoint: None, recomputes, resumed, records: None }
        }
    };
    let Begun { mut model, state, root, checkpoint, recomputes, resumed, mut records } = begun;
    check_rows(&*task, &model)?;
    if let Some(world) = &world {
        if world.is_rank_zero() {
            let (sizes, state, root) = (model.config().clone(), state.clone(), root.clone());
            world.broadcast_value(START, Some(InitialState { sizes, state, root, recomputes, resumed }))?;
        }
        match world.division(model.config(), device, &passes(&config, precision)) {
            Some(division) => {
                model = world.divide(model.config(), device, world.is_rank_zero().then_some(&model), division)?;
            }
            None => world.broadcast([model.parameters().values()])?,
        }
    }
    model.checkpoint_activations(recomputes);
    match world.as_deref().filter(|world| world.shard_kind() >= ShardKind::Gradients) {
        Some(world) => model.alloc_divided_grads(world.size())?,
        None => model.alloc_grads()?,
    }
    let ranks = world.as_ref().map(|world| Ranks::new(Rc::clone(world), model.parameters())).transpose()?;
    let shard = ranks.as_ref().map_or_else(|| Shard::whole(model.parameters()), |ranks| ranks.shard(model.parameters()));
    let mut optimizer = AdamW::sharded(config.adamw(), model.parameters(), shard)?;
    if resumed {
        restore(checkpoint.as_deref(), &model, &mut optimizer, world.as_deref())?;
        optimizer.set_steps(state.optimizer_steps)?;
    }
    let snapshots = Snapshots::new(model.parameters(), &optimizer);
    let parts = match world.as_deref().filter(|_| optimizer.shard().ranks() > 1) {
        Some(world) => join_checkpoints(root, world, records.as_mut())?,
        None => None,
    };
    if let Some(records) = &records {
        let ranks = world.as_ref().map_or_else(String::new, |world| format!(" on each of {} ranks", world.size()));
        let (parameters, device) = (model.config().parameters(), device_name(device));
        tracing::info!("{parameters} parameters on {device} in {precision}{ranks}");
        let words = task.words();
        let evaluated = match (val_data.as_ref().map_or(0, |data| data.rows()), config.train.eval_questions) {
            (all, limit) if limit == 0 || limit >= all => format!("{all} evaluation {}", words.rows),
            (all, limit) => format!("{limit} of {all} evaluation {}, always the same", words.rows),
        };
        let (rows, samples) = (train_data.rows(), train_data.samples());
        let in_samples = if samples > rows { format!(" ({samples} {} per epoch)", words.samples) } else { String::new() };
        tracing::info!("{rows} training {}{in_samples}, {evaluated}", words.rows);
        let of = data.manifest().cloze.as_ref().map(|cloze| cloze.task.as_str());
        log_schedule(&config, request.recipe, of, samples, words.samples);
        match &request.copy {
            Some(url) => tracing::info!("writing to {url}, by way of {}", records.folder().root().display()),
            None => tracing::info!("writing to {}", records.folder().root().display()),
        }
        if precision == Precision::Fp16 && !device.starts_with("cuda") {
            tracing::warn!("fp16 is slow on a CPU and skips steps that overflow; --precision bf16 or fp32 is faster");
        }
    }
    let saved = resumed.then(|| state.clone());
    let control = ControlState { step: state.step, loss_scale: state.loss_scale, spikes: state.spikes };
    let stepper = Stepper::new(Arc::clone(&task), model, optimizer, &config, precision, control, ranks)?;
    // Last, since it is for the memory that is left.
    resolve_micro_batch_tokens(&mut config, task.scored_share(), &stepper.model, stepper.pass(), true, world.as_deref())?;
    if let Some(records) = &records {
        let resolved = toml::to_string(&config);
        let resolved = resolved.map_err(|error| SetupError::Invalid(format!("cannot write settings: {error}")))?;
        records.folder().write("config.toml", resolved.as_bytes())?;
    }
    let share = world.as_ref().map(|world| Share {
        rank: world.rank(),
        ranks: world.size(),
        rates: flop_rates(stepper.model.config()),
    });
    let packer = Packer { share, ..config.packer(task, Purpose::Train) };
    let run = Run {
        config,
        precision,
        train_data,
        val_data,
        packer,
        tokenizer,
        stepper,
        state,
        snapshots,
        records,
        parts,
        world,
        saved,
        final_metrics: None,
    };
    if let Some(records) = &run.records {
        session(&run, &data.place(), device).note(records.folder().root());
    }
    Ok(run)
}

/// Settings of passes, without dropout.
fn passes(config: &Config, precision: Precision) -> Pass {
    Pass::evaluation(precision.kind(), config.train.kernels)
}

/// Record of the start of a run on the data set in `data`, a folder or a URL.
fn session(run: &Run, data: &Path, device: Device) -> Session {
    Session {
        time: unix_seconds() as u64,
        step: run.state.step,
        samples: run.state.samples,
        planned_samples: run.plan().samples,
        task: run.packer.task.name(),
        data: Some(data)
            .filter(|data| !is_url(data))
            .and_then(|data| std::path::absolute(data).ok())
            .unwrap_or_else(|| data.to_owned()),
        fingerprint: run.state.fingerprint.clone(),
        init: run.state.init.clone(),
        device: device_name(device),
        precision: run.precision,
        ranks: run.world.as_ref().map_or(1, |world| world.size()),
        parameters: run.stepper.model.config().parameters(),
        train_questions: run.train_data.rows(),
        val_questions: run.val_data.as_ref().map_or(0, |data| data.rows()),
        provenance: Some(version::provenance()),
    }
}

/// Name of the initial state in the store.
const START: &str = "start";

/// Model and state of a new or resumed run, still without the state of the optimizer.
struct Begun {
    model: Glm,
    state: RunState,
    /// Folder of the run.
    root: PathBuf,
    /// Checkpoint with the state of the optimizer, on rank 0.
    checkpoint: Option<PathBuf>,
    /// See [`Glm::checkpoint_activations`].
    recomputes: bool,
    /// True if the state is that of a checkpoint.
    resumed: bool,
    /// Output files, on rank 0.
    records: Option<Records>,
}

#[expect(clippy::too_many_arguments, reason = "called once")]
fn begin(
    request: &Request,
    place: &Path,
    config: &mut Config,
    precision: Precision,
    data: &DataSet,
    (task, samples): (&dyn Task, usize),
    device: Device,
    world: Option<&World>,
) -> Result<Begun, SetupError> {
    let manifest = data.manifest();
    let ranks = world.map_or([1, 1], |world| [world.size(), world.ranks_here()]);
    let root = match &request.out {
        Some(root) => root.clone(),
        None => new_run_folder(config.model.preset)?,
    };
    let folder = RunFolder::create(&root)?;
    let checkpoint = resume::point(&folder, request, config, manifest)?;
    resolve(config, samples);
    let path = checkpoint.as_ref().map(|(path, _)| path.as_path());
    let source = Source::open(request, place, config, manifest, path)?;
    let sizes = source.sizes(config)?;
    let recomputes = plan::check(&sizes, config, task, device, ranks)?;
    // Before they are divided, whole weights are in the memory of the host.
    let divides = world.is_some_and(|world| world.division(&sizes, device, &passes(config, precision)).is_some());
    let place = if divides { Device::Cpu } else { device };
    let model = source.load(config, manifest, place, world.map_or(1, World::multiple))?;
    let (state, so_far, checkpoint) = match checkpoint {
        None => {
            let init = request.init.as_ref().map(ToString::to_string);
            let (fingerprint, tokenizer) = (manifest.fingerprint.clone(), Some(manifest.tokenizer.clone()));
            let state = RunState::new(config.clone(), config.loss_scale(precision), fingerprint, tokenizer, init);
            (state, Vec::new(), None)
        }
        Some((path, state)) => {
            let word = words_of(manifest.task).samples;
            tracing::info!("resuming from {} ({} {word})", path.display(), state.samples);
            let tokenizer = Some(manifest.tokenizer.clone());
            (RunState { config: config.clone(), tokenizer, ..state }, RunFolder::metrics(&path)?, Some(path))
        }
    };
    let metrics = MetricsFile::begin(&root, so_far)?;
    let keep = config.train.keep_checkpoints;
    let copy = request.copy.as_ref().map(|url| RunCopy::start(&root, url, keep)).transpose()?;
    let checkpoints = Background::new(folder, keep).with_copy(copy);
    let root = std::path::absolute(&root).unwrap_or(root);
    let (resumed, records) = (checkpoint.is_some(), Some(Records { checkpoints, metrics }));
    Ok(Begun { model, state, root, checkpoint, recomputes, resumed, records })
}
