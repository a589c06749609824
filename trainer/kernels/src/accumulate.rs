//! Accumulation of gradients in higher precision than they were computed in.

use crate::number::{Element, Real, sum};
use crate::simd::{self, Kernel};

/// `total += values`.
///
/// # Panics
/// If the lengths differ.
pub fn add<T: Element>(total: &mut [T::Real], values: &[T]) {
    assert_eq!(total.len(), values.len());
    simd::run(Add { total, values });
}

struct Add<'a, T: Element> {
    total: &'a mut [T::Real],
    values: &'a [T],
}

impl<T: Element> Kernel for Add<'_, T> {
    #[inline(always)]
    fn run(self) {
        for (total, value) in self.total.iter_mut().zip(self.values) {
            *total += value.load();
        }
    }
}

/// Adds the sum over all rows of `values` to `total`. A row has `total.len()` elements.
///
/// # Panics
/// If the length of `values` is not a multiple of the row length.
pub fn add_rows<T: Element>(total: &mut [T::Real], values: &[T]) {
    assert!(values.len().is_multiple_of(total.len()), "incomplete row");
    simd::run(AddRows { total, values });
}

struct AddRows<'a, T: Element> {
    total: &'a mut [T::Real],
    values: &'a [T],
}

impl<T: Element> Kernel for AddRows<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Self { total, values } = self;
        for row in values.chunks_exact(total.len()) {
            for (total, value) in total.iter_mut().zip(row) {
                *total += value.load();
            }
        }
    }
}

/// Returns the sum of squares. Blocks are summed in the elements' own precision, and their sums in 64 bits.
pub fn squares<T: Element>(values: &[T]) -> f64 {
    let mut total = 0.0;
    simd::run(Squares { values, total: &mut total });
    total
}

struct Squares<'a, T> {
    values: &'a [T],
    total: &'a mut f64,
}

impl<T: Element> Kernel for Squares<'_, T> {
    #[inline(always)]
    fn run(self) {
        // Short enough to keep the rounding error of a sum over 16 lanes negligible.
        for block in self.values.chunks(4096) {
            let square = |i: usize| block[i].load() * block[i].load();
            *self.total += sum(block.len(), square).wide();
        }
    }
}

/// Adds the partial sums of several tasks to `total`, in the order of the tasks.
pub fn add_parts<R: Real>(total: &mut [R], parts: &[Vec<R>]) {
    for part in parts {
        for (total, value) in total.iter_mut().zip(part) {
            *total += *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Bf16;

    #[test]
    fn small_numbers_are_not_lost() {
        let mut total = vec![1.0_f32; 3];
        for _ in 0..100 {
            add(&mut total, &[Bf16::store(0.001_953_125); 3]);
        }
        assert_eq!(total, [1.195_312_5; 3]);
    }

    #[test]
    fn sum_of_many_equal_squares_is_exact() {
        // A plain 32-bit sum would stop growing at 2²⁴ times an addend.
        let values = vec![1.0_f32; (1 << 24) + 4096];
        assert_eq!(squares(&values), 16_781_312.0);
        assert_eq!(squares(&[3.0, 4.0]), 25.0);
        assert!(squares(&[1.0, f32::NAN]).is_nan());
    }

    #[test]
    fn rows_are_summed() {
        let mut total = vec![1.0, 2.0];
        add_rows(&mut total, &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        add_parts(&mut total, &[vec![0.5, 0.0], vec![0.25, 1.0]]);
        assert_eq!(total, [7.75, 63.0]);
    }
}
