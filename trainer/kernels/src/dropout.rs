//! Dropout without a stored mask: a hash of a key and the element's index decides if the element is dropped.
//!
//! A key identifies one dropout layer and one row of one sample. The dropped elements therefore do not depend on packing,
//! threads or ranks, and the backward pass recomputes the mask.

use crate::number::Real;

/// Dropout mask of one row.
#[derive(Debug, Clone, Copy)]
pub struct Dropout<R> {
    offset: u32,
    factor: u32,
    limit: u32,
    scale: R,
}

/// Increment of SplitMix64's state: 2⁶⁴ divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: a bijection in which every bit of `x` flips each bit of the result with a probability of
/// about one half.
///
/// 0 is mapped to 0, so callers must mix in a seed first.
#[must_use]
#[inline(always)]
pub const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A dropout layer of the model: one per block and branch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site {
    /// Key of this layer in this run and step.
    pub key: u64,
    /// Probability that an element is dropped, in `0.0..1.0`.
    pub rate: f64,
}

impl Site {
    /// No dropout.
    pub const NONE: Self = Self { key: 0, rate: 0.0 };

    /// Returns true if the dropout rate is above zero.
    pub fn drops(&self) -> bool {
        self.rate > 0.0
    }

    /// An element is dropped if its 32-bit hash is below this limit.
    #[inline(always)]
    pub fn limit(&self) -> u32 {
        (self.rate * 4_294_967_296.0) as u32
    }

    /// Factor of the elements that are not dropped.
    #[inline(always)]
    pub fn keep_scale(&self) -> f64 {
        1.0 / (1.0 - self.rate)
    }

    /// Returns the mask of the row with this key.
    #[inline(always)]
    pub fn row<R: Real>(&self, key: u64) -> Dropout<R> {
        let mixed = mix(self.key.wrapping_add(GOLDEN) ^ key);
        let (offset, factor) = (mixed as u32, (mixed >> 32) as u32 | 1);
        Dropout { offset, factor, limit: self.limit(), scale: R::of(self.keep_scale()) }
    }
}

impl<R: Real> Dropout<R> {
    /// Returns the factor of element `index`: 0 if it is dropped, otherwise `1 / (1 - rate)`.
    ///
    /// Two multiplications are enough because offset and multiplier come from 64 mixed bits and the comparison looks at the high
    /// bits. The GPU kernels (`cuda/dropout.py`) compute the same, and a third multiplication would slow down their attention
    /// by 12 to 20 %.
    #[inline(always)]
    pub fn factor(&self, index: u32) -> R {
        let x = (index ^ self.offset).wrapping_mul(self.factor);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        if x < self.limit { R::ZERO } else { self.scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(site: Site, key: u64, n: u32) -> Vec<bool> {
        let row = site.row::<f64>(key);
        (0..n).map(|i| row.factor(i) == 0.0).collect()
    }

    #[test]
    fn mix_is_the_published_finalizer() {
        // The first two outputs of SplitMix64 with seed 0.
        assert_eq!(mix(GOLDEN), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(GOLDEN.wrapping_mul(2)), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(mix(0), 0);
    }

    #[test]
    fn every_key_drops_the_given_share() {
        for rate in [0.1, 0.5, 0.9] {
            let n = 4096.0;
            let mut total = 0.0;
            for key in 0..500 {
                let site = Site { key: 7, rate };
                let dropped = mask(site, key, 4096).iter().filter(|dropped| **dropped).count() as f64;
                let deviations = (dropped - n * rate) / (n * rate * (1.0 - rate)).sqrt();
                assert!(deviations.abs() < 5.5, "key {key}: {deviations} standard deviations");
                total += deviations * deviations;
            }
            // Chi squared with 500 degrees of freedom: mean 500, standard deviation 32.
            assert!((total - 500.0).abs() < 200.0, "rate {rate}: {total}");
        }
    }

    #[test]
    fn masks_of_neighbouring_rows_are_independent() {
        let site = Site { key: 1, rate: 0.5 };
        let n = 20_000;
        let correlation = |a: &[bool], b: &[bool]| {
            let same = a.iter().zip(b).filter(|(a, b)| a == b).count() as f64;
            (same - a.len() as f64 / 2.0) / (a.len() as f64 / 4.0).sqrt()
        };
        for key in 0..200 {
            let row = mask(site, key, n);
            for shift in [1, 2, 16, 64, 768] {
                assert!(correlation(&row[shift..], &row[..row.len() - shift]).abs() < 5.5, "key {key}, shift {shift}");
            }
            assert!(correlation(&row, &mask(site, key + 1, n)).abs() < 5.5, "next key of {key}");
            assert!(correlation(&row, &mask(Site { key: 2, ..site }, key, n)).abs() < 5.5, "next site, key {key}");
        }
    }

    #[test]
    fn kept_elements_are_scaled() {
        let row = Site { key: 3, rate: 0.2 }.row::<f64>(9);
        assert!((0..100).all(|i| row.factor(i) == 0.0 || row.factor(i) == 1.25));
        assert_eq!(Site::NONE.row::<f32>(9).factor(5), 1.0);
    }
}
