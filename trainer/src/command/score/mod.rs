//! `glm-trainer score`: ranks the choices of hand-written questions, encoded exactly as those of a data set.

pub mod input;
mod print;

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::ArrowError;
use clap::Args;
use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
use glm_schemas::cloze::encoding::{ChoiceEncoder, EncodingError};
use glm_schemas::manifest::TaskName;
use glm_schemas::origin::Origin;
use glm_schemas::vocab::TokenId;
use glm_support::command::paint::{ColourWhen, Screen};
use glm_text::question::{ClozeText, QuestionTokens};
use glm_text::tokenize::{Session, Tokenizer, TokenizerError};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use self::input::{Asked, InputError, ask, asked, parse};
use crate::command::scorer::Scorer;
use crate::command::setup::{SetupError, set_threads, tokenizer_for};
use crate::command::weights::WeightArgs;
use crate::config::args::SettingArgs;
use crate::data::DataError;
use crate::data::mmap::DecodedGroup;
use crate::data::pack::Sample;
use crate::device::DeviceChoice;
use crate::model::Glm;
use crate::task::{self, Task};
use crate::train::evaluate::{EvaluationConfig, score_samples};

/// Number of questions scored together, which bounds memory.
const WINDOW: usize = 64;

/// Arguments of `score`.
#[derive(Debug, Clone, Args)]
pub struct ScoreArgs {
    /// Questions as JSON objects; `-`: standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["passage", "query", "choice"])]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub weights: WeightArgs,
    /// Passage of a question
    #[arg(long, value_name = "TEXT", requires = "query")]
    pub passage: Option<String>,
    /// Query of the question, including the blank.
    #[arg(
        long,
        value_name = "TEXT",
        requires = "choice",
        help = "Query of the question, with [BLANK] or @placeholder in place of the choices"
    )]
    pub query: Option<String>,
    /// Choice of the question; can be repeated
    #[arg(long, value_name = "TEXT", requires = "query")]
    pub choice: Vec<String>,
    /// Tokenizer: a name or file as for `glm-prep ingest` [default: the built-in one of the weights, else BERT-large-uncased]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Color the chosen text; without color, it is enclosed in brackets
    #[arg(long, alias = "colour", value_name = "WHEN", value_enum, default_value_t = ColourWhen::Auto)]
    pub color: ColourWhen,
    /// Print one JSON line per question
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

/// Errors of `score`.
#[derive(Debug, Error)]
pub enum ScoreError {
    /// Error of weights, settings or device.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A question cannot be scored.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Error of the vocabulary.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The input is not a valid question.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A file cannot be read.
    #[error("cannot read {origin}: {source}")]
    Read {
        /// The file.
        origin: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A question exceeds the maximum sequence length.
    #[error("{origin}: the query and its longest choice need {needed} tokens, but {limit}; {remedy}")]
    TooLong {
        /// File and line.
        origin: String,
        /// Tokens of query, choice and special tokens.
        needed: usize,
        /// Limit of the number of tokens, as a clause.
        limit: String,
        /// Remedy.
        remedy: String,
    },
    /// The questions cannot be converted to rows.
    #[error("cannot convert the questions to rows of a data set: {0}")]
    Rows(#[from] ArrowError),
    /// The results cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

/// Question with its scored choices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// Value of `id` in the input.
    pub id: Option<Value>,
    /// Standardized query, including the blank.
    pub query: String,
    /// Byte range of the blank in `query`.
    #[serde(skip)]
    pub blank: Range<usize>,
    /// Query with the best choice in place of the blank.
    pub filled: String,
    /// Index of the best choice in the input.
    pub predicted: usize,
    /// Text of the best choice.
    pub predicted_text: String,
    /// Number of tokens of the passage.
    pub passage_tokens: usize,
    /// Number of leading passage tokens that the model reads with the longest choice.
    pub read_tokens: usize,
    /// Distinct choices, in the order of the input.
    pub choices: Vec<RankedChoice>,
}

impl Ranking {
    /// Returns the choices, best first.
    pub fn best_first(&self) -> Vec<&RankedChoice> {
        let mut choices: Vec<&RankedChoice> = self.choices.iter().collect();
        choices.sort_by_key(|choice| choice.choice_index != self.predicted);
        choices.sort_by(|a, b| b.score.total_cmp(&a.score));
        choices
    }
}

/// Scored choice of a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedChoice {
    /// Standardized text.
    pub text: String,
    /// Index in the input; the first one if the choice is given several times.
    pub choice_index: usize,
    /// Sum of the log probabilities of its tokens.
    pub score: f64,
    /// Probability among the choices: the softmax of the scores.
    pub probability: f64,
}

/// Scores questions from the arguments or from interactive input and prints a ranking for each.
///
/// # Errors
/// Returns a [`ScoreError`].
pub fn run(args: &ScoreArgs, out: &mut dyn Write) -> Result<(), ScoreError> {
    let given = given(args)?;
    let ranker = Ranker::new(args)?;
    let screen = args.color.for_stdout();
    let Some(questions) = given else {
        let (mut input, mut prompts) = (io::stdin().lock(), io::stderr());
        let typed = |source| ScoreError::Read { origin: "standard input".to_owned(), source };
        while let Some(question) = ask(&mut input, &mut prompts).map_err(typed)? {
            match ranker.rank(&[question]) {
                Ok(rankings) => print(&rankings, args.json, &screen, out)?,
                Err(error @ ScoreError::TooLong { .. }) => writeln!(prompts, "{error}")?,
                Err(error) => return Err(error),
            }
            writeln!(prompts)?;
        }
        return Ok(());
    };
    for (number, window) in questions.chunks(WINDOW).enumerate() {
        if number > 0 && !args.json {
            writeln!(out)?;
        }
        print(&ranker.rank(window)?, args.json, &screen, out)?;
    }
    Ok(())
}

/// Returns the questions given by the arguments; `None` for interactive input.
fn given(args: &ScoreArgs) -> Result<Option<Vec<Asked>>, ScoreError> {
    if let Some(query) = &args.query {
        let text = ClozeText::from_query(args.passage.as_deref().unwrap_or_default(), query);
        return Ok(Some(vec![asked("--query".to_owned(), text, &args.choice)?]));
    }
    let file = args.file.as_deref().filter(|file| *file != Path::new("-"));
    if args.file.is_none() && io::stdin().is_terminal() {
        return Ok(None);
    }
    let origin = file.map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
    let mut text = String::new();
    let read = match file {
        Some(file) => fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text)),
        None => io::stdin().read_to_string(&mut text),
    };
    match read {
        Ok(_) => Ok(Some(parse(&origin, &text)?)),
        Err(source) => Err(ScoreError::Read { origin, source }),
    }
}

fn print(rankings: &[Ranking], json: bool, screen: &Screen, out: &mut dyn Write) -> Result<(), ScoreError> {
    for (number, ranking) in rankings.iter().enumerate() {
        if json {
            serde_json::to_writer(&mut *out, ranking).map_err(io::Error::from)?;
            writeln!(out)?;
            continue;
        }
        if number > 0 {
            writeln!(out)?;
        }
        ranking.print(screen, out)?;
    }
    Ok(out.flush()?)
}

/// Model with its tokenizer.
struct Ranker {
    tokenizer: Tokenizer,
    model: Glm,
    config: EvaluationConfig,
    encoder: ChoiceEncoder,
    max_seq_len: usize,
    /// Number of positions of the weights.
    positions: usize,
}

impl Ranker {
    fn new(args: &ScoreArgs) -> Result<Self, ScoreError> {
        let weights = args.weights.open().map_err(SetupError::from)?;
        let tokenizer = tokenizer_for(&weights, args.tokenizer.as_deref())?;
        let config = args.settings.resolve(&[]).map_err(SetupError::from)?;
        set_threads(&config);
        let device = args.device.resolve().map_err(SetupError::from)?;
        let special = tokenizer.special();
        let scorer = Scorer::load(&weights, config, tokenizer.identity(), device, |config| {
            task::open(TaskName::Cloze, config.task(special))
        })?;
        let encoder = ChoiceEncoder::new(special, scorer.max_seq_len);
        let Scorer { model, config, max_seq_len, positions, .. } = scorer;
        Ok(Self { tokenizer, model, config, encoder, max_seq_len, positions })
    }

    fn rank(&self, questions: &[Asked]) -> Result<Vec<Ranking>, ScoreError> {
        let mut session = self.tokenizer.session();
        let encoded = questions.iter().map(|question| self.encode(&mut session, question)).collect::<Result<Vec<_>, _>>()?;
        let samples = samples(&*self.config.packer.task, questions, &encoded)?;
        let mut rankings = Vec::with_capacity(questions.len());
        score_samples(&self.model, &samples, &self.config, |scored| {
            let (question, encoded) = (&questions[scored.split_row], &encoded[scored.split_row]);
            rankings.push(ranking(question, encoded, scored.scores.log_probs));
            Ok(())
        })?;
        Ok(rankings)
    }

    fn encode(&self, session: &mut Session<'_>, question: &Asked) -> Result<Encoded, ScoreError> {
        let tokens = question.text.tokens(session)?;
        let choices = question
            .choices
            .iter()
            .map(|choice| Ok(session.encode(choice)?.ids))
            .collect::<Result<Vec<_>, TokenizerError>>()?;
        let longest = choices.iter().map(Vec::len).max().unwrap_or(0);
        let excess = self
            .encoder
            .excess(&tokens.question(), longest)
            .map_err(|EncodingError::DoesNotFit { needed, .. }| self.too_long(&question.origin, needed))?;
        let read_tokens = tokens.passage.len() - excess;
        Ok(Encoded { tokens, choices, read_tokens })
    }

    /// Error of a question that needs `needed` tokens.
    fn too_long(&self, origin: &str, needed: usize) -> ScoreError {
        let (read, setting, positions) = (self.positions.saturating_sub(1), self.max_seq_len, self.positions);
        let (limit, remedy) = match setting < read {
            true if needed <= read => (format!("data.max_seq_len is {setting}"), format!("use --set data.max_seq_len={read}")),
            _ => (
                format!("the weights have {positions} positions, enough for {read}"),
                "shorten the query and its choices, or use weights with more positions".to_owned(),
            ),
        };
        ScoreError::TooLong { origin: origin.to_owned(), needed, limit, remedy }
    }
}

/// Tokenized question.
struct Encoded {
    tokens: QuestionTokens,
    choices: Vec<Vec<TokenId>>,
    read_tokens: usize,
}

/// Converts questions to rows of a data set.
fn samples(task: &dyn Task, questions: &[Asked], encoded: &[Encoded]) -> Result<Vec<Sample>, ScoreError> {
    let mut builder = ClozeBatchBuilder::new();
    for (question, Encoded { tokens, choices, .. }) in questions.iter().zip(encoded) {
        let texts = question.choices.iter().zip(choices).enumerate();
        let choices: Vec<_> =
            texts.map(|(index, (text, ids))| ChoiceRow { text, ids, correct: false, index, name: None }).collect();
        let row = ClozeRow {
            example_id: &question.origin,
            origin: Origin::NONE,
            passage_id: 0,
            question_id: 0,
            group_id: None,
            idx: None,
            source: "",
            passage: &question.text.passage,
            query: &question.text.query,
            tokens: &tokens.question(),
            entities: &[],
            choices: &choices,
            labelled: false,
            label_name: None,
            end_of_piece: true,
        };
        builder.append(&row)?;
    }
    let batch = builder.finish()?;
    let group = DecodedGroup::try_new(task, Path::new("questions"), batch, 0)?;
    let group = Arc::new(group);
    Ok((0..questions.len()).map(|row| Sample { group: Arc::clone(&group), row, part: 0, ordinal: row as u64 }).collect())
}

fn ranking(question: &Asked, encoded: &Encoded, scores: &[f64]) -> Ranking {
    let probabilities = softmax(scores);
    let scored = question.choices.iter().zip(&question.choice_indices).zip(scores.iter().zip(probabilities));
    let mut choices: Vec<_> = scored
        .map(|((text, &choice_index), (&score, probability))| RankedChoice {
            text: text.clone(),
            choice_index,
            score,
            probability,
        })
        .collect();
    // Among equal scores, the first choice in the order of a data set is the answer, as in an evaluation.
    let best = choices.iter().reduce(|best, choice| if choice.score > best.score { choice } else { best });
    let (predicted, predicted_text) = best.map_or((0, String::new()), |best| (best.choice_index, best.text.clone()));
    choices.sort_by_key(|choice| choice.choice_index);
    Ranking {
        id: question.id.clone(),
        query: question.text.query.clone(),
        blank: question.text.blank.clone(),
        filled: question.text.filled_with(&predicted_text),
        predicted,
        predicted_text,
        passage_tokens: encoded.tokens.passage.len(),
        read_tokens: encoded.read_tokens,
        choices,
    }
}

/// Softmax of the scores.
fn softmax(scores: &[f64]) -> Vec<f64> {
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<_> = scores.iter().map(|score| (score - best).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_extreme_scores_is_finite() {
        let far = softmax(&[-2000.0, -2000.0 - 3_f64.ln(), -5000.0]);
        assert!((far[0] - 0.75).abs() < 1e-12 && (far[1] - 0.25).abs() < 1e-12 && far[2] == 0.0);
        assert_eq!(softmax(&[-1.0]), [1.0]);
    }
}
