//! Attention of new tokens to stored keys and values, as in generation.

use crate::few_rows::{dots, parts};
use crate::number::{Element, Real, largest, sum};
use crate::simd::{self, Kernel};

/// Keys and values of one head, `[tokens, head size]` each.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a, T> {
    /// Keys.
    pub keys: &'a [T],
    /// Values.
    pub values: &'a [T],
}

/// `softmax(q kᵀ / sqrt(d)) v` of one query `[head size]` over keys and values in two places, all of which it sees. `scores` is
/// scratch space.
///
/// # Panics
/// If lengths do not match, or nothing is stored.
pub fn attend<T: Element>(query: &[T::Real], stored: [Stored<'_, T>; 2], scores: &mut Vec<T::Real>, out: &mut [T]) {
    let size = query.len();
    assert!(size > 0 && out.len() == size, "unequal head sizes");
    for Stored { keys, values } in stored {
        assert!(keys.len() == values.len() && keys.len().is_multiple_of(size), "unequal numbers of keys and values");
    }
    assert!(stored.iter().any(|part| !part.keys.is_empty()), "nothing to see");
    simd::run(Attend { query, stored, scores, out });
}

struct Attend<'a, T: Element> {
    query: &'a [T::Real],
    stored: [Stored<'a, T>; 2],
    scores: &'a mut Vec<T::Real>,
    out: &'a mut [T],
}

/// Keys that are multiplied together.
const TOGETHER: usize = 4;
/// Largest head size whose sums are kept in registers.
const REGISTERS: usize = 128;

impl<T: Element> Kernel for Attend<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Self { query, stored, scores, out } = self;
        let size = query.len();
        let scale = T::Real::ONE / T::Real::of(size as f64).sqrt();
        scores.clear();
        for Stored { keys, .. } in stored {
            let groups = keys.chunks_exact(TOGETHER * size);
            let rest = groups.remainder();
            for group in groups {
                scores.extend(dots(query, parts::<T, TOGETHER>(group, size)));
            }
            for key in rest.chunks_exact(size) {
                scores.extend(dots(query, [key]));
            }
        }
        let most = largest(scores) * scale;
        for score in scores.iter_mut() {
            *score = (*score * scale - most).exp();
        }
        let share = T::Real::ONE / sum(scores.len(), |i| scores[i]);
        // The sums of up to `REGISTERS` elements at a time.
        for (block, out) in out.chunks_mut(REGISTERS).enumerate() {
            let mut sums = [T::Real::ZERO; REGISTERS];
            let mut weights = scores.iter();
            for Stored { values, .. } in stored {
                for value in values.chunks_exact(size) {
                    let Some(&weight) = weights.next() else { break };
                    for (sum, value) in sums.iter_mut().zip(&value[block * REGISTERS..]) {
                        *sum += weight * value.load();
                    }
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = T::store(sum * share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_its_definition(size in 1_usize..150, first in 0_usize..12, second in 0_usize..9) {
            prop_assume!(first + second > 0);
            let number = |i: usize| f64::from((i as u32).wrapping_mul(2_654_435_761) % 1000) / 500.0 - 1.0;
            let tokens = first + second;
            let numbers = |from: usize, count: usize| (from..from + count).map(number).collect::<Vec<f64>>();
            let (query, keys, values) = (numbers(1, size), numbers(9_000, tokens * size), numbers(77_000, tokens * size));
            let exact: Vec<f64> = {
                let dot = |t: usize| (0..size).map(|i| query[i] * keys[t * size + i]).sum::<f64>() / (size as f64).sqrt();
                let weights: Vec<f64> = (0..tokens).map(|t| dot(t).exp()).collect();
                let total: f64 = weights.iter().sum();
                (0..size).map(|i| (0..tokens).map(|t| weights[t] / total * values[t * size + i]).sum()).collect()
            };
            let split = first * size;
            let stored = [
                Stored { keys: &keys[..split], values: &values[..split] },
                Stored { keys: &keys[split..], values: &values[split..] },
            ];
            let (mut scores, mut out) = (Vec::new(), vec![0.0; size]);
            attend(&query, stored, &mut scores, &mut out);
            prop_assert!(out.iter().zip(&exact).all(|(out, exact)| (out - exact).abs() < 1e-12), "{out:?} {exact:?}");

            let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<_>>();
            let (query, keys, values) = (single(&query), single(&keys), single(&values));
            let stored = [Stored { keys: &keys, values: &values }, Stored { keys: &[], values: &[] }];
            let (mut scores, mut out) = (Vec::new(), vec![0.0; size]);
            attend(&query, stored, &mut scores, &mut out);
            prop_assert!(out.iter().zip(&exact).all(|(out, exact)| (f64::from(*out) - exact).abs() < 1e-5));
        }
    }
}
