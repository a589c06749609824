//! `glm-trainer predict`: writes the answers to a split, one JSON line per question.
//!
//! - `submission`: lines as the leaderboards of SuperGLUE and GLUE expect them.
//! - `all`: the answers of several runs in one archive.

mod all;
mod submission;

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use glm_schemas::manifest::{Split, TaskName};
use glm_support::files::output::{Output, is_stdout};
use glm_support::files::progress::{self, Unit};
use serde::Serialize;
use thiserror::Error;

pub use self::all::{Submitted, SubmittedFile};
use self::submission::{Duplicate, Submission};
use crate::checkpoint::locate::CheckpointChoice;
use crate::command::answer_line::AnswerLine;
use crate::command::eval::{EvalError, parse_split, write_line, write_lines};
use crate::command::report::ReportError;
use crate::command::scorer::{Scorer, SplitScorer};
use crate::command::weights::{Provenance, WeightArgs};
use crate::config::args::SettingArgs;
use crate::device::DeviceChoice;
use crate::task::Answer;
use crate::train::evaluate::{EvaluationConfig, Outcome, evaluate};

/// Format of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// The task's file in a submission to SuperGLUE: {"idx", "label"}, of MultiRC a line per passage
    Superglue,
    /// The task's file in a submission to GLUE: index and prediction, separated by a tab
    Glue,
    /// {"id", "predicted", "predicted_text", "label"} in the order of the raw data, the label of choices that have names
    Plain,
}

/// Arguments of `predict`.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// Data set: the folder or URL given to `glm-prep ingest`, or its `shards` [default: $GLM_DATA_DIR, else /home/data/perf/glm]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Weights: a file, folder or archive, as for `run --init`; of a run, the best checkpoint
    #[arg(long, value_name = "PATH", required_unless_present = "all")]
    pub init: Option<PathBuf>,
    /// Checkpoint of a run: best, latest or the number of its step [default: best, or latest if none was evaluated]
    #[arg(long, value_name = "WHICH")]
    pub checkpoint: Option<CheckpointChoice>,
    /// Answer the test split of each run's data set, and write an archive with the file of SuperGLUE or GLUE for each; of a run with several seeds, the best answers
    #[arg(long, value_name = "RUNDIR", num_args = 1.., conflicts_with_all = ["init", "data", "split", "format", "scores"])]
    pub all: Vec<PathBuf>,
    /// Split: test or val
    #[arg(long, default_value = "test", value_parser = parse_split)]
    pub split: Split,
    /// Write one line per question with its answer, or per pair with its generated text; with --all, the archive. -: to standard output, and the summary to standard error
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Format of --out [default: superglue or glue for their tasks, else plain]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Option<AnswerFormat>,
    /// Write one JSON line per question with the scores of its choices, in the same order
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

/// Errors of `predict`.
#[derive(Debug, Error)]
pub enum PredictError {
    /// Error of data, weights or files.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The training split contains a question once per right answer.
    #[error("the train split has one row per right answer, so it cannot be used for predictions; use test or val")]
    Train,
    /// Options for questions with a data set of pairs.
    #[error(
        "--format and --scores are for questions with choices; the lines of generated texts have one format, with their scores"
    )]
    OnlyChoices,
    /// A data set without questions.
    #[error(
        "the data set in {} holds documents, which have no questions to answer; `glm-trainer eval` computes their loss per token",
        .0.display()
    )]
    NoQuestions(PathBuf),
    /// Answers and scores have the same destination.
    #[error("--out and --scores are both {}; use two files", .0.display())]
    SamePath(PathBuf),
    /// Two questions of a submission have the same index.
    #[error(
        "two questions of the split {split} have the idx {idx}, which must be unique in a submission; \
         give every question its own idx and ingest again"
    )]
    SameIndex {
        /// The split.
        split: Split,
        /// The index, in JSON.
        idx: String,
    },
    /// A folder is not that of a run.
    #[error("{} is not a run folder, as given to `glm-trainer run --out`", .0.display())]
    NoRun(PathBuf),
    /// The URL of a run.
    #[error("--all takes folders of runs, not a URL: copy {} to a disk", .0.display())]
    UrlOfRun(PathBuf),
    /// The same run twice.
    #[error("the run {} is given twice; omit one", .0.display())]
    Twice(PathBuf),
    /// No run of a seed sweep was evaluated.
    #[error("no run in {} has been evaluated; specify one of its runs", .0.display())]
    NothingEvaluated(PathBuf),
    /// The runs of a seed sweep cannot be read.
    #[error(transparent)]
    Sweep(#[from] ReportError),
    /// A data set that neither SuperGLUE nor GLUE has.
    #[error(
        "the run in {} was trained on {}, which is not a task of SuperGLUE or GLUE; write its answers with `glm-trainer predict --init {}`",
        run.display(), data.display(), run.display()
    )]
    NotSubmitted {
        /// The run.
        run: PathBuf,
        /// Its data set.
        data: PathBuf,
    },
    /// Two runs answer the same task.
    #[error("{} writes {file}, as {} does; omit one of them", run.display(), other.display())]
    SameFile {
        /// The file.
        file: &'static str,
        /// The later run.
        run: PathBuf,
        /// The earlier run.
        other: PathBuf,
    },
}

/// Result of `predict`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Written {
    /// The answers to a split.
    Split(Predicted),
    /// An archive.
    Archive(Submitted),
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split(predicted) => predicted.fmt(f),
            Self::Archive(submitted) => submitted.fmt(f),
        }
    }
}

/// Answers to a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Predicted {
    /// Weights and data.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// Number of questions.
    pub questions: usize,
    /// File with the answers.
    pub out: PathBuf,
    /// File with the scores.
    pub scores: Option<PathBuf>,
    /// Duration in seconds.
    pub seconds: f64,
}

impl fmt::Display for Predicted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provenance, questions, out, .. } = self;
        match is_stdout(out) {
            true => write!(f, "{questions} answers\n{provenance}"),
            false => write!(f, "{questions} answers in {}\n{provenance}", out.display()),
        }
    }
}

/// Answers every question of a split and writes the files, or an archive with those of several runs.
///
/// # Errors
/// Returns a [`PredictError`].
pub fn run(args: &PredictArgs) -> Result<Written, PredictError> {
    match &args.init {
        Some(init) => predict(args, &WeightArgs { init: init.clone(), checkpoint: args.checkpoint }).map(Written::Split),
        None => all::run(args).map(Written::Archive),
    }
}

fn predict(args: &PredictArgs, weights: &WeightArgs) -> Result<Predicted, PredictError> {
    if args.split == Split::Train {
        return Err(PredictError::Train);
    }
    let start = Instant::now();
    // First, so that a mistake in a path shows at once.
    let mut out = Output::open(&args.out).map_err(EvalError::from)?;
    let mut scores = args.scores.as_deref().map(Output::open).transpose().map_err(EvalError::from)?;
    if scores.as_ref().is_some_and(|scores| scores.is_same(&out)) {
        return Err(PredictError::SamePath(args.out.clone()));
    }
    let subject = Scorer::with_split(args.data.clone(), args.split, weights, args.device, &args.settings, &[])
        .map_err(EvalError::from)?;
    let predicted = |questions, subject: SplitScorer| Predicted {
        provenance: subject.provenance,
        questions,
        out: args.out.clone(),
        scores: args.scores.clone(),
        seconds: start.elapsed().as_secs_f64(),
    };
    match subject.data.manifest().task {
        TaskName::Cloze => {}
        TaskName::Text => return Err(PredictError::NoQuestions(subject.data.place())),
        TaskName::Seq2seq if args.format.is_some() || scores.is_some() => return Err(PredictError::OnlyChoices),
        TaskName::Seq2seq => return Ok(predicted(write_texts(&subject, &mut out)?, subject)),
    }
    let answers = answers(&subject)?;
    let submission = Submission::of(subject.data.manifest());
    let format = args.format.unwrap_or_else(|| submission.format());
    if format != AnswerFormat::Plain {
        check_indices(&submission, &answers, args.split)?;
    }
    if let Some(scores) = &mut scores {
        write_lines(scores, |file| {
            answers.iter().try_for_each(|answer| write_line(file, &AnswerLine::new(answer))).map_err(Into::into)
        })?;
    }
    write_lines(&mut out, |file| submission.write(format, &answers, file).map_err(Into::into))?;
    Ok(predicted(answers.len(), subject))
}

/// Checks that no two answers of a submission have the same index.
fn check_indices(submission: &Submission, answers: &[Answer], split: Split) -> Result<(), PredictError> {
    match submission.duplicate(answers) {
        Some(Duplicate(idx)) => Err(PredictError::SameIndex { split, idx }),
        None => Ok(()),
    }
}

/// Writes a line for each text that is generated for a split, in stored order; returns their number.
fn write_texts(subject: &SplitScorer, out: &mut Output) -> Result<usize, EvalError> {
    let SplitScorer { scorer: Scorer { model, config, .. }, split, .. } = subject;
    let config = EvaluationConfig { limit: 0, ..config.clone() };
    let progress = progress::of(!tracing::enabled!(tracing::Level::INFO));
    progress.begin(&format!("generating {}", split.split()), config.samples(split) as u64, Unit::Samples);
    let mut texts = 0;
    write_lines(out, |file| {
        let mut written = Ok(());
        evaluate(model, split, &config, None, |outcome| {
            progress.advance(1);
            if let (Ok(()), Outcome::Text(prediction)) = (&written, outcome) {
                written = write_line(file, prediction);
                texts += 1;
            }
        })?;
        Ok(written?)
    })?;
    progress.end();
    Ok(texts)
}

/// Returns the answers to all questions of a split, in the order of the raw data: by index, or of records with labels as stored.
fn answers(subject: &SplitScorer) -> Result<Vec<Answer>, EvalError> {
    let SplitScorer { scorer: Scorer { model, config, .. }, split, .. } = subject;
    // A submission must answer all questions, regardless of train.eval_questions.
    let config = EvaluationConfig { limit: 0, ..config.clone() };
    let progress = progress::of(!tracing::enabled!(tracing::Level::INFO));
    progress.begin(&format!("answering {}", split.split()), config.samples(split) as u64, Unit::Questions);
    let mut answers = Vec::with_capacity(split.rows());
    evaluate(model, split, &config, None, |outcome| {
        progress.advance(1);
        if let Outcome::Answer(answer) = outcome {
            answers.push(answer);
        }
    })?;
    progress.end();
    if subject.data.manifest().cloze.as_ref().is_none_or(|cloze| cloze.labels.is_empty()) {
        answers.sort_by_key(|answer| answer.question_id);
    }
    Ok(answers)
}
