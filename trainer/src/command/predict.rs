//! `glm-trainer predict`: writes the answers to a split, one JSON line per question.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use glm_schemas::cloze::ClozeView;
use glm_schemas::manifest::{Split, TaskName};
use glm_support::files::output::Output;
use glm_support::files::progress::{self, Unit};
use serde::Serialize;
use thiserror::Error;

use crate::command::answer_line::AnswerLine;
use crate::command::eval::{EvalError, parse_split, write_line, write_lines};
use crate::command::scorer::{Scorer, SplitScorer};
use crate::command::weights::{Provenance, WeightArgs};
use crate::config::args::SettingArgs;
use crate::device::DeviceChoice;
use crate::task::cloze::answer;
use crate::task::{Answer, RowError};
use crate::train::evaluate::{EvaluationConfig, Outcome, evaluate, score_split};

/// Name of SuperGLUE's raw format in manifests.
const RECORD: &str = "record";

/// Format of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// SuperGLUE's ReCoRD submission: {"idx", "label"}, sorted by idx
    Superglue,
    /// {"id", "predicted", "predicted_text"} in the order of the raw data
    Plain,
}

/// Arguments of `predict`.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// Data set: the folder given to `glm-prep ingest`, or its `shards` [default: $GLM_DATA_DIR, else /home/data/perf/glm]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub weights: WeightArgs,
    /// Split: test or val
    #[arg(long, default_value = "test", value_parser = parse_split)]
    pub split: Split,
    /// Write one JSON line per question with its answer, or per pair with its generated text; -: to standard output, and the summary to standard error
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Format of --out [default: superglue for ReCoRD, else plain]
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
        /// The index.
        idx: i64,
    },
}

/// Line of a SuperGLUE submission.
#[derive(Debug, Serialize)]
struct Submitted<'a> {
    /// Index of the question in the raw data.
    idx: i64,
    /// Text of the best choice.
    label: &'a str,
}

/// Line of [`AnswerFormat::Plain`].
#[derive(Debug, Serialize)]
struct Named<'a> {
    /// Id of the question in the raw data, or that of its row if it has none.
    id: &'a str,
    /// Index of the best choice in the raw data.
    predicted: usize,
    /// Text of the best choice.
    predicted_text: &'a str,
}

/// Result of `predict`.
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
        write!(f, "{questions} answers in {}\n{provenance}", out.display())
    }
}

/// Answers every question of a split and writes the files.
///
/// # Errors
/// Returns a [`PredictError`].
pub fn run(args: &PredictArgs) -> Result<Predicted, PredictError> {
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
    let subject = Scorer::with_split(args.data.clone(), args.split, &args.weights, args.device, &args.settings, &[])
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
        TaskName::Text => return Err(PredictError::NoQuestions(subject.data.folder().to_owned())),
        TaskName::Seq2seq if args.format.is_some() || scores.is_some() => return Err(PredictError::OnlyChoices),
        TaskName::Seq2seq => return Ok(predicted(write_texts(&subject, &mut out)?, subject)),
    }
    let answers = answers(&subject)?;
    let is_record = subject.data.manifest().settings.format == RECORD;
    let format = args.format.unwrap_or(if is_record { AnswerFormat::Superglue } else { AnswerFormat::Plain });
    let indices: Vec<i64> = answers.iter().filter_map(|answer| answer.question_id).collect();
    if let (AnswerFormat::Superglue, Some(pair)) = (format, indices.windows(2).find(|pair| pair[0] == pair[1])) {
        return Err(PredictError::SameIndex { split: args.split, idx: pair[0] });
    }
    if let Some(scores) = &mut scores {
        write_lines(scores, |file| {
            answers.iter().try_for_each(|answer| write_line(file, &AnswerLine::new(answer))).map_err(Into::into)
        })?;
    }
    write_lines(&mut out, |file| {
        answers
            .iter()
            .try_for_each(|answer| {
                let (predicted, predicted_text) = answer.predicted_choice();
                match format {
                    AnswerFormat::Superglue => {
                        write_line(file, &Submitted { idx: answer.question_id.unwrap_or_default(), label: predicted_text })
                    }
                    AnswerFormat::Plain => {
                        let id = answer.source_id.as_ref().unwrap_or(&answer.example_id);
                        write_line(file, &Named { id, predicted, predicted_text })
                    }
                }
            })
            .map_err(Into::into)
    })?;
    Ok(predicted(answers.len(), subject))
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

/// Returns the answers to all questions of a split, in the order of the raw data.
fn answers(subject: &SplitScorer) -> Result<Vec<Answer>, EvalError> {
    let SplitScorer { scorer: Scorer { model, config, .. }, split, .. } = subject;
    // A submission must answer all questions, regardless of train.eval_questions.
    let config = EvaluationConfig { limit: 0, ..config.clone() };
    let progress = progress::of(!tracing::enabled!(tracing::Level::INFO));
    progress.begin(&format!("answering {}", split.split()), config.samples(split) as u64, Unit::Questions);
    let mut answers = Vec::with_capacity(split.rows());
    score_split(model, split, &config, |scored| {
        let view = ClozeView::try_new(scored.rows).map_err(RowError::from)?;
        answers.push(answer(&view, scored.row, scored.log_probs));
        progress.advance(1);
        Ok(())
    })?;
    progress.end();
    answers.sort_by_key(|answer| answer.question_id);
    Ok(answers)
}
