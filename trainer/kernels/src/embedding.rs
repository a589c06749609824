//! Sum of the rows of three embedding tables, with dropout, and the gradients of the tables.

use std::ops::Range;

use crate::dropout::{Dropout, Site};
use crate::number::Element;
use crate::simd::{self, Kernel};

/// Embedding table and the row index of each token.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a, R> {
    /// `[rows, width]`.
    pub table: &'a [R],
    /// Row index of each token.
    pub rows: &'a [i64],
}

/// `out = dropout(sum of the tables' rows)`, `[tokens, width]`.
///
/// # Panics
/// If lengths do not match, or a row index is out of range.
pub fn forward<T: Element>(lookups: [Lookup<'_, T::Real>; 3], width: usize, keys: &[u64], site: Site, out: &mut [T]) {
    assert!(out.len() == keys.len() * width && lookups.iter().all(|lookup| lookup.rows.len() == keys.len()), "unequal rows");
    simd::run(Forward { lookups, width, keys, site, out });
}

struct Forward<'a, T: Element> {
    lookups: [Lookup<'a, T::Real>; 3],
    width: usize,
    keys: &'a [u64],
    site: Site,
    out: &'a mut [T],
}

impl<T: Element> Kernel for Forward<'_, T> {
    #[inline(always)]
    fn run(self) {
        let width = self.width;
        for (token, out) in self.out.chunks_exact_mut(width).enumerate() {
            let [a, b, c] = self.lookups.map(|lookup| &lookup.table[lookup.rows[token] as usize * width..][..width]);
            let dropout: Dropout<T::Real> = self.site.row(self.keys[token]);
            for ((((out, a), b), c), i) in out.iter_mut().zip(a).zip(b).zip(c).zip(0_u32..) {
                *out = T::store((*a + *b + *c) * dropout.factor(i));
            }
        }
    }
}

/// Gradients of a range of a table's rows.
#[derive(Debug)]
pub struct TableGradient<'a, R> {
    /// Range of rows.
    pub rows: Range<usize>,
    /// Accumulated gradients of these rows, `[rows, width]`.
    pub gradient: &'a mut [R],
    /// Row index of each token in the whole table.
    pub taken: &'a [i64],
}

/// Adds the gradients of the tokens whose row is in the range, in the order of the tokens.
///
/// # Panics
/// If lengths do not match.
pub fn backward<T: Element>(part: TableGradient<'_, T::Real>, width: usize, keys: &[u64], site: Site, out_gradient: &[T]) {
    assert!(out_gradient.len() == keys.len() * width && part.taken.len() == keys.len(), "unequal rows");
    assert_eq!(part.gradient.len(), part.rows.len() * width);
    simd::run(Backward { part, width, keys, site, out_gradient });
}

struct Backward<'a, T: Element> {
    part: TableGradient<'a, T::Real>,
    width: usize,
    keys: &'a [u64],
    site: Site,
    out_gradient: &'a [T],
}

impl<T: Element> Kernel for Backward<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Self { part, width, keys, site, out_gradient } = self;
        for ((row, gradient), key) in part.taken.iter().zip(out_gradient.chunks_exact(width)).zip(keys) {
            let row = *row as usize;
            if !part.rows.contains(&row) {
                continue;
            }
            let dropout: Dropout<T::Real> = site.row(*key);
            let total = &mut part.gradient[(row - part.rows.start) * width..][..width];
            for ((total, gradient), i) in total.iter_mut().zip(gradient).zip(0_u32..) {
                *total += gradient.load() * dropout.factor(i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_summed_and_receive_their_gradients() {
        let table: Vec<f64> = (0..8).map(f64::from).collect();
        let (first, second, third) = ([0, 3, 0], [1, 1, 2], [0, 0, 3]);
        let lookups = [&first, &second, &third].map(|rows| Lookup { table: &table, rows });
        let keys = [1, 2, 3];
        let mut out = vec![0.0; 6];
        forward(lookups, 2, &keys, Site::NONE, &mut out);
        assert_eq!(out, [2.0, 5.0, 8.0, 11.0, 10.0, 13.0]);

        let site = Site { key: 9, rate: 0.5 };
        let ones = vec![1.0; 6];
        let mut dropped = vec![0.0; 6];
        forward(lookups.map(|lookup| Lookup { table: &[1.0; 8], ..lookup }), 2, &keys, site, &mut dropped);
        let mut gradient = vec![0.0; 4];
        let part = TableGradient { rows: 0..2, gradient: &mut gradient, taken: &first };
        backward(part, 2, &keys, site, &ones);
        // Tokens 0 and 2 use row 0, no token uses row 1; both passes drop the same elements.
        assert_eq!(gradient, [(dropped[0] + dropped[4]) / 3.0, (dropped[1] + dropped[5]) / 3.0, 0.0, 0.0]);
    }
}
