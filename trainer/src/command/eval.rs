//! `glm-trainer eval`: metrics of weights on a split, or on texts.

mod documents;
mod language_model;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use glm_schemas::manifest::{Split, TaskName};
use glm_support::files::output::{Output, OutputError};
use glm_support::files::progress::{self, Unit};
use serde::Serialize;
use thiserror::Error;

pub use documents::DocumentError;
pub use language_model::{LmArgs, LmError, LmMetric, LmSettings};

use crate::command::answer_line::AnswerLine;
use crate::command::scorer::{Scorer, SplitScorer};
use crate::command::setup::{SetupError, check_objective, data_folder};
use crate::command::weights::{Provenance, WeightArgs};
use crate::config::args::SettingArgs;
use crate::data::DataError;
use crate::data::mmap::DataSet;
use crate::device::DeviceChoice;
use crate::task::Objective;
use crate::task::metrics::Evaluation;
use crate::task::seq2seq::Metric;
use crate::train::evaluate::{Outcome, evaluate};

/// Arguments of `eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// Data set: the folder or URL given to `glm-prep ingest`, or its `shards`; with --task lm also a file of text or of JSON lines with a `text`
    /// [default: $GLM_DATA_DIR, else /home/data/perf/glm]
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Task to evaluate [default: the task of the data set]
    #[arg(long, value_enum)]
    pub task: Option<EvalTask>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub weights: WeightArgs,
    /// Split: train or val; with --task lm also test
    #[arg(long, default_value = "val", value_parser = parse_split)]
    pub split: Split,
    /// Metric: of a language model perplexity or lambada [default: perplexity]; of pairs a metric of generated texts [default:
    /// seq2seq.metric]
    #[arg(long, value_name = "NAME", value_enum)]
    pub metric: Option<EvalMetric>,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Write one JSON line per question or text with its scores, or per pair with its generated text; -: to standard output, and the result
    /// to standard error
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub lm: LmArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

/// Task that is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalTask {
    /// Task that is trained on the table of the data set.
    Objective(Objective),
    /// A language model.
    Lm,
}

/// All values of `--task`.
static TASKS: LazyLock<Vec<EvalTask>> = LazyLock::new(|| {
    let objectives = Objective::value_variants().iter().copied().map(EvalTask::Objective);
    objectives.chain([EvalTask::Lm]).collect()
});

impl ValueEnum for EvalTask {
    fn value_variants<'a>() -> &'a [Self] {
        &TASKS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Objective(objective) => objective.to_possible_value(),
            Self::Lm => Some(PossibleValue::new("lm").help("Perplexity of texts, or the accuracy of their last words")),
        }
    }
}

/// Metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalMetric {
    /// Of a language model.
    LanguageModel(LmMetric),
    /// Of generated texts.
    Texts(Metric),
}

/// All values of `--metric`.
static METRICS: LazyLock<Vec<EvalMetric>> = LazyLock::new(|| {
    let texts = Metric::value_variants().iter().copied().map(EvalMetric::Texts);
    LmMetric::value_variants().iter().copied().map(EvalMetric::LanguageModel).chain(texts).collect()
});

impl ValueEnum for EvalMetric {
    fn value_variants<'a>() -> &'a [Self] {
        &METRICS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::LanguageModel(metric) => metric.to_possible_value(),
            Self::Texts(metric) => metric.to_possible_value(),
        }
    }
}

/// Errors of commands that score a split.
#[derive(Debug, Error)]
pub enum EvalError {
    /// Data set, weights, settings or device.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A row cannot be scored.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A split without answers.
    #[error(
        "the test split has no answers, so accuracy cannot be measured; use --split val or train, \
         or write predictions with `glm-trainer predict`"
    )]
    NoAnswers,
    /// Evaluation of a language model.
    #[error(transparent)]
    LanguageModel(#[from] LmError),
    /// An option of another task.
    #[error("{0} is an option of --task lm")]
    OnlyLm(&'static str),
    /// A metric of another task.
    #[error("--metric {} measures generated texts; with --task lm, use perplexity or lambada", .0.name())]
    NotOfLm(Metric),
    /// Documents have no choices to score.
    #[error(
        "a data set of documents has no choices, so --scores has nothing to write; omit it, and eval prints the loss per token"
    )]
    NoChoices,
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Errors while a file of lines is written.
#[derive(Debug)]
pub(crate) enum LineError {
    Io(io::Error),
    Data(DataError),
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DataError> for LineError {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

/// Writes JSON lines.
pub(crate) fn write_lines(
    output: &mut Output,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), LineError>,
) -> Result<(), EvalError> {
    output.write(fill).map_err(|error| match error {
        LineError::Io(source) => EvalError::Output(output.error(source)),
        LineError::Data(error) => EvalError::Data(error),
    })
}

/// Appends a JSON line.
pub(crate) fn write_line(file: &mut dyn Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

/// Parses the name of a split. Data sets of other programs call val `dev`, `valid` or `validation`.
pub(crate) fn parse_split(name: &str) -> Result<Split, String> {
    match name {
        "dev" | "valid" | "validation" => Ok(Split::Val),
        name => name.parse(),
    }
}

/// Result of `eval`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluated {
    /// The metrics.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Settings of the evaluation of a language model.
    #[serde(flatten)]
    pub language_model: Option<LmSettings>,
    /// Weights and data.
    #[serde(flatten)]
    pub provenance: Provenance,
}

impl fmt::Display for Evaluated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.evaluation)?;
        if let Some(settings) = &self.language_model {
            writeln!(f, "{:<20}  {settings}", "evaluated")?;
        }
        write!(f, "{}", self.provenance)
    }
}

/// Evaluates weights on a split or on texts, and writes one line per answer or text to `--scores`.
///
/// # Errors
/// [`EvalError`].
pub fn run(args: &EvalArgs) -> Result<Evaluated, EvalError> {
    let metric = match (args.task, args.metric) {
        (Some(EvalTask::Lm), None) => return language_model::run(args, LmMetric::Perplexity),
        (Some(EvalTask::Lm), Some(EvalMetric::LanguageModel(metric))) => return language_model::run(args, metric),
        (Some(EvalTask::Lm), Some(EvalMetric::Texts(metric))) => return Err(EvalError::NotOfLm(metric)),
        (_, Some(EvalMetric::LanguageModel(metric))) => return Err(EvalError::OnlyLm(metric.option())),
        (_, Some(EvalMetric::Texts(metric))) => Some(metric.name().to_owned()),
        (_, None) => None,
    };
    if let Some(option) = args.lm.given() {
        return Err(EvalError::OnlyLm(option));
    }
    // First, so that a mistake in the path shows at once.
    let scores = args.scores.as_deref().map(Output::open).transpose()?;
    // A data set that cannot be opened is an error later.
    let mut task = TaskName::Cloze;
    if let Ok(data) = DataSet::open(&data_folder(args.data.clone())) {
        let wanted = args.task.and_then(|task| match task {
            EvalTask::Objective(objective) => Some(objective),
            EvalTask::Lm => None,
        });
        check_objective(wanted, &data)?;
        task = data.manifest().task;
    }
    match (task, args.split, &args.scores) {
        (TaskName::Cloze, Split::Test, _) => return Err(EvalError::NoAnswers),
        (TaskName::Text, _, Some(_)) => return Err(EvalError::NoChoices),
        _ => {}
    }
    let flags = [("--metric", "seq2seq.metric", metric)];
    let subject = Scorer::with_split(args.data.clone(), args.split, &args.weights, args.device, &args.settings, &flags)?;
    let SplitScorer { scorer: Scorer { model, config, .. }, split, .. } = &subject;
    let progress = progress::of(!tracing::enabled!(tracing::Level::INFO));
    let unit = if task == TaskName::Cloze { Unit::Questions } else { Unit::Samples };
    progress.begin(&format!("evaluating {}", args.split), config.samples(split) as u64, unit);
    let evaluation = match scores {
        None => evaluate(model, split, config, None, |_| progress.advance(1))?,
        Some(mut scores) => {
            let mut result = Evaluation::default();
            write_lines(&mut scores, |file| {
                let mut written = Ok(());
                result = evaluate(model, split, config, None, |outcome| {
                    progress.advance(1);
                    written = match (&written, outcome) {
                        (Ok(()), Outcome::Answer(answer)) => write_line(file, &AnswerLine::new(&answer)),
                        (Ok(()), Outcome::Text(prediction)) => write_line(file, prediction),
                        _ => return,
                    };
                })?;
                Ok(written?)
            })?;
            result
        }
    };
    progress.end();
    Ok(Evaluated { evaluation, language_model: None, provenance: subject.provenance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn val_has_several_names() {
        for name in ["val", "dev", "valid", "validation"] {
            assert_eq!(parse_split(name), Ok(Split::Val), "{name}");
        }
        assert_eq!(parse_split("train"), Ok(Split::Train));
        assert!(parse_split("all").expect_err("no split").contains("expected train, val or test"));
    }
}
