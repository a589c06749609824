//! Candidates for the next token of a sequence.

use std::cmp::Ordering;

use glm_kernels::number::{Element, Real};
use glm_kernels::scores::largest;
use glm_schemas::vocab::TokenId;

/// A token with its log probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Token id.
    pub token: TokenId,
    /// Log probability, in the natural logarithm.
    pub log_prob: f64,
}

/// Candidates that a search needs of the distribution of a sequence's next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// This many of the most probable, and those that tie with the last of them.
    Best(usize),
    /// All.
    All,
}

/// Order of candidates: the most probable first, of equals the one with the lower id.
pub fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.log_prob.total_cmp(&a.log_prob).then(a.token.cmp(&b.token))
}

/// Returns the wanted candidates of a distribution, best first, without tokens of probability zero. `log_probs` has one number per token
/// of the vocabulary; numbers that are not a number are left out.
pub fn candidates<R: Real + Element<Real = R>>(log_probs: &[R], wanted: Wanted) -> Vec<Candidate> {
    let possible = log_probs.iter().zip(0..).filter_map(|(&log_prob, token)| {
        let log_prob = log_prob.wide();
        (log_prob > f64::NEG_INFINITY).then_some(Candidate { token, log_prob })
    });
    let Wanted::Best(count) = wanted else {
        let mut all: Vec<_> = possible.collect();
        all.sort_unstable_by(best_first);
        return all;
    };
    if count == 1 {
        let most = largest(log_probs).wide();
        return possible.filter(|candidate| candidate.log_prob == most).collect();
    }
    // Candidates that may be wanted, cut back to those that are whenever there are many.
    let mut best: Vec<Candidate> = Vec::with_capacity(3 * count + 64);
    let mut least = f64::NEG_INFINITY;
    for candidate in possible {
        if candidate.log_prob < least {
            continue;
        }
        best.push(candidate);
        if best.len() == best.capacity() {
            least = keep_best(&mut best, count);
            if best.len() * 2 > best.capacity() {
                best.reserve(best.len());
            }
        }
    }
    keep_best(&mut best, count);
    best
}

/// Sorts candidates and drops those below the `count`-th, whose log probability is returned.
pub(super) fn keep_best(candidates: &mut Vec<Candidate>, count: usize) -> f64 {
    candidates.sort_unstable_by(best_first);
    let Some(last) = count.checked_sub(1).and_then(|last| candidates.get(last)).map(|last| last.log_prob) else {
        if count == 0 {
            candidates.clear();
        }
        return f64::NEG_INFINITY;
    };
    let end = candidates.partition_point(|candidate| candidate.log_prob >= last);
    candidates.truncate(end);
    last
}

/// Tokens that would complete an n-gram of `n` tokens that `tokens` holds already; none if `n` is 0.
pub fn repeated(tokens: &[TokenId], n: usize) -> Vec<TokenId> {
    if n == 0 || tokens.len() < n {
        return Vec::new();
    }
    let last = &tokens[tokens.len() + 1 - n..];
    let mut found: Vec<_> = tokens.windows(n).filter(|gram| gram[..n - 1] == *last).map(|gram| gram[n - 1]).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repeated_ngrams() {
        assert_eq!(repeated(&[5, 6, 7, 5, 6], 3), [7]);
        assert_eq!(repeated(&[5, 6, 5, 7, 5], 2), [6, 7]);
        assert_eq!(repeated(&[5, 6, 5], 1), [5, 6]);
        assert_eq!(repeated(&[5, 6], 3), [0; 0]);
        assert_eq!(repeated(&[5, 5], 0), [0; 0]);
        assert_eq!(repeated(&[5, 5], 2), [5]);
    }

    #[test]
    fn impossible_tokens_are_never_candidates() {
        let row = [f32::NEG_INFINITY, -1.0, f32::NAN, -0.5];
        let tokens = |wanted| candidates(&row, wanted).iter().map(|candidate| candidate.token).collect::<Vec<_>>();
        assert_eq!((tokens(Wanted::All), tokens(Wanted::Best(3)), tokens(Wanted::Best(1))), (vec![3, 1], vec![3, 1], vec![3]));
        assert_eq!(tokens(Wanted::Best(0)), [0; 0]);
        assert!(candidates(&[f64::NAN; 3], Wanted::All).is_empty());
    }

    proptest! {
        #[test]
        fn the_best_are_a_prefix_of_all(
            row in prop::collection::vec((-8_i8..3).prop_map(|x| f32::from(x) / 2.0), 0..400), count in 0_usize..40,
        ) {
            let (all, best) = (candidates(&row, Wanted::All), candidates(&row, Wanted::Best(count)));
            prop_assert!(best.len() >= count.min(row.len()));
            prop_assert_eq!(&best[..], &all[..best.len()]);
            if count > 0 && best.len() < all.len() {
                prop_assert!(all[best.len()].log_prob < best[count - 1].log_prob);
            }
        }

        #[test]
        fn a_token_is_blocked_exactly_if_its_ngram_exists(tokens in prop::collection::vec(0_i32..4, 0..12), n in 1_usize..4) {
            let blocked = repeated(&tokens, n);
            for token in 0..4 {
                let mut longer = tokens.clone();
                longer.push(token);
                let exists = longer.len() >= n && tokens.windows(n).any(|gram| gram == &longer[longer.len() - n..]);
                prop_assert_eq!(blocked.contains(&token), exists);
            }
        }
    }
}
