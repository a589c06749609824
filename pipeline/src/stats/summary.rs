//! Statistics of a data set.

use std::path::PathBuf;

use glm_schemas::manifest::Split;
use serde::Serialize;

use super::lengths::Lengths;
use super::passages::Shared;

/// Statistics of a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Folder of the shards.
    pub shards: PathBuf,
    /// Fingerprint of the data set.
    pub fingerprint: String,
    /// Sequence length that truncation is computed for.
    pub max_seq_len: usize,
    /// Splits, in order.
    pub splits: Vec<SplitStats>,
    /// Passages in both the training and the validation split; they inflate validation accuracy.
    pub in_train_and_val: Shared,
}

/// Statistics of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitStats {
    /// Split.
    pub split: Split,
    /// Number of questions (rows).
    pub questions: usize,
    /// Number of questions with a single choice, which is always right.
    pub single_choice: usize,
    /// Number of questions in which several choices have the same tokens, so that no model can distinguish them.
    pub indistinguishable: usize,
    /// Number of passages, distinguished by their index in the raw data.
    pub passages: usize,
    /// Number of passages, distinguished by their text.
    pub distinct_passages: usize,
    /// Passages with several indices in this split.
    pub duplicates: Shared,
    /// Choices per question.
    #[serde(rename = "choices_per_question")]
    pub choices: Lengths,
    /// Context tokens per question, not truncated.
    #[serde(rename = "tokens_per_context")]
    pub context: Lengths,
    /// Tokens per choice, without the end of the piece.
    #[serde(rename = "tokens_per_choice")]
    pub choice: Lengths,
    /// Mentions per question.
    #[serde(rename = "mentions_per_question")]
    pub mentions: Lengths,
    /// Effect of the sequence length.
    pub truncation: Truncation,
    /// Effect of this and of further sequence lengths, in ascending order.
    #[serde(skip)]
    pub truncations: Vec<(usize, Truncation)>,
    /// Share of `[UNK]` among the tokens of passages, queries and choices.
    pub unknown: Share,
    /// The sources with the most questions, in descending order.
    pub sources: Vec<Source>,
    /// Number of distinct sources.
    pub distinct_sources: usize,
}

/// Effect of a sequence length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Truncation {
    /// Questions with a truncated passage for at least one choice.
    pub questions: usize,
    /// Fraction of such questions.
    pub share: f64,
    /// Passage tokens lost, per question for the choice that loses most.
    pub tokens_lost: usize,
    /// Questions that do not fit for at least one choice, even without their passage.
    pub do_not_fit: usize,
}

/// Part of a total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Share {
    /// Size of the part.
    pub count: usize,
    /// Total.
    pub of: usize,
    /// Part divided by total; 0 if the total is 0.
    pub share: f64,
}

impl Share {
    pub(super) fn new(count: usize, of: usize) -> Self {
        Self { count, of, share: if of == 0 { 0.0 } else { count as f64 / of as f64 } }
    }
}

/// Origin of passages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Name of the source.
    pub name: String,
    /// Number of questions about its passages.
    pub questions: usize,
}
