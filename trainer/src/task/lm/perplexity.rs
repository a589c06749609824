//! Perplexity of texts of any length, from overlapping windows.
//!
//! Each token but the first of a text counts exactly once:
//!
//! ```text
//! bidirectional    first window   t0 [MASK]                  | t1 ... t(N-1)      all of the piece counts
//!                  later windows  t(S) ... t(S+N-S-1) [MASK] | S new tokens       all of the piece counts
//! unidirectional   all windows    first token [MASK]         | N-1 tokens         the S new tokens count
//! ```
//!
//! A window has N tokens and starts S tokens, the stride, after the one before it.

use std::iter::Sum;
use std::ops::AddAssign;

use glm_schemas::vocab::TokenId;
use thiserror::Error;

use super::Window;
use crate::task::metrics::{MetricInfo, Metrics, Role, Unit};

/// Cuts texts into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Tokens per window, N.
    length: usize,
    /// Tokens that each window after the first adds, S.
    stride: usize,
    unidirectional: bool,
}

/// Invalid sizes of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WindowError {
    /// The sequences are too short.
    #[error("sequences of {seq_len} tokens are too short for a window; use --seq-len 3 or more")]
    SeqLen {
        /// Maximum number of tokens of a sequence.
        seq_len: usize,
    },
    /// The stride would skip text or score nothing.
    #[error(
        "--stride {stride} is out of range: with --seq-len {seq_len}{} it is at least 1 and at most {most}",
        if *unidirectional { " and --unidirectional" } else { "" }
    )]
    Stride {
        /// Tokens that each window after the first adds.
        stride: usize,
        /// Maximum number of tokens of a sequence.
        seq_len: usize,
        /// True if every context is a single token.
        unidirectional: bool,
        /// Largest stride.
        most: usize,
    },
}

impl Windows {
    /// Windows of `seq_len - 1` tokens, each `stride` tokens after the one before it. With `unidirectional`, the context of each is its
    /// first token; else that of the windows after the first holds all tokens that an earlier window has scored.
    ///
    /// # Errors
    /// [`WindowError`] with the range that is allowed.
    pub fn try_new(seq_len: usize, stride: usize, unidirectional: bool) -> Result<Self, WindowError> {
        if seq_len < 3 {
            return Err(WindowError::SeqLen { seq_len });
        }
        let length = seq_len - 1;
        let most = if unidirectional { length - 1 } else { length };
        match (1..=most).contains(&stride) {
            true => Ok(Self { length, stride, unidirectional }),
            false => Err(WindowError::Stride { stride, seq_len, unidirectional, most }),
        }
    }

    /// Windows of a text. A text of one token or none has nothing to predict, hence no window.
    pub fn of<'a>(&self, tokens: &'a [TokenId]) -> impl Iterator<Item = Window<'a>> + use<'a> {
        let Self { length, stride, unidirectional } = *self;
        let count = match tokens.len() {
            0 | 1 => 0,
            all => 1 + all.saturating_sub(length).div_ceil(stride),
        };
        (0..count).map(move |number| {
            let start = number * stride;
            let tokens = &tokens[start..tokens.len().min(start + length)];
            let seen = if number == 0 { 1 } else { length - stride };
            Window { tokens, context: if unidirectional { 1 } else { seen }, counted_from: seen }
        })
    }
}

/// Metrics of [`Totals`].
pub static METRICS: [MetricInfo; 7] = [
    figure("perplexity", "perplexity", "per token"),
    figure("loss", "loss", "mean per token, in nats"),
    figure("word_perplexity", "word perplexity", "per word of the text before clean-up; published as adjusted ppl"),
    total("documents"),
    total("tokens"),
    total("scored_tokens"),
    total("words"),
];

const fn figure(name: &'static str, label: &'static str, meaning: &'static str) -> MetricInfo {
    MetricInfo { name, label, unit: Unit::Number, role: Role::Quality { higher_is_better: false }, meaning }
}

const fn total(name: &'static str) -> MetricInfo {
    MetricInfo { name, label: name, unit: Unit::Count, role: Role::Total, meaning: "" }
}

/// Sums over texts, from which perplexity is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Texts.
    pub documents: usize,
    /// Tokens.
    pub tokens: usize,
    /// Tokens whose probability was computed: all but the first of each text.
    pub scored_tokens: usize,
    /// Words, by which a text is compared between vocabularies, see [`words`].
    pub words: usize,
    /// Sum of `-ln p` over the scored tokens.
    pub loss: f64,
}

impl Totals {
    /// Totals of a text of `tokens` tokens and `words` words, which is still to be scored.
    pub fn of_document(tokens: usize, words: usize) -> Self {
        Self { documents: 1, tokens, words, ..Self::default() }
    }

    /// Mean loss per scored token in nats; `None` without any.
    pub fn mean_loss(&self) -> Option<f64> {
        (self.scored_tokens > 0).then(|| self.loss / self.scored_tokens as f64)
    }

    /// `exp` of the mean loss per scored token. It has no upper bound.
    pub fn perplexity(&self) -> Option<f64> {
        self.mean_loss().map(f64::exp)
    }

    /// `exp` of the loss per word, which does not depend on how the vocabulary divides words: published as "adjusted ppl". The first
    /// word of each text is not counted, as its first token is not scored.
    pub fn word_perplexity(&self) -> Option<f64> {
        let words = self.words.saturating_sub(self.documents);
        (self.scored_tokens > 0 && words > 0).then(|| (self.loss / words as f64).exp())
    }

    /// The figures as metrics; without those that are undefined.
    pub fn metrics(&self) -> Metrics {
        let figures = [self.perplexity(), self.mean_loss(), self.word_perplexity()];
        let counts = [self.documents, self.tokens, self.scored_tokens, self.words].map(|count| Some(count as f64));
        let values = METRICS.iter().zip(figures.into_iter().chain(counts));
        let metrics: Metrics = values.filter_map(|(info, value)| Some((info, value?))).collect();
        let Self { documents, scored_tokens, .. } = self;
        let summary = self.perplexity().map_or_else(String::new, |perplexity| format!("perplexity {perplexity:.2}"));
        let texts = if *documents == 1 { "text" } else { "texts" };
        metrics.described(format!("{scored_tokens} tokens of {documents} {texts}"), summary)
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.documents += other.documents;
        self.tokens += other.tokens;
        self.scored_tokens += other.scored_tokens;
        self.words += other.words;
        self.loss += other.loss;
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(documents: I) -> Self {
        documents.fold(Self::default(), |mut sum, document| {
            sum += document;
            sum
        })
    }
}

/// Counts the words of a text, as published for WikiText, whose words and punctuation are separated by spaces: its parts between single
/// spaces. Two spaces enclose an empty part, which counts, and a line end separates nothing. A text without words has one empty part.
pub fn words(text: &str) -> usize {
    1 + text.trim_matches(super::clean::is_space).matches(' ').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn windows(seq_len: usize, stride: usize, unidirectional: bool) -> Windows {
        Windows::try_new(seq_len, stride, unidirectional).expect("in range")
    }

    #[test]
    fn later_windows_see_what_was_scored_and_score_the_rest() {
        let tokens: Vec<TokenId> = (0..12).collect();
        let cut = |unidirectional| -> Vec<_> {
            let windows = windows(9, 3, unidirectional).of(&tokens);
            windows.map(|window| (window.tokens[0], window.tokens.len(), window.context, window.counted_from)).collect()
        };
        assert_eq!(cut(false), [(0, 8, 1, 1), (3, 8, 5, 5), (6, 6, 5, 5)]);
        assert_eq!(cut(true), [(0, 8, 1, 1), (3, 8, 1, 5), (6, 6, 1, 5)]);
    }

    #[test]
    fn sizes_out_of_range_are_errors_with_the_range() {
        let error = |seq_len, stride, unidirectional| {
            Windows::try_new(seq_len, stride, unidirectional).expect_err("out of range").to_string()
        };
        assert_eq!(error(64, 64, false), "--stride 64 is out of range: with --seq-len 64 it is at least 1 and at most 63");
        assert_eq!(
            error(64, 63, true),
            "--stride 63 is out of range: with --seq-len 64 and --unidirectional it is at least 1 and at most 62"
        );
        assert!(error(64, 0, false).contains("at least 1"));
        assert_eq!(error(2, 1, false), "sequences of 2 tokens are too short for a window; use --seq-len 3 or more");
    }

    #[test]
    fn figures_divide_by_what_was_scored() {
        let totals = Totals { documents: 2, tokens: 9, scored_tokens: 7, words: 6, loss: 14.0 };
        assert_eq!((totals.mean_loss(), totals.perplexity()), (Some(2.0), Some(2_f64.exp())));
        assert_eq!(totals.word_perplexity(), Some(3.5_f64.exp()));
        let nothing = Totals::of_document(1, 1);
        assert_eq!((nothing.mean_loss(), nothing.perplexity(), nothing.word_perplexity()), (None, None, None));
        let sum: Totals = [totals, nothing].into_iter().sum();
        assert_eq!((sum.documents, sum.tokens, sum.word_perplexity()), (3, 10, totals.word_perplexity()));
    }

    #[test]
    fn words_are_parts_between_single_spaces() {
        assert_eq!(["", " \n", "a", " a b ", "a  b", "a\nb c\u{a0}"].map(words), [1, 1, 1, 2, 3, 2]);
    }

    proptest! {
        #[test]
        fn every_token_but_the_first_counts_once(
            length in 0_usize..70, seq_len in 3_usize..20, stride in 1_usize..19, unidirectional: bool,
        ) {
            prop_assume!(stride < seq_len - usize::from(unidirectional));
            let tokens: Vec<TokenId> = (0..length as TokenId).collect();
            let (mut counted, mut longest) = (Vec::new(), 0);
            for window in windows(seq_len, stride, unidirectional).of(&tokens) {
                prop_assert!(window.context <= window.counted_from && window.counted_from < window.tokens.len());
                counted.extend_from_slice(&window.tokens[window.counted_from..]);
                longest = longest.max(window.tokens.len());
            }
            prop_assert_eq!(&counted[..], tokens.get(1..).unwrap_or_default());
            prop_assert!(longest < seq_len);
        }
    }
}
