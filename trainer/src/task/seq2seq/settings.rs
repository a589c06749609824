//! Settings of sequence to sequence.

use clap::ValueEnum;
use glm_schemas::seq2seq::encoding::PairLayout;
use serde::{Deserialize, Serialize};

/// `[seq2seq]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "reference.toml documents every key")]
pub struct Seq2seqSettings {
    pub max_target_len: usize,
    pub label_smoothing: f64,
    pub published_padding: bool,
    pub task_mask: bool,
    pub metric: Metric,
    pub beams: usize,
    pub length_penalty: f64,
    pub ngram: usize,
    pub min_target_len: usize,
    pub decode_batch_size: usize,
}

/// Metric of generated texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// ROUGE-1, ROUGE-2 and ROUGE-L of summaries
    Rouge,
    /// BLEU-4 of translations
    Bleu,
    /// Exact match and F1 of answers
    EmF1,
}

impl Metric {
    /// Name in settings and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rouge => "rouge",
            Self::Bleu => "bleu",
            Self::EmF1 => "em-f1",
        }
    }
}

impl Default for Seq2seqSettings {
    fn default() -> Self {
        Self {
            max_target_len: 128,
            label_smoothing: 0.1,
            published_padding: false,
            task_mask: false,
            metric: Metric::Rouge,
            beams: 5,
            length_penalty: 0.7,
            ngram: 3,
            min_target_len: 0,
            decode_batch_size: 32,
        }
    }
}

impl Seq2seqSettings {
    /// Layout of contexts.
    pub(super) fn layout(&self) -> PairLayout {
        if self.published_padding { PairLayout::Published } else { PairLayout::Compact }
    }

    /// Returns key, value and allowed range of the first setting that is out of range.
    pub fn out_of_range(&self) -> Option<(&'static str, String, &'static str)> {
        let Self { max_target_len, label_smoothing, beams, length_penalty, min_target_len, decode_batch_size, .. } = *self;
        let rules = [
            (max_target_len > 0, "seq2seq.max_target_len", max_target_len.to_string(), "at least 1"),
            (
                (0.0..1.0).contains(&label_smoothing),
                "seq2seq.label_smoothing",
                label_smoothing.to_string(),
                "at least 0 and below 1",
            ),
            (beams > 0, "seq2seq.beams", beams.to_string(), "at least 1"),
            (length_penalty.is_finite(), "seq2seq.length_penalty", length_penalty.to_string(), "a number"),
            (
                min_target_len < max_target_len,
                "seq2seq.min_target_len",
                min_target_len.to_string(),
                "below seq2seq.max_target_len",
            ),
            (decode_batch_size > 0, "seq2seq.decode_batch_size", decode_batch_size.to_string(), "at least 1"),
        ];
        rules.into_iter().find(|(holds, ..)| !holds).map(|(_, key, value, rule)| (key, value, rule))
    }
}
