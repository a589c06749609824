//! Softmax and dropout of attention scores with GLM's attention mask.
//!
//! A row of a batch consists of a context, a start of piece directly after it, and the pieces of several choices. Every
//! token attends to the context. The start of piece also attends to itself, and a token of a piece to the start of piece and
//! to its own piece up to itself.

use std::ops::Range;

use crate::dropout::{Dropout, Site};
use crate::number::{Element, Real, largest, sum};
use crate::simd::{self, Kernel};

/// Attention mask of one row of `from.len()` tokens.
#[derive(Debug, Clone, Copy)]
pub struct Visibility<'a> {
    /// Number of tokens in the context.
    pub context: usize,
    /// Per token: -1 in the context, the token's own index at the start of piece, and the index of the piece's first token
    /// in a piece.
    pub from: &'a [i32],
}

impl Visibility<'_> {
    /// Returns the keys visible to token `query`: those from 0 up to a bound, and a range after the bound.
    #[inline(always)]
    pub fn of(&self, query: usize) -> (usize, Range<usize>) {
        let tokens = self.from.len();
        match usize::try_from(self.from[query]) {
            Err(_) => (self.context.min(tokens), tokens..tokens),
            Ok(from) => {
                let shared = (self.context + 1).min(tokens);
                let end = (query + 1).clamp(shared, tokens);
                (shared, from.clamp(shared, end)..end)
            }
        }
    }
}

/// Attention scores of one head: row `i` has the scores of token `queries[i]` of a batch row, one per token of that row.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Attention mask.
    pub visibility: Visibility<'a>,
    /// Query tokens.
    pub queries: &'a [usize],
    /// Dropout keys, one per token of the row.
    pub keys: &'a [u64],
    /// Dropout layer, different for each head.
    pub site: Site,
    /// Factor applied to the scores.
    pub scale: f64,
}

/// Replaces scores by probabilities with dropout; masked positions become 0. `log_sum` receives the log-sum-exp of each
/// query, which the backward pass needs.
///
/// # Panics
/// If lengths do not match.
pub fn softmax<R: Real + Element<Real = R>>(head: Head<'_>, scores: &mut [R], log_sum: &mut [R]) {
    let tokens = head.visibility.from.len();
    assert!(scores.len() == head.queries.len() * tokens && log_sum.len() == head.queries.len(), "unequal rows");
    assert!(head.keys.len() == tokens && head.queries.iter().all(|query| *query < tokens), "query out of range");
    simd::run(Softmax { head, scores, log_sum });
}

struct Softmax<'a, R> {
    head: Head<'a>,
    scores: &'a mut [R],
    log_sum: &'a mut [R],
}

impl<R: Real + Element<Real = R>> Kernel for Softmax<'_, R> {
    #[inline(always)]
    fn run(self) {
        let Self { head, scores, log_sum } = self;
        let tokens = head.visibility.from.len();
        let scale = R::of(head.scale);
        let rows = scores.chunks_exact_mut(tokens.max(1));
        for ((row, log_sum), &query) in rows.zip(log_sum).zip(head.queries) {
            let (shared, own) = head.visibility.of(query);
            let (most_shared, most_own) = (largest(&row[..shared]), largest(&row[own.clone()]));
            let most = if most_own > most_shared { most_own } else { most_shared } * scale;
            for value in row[..shared].iter_mut() {
                *value = (*value * scale - most).exp();
            }
            for value in row[own.clone()].iter_mut() {
                *value = (*value * scale - most).exp();
            }
            let seen = &row[..shared];
            let mut total = sum(shared, |i| seen[i]);
            for value in &row[own.clone()] {
                total += *value;
            }
            *log_sum = most + total.ln();
            let share = R::ONE / total;
            let dropout: Dropout<R> = head.site.row(head.keys[query]);
            if head.site.drops() {
                for (value, i) in row[..shared].iter_mut().zip(0_u32..) {
                    *value *= share * dropout.factor(i);
                }
            } else {
                for value in row[..shared].iter_mut() {
                    *value *= share;
                }
            }
            for (value, i) in row[own.clone()].iter_mut().zip(own.start as u32..) {
                *value *= share * dropout.factor(i);
            }
            row[shared..own.start].fill(R::ZERO);
            row[own.end..].fill(R::ZERO);
        }
    }
}

/// Backward pass of [`softmax`]. `scores` are the scores of the forward pass; they are replaced by the probabilities with
/// dropout. `gradient` is the gradient with respect to these probabilities; it is replaced by the gradient with respect to
/// the scores. `dot` is, for each query, the dot product of the attention's output and its gradient, which equals the sum
/// over keys of probability times gradient (Dao et al. 2022, FlashAttention, app. B).
///
/// # Panics
/// If lengths do not match.
pub fn softmax_backward<R: Real + Element<Real = R>>(
    head: Head<'_>,
    scores: &mut [R],
    gradient: &mut [R],
    log_sum: &[R],
    dot: &[R],
) {
    let (tokens, queries) = (head.visibility.from.len(), head.queries.len());
    assert!(scores.len() == queries * tokens && gradient.len() == queries * tokens, "unequal rows");
    assert!(log_sum.len() == queries && dot.len() == queries, "unequal rows");
    assert!(head.keys.len() == tokens && head.queries.iter().all(|query| *query < tokens), "query out of range");
    simd::run(SoftmaxBackward { head, scores, gradient, log_sum, dot });
}

struct SoftmaxBackward<'a, R> {
    head: Head<'a>,
    scores: &'a mut [R],
    gradient: &'a mut [R],
    log_sum: &'a [R],
    dot: &'a [R],
}

impl<R: Real + Element<Real = R>> Kernel for SoftmaxBackward<'_, R> {
    #[inline(always)]
    fn run(self) {
        let Self { head, scores, gradient, log_sum, dot } = self;
        let tokens = head.visibility.from.len();
        let scale = R::of(head.scale);
        let rows = scores.chunks_exact_mut(tokens.max(1)).zip(gradient.chunks_exact_mut(tokens.max(1)));
        for (((row, gradient), (log_sum, dot)), &query) in rows.zip(log_sum.iter().zip(dot)).zip(head.queries) {
            let (shared, own) = head.visibility.of(query);
            let dropout: Dropout<R> = head.site.row(head.keys[query]);
            let back = |value: &mut R, gradient: &mut R, factor: R| {
                let probability = (*value * scale - *log_sum).exp();
                *value = probability * factor;
                *gradient = probability * (*gradient * factor - *dot) * scale;
            };
            let seen = row[..shared].iter_mut().zip(gradient[..shared].iter_mut());
            if head.site.drops() {
                for ((value, gradient), i) in seen.zip(0_u32..) {
                    back(value, gradient, dropout.factor(i));
                }
            } else {
                for (value, gradient) in seen {
                    back(value, gradient, R::ONE);
                }
            }
            let seen = row[own.clone()].iter_mut().zip(gradient[own.clone()].iter_mut());
            for ((value, gradient), i) in seen.zip(own.start as u32..) {
                back(value, gradient, dropout.factor(i));
            }
            for hidden in [shared..own.start, own.end..tokens] {
                row[hidden.clone()].fill(R::ZERO);
                gradient[hidden].fill(R::ZERO);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four tokens of context, the start of piece, a piece of two tokens and a piece of one.
    const FROM: [i32; 8] = [-1, -1, -1, -1, 4, 5, 5, 7];
    const KEYS: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn visible_keys(visibility: Visibility<'_>, query: usize) -> Vec<usize> {
        let (shared, own) = visibility.of(query);
        (0..shared).chain(own).collect()
    }

    #[test]
    fn pieces_see_the_context_and_themselves() {
        let visibility = Visibility { context: 4, from: &FROM };
        assert_eq!(visible_keys(visibility, 0), [0, 1, 2, 3]);
        assert_eq!(visible_keys(visibility, 4), [0, 1, 2, 3, 4]);
        assert_eq!(visible_keys(visibility, 5), [0, 1, 2, 3, 4, 5]);
        assert_eq!(visible_keys(visibility, 6), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(visible_keys(visibility, 7), [0, 1, 2, 3, 4, 7]);
    }

    fn head(queries: &[usize], rate: f64) -> Head<'_> {
        let visibility = Visibility { context: 4, from: &FROM };
        Head { visibility, queries, keys: &KEYS, site: Site { key: 3, rate }, scale: 0.5 }
    }

    fn scores(queries: &[usize]) -> Vec<f64> {
        queries.iter().flat_map(|q| (0..8).map(move |k| f64::from((q * 31 + k * 17) as u32 % 23) / 7.0 - 1.0)).collect()
    }

    #[test]
    fn probabilities_of_visible_keys_sum_to_one() {
        let queries: Vec<usize> = (0..8).collect();
        let (mut values, mut log_sum) = (scores(&queries), vec![0.0; 8]);
        softmax(head(&queries, 0.0), &mut values, &mut log_sum);
        for query in 0..8 {
            let row = &values[8 * query..][..8];
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let visible = visible_keys(Visibility { context: 4, from: &FROM }, query);
            for (key, value) in row.iter().enumerate() {
                assert_eq!(visible.contains(&key), *value > 0.0, "query {query}, key {key}");
                let expected = (scores(&queries)[8 * query + key] * 0.5 - log_sum[query]).exp();
                assert!(*value == 0.0 || (value - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_subset_of_queries_gives_the_same_rows() {
        let (all, some) = ((0..8).collect::<Vec<_>>(), [6, 2]);
        let (mut whole, mut part) = (scores(&all), scores(&some));
        let (mut log_whole, mut log_part) = (vec![0.0; 8], vec![0.0; 2]);
        softmax(head(&all, 0.4), &mut whole, &mut log_whole);
        softmax(head(&some, 0.4), &mut part, &mut log_part);
        assert_eq!((&part[..8], &part[8..]), (&whole[48..56], &whole[16..24]));
        assert_eq!(log_part, [log_whole[6], log_whole[2]]);
    }

    #[test]
    fn gradients_match_finite_differences() {
        for rate in [0.0, 0.4] {
            let queries = [0, 5, 6, 7];
            let weights: Vec<f64> = (0..32).map(|i| f64::from(i * 7 % 11) - 5.0).collect();
            let probabilities = |scores: &[f64]| {
                let (mut values, mut log_sum) = (scores.to_vec(), vec![0.0; 4]);
                softmax(head(&queries, rate), &mut values, &mut log_sum);
                (values, log_sum)
            };
            let (forward, log_sum) = probabilities(&scores(&queries));
            let dot: Vec<f64> = (0..4).map(|q| (8 * q..8 * q + 8).map(|i| forward[i] * weights[i]).sum()).collect();
            let (mut again, mut gradient) = (scores(&queries), weights.clone());
            softmax_backward(head(&queries, rate), &mut again, &mut gradient, &log_sum, &dot);
            for (i, gradient) in gradient.iter().enumerate() {
                assert!((again[i] - forward[i]).abs() < 1e-12);
                let at = |step: f64| {
                    let mut moved = scores(&queries);
                    moved[i] += step;
                    probabilities(&moved).0.iter().zip(&weights).map(|(p, w)| p * w).sum::<f64>()
                };
                let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!((slope - gradient).abs() < 1e-6, "rate {rate}, {i}: {gradient}, slope {slope}");
            }
        }
    }
}
