//! Memory plan of a run: `glm-trainer run --plan`, and the check before a run starts.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use glm_schemas::vocab::embedding_rows;
use libtorch_ext::stream::available_bytes;
use serde::Serialize;
use tch::{Device, Kind};

use super::source::place_of;
use super::{Init, Request};
use crate::batch::layout::LayoutKind;
use crate::checkpoint::sizes::checked_sizes;
use crate::checkpoint::weights::Weights;
use crate::command::setup::{SetupError, data_folder, open_data, open_task};
use crate::config::Config;
use crate::data::mmap::DataSet;
use crate::device::{DeviceChoice, Precision};
use crate::memory::machine_bytes;
use crate::model::{Kernels, ModelConfig};
use crate::task::Task;
use crate::train::memory_plan::{Choices, MemoryPlan, Subject, automatic, choices_that_fit};

/// Number of bytes, with a unit: 80GB, 24GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("GB", 1_000_000_000), ("MB", 1_000_000), ("B", 1)];
        let found =
            units.into_iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim().parse::<f64>().ok()?, unit)));
        match found.filter(|(number, _)| *number > 0.0 && number.is_finite()) {
            Some((number, unit)) => Ok(Self((number * unit as f64) as u64)),
            None => Err(format!("invalid size `{text}`: expected a number with a unit, for example 80GB or 24GiB")),
        }
    }
}

/// Machine that a plan is for.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Number of ranks.
    pub ranks: usize,
    /// Memory of the device of a rank; `None`: of this machine's.
    pub memory: Option<Bytes>,
}

/// Memory plan of a run.
#[derive(Debug, Serialize)]
pub struct PlanReport {
    /// Number of ranks.
    pub ranks: usize,
    /// Number format of the forward and backward pass.
    pub precision: Precision,
    /// Memory of each rank.
    pub available: u64,
    /// True if the run fits.
    pub fits: bool,
    /// Choices of the settings.
    pub choices: Choices,
    /// Bytes on one rank.
    pub bytes: MemoryPlan,
    /// Choices with which a run fits that does not fit as it is.
    pub remedy: Option<Choices>,
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ranks, precision, available, choices, bytes, .. } = self;
        let of_ranks = if *ranks == 1 { "1 rank".to_owned() } else { format!("each of {ranks} ranks") };
        writeln!(f, "{} parameters in {precision} on {of_ranks}, {choices}", bytes.parameters)?;
        for (kind, bytes) in bytes.kinds().into_iter().filter(|(_, bytes)| *bytes > 0) {
            writeln!(f, "{kind:<16} {:>10}", gigabytes(bytes))?;
        }
        writeln!(f, "{:<16} {:>10} of {}", "total", gigabytes(bytes.total), gigabytes(*available))?;
        if self.fits { Ok(()) } else { writeln!(f, "{}", advice(choices, self.remedy.as_ref())) }
    }
}

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = if self.checkpoint_activations { ", activation checkpointing" } else { "" };
        write!(f, "shard {}, batches of {} tokens{again}", self.shard, self.micro_batch_tokens)
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// Says which settings make a run fit.
fn advice(choices: &Choices, remedy: Option<&Choices>) -> String {
    let Some(remedy) = remedy else {
        return "no setting makes it fit: use more ranks, GPUs with more memory, or a smaller model".to_owned();
    };
    let mut settings = Vec::new();
    if remedy.shard != choices.shard {
        settings.push(format!("--set distributed.shard={}", remedy.shard));
    }
    if remedy.checkpoint_activations != choices.checkpoint_activations {
        settings.push("--set train.checkpoint_activations=always".to_owned());
    }
    if remedy.micro_batch_tokens != choices.micro_batch_tokens {
        settings.push(format!("--set data.micro_batch_tokens={}", remedy.micro_batch_tokens));
    }
    format!("it fits with {}", settings.join(" "))
}

/// Plans a run without starting it.
///
/// # Errors
/// [`SetupError`] if data set, weights or device are not there.
pub fn plan(request: &Request, config: &Config, machine: Machine) -> Result<PlanReport, SetupError> {
    let folder = data_folder(request.data.clone());
    let data = if request.data.is_some() || folder.is_dir() { Some(open_data(&folder)?) } else { None };
    let sizes = sizes(request, config, &folder, data.as_ref())?;
    let scored = data.as_ref().map(|data| open_task(config, data.manifest()).scored_share());
    // The memory of another machine is that of a GPU, unless it is said otherwise.
    let device = match (machine.memory, request.device) {
        (Some(_), DeviceChoice::Auto) => Device::Cuda(0),
        (_, choice) => choice.resolve()?,
    };
    let subject = Setting { device, ranks: machine.ranks, scored: scored.unwrap_or(DEFAULT_SCORED) }.subject(&sizes, config);
    let available = match machine.memory {
        Some(Bytes(bytes)) => bytes,
        None => memory_of(device, machine.ranks)?,
    };
    let choices = automatic(&subject, config, available);
    let bytes = MemoryPlan::new(&subject, &choices, config);
    let fits = bytes.total <= available;
    let remedy = if fits { None } else { choices_that_fit(&subject, &choices, config, available).map(|(choices, _)| choices) };
    let precision = config.train.precision.on(device);
    Ok(PlanReport { ranks: machine.ranks, precision, available, fits, choices, bytes, remedy })
}

/// Share of scored tokens where there is no data set.
const DEFAULT_SCORED: f64 = 0.1;

/// Device of a run.
#[derive(Debug, Clone, Copy)]
struct Setting {
    device: Device,
    ranks: usize,
    scored: f64,
}

impl Setting {
    fn subject<'a>(&self, model: &'a ModelConfig, config: &Config) -> Subject<'a> {
        let kind = config.train.precision.on(self.device).kind();
        let on_gpu = self.device.is_cuda();
        let layout = match (config.train.kernels, on_gpu, kind) {
            (Kernels::Torch, _, _) | (_, true, Kind::Float) | (_, false, Kind::Half) => LayoutKind::Padded,
            (_, true, _) => LayoutKind::Blocks,
            (_, false, _) => LayoutKind::Packed,
        };
        Subject { model, kind, layout, on_gpu, ranks: self.ranks, scored: self.scored }
    }
}

/// Memory of a device that all of `ranks` ranks on this machine share if it is a CPU.
fn memory_of(device: Device, ranks: usize) -> Result<u64, SetupError> {
    Ok(match device {
        Device::Cuda(index) => available_bytes(index)?,
        _ => machine_bytes().unwrap_or(u64::MAX) / ranks.max(1) as u64,
    })
}

/// Sizes of the model of a new run.
fn sizes(request: &Request, config: &Config, folder: &Path, data: Option<&DataSet>) -> Result<ModelConfig, SetupError> {
    if let Some(Init::Path(path)) = &request.init {
        let weights = Weights::open_checkpoint(&place_of(path, folder)?, request.checkpoint)?;
        return Ok(checked_sizes(&weights, &config.model)?);
    }
    let rows = match data {
        Some(data) => embedding_rows(data.manifest().tokenizer.vocab_size),
        None => config.model.preset.config().vocab_rows,
    };
    Ok(config.random_model(rows)?)
}

/// Checks that a run of a model of these sizes fits before anything of it is allocated, on `ranks` ranks, of which `ranks_here` share the
/// memory of this machine. Returns whether blocks are computed again in the backward pass.
///
/// # Errors
/// [`SetupError::Invalid`] that names the settings with which it fits.
pub(super) fn check(
    sizes: &ModelConfig,
    config: &Config,
    task: &dyn Task,
    device: Device,
    [ranks, ranks_here]: [usize; 2],
) -> Result<bool, SetupError> {
    let subject = Setting { device, ranks, scored: task.scored_share() }.subject(sizes, config);
    let available = memory_of(device, ranks_here)?;
    let choices = automatic(&subject, config, available);
    let bytes = MemoryPlan::new(&subject, &choices, config);
    tracing::debug!("{} of memory planned on each rank, {choices}", gigabytes(bytes.total));
    if bytes.total > available {
        let remedy = choices_that_fit(&subject, &choices, config, available).map(|(choices, _)| choices);
        return Err(SetupError::Invalid(format!(
            "the run needs about {} of memory on each rank, which has {}; {} (`glm-trainer run --plan` lists what takes it)",
            gigabytes(bytes.total),
            gigabytes(available),
            advice(&choices, remedy.as_ref())
        )));
    }
    if choices.checkpoint_activations {
        tracing::info!("activation checkpointing: blocks are computed again in the backward pass");
    }
    Ok(choices.checkpoint_activations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("80GB", 80_000_000_000), ("1.5 GiB", 3 << 29), ("12MB", 12_000_000), ("9B", 9)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "7", "GB", "-1GB", "80G", "80 apples", "inf"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }
}
