//! `glm-trainer eval`: the accuracy of weights on a split, and what it has in common with other commands that score a split.

use std::fmt;
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
use crate::train::TrainError;
use crate::train::evaluate::{Evaluation, EvaluationConfig, evaluate};

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
        let (model, config) = load(init, config, &manifest.tokenizer, manifest.special_ids, device)?;
        Ok(Self { model, data: split, config })
    }
}

/// Loads the weights `init` to answer questions with, as the settings say.
pub(crate) fn load(
    init: &Path,
    config: Config,
    tokenizer: &Tokenizer,
    special: SpecialIds,
    device: Device,
) -> Result<(Glm, EvaluationConfig), TrainError> {
    let weights = Weights::open(init)?;
    let config = within_positions(config, &weights)?;
    let model = launch::load_model(&weights, &config, tokenizer, device, Kind::Float)?;
    Ok((model, EvaluationConfig::of(&config, special, device)))
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

impl EvaluationConfig {
    /// What the settings say, on a device.
    pub fn of(config: &Config, special: SpecialIds, device: Device) -> Self {
        Self {
            kind: config.train.precision.on(device).kind(),
            kernels: config.train.kernels,
            packer: config.packer(special, false),
            threads: config.data.decode_threads,
            limit: config.train.eval_questions,
        }
    }
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
        return Ok(evaluate(&model, &data, config, None, drop).map_err(TrainError::from)?);
    };
    let mut result = Evaluation::default();
    write_lines(path, |file| {
        let mut written = Ok(());
        result = evaluate(&model, &data, config, None, |answer| {
            if written.is_ok() {
                written = write_line(file, &answer);
            }
        })?;
        Ok(written?)
    })?;
    Ok(result)
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accuracy, hits, questions, f1, exact_match, chance, most_frequent, seconds } = self;
        let mut line = |name: &str, share: &f64, what: &str| writeln!(f, "{name:<20}  {:6.2} %   {what}", 100.0 * share);
        line("accuracy", accuracy, &format!("{hits} of {questions} questions, {seconds:.1} s"))?;
        line("F1", f1, "words shared with a right answer (SuperGLUE)")?;
        line("exact match", exact_match, "the text of a right answer (SuperGLUE)")?;
        line("chance", chance, "a guess among the choices")?;
        line("most frequent entity", most_frequent, "the choice that the passage names most often")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_fits_a_terminal() {
        let result = Evaluation {
            accuracy: 1.0,
            hits: 100_000,
            questions: 100_000,
            f1: 0.5,
            exact_match: 0.25,
            chance: 0.1,
            most_frequent: 0.2,
            seconds: 12_345.6,
        };
        let text = result.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.starts_with("accuracy              100.00 %   100000 of 100000 questions, 12345.6 s\nF1"), "{text}");
        assert_eq!(text.lines().count(), 5);
    }
}
