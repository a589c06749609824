//! `glm-trainer eval`: the accuracy of weights on a split, and what it has in common with other commands that score a split.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use glm_schemas::manifest::{Split, Tokenizer};
use glm_schemas::vocab::SpecialIds;
use glm_support::files::atomic::{self, Sink};
use serde::Serialize;
use tch::{Device, Kind};
use thiserror::Error;

use crate::checkpoint::weights::Weights;
use crate::command::launch;
use crate::config::Config;
use crate::config::args::SettingArgs;
use crate::data::DataError;
use crate::data::mmap::SplitData;
use crate::device::DeviceChoice;
use crate::model::Glm;
use crate::task;
use crate::task::metrics::Evaluation;
use crate::train::TrainError;
use crate::train::evaluate::{EvaluationConfig, evaluate};

/// Arguments of `eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// Data set: the folder given to `glm-prep ingest`, or its `shards` [default: $GLM_DATA_DIR, else /home/data/perf/glm]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Weights: a file, folder or archive, as for `run --init`
    #[arg(long, value_name = "PATH")]
    pub init: PathBuf,
    /// Split: train or val
    #[arg(long, default_value = "val")]
    pub split: Split,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Write one JSON line per question: example_id, scores, predicted, correct, hit
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

/// Why a split cannot be scored.
#[derive(Debug, Error)]
pub enum EvalError {
    /// Data, weights, settings or the device.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A split without answers.
    #[error(
        "the split test has no answers, so there is no accuracy to measure; take val or train, \
         or write what the model answers with `glm-trainer predict`"
    )]
    NoAnswers,
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why lines do not come to be written.
#[derive(Debug)]
pub(crate) enum LineError {
    Io(io::Error),
    Train(TrainError),
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DataError> for LineError {
    fn from(error: DataError) -> Self {
        Self::Train(error.into())
    }
}

/// Writes a file of JSON lines, whole or not at all.
pub(crate) fn write_lines(path: &Path, fill: impl FnOnce(&mut dyn Sink) -> Result<(), LineError>) -> Result<(), EvalError> {
    atomic::write(path, fill).map_err(|error| match error {
        LineError::Io(source) => EvalError::Write { path: path.to_owned(), source },
        LineError::Train(error) => EvalError::Train(error),
    })
}

/// Appends a JSON line.
pub(crate) fn write_line(file: &mut dyn Sink, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

/// A model and the questions that it is to answer.
#[derive(Debug)]
pub struct Scoring {
    /// The model.
    pub model: Glm,
    /// The split.
    pub data: Arc<SplitData>,
    /// How it is scored.
    pub config: EvaluationConfig,
}

impl Scoring {
    /// Opens the data set and loads the weights `init`.
    ///
    /// # Errors
    /// [`TrainError`] says what is missing, or does not go together.
    pub fn prepare(
        data: Option<PathBuf>,
        split: Split,
        init: &Path,
        device: DeviceChoice,
        settings: &SettingArgs,
    ) -> Result<Self, TrainError> {
        let config = settings.resolve(&[])?;
        launch::use_threads(&config);
        let device = device.resolve()?;
        let data = launch::open_data(&launch::data_folder(data))?;
        let split = Arc::new(data.split(split)?);
        let manifest = data.manifest();
        let (model, config, _) = load(init, config, task::CLOZE, &manifest.tokenizer, manifest.special_ids, device)?;
        Ok(Self { model, data: split, config })
    }
}

/// Loads the weights `init` to answer questions with, as the settings say.
pub(crate) fn load(
    init: &Path,
    config: Config,
    task: &str,
    tokenizer: &Tokenizer,
    special: SpecialIds,
    device: Device,
) -> Result<(Glm, EvaluationConfig, Config), TrainError> {
    let weights = Weights::open(init)?;
    let config = within_positions(config, &weights)?;
    let model = launch::load_model(&weights, &config, tokenizer, device, Kind::Float)?;
    let task = task::open(task, config.task(special)).map_err(|error| TrainError::Setup(error.to_string()))?;
    Ok((model, EvaluationConfig::new(&config, task, device), config))
}

/// Settings for a model that is not trained further: where the weights have fewer positions than `data.max_seq_len` asks for, as
/// those of a run with shorter questions, contexts are cut to what they have.
fn within_positions(mut config: Config, weights: &Weights) -> Result<Config, TrainError> {
    let positions = weights.sizes()?.positions;
    let longest = positions.saturating_sub(1);
    if config.data.max_seq_len > longest && longest > 0 {
        tracing::info!(
            "questions of more than {longest} tokens are cut: {} has {positions} positions",
            weights.path().display()
        );
        config.data.max_seq_len = longest;
    }
    Ok(config)
}

/// Evaluates weights, and writes a line for every question where that is asked for.
///
/// # Errors
/// [`EvalError`].
pub fn run(args: &EvalArgs) -> Result<Evaluation, EvalError> {
    if args.split == Split::Test {
        return Err(EvalError::NoAnswers);
    }
    let Scoring { model, data, config } =
        Scoring::prepare(args.data.clone(), args.split, &args.init, args.device, &args.settings)?;
    let Some(path) = &args.scores else {
        return Ok(evaluate(&model, &data, &config, None, drop).map_err(TrainError::from)?);
    };
    let mut result = Evaluation::default();
    write_lines(path, |file| {
        let mut written = Ok(());
        result = evaluate(&model, &data, &config, None, |answer| {
            if written.is_ok() {
                written = write_line(file, &answer);
            }
        })?;
        Ok(written?)
    })?;
    Ok(result)
}
