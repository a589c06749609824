//! Matrix products with few rows, as in generation, where the weights are read once and everything else stays in the cache.
//!
//! Libraries for large products first copy the weights into another order, which takes longer than the product itself.

use crate::number::{Element, LANES, Real};
use crate::simd::{self, Kernel};

/// Outputs that are computed together, so that their sums do not wait for each other.
const TOGETHER: usize = 4;
// The sums below halve this number down to four.
const _: () = assert!(LANES == 16);

/// `out[row] = x[row] · weight[0..]ᵀ` for each row of `x`, some elements of each row of the product: `x` is `[rows, width]`, `weight`
/// `[outputs, width]`, and `out` has for each row of `x` a slice of `outputs` elements.
///
/// # Panics
/// If lengths do not match.
pub fn product<T: Element>(x: &[T], width: usize, weight: &[T], out: &mut [&mut [T]]) {
    assert!(width > 0 && x.len() == width * out.len() && weight.len().is_multiple_of(width), "unequal widths");
    assert!(out.iter().all(|row| row.len() * width == weight.len()), "unequal numbers of outputs");
    simd::run(Product { x, width, weight, out });
}

struct Product<'a, 'b, T> {
    x: &'a [T],
    width: usize,
    weight: &'a [T],
    out: &'a mut [&'b mut [T]],
}

impl<T: Element> Kernel for Product<'_, '_, T> {
    #[inline(always)]
    fn run(self) {
        let Self { x, width, weight, out } = self;
        for (group, weights) in weight.chunks(TOGETHER * width).enumerate() {
            let first = group * TOGETHER;
            for (x, out) in x.chunks_exact(width).zip(out.iter_mut()) {
                if weights.len() == TOGETHER * width {
                    let sums = dots(x, parts::<T, TOGETHER>(weights, width));
                    for (out, sum) in out[first..first + TOGETHER].iter_mut().zip(sums) {
                        *out = T::store(sum);
                    }
                } else {
                    for (out, weights) in out[first..].iter_mut().zip(weights.chunks_exact(width)) {
                        let [sum] = dots(x, [weights]);
                        *out = T::store(sum);
                    }
                }
            }
        }
    }
}

/// The first `N` vectors of `width` elements.
#[inline(always)]
pub(crate) fn parts<T, const N: usize>(vectors: &[T], width: usize) -> [&[T]; N] {
    std::array::from_fn(|i| &vectors[i * width..(i + 1) * width])
}

/// Dot products of `x` with some vectors of its length. Each is summed in the same order, whatever the others are.
#[inline(always)]
pub(crate) fn dots<A: Element, B: Element<Real = A::Real>, const N: usize>(x: &[A], others: [&[B]; N]) -> [A::Real; N] {
    // Arrays that are returned by value stay in registers.
    let mut lanes = [[A::Real::ZERO; LANES]; N];
    let (chunks, rest) = x.as_chunks::<LANES>();
    let others = others.map(|other| other[..x.len()].as_chunks::<LANES>());
    for (at, x) in chunks.iter().enumerate() {
        for (lanes, (others, _)) in lanes.iter_mut().zip(&others) {
            let (before, other) = (*lanes, &others[at]);
            *lanes = std::array::from_fn(|lane| before[lane] + x[lane].load() * other[lane].load());
        }
    }
    let mut sums = [A::Real::ZERO; N];
    for (sum, (lanes, (_, others))) in sums.iter_mut().zip(lanes.iter().zip(&others)) {
        // Halves are added as vectors.
        let lanes: [_; 8] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 8]);
        let lanes: [_; 4] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 4]);
        *sum = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
        for (x, other) in rest.iter().zip(*others) {
            *sum += x.load() * other.load();
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Bf16;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_its_definition(rows in 0_usize..5, width in 1_usize..70, outputs in 0_usize..11, seed in 0_u32..1000) {
            let number = |i: usize| f64::from((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) % 1000) / 500.0 - 1.0;
            let x: Vec<f64> = (0..rows * width).map(number).collect();
            let weight: Vec<f64> = (0..outputs * width).map(|i| number(i + 7777)).collect();
            let mut values = vec![0.0; rows * outputs];
            let mut out: Vec<&mut [f64]> = values.chunks_mut(outputs.max(1)).collect();
            out.truncate(rows);
            prop_assume!(outputs > 0 || rows == 0);
            product(&x, width, &weight, &mut out);
            for row in 0..rows {
                for output in 0..outputs {
                    let exact: f64 = (0..width).map(|i| x[row * width + i] * weight[output * width + i]).sum();
                    prop_assert!((values[row * outputs + output] - exact).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn an_output_does_not_depend_on_the_others() {
        let width = 37;
        let x: Vec<f32> = (0..2 * width).map(|i| (i as f32).sin()).collect();
        let weight: Vec<f32> = (0..9 * width).map(|i| (i as f32 * 0.7).cos()).collect();
        let run = |x: &[f32], weight: &[f32]| {
            let mut values = vec![0.0; x.len() / width * (weight.len() / width)];
            product(x, width, weight, &mut values.chunks_mut(weight.len() / width).collect::<Vec<_>>());
            values
        };
        let all = run(&x, &weight);
        for output in 0..9 {
            let alone = run(&x[width..], &weight[output * width..(output + 1) * width]);
            assert_eq!(alone[0].to_bits(), all[9 + output].to_bits());
        }
    }

    #[test]
    fn bf16_is_summed_in_fp32() {
        let x = vec![Bf16::store(1.0); 512];
        let mut out = [Bf16::default()];
        product(&x, 512, &x, &mut [&mut out[..]]);
        assert_eq!(out[0].load(), 512.0, "bf16 would stop at 256");
    }
}
