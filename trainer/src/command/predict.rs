//! `glm-trainer predict`: writes the answers to a split in SuperGLUE's ReCoRD submission format, one JSON line per question.

use std::path::PathBuf;

use clap::Args;
use glm_schemas::cloze::ClozeView;
use glm_schemas::manifest::Split;
use serde::Serialize;
use thiserror::Error;

use crate::command::eval::{EvalError, write_line, write_lines};
use crate::command::setup::Scorer;
use crate::command::weights::WeightArgs;
use crate::config::args::SettingArgs;
use crate::device::DeviceChoice;
use crate::task::RowError;
use crate::task::cloze::answer;
use crate::train::evaluate::{EvaluationConfig, score_split};

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
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// Write one JSON line per question, sorted by idx: idx, label
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Write one JSON line per question, in the same order: idx, example_id, label, choices, scores
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
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

/// Answer of the model: one line of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prediction {
    /// Index of the question in the raw data.
    pub idx: i64,
    /// Text of the best choice.
    pub label: String,
}

/// Scores of a question: one line of `--scores`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Scored<'a> {
    idx: i64,
    example_id: &'a str,
    label: &'a str,
    choices: &'a [String],
    scores: &'a [f64],
}

struct Answered {
    prediction: Prediction,
    example_id: String,
    choices: Vec<String>,
    scores: Vec<f64>,
}

/// Answers every question of a split and writes the files. Returns the number of questions.
///
/// # Errors
/// Returns a [`PredictError`].
pub fn run(args: &PredictArgs) -> Result<usize, PredictError> {
    if args.split == Split::Train {
        return Err(PredictError::Train);
    }
    let (Scorer { model, config, .. }, data, _) =
        Scorer::with_split(args.data.clone(), args.split, &args.weights, args.device, &args.settings)
            .map_err(EvalError::from)?;
    // A submission must answer all questions, regardless of train.eval_questions.
    let config = EvaluationConfig { limit: 0, ..config };
    let mut ids = data.question_ids().map_err(EvalError::from)?.into_iter();
    let mut answered = Vec::with_capacity(data.rows());
    score_split(&model, &data, &config, |scored| {
        // Rows arrive in stored order, one per question.
        let Some(idx) = ids.next() else { return Ok(()) };
        let view = ClozeView::try_new(scored.rows).map_err(RowError::from)?;
        let answer = answer(&view, scored.row, scored.log_probs);
        let choices: Vec<String> = view.choices(scored.row).map(|choice| choice.text.unwrap_or_default().to_owned()).collect();
        let label = choices.get(answer.predicted).cloned().unwrap_or_default();
        let prediction = Prediction { idx, label };
        answered.push(Answered { prediction, example_id: answer.example_id, choices, scores: answer.scores });
        Ok(())
    })
    .map_err(EvalError::from)?;
    answered.sort_by_key(|answered| answered.prediction.idx);
    if let Some(pair) = answered.windows(2).find(|pair| pair[0].prediction.idx == pair[1].prediction.idx) {
        return Err(PredictError::SameIndex { split: args.split, idx: pair[0].prediction.idx });
    }
    if let Some(path) = &args.scores {
        write_lines(path, |file| {
            for Answered { prediction: Prediction { idx, label }, example_id, choices, scores } in &answered {
                write_line(file, &Scored { idx: *idx, example_id, label, choices, scores })?;
            }
            Ok(())
        })?;
    }
    write_lines(&args.out, |file| {
        answered.iter().try_for_each(|answered| write_line(file, &answered.prediction)).map_err(Into::into)
    })?;
    Ok(answered.len())
}
