//! Bias and GELU in one pass.
//!
//! `gelu(x) = x/2 (1 + tanh u)` with `u = sqrt(2/π) (x + 0.044715 x³)`, the tanh form of Hendrycks and Gimpel 2016. It is
//! computed as `x σ(2u)`, with one exponential and one division.

use crate::number::{Element, Real};
use crate::simd::{self, Kernel};

/// 2 sqrt(2/π).
const TWO_K: f64 = 1.595_769_121_605_730_8;
const CUBIC: f64 = 0.044_715;

/// σ(2u) for GELU's u.
#[inline(always)]
fn gate<R: Real>(x: R) -> R {
    let twice_u = R::of(TWO_K) * x * (R::ONE + R::of(CUBIC) * x * x);
    R::ONE / (R::ONE + (R::ZERO - twice_u).exp())
}

/// `out = gelu(x + bias)`, in rows of `bias.len()` elements.
///
/// # Panics
/// If lengths do not match.
pub fn forward<T: Element>(x: &[T], bias: &[T::Real], out: &mut [T]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(bias.len()), "unequal rows");
    simd::run(Forward { x, bias, out });
}

struct Forward<'a, T: Element> {
    x: &'a [T],
    bias: &'a [T::Real],
    out: &'a mut [T],
}

impl<T: Element> Kernel for Forward<'_, T> {
    #[inline(always)]
    fn run(self) {
        let width = self.bias.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            for ((out, x), bias) in out.iter_mut().zip(x).zip(self.bias) {
                let x = x.load() + *bias;
                *out = T::store(x * gate(x));
            }
        }
    }
}

/// Backward pass: replaces `x` by its gradient and adds the gradient of the bias to `bias_gradient`. `gradient` is the
/// gradient of the output.
///
/// # Panics
/// If lengths do not match.
pub fn backward<T: Element>(x: &mut [T], bias: &[T::Real], gradient: &[T], bias_gradient: &mut [T::Real]) {
    assert!(x.len() == gradient.len() && x.len().is_multiple_of(bias.len()), "unequal rows");
    assert_eq!(bias.len(), bias_gradient.len());
    simd::run(Backward { x, bias, gradient, bias_gradient });
}

struct Backward<'a, T: Element> {
    x: &'a mut [T],
    bias: &'a [T::Real],
    gradient: &'a [T],
    bias_gradient: &'a mut [T::Real],
}

impl<T: Element> Kernel for Backward<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Self { x, bias, gradient, bias_gradient } = self;
        let width = bias.len();
        for (x, gradient) in x.chunks_exact_mut(width).zip(gradient.chunks_exact(width)) {
            for (((x, gradient), bias), sum) in x.iter_mut().zip(gradient).zip(bias).zip(bias_gradient.iter_mut()) {
                let at = x.load() + *bias;
                let gate = gate(at);
                // d(2u)/dx
                let inner = T::Real::of(TWO_K) * (T::Real::ONE + T::Real::of(3.0 * CUBIC) * at * at);
                let slope = gate + at * gate * (T::Real::ONE - gate) * inner;
                let gradient = gradient.load() * slope;
                *x = T::store(gradient);
                *sum += gradient;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Bf16;
    use proptest::prelude::*;

    fn reference(x: f64) -> f64 {
        0.5 * x * (1.0 + (TWO_K / 2.0 * (x + CUBIC * x.powi(3))).tanh())
    }

    proptest! {
        #[test]
        fn equals_its_definition(x in prop::collection::vec(-9.0_f64..9.0, 40), bias in prop::collection::vec(-2.0_f64..2.0, 20)) {
            let mut out = vec![0.0; 40];
            forward(&x, &bias, &mut out);
            let single: Vec<f32> = x.iter().map(|x| *x as f32).collect();
            let single_bias: Vec<f32> = bias.iter().map(|x| *x as f32).collect();
            let mut single_out = vec![0.0; 40];
            forward(&single, &single_bias, &mut single_out);
            for i in 0..40 {
                let expected = reference(x[i] + bias[i % 20]);
                prop_assert!((out[i] - expected).abs() < 1e-12);
                prop_assert!((f64::from(single_out[i]) - expected).abs() < 2e-6);
            }
        }

        #[test]
        fn gradients_match_finite_differences(x in prop::collection::vec(-6.0_f64..6.0, 20), bias in prop::collection::vec(-2.0_f64..2.0, 10)) {
            let gradient: Vec<f64> = (0..20).map(|i| f64::from(i) - 7.0).collect();
            let (mut found, mut sums) = (x.clone(), vec![1.0; 10]);
            backward(&mut found, &bias, &gradient, &mut sums);
            for i in 0..20 {
                let at = x[i] + bias[i % 10];
                let slope = (reference(at + 1e-6) - reference(at - 1e-6)) / 2e-6;
                prop_assert!((found[i] - gradient[i] * slope).abs() < 1e-6);
            }
            for (i, sum) in sums.iter().enumerate() {
                prop_assert!((sum - 1.0 - found[i] - found[i + 10]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn bf16_results_are_rounded_once() {
        let x = [Bf16::store(1.5), Bf16::store(-0.75)];
        let mut out = [Bf16::default(); 2];
        forward(&x, &[0.25; 2], &mut out);
        assert_eq!(out, [1.75, -0.5].map(|x| Bf16::store(reference(x) as f32)));
    }
}
