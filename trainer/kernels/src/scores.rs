//! Log softmax at the target positions only. The forward pass reads each row of logits, and the backward pass replaces it by
//! its gradient.

use crate::number::{self, Element, LANES, Real};
use crate::simd::{self, Kernel};

/// Log-sum-exp of each row of `logits`. A row has `width` elements.
///
/// # Panics
/// If lengths do not match.
pub fn log_sum_exp<T: Element>(logits: &[T], width: usize, out: &mut [T::Real]) {
    assert_eq!(logits.len(), width * out.len());
    simd::run(LogSumExp { logits, width, out });
}

struct LogSumExp<'a, T: Element> {
    logits: &'a [T],
    width: usize,
    out: &'a mut [T::Real],
}

impl<T: Element> Kernel for LogSumExp<'_, T> {
    #[inline(always)]
    fn run(self) {
        for (row, out) in self.logits.chunks_exact(self.width).zip(self.out) {
            let most = number::largest(row);
            // Summed in blocks, to keep the rounding error of a sum over thirty thousand small numbers low.
            let mut total = T::Real::ZERO;
            // Exponentials apart from their sum, which the compiler makes vectors of.
            let mut exps = [T::Real::ZERO; 64 * LANES];
            for block in row.chunks(64 * LANES) {
                for (exp, value) in exps.iter_mut().zip(block) {
                    *exp = (value.load() - most).exp();
                }
                total += number::sum(block.len(), |i| exps[i]);
            }
            *out = most + total.ln();
        }
    }
}

/// Largest of some numbers; minus infinity if there are none. NaN is left out.
pub fn largest<T: Element>(numbers: &[T]) -> T::Real {
    let mut most = T::Real::MINUS_INFINITY;
    simd::run(Largest { numbers, most: &mut most });
    most
}

struct Largest<'a, T: Element> {
    numbers: &'a [T],
    most: &'a mut T::Real,
}

impl<T: Element> Kernel for Largest<'_, T> {
    #[inline(always)]
    fn run(self) {
        *self.most = number::largest(self.numbers);
    }
}

/// Backward pass: replaces each row of logits by `- weight · softmax`. The caller adds the gradient at the targets.
///
/// # Panics
/// If lengths do not match.
pub fn backward<T: Element>(logits: &mut [T], width: usize, log_sum: &[T::Real], weights: &[T::Real]) {
    assert!(logits.len() == width * log_sum.len() && weights.len() == log_sum.len(), "unequal rows");
    simd::run(Backward { logits, width, log_sum, weights });
}

struct Backward<'a, T: Element> {
    logits: &'a mut [T],
    width: usize,
    log_sum: &'a [T::Real],
    weights: &'a [T::Real],
}

impl<T: Element> Kernel for Backward<'_, T> {
    #[inline(always)]
    fn run(self) {
        let rows = self.logits.chunks_exact_mut(self.width).zip(self.log_sum.iter().zip(self.weights));
        for (row, (log_sum, weight)) in rows {
            let weight = T::Real::ZERO - *weight;
            for value in row {
                *value = T::store(weight * (value.load() - *log_sum).exp());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_its_definition() {
        let logits: Vec<f64> = (0..3000).map(|i| f64::from(i * 37 % 101) / 9.0).collect();
        let mut found = vec![0.0; 2];
        log_sum_exp(&logits, 1500, &mut found);
        for (row, found) in logits.chunks(1500).zip(&found) {
            let expected = row.iter().map(|x| x.exp()).sum::<f64>().ln();
            assert!((expected - found).abs() < 1e-12);
        }
        let single: Vec<f32> = logits.iter().map(|x| *x as f32).collect();
        let mut single_found = vec![0.0; 2];
        log_sum_exp(&single, 1500, &mut single_found);
        assert!((f64::from(single_found[1]) - found[1]).abs() < 1e-6);
    }

    #[test]
    fn gradient_is_minus_the_softmax() {
        let logits = [1.0_f64, 2.0, 3.0, 0.0];
        let mut log_sum = [0.0; 2];
        log_sum_exp(&logits, 2, &mut log_sum);
        let mut gradient = logits;
        backward(&mut gradient, 2, &log_sum, &[1.0, -2.0]);
        assert!((gradient[0] + gradient[1] + 1.0).abs() < 1e-12);
        assert!((gradient[2] + gradient[3] - 2.0).abs() < 1e-12);
        assert!((gradient[1] / gradient[0] - 1_f64.exp()).abs() < 1e-12);
    }

    #[test]
    fn the_largest_is_found_among_nan() {
        let mut numbers: Vec<f32> = (0..50).map(|i| (i * 37 % 50) as f32).collect();
        assert_eq!(largest(&numbers), 49.0);
        numbers[3] = f32::NAN;
        assert_eq!(largest(&numbers), 49.0);
        assert_eq!(largest(&[f64::NAN]), f64::NEG_INFINITY);
    }

    #[test]
    fn nan_propagates() {
        let mut out = [0.0_f32];
        log_sum_exp(&[1.0_f32, f32::NAN, 2.0], 3, &mut out);
        assert!(out[0].is_nan());
    }
}
