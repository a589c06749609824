//! Temperature, top-k and top-p: which tokens can be drawn, and with which probabilities.

use super::candidates::{Candidate, best_first, keep_best};

/// Changes of a distribution before a token is drawn from it.
///
/// Logits are divided by the temperature. Top-k then keeps the `top_k` most probable tokens and those that tie with the last of them.
/// Top-p then keeps the most probable tokens until their probability exceeds `top_p`, including the token that crosses it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filter {
    /// Divisor of the logits, above 0.
    pub temperature: f64,
    /// Number of tokens to keep; 0: all.
    pub top_k: usize,
    /// Probability to keep; 0: all.
    pub top_p: f64,
}

impl Filter {
    /// No change.
    pub const NONE: Self = Self { temperature: 1.0, top_k: 0, top_p: 0.0 };

    /// Returns true if the filter may leave tokens out.
    pub fn removes(&self) -> bool {
        self.top_k > 0 || self.top_p > 0.0
    }

    /// Applies the filter: the tokens left, best first, with log probabilities among themselves.
    ///
    /// `candidates` are best first, and with top-k at least the `top_k` best of them with ties. Their log probabilities may be logits.
    #[must_use]
    pub fn apply(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        if *self == Self::NONE {
            return candidates;
        }
        for candidate in &mut candidates {
            candidate.log_prob /= self.temperature;
        }
        if self.top_k > 0 {
            keep_best(&mut candidates, self.top_k);
        }
        normalize(&mut candidates);
        if self.top_p > 0.0 {
            debug_assert!(candidates.is_sorted_by(|a, b| best_first(a, b).is_le()), "unsorted candidates");
            let mut before = 0.0;
            let kept = candidates.iter().take_while(|candidate| {
                let is_kept = before <= self.top_p;
                before += candidate.log_prob.exp();
                is_kept
            });
            let kept = kept.count();
            candidates.truncate(kept);
            normalize(&mut candidates);
        }
        candidates
    }
}

/// Log softmax over candidates, best first.
pub(super) fn normalize(candidates: &mut [Candidate]) {
    let Some(most) = candidates.first().map(|best| best.log_prob) else { return };
    let sum: f64 = candidates.iter().map(|candidate| (candidate.log_prob - most).exp()).sum();
    let log_sum = most + sum.ln();
    for candidate in candidates {
        candidate.log_prob -= log_sum;
    }
}
