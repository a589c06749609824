//! `glm-prep sample`: a corpus in the format of SuperGLUE's ReCoRD, made up from nothing.
//!
//! The passages are little news items of our own making: an opening sentence, one sentence about each of 5 to 8 people, places
//! and organisations, and one or two `@highlight` lines. Each question blanks one of them in a sentence that repeats, or words
//! differently, what the passage says of it and of nothing else there; so every blank can be inferred from the passage, by
//! rule. Half-way cues exist as in real news (whether a person or a place is missing, and a pronoun), while the number of
//! mentions and the place in the passage say nothing. Names are drawn anew for every passage, so an answer cannot be known by
//! heart, and no pair of first name and surname is in both splits.
//!
//! Accuracy to compare with, for the default recipe: a blind guess is right in 16 of 100 questions and so is the entity that is
//! named most often; a perfect reader of the query alone, who uses the half-way cues and never sees the passage, in 49; a
//! simple rule that matches words of the query with the passage, in 98. What a model scores above 49, it has read.
//!
//! - `names`, `themes`: the words. `themes` holds twelve kinds of news.
//! - `scene`: who is in a passage and what is true of them; `story` tells it, `question` asks about it.
//! - [`record`]: one passage with its questions. [`corpus`]: the files. [`recipe`]: the difficulty.
//!
//! Passage `i` of a split depends on the seed, the split and `i` alone.

pub mod corpus;
// Lists of words read better filled than one a line.
#[rustfmt::skip]
mod names;
mod question;
mod random;
pub mod recipe;
pub mod record;
mod scene;
mod story;
mod text;
mod themes;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use glm_schemas::manifest::Split;

pub use corpus::{Corpus, SampleError};
pub use recipe::Recipe;

/// Fewer validation passages than this would measure nothing.
const LEAST_VAL_PASSAGES: u64 = 100;

/// Make a sample corpus in ReCoRD's format, to try things out or to test under load.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep sample --out sample --passages 3000
  glm-prep sample --out big --passages 1000000 --seed 7    # for load tests")]
pub struct SampleArgs {
    /// Folder to write to: DIR/ReCoRD/train.jsonl and DIR/ReCoRD/val.jsonl.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Number of training passages; each has two questions on average.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub passages: u64,
    /// Number of validation passages [default: a tenth of the training passages, at least 100].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub val_passages: Option<u64>,
    /// Same seed, same corpus.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Replace files that are already there.
    #[arg(long)]
    pub force: bool,
}

/// Writes the corpus and one line about it.
///
/// # Errors
/// [`SampleError`] where a file is already there or the file system refuses.
pub fn run(args: &SampleArgs, out: &mut dyn Write) -> Result<(), SampleError> {
    let corpus = Corpus {
        out: args.out.clone(),
        train_passages: args.passages,
        val_passages: args.val_passages.unwrap_or((args.passages / 10).max(LEAST_VAL_PASSAGES)),
        seed: args.seed,
        recipe: Recipe::default(),
        force: args.force,
    };
    let [train, val] = corpus.write()?;
    writeln!(
        out,
        "{}: {} passages, {} questions; {}: {} passages, {} questions; seed {}",
        corpus.path(Split::Train).display(),
        train.passages,
        train.questions,
        corpus.path(Split::Val).display(),
        val.passages,
        val.questions,
        args.seed,
    )
    .map_err(SampleError::Output)
}
