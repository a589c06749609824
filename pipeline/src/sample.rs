//! Synthetic corpus in the format of SuperGLUE's ReCoRD (`glm-prep sample`).
//!
//! Passages are short invented news items: an opening sentence, one sentence about each of 5 to 8 people, places and
//! organisations, and one or two `@highlight` lines. Each question replaces one of these entities by a blank in a sentence that
//! repeats or rewords the fact which the passage states about that entity only, so every blank can be inferred from the passage.
//! As in real news, the query alone gives weak cues (the kind of entity, a pronoun). The number of mentions and their position in
//! the passage give none. Names are drawn again for each passage, so answers cannot be memorized, and no pair of first name and
//! surname is in both splits.
//!
//! Reference accuracies for the default recipe: 16 % for a random guess and for the most frequent entity; 49 % for a perfect
//! reader of the query that never sees the passage; 98 % for a simple rule that matches words of the query with the passage. A
//! model that scores above 49 % uses the passage. Easy corpora have fewer entities of a kind: a perfect reader of the query answers
//! 78 %, a random guess 25 %. Their questions test what a model knows of names.
//!
//! - `phrases`: names and phrases of twelve kinds of news, in `phrases.json`.
//! - `scene`: draws the entities of a passage and their facts; `story` writes the passage, `question` the queries.
//! - [`record`]: one passage with its questions. [`corpus`]: the files. [`recipe`]: the difficulty.
//!
//! Documents for pretraining are further passages of the same kind; each ends with a follow-up sentence about each of its entities, as
//! news items repeat facts. They have no questions, and share people with the training passages only.
//!
//! Passage `i` of a split depends on the seed, the split and `i` only.

pub mod corpus;
mod phrases;
mod question;
mod random;
pub mod recipe;
pub mod record;
mod scene;
mod story;
mod text;
mod vocabulary;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use glm_schemas::manifest::Split;

pub use corpus::{Corpus, Kind, SampleError, Written};
pub use recipe::{Difficulty, Recipe};

/// Default minimum of validation passages: fewer give too noisy an accuracy.
const MIN_VAL_PASSAGES: u64 = 100;

/// Generate a sample corpus for first experiments and load tests: questions in ReCoRD's format, or documents.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep sample --out sample --passages 3000
  glm-prep sample --out sample/text --kind text --passages 20000  # documents
  glm-prep sample --out big --passages 1000000 --seed 7    # for load tests")]
pub struct SampleArgs {
    /// Output folder: writes DIR/ReCoRD/train.jsonl and DIR/ReCoRD/val.jsonl; documents go to DIR/train.jsonl and DIR/val.jsonl.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Content of the corpus.
    #[arg(long, value_enum, default_value_t = Kind::Record)]
    pub kind: Kind,
    /// Difficulty of the questions. Documents have the entities of such passages.
    #[arg(long, value_enum, default_value_t)]
    pub difficulty: Difficulty,
    /// Number of training passages, each with two questions on average.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub passages: u64,
    /// Number of validation passages [default: 10 % of the training passages, at least 100].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub val_passages: Option<u64>,
    /// Also write the vocabulary of the corpus, about 1,700 tokens, for `ingest --tokenizer`.
    #[arg(long, value_name = "FILE")]
    pub vocab: Option<PathBuf>,
    /// Random seed; the same seed gives the same corpus.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Replace existing files.
    #[arg(long)]
    pub force: bool,
}

/// Writes the corpus and prints a one-line summary to `out`.
///
/// # Errors
/// [`SampleError`] if a file exists already or cannot be written.
pub fn run(args: &SampleArgs, out: &mut dyn Write) -> Result<(), SampleError> {
    let corpus = Corpus {
        out: args.out.clone(),
        kind: args.kind,
        train_passages: args.passages,
        val_passages: args.val_passages.unwrap_or((args.passages / 10).max(MIN_VAL_PASSAGES)),
        seed: args.seed,
        recipe: args.difficulty.into(),
        force: args.force,
    };
    if let Some(path) = &args.vocab {
        corpus::write_vocabulary(path, args.force)?;
    }
    let [train, val] = corpus.write()?;
    let described = |split: Split, written: Written| {
        let (path, Written { passages, questions }) = (corpus.path(split), written);
        match corpus.kind {
            Kind::Record => format!("{}: {passages} passages, {questions} questions", path.display()),
            Kind::Text => format!("{}: {passages} documents", path.display()),
        }
    };
    writeln!(out, "{}; {}; seed {}", described(Split::Train, train), described(Split::Val, val), args.seed)
        .map_err(SampleError::Output)
}
