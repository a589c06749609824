//! Task of a data set of cloze questions, as recorded in its manifest.

use serde::{Deserialize, Serialize};

use crate::cloze::encoding::{BlankPosition, ChoiceEncoder};
use crate::vocab::SpecialIds;

/// Loss of the choices' scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClozeLoss {
    /// Cross entropy over the choices.
    #[default]
    CrossEntropy,
    /// Negative score of the right choice.
    Generative,
    /// Sum of both.
    Mix,
    /// Sum of how far the scores of wrong choices come closer to that of the right one than 1.
    Hinge,
    /// Cross entropy over the vocabulary, a mean over the predicted tokens of all questions, each of which has one choice: its answer. The
    /// answer is predicted if each of its tokens is the most likely of the vocabulary.
    TokenCrossEntropy,
}

/// Task of a data set of cloze questions: how its choices are encoded, and how training and evaluation treat it unless settings say
/// otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClozeManifest {
    /// Name of the task, for example `superglue/boolq`, or of the raw format.
    pub task: String,
    /// Number or name of the pattern; `None` if the task has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// True if an end of piece is predicted after the tokens of a choice.
    pub end_of_piece: bool,
    /// True if a piece has the position of the first `[MASK]` of its context, as published for ReCoRD, instead of that of the blank. They
    /// differ if a text contains a `[MASK]`.
    pub first_mask: bool,
    /// True if contexts that are too long keep their end instead of their beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_end: bool,
    /// Labels, as the raw data and files of predictions have them; empty if choices have no names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Names of the metrics; the first one chooses the best checkpoint.
    pub metrics: Vec<String>,
    /// Scores are divided by the number of predicted tokens to this power; 0 for no division.
    pub length_penalty: f64,
    /// Loss.
    pub loss: ClozeLoss,
}

impl ClozeManifest {
    /// The task of questions in the form of ReCoRD.
    pub fn record(task: &str) -> Self {
        Self {
            task: task.to_owned(),
            pattern: None,
            end_of_piece: true,
            first_mask: true,
            keep_end: false,
            labels: Vec::new(),
            metrics: ["accuracy", "f1", "exact_match"].map(str::to_owned).to_vec(),
            length_penalty: 0.0,
            loss: ClozeLoss::CrossEntropy,
        }
    }

    /// Encoder of the choices, for sequences of at most `max_seq_len` tokens.
    pub fn encoder(&self, special: SpecialIds, max_seq_len: usize) -> ChoiceEncoder {
        let position = if self.first_mask { BlankPosition::FirstMask } else { BlankPosition::Blank };
        ChoiceEncoder::new(special, max_seq_len).with_form(self.end_of_piece, position).with_kept_end(self.keep_end)
    }
}
