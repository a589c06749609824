//! `glm-trainer eval --task lm`: perplexity of texts, or the accuracy of their last words.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use glm_schemas::vocab::TokenId;
use glm_support::files::output::Output;
use glm_support::files::progress::{self, Progress, Unit};
use glm_text::tokenize::{Session, Tokenizer, TokenizerError};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::documents::{self, Document, DocumentError, Documents};
use super::{EvalArgs, EvalError, Evaluated, write_line, write_lines};
use crate::checkpoint::weights::Weights;
use crate::command::setup::{SetupError, Use, data_folder, load_model, resolve_micro_batch_tokens, set_threads, tokenizer_for};
use crate::command::weights::Provenance;
use crate::config::Config;
use crate::model::Pass;
use crate::task::lm::clean::Cleaning;
use crate::task::lm::lambada::{self, PassageError};
use crate::task::lm::perplexity::{Totals, WindowError, Windows, words};
use crate::task::lm::{Frame, Window};
use crate::task::metrics::Evaluation;
use crate::train::language_model::{WindowScorer, WindowScores};

/// Arguments of `--task lm`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of --task lm")]
pub struct LmArgs {
    /// Evaluate each line of a text file as a text of its own
    #[arg(long)]
    pub lines: bool,
    /// Clean up tokenized text first, as for the published figures
    #[arg(long, value_name = "CORPUS", value_enum)]
    pub clean: Option<Cleaning>,
    /// Maximum number of tokens per sequence [default: 512, or what the weights have positions for]
    #[arg(long, value_name = "TOKENS")]
    pub seq_len: Option<usize>,
    /// Number of tokens that each window of a long text adds to the one before it [default: half of --seq-len]
    #[arg(long, alias = "overlap", value_name = "TOKENS")]
    pub stride: Option<usize>,
    /// Predict every token from the tokens before it alone, without a bidirectional context
    #[arg(long)]
    pub unidirectional: bool,
    /// Use `[gMASK]` for the blank: for models with task masks, such as the published 2B and 10B
    #[arg(long)]
    pub task_mask: bool,
    /// Tokenizer: a name or file as for `glm-prep ingest` [default: the built-in one of the weights, else BERT-large-uncased]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
}

impl LmArgs {
    /// Returns the name of an option that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let Self { lines, clean, seq_len, stride, unidirectional, task_mask, tokenizer } = self;
        let options = [
            (*lines, "--lines"),
            (clean.is_some(), "--clean"),
            (seq_len.is_some(), "--seq-len"),
            (stride.is_some(), "--stride"),
            (*unidirectional, "--unidirectional"),
            (*task_mask, "--task-mask"),
            (tokenizer.is_some(), "--tokenizer"),
        ];
        options.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }
}

/// Metric of a language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LmMetric {
    /// Perplexity of the texts
    Perplexity,
    /// LAMBADA: accuracy of the last word of each text
    Lambada,
}

impl LmMetric {
    /// The option that selects the metric.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Perplexity => "--metric perplexity",
            Self::Lambada => "--metric lambada",
        }
    }
}

/// Error of evaluating a language model.
#[derive(Debug, Error)]
pub enum LmError {
    /// The texts cannot be read.
    #[error(transparent)]
    Documents(#[from] DocumentError),
    /// Vocabulary, or a text that cannot be tokenized.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Sizes of windows.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// Longer sequences than the weights have positions for.
    #[error("--seq-len {seq_len} needs as many positions, but {} has {positions}; use --seq-len {positions} or less", weights.display())]
    Positions {
        /// Maximum number of tokens of a sequence.
        seq_len: usize,
        /// Positions of the weights.
        positions: usize,
        /// The weights.
        weights: PathBuf,
    },
    /// The weights have no row for `[gMASK]`.
    #[error("{} has {rows} rows of word embeddings, none for [gMASK] ({id}); evaluate without --task-mask", weights.display())]
    NoTaskMask {
        /// The weights.
        weights: PathBuf,
        /// Rows of word embeddings.
        rows: usize,
        /// Id of `[gMASK]`.
        id: TokenId,
    },
    /// A passage cannot be evaluated.
    #[error("{}, text {id}: {source}", path.display())]
    Passage {
        /// File or data set.
        path: PathBuf,
        /// The text.
        id: Value,
        /// The reason.
        source: PassageError,
    },
    /// There is nothing to score.
    #[error("{} has no text of two tokens or more, so there is nothing to predict", .0.display())]
    Nothing(PathBuf),
}

/// Settings of the evaluation of a language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LmSettings {
    /// Metric.
    pub metric: LmMetric,
    /// Maximum number of tokens per sequence.
    pub seq_len: usize,
    /// Tokens that each window after the first adds; only for perplexity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// True if every token was predicted from those before it alone.
    pub unidirectional: bool,
    /// True if the blank was `[gMASK]`.
    pub task_mask: bool,
    /// Clean-up of the texts.
    pub clean: Option<Cleaning>,
}

impl fmt::Display for LmSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.unidirectional { "unidirectional" } else { "bidirectional" };
        write!(f, "{direction}, up to {} tokens per sequence", self.seq_len)?;
        if let Some(stride) = self.stride {
            write!(f, ", stride {stride}")?;
        }
        if self.task_mask {
            f.write_str(", [gMASK]")?;
        }
        match self.clean.and_then(|cleaning| cleaning.to_possible_value()) {
            Some(cleaning) => write!(f, ", clean-up {}", cleaning.get_name()),
            None => Ok(()),
        }
    }
}

/// Line of `--scores` for perplexity.
#[derive(Debug, Serialize)]
struct DocumentLine<'a> {
    id: &'a Value,
    tokens: usize,
    scored_tokens: usize,
    words: usize,
    /// Mean per scored token in nats; null without any.
    loss: Option<f64>,
}

/// Line of `--scores` for LAMBADA.
#[derive(Debug, Serialize)]
struct PassageLine<'a> {
    id: &'a Value,
    /// The last word, as its tokens.
    expected: String,
    /// The most probable token in the place of each.
    predicted: String,
    correct: bool,
    /// Sum over the tokens of the last word, in nats.
    log_prob: f64,
}

/// A tokenized text.
struct Tokenized {
    id: Value,
    ids: Vec<TokenId>,
    /// Words of a text, or tokens of the last word of a passage.
    count: usize,
}

/// Evaluates a language model, and writes one line per text to `--scores`.
///
/// # Errors
/// [`EvalError`].
pub(super) fn run(args: &EvalArgs, metric: LmMetric) -> Result<Evaluated, EvalError> {
    let start = Instant::now();
    let mut scores = args.scores.as_deref().map(Output::open).transpose()?;
    let mut config = args.settings.resolve(&[]).map_err(SetupError::from)?;
    set_threads(&config);
    let device = args.device.resolve().map_err(SetupError::from)?;
    let weights = args.weights.open().map_err(SetupError::from)?;
    let tokenizer = tokenizer_for(&weights, args.lm.tokenizer.as_deref()).map_err(LmError::from)?;
    let (settings, windows) = settings(&args.lm, metric, &config, &weights)?;
    let frame = frame(&settings, &tokenizer, &weights)?;

    let data = documents::read(&data_folder(args.data.clone()), args.split, args.lm.lines, tokenizer.identity())
        .map_err(LmError::from)?;
    let texts = tokenize(&data, &settings, &tokenizer)?;

    // Positions suffice, so the tables are not to be extended.
    config.data.max_seq_len = weights.sizes().map_err(SetupError::from)?.positions - 1;
    let pass = Pass::evaluation(config.train.precision.on(device).kind(), config.train.kernels);
    let model = load_model(&weights, &config, tokenizer.identity(), device, Use::Inference(pass.kind))?;
    resolve_micro_batch_tokens(&mut config, 1.0, &model, &pass, false, None)?;
    let scorer = WindowScorer {
        model: &model,
        pass,
        frame,
        micro_batch_tokens: config.data.micro_batch_tokens,
        guesses: settings.metric == LmMetric::Lambada,
    };
    let progress = progress::of(!tracing::enabled!(tracing::Level::INFO));
    let metrics = match settings.metric {
        LmMetric::Perplexity => {
            let totals = score_documents(&scorer, &windows, &data.path, &texts, &*progress)?;
            if let Some(scores) = &mut scores {
                write_lines(scores, |file| {
                    texts.iter().zip(&totals).try_for_each(|(text, totals)| {
                        let &Totals { tokens, scored_tokens, words, .. } = totals;
                        write_line(file, &DocumentLine { id: &text.id, tokens, scored_tokens, words, loss: totals.mean_loss() })
                    })?;
                    Ok(())
                })?;
            }
            totals.into_iter().sum::<Totals>().metrics()
        }
        LmMetric::Lambada => {
            let (lines, cut) = score_passages(&scorer, &settings, &data, &texts, &tokenizer, &*progress)?;
            if let Some(scores) = &mut scores {
                write_lines(scores, |file| Ok(lines.iter().try_for_each(|line| write_line(file, line))?))?;
            }
            lambada::metrics(lines.len(), lines.iter().filter(|line| line.correct).count(), cut)
        }
    };
    let Documents { path, split, fingerprint, .. } = data;
    Ok(Evaluated {
        evaluation: Evaluation { metrics, seconds: start.elapsed().as_secs_f64() },
        language_model: Some(settings),
        provenance: Provenance { weights: weights.located().clone(), data: path, split, fingerprint },
    })
}

/// Resolves the sizes of windows for weights.
fn settings(args: &LmArgs, metric: LmMetric, config: &Config, weights: &Weights) -> Result<(LmSettings, Windows), EvalError> {
    let positions = weights.sizes().map_err(SetupError::from)?.positions;
    let seq_len = args.seq_len.unwrap_or_else(|| config.data.max_seq_len.min(positions - 1));
    if seq_len > positions {
        return Err(LmError::Positions { seq_len, positions, weights: weights.path().to_owned() }.into());
    }
    let stride = args.stride.unwrap_or((seq_len / 2).max(1));
    let windows = Windows::try_new(seq_len, stride, args.unidirectional).map_err(LmError::from)?;
    let settings = LmSettings {
        metric,
        seq_len,
        stride: (metric == LmMetric::Perplexity).then_some(stride),
        unidirectional: args.unidirectional,
        task_mask: args.task_mask,
        clean: args.clean,
    };
    Ok((settings, windows))
}

/// The special tokens of windows: LAMBADA's contexts have an end, those of long texts do not.
fn frame(settings: &LmSettings, tokenizer: &Tokenizer, weights: &Weights) -> Result<Frame, EvalError> {
    let special = tokenizer.special();
    let rows = weights.sizes().map_err(SetupError::from)?.vocab_rows;
    let blank = if settings.task_mask { special.masks().document } else { special.mask };
    if settings.task_mask && blank as usize >= rows {
        return Err(LmError::NoTaskMask { weights: weights.path().to_owned(), rows, id: blank }.into());
    }
    let end = (settings.metric == LmMetric::Lambada).then_some(special.pad);
    Ok(Frame { cls: special.cls, blank, end, sop: special.sop })
}

fn tokenize(data: &Documents, settings: &LmSettings, tokenizer: &Tokenizer) -> Result<Vec<Tokenized>, EvalError> {
    let mut session = tokenizer.session();
    let tokenized = |document: &Document| {
        let text = match settings.clean {
            Some(cleaning) => cleaning.clean(&document.text),
            None => document.text.clone(),
        };
        let (ids, count) = match settings.metric {
            LmMetric::Perplexity => (session.encode(&text)?.ids, words(&document.text)),
            LmMetric::Lambada => {
                let passage = |source| LmError::Passage { path: data.path.clone(), id: document.id.clone(), source };
                let (before, word) = lambada::split_last_word(&text).map_err(passage)?;
                with_answer(&mut session, before, word)?
            }
        };
        Ok(Tokenized { id: document.id.clone(), ids, count })
    };
    data.documents.iter().map(tokenized).collect::<Result<_, LmError>>().map_err(EvalError::from)
}

/// Tokens of a passage with its last word, and the number of those of the last word.
fn with_answer(session: &mut Session<'_>, before: &str, word: &str) -> Result<(Vec<TokenId>, usize), TokenizerError> {
    let (mut ids, answer) = (session.encode(before)?.ids, session.encode(word)?.ids);
    let count = answer.len();
    ids.extend(answer);
    Ok((ids, count))
}

/// Scores texts in windows; returns the totals of each.
fn score_documents(
    scorer: &WindowScorer<'_>,
    windows: &Windows,
    path: &Path,
    texts: &[Tokenized],
    progress: &dyn Progress,
) -> Result<Vec<Totals>, EvalError> {
    let cut = texts.iter().enumerate().flat_map(|(text, tokens)| windows.of(&tokens.ids).map(move |window| (text, window)));
    let (owners, windows): (Vec<usize>, Vec<Window<'_>>) = cut.unzip();
    let losses = score(scorer, &windows, path, progress, |scores| -scores.log_prob())?;
    let mut totals: Vec<_> = texts.iter().map(|text| Totals::of_document(text.ids.len(), text.count)).collect();
    for ((owner, window), loss) in owners.into_iter().zip(&windows).zip(losses) {
        totals[owner].scored_tokens += window.counted();
        totals[owner].loss += loss;
    }
    Ok(totals)
}

/// Scores passages in one window each; returns their lines, and the number of those whose front was cut off.
fn score_passages<'a>(
    scorer: &WindowScorer<'_>,
    settings: &LmSettings,
    data: &Documents,
    texts: &'a [Tokenized],
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<(Vec<PassageLine<'a>>, usize), EvalError> {
    let window = |text: &'a Tokenized| {
        let window = lambada::window(&text.ids, text.count, settings.seq_len, settings.unidirectional);
        window.map_err(|source| LmError::Passage { path: data.path.clone(), id: text.id.clone(), source })
    };
    let windows = texts.iter().map(window).collect::<Result<Vec<_>, _>>()?;
    let cut = windows.iter().zip(texts).filter(|(window, text)| window.tokens.len() < text.ids.len()).count();
    let scores = score(scorer, &windows, &data.path, progress, |scores| scores)?;
    let lines = texts.iter().zip(&windows).zip(scores).map(|((text, window), scores)| {
        let expected = &window.tokens[window.counted_from..];
        PassageLine {
            id: &text.id,
            expected: tokenizer.decode(expected),
            predicted: tokenizer.decode(&scores.guesses),
            correct: scores.guesses == expected,
            log_prob: scores.log_prob(),
        }
    });
    Ok((lines.collect(), cut))
}

/// Scores windows; returns what `keep` makes of the scores of each, in their order.
fn score<T: Clone + Default>(
    scorer: &WindowScorer<'_>,
    windows: &[Window<'_>],
    path: &Path,
    progress: &dyn Progress,
    keep: impl Fn(WindowScores) -> T,
) -> Result<Vec<T>, EvalError> {
    if windows.is_empty() {
        return Err(LmError::Nothing(path.to_owned()).into());
    }
    let mut kept = vec![T::default(); windows.len()];
    progress.begin("evaluating", windows.iter().map(|window| window.counted() as u64).sum(), Unit::Tokens);
    scorer.score::<EvalError>(windows, |number, scores| {
        progress.advance(scores.log_probs.len() as u64);
        kept[number] = keep(scores);
        Ok(())
    })?;
    progress.end();
    Ok(kept)
}
