//! Dropout without a stored mask: whether an element is dropped is a hash of a key and the element's index.
//!
//! A key belongs to one place of the model and one row of one sample, so what is dropped does not depend on what a sample
//! is packed with, nor on threads or ranks, and the backward pass asks again instead of remembering.

use crate::number::Real;

/// What is dropped along one row of numbers.
#[derive(Debug, Clone, Copy)]
pub struct Dropout<R> {
    offset: u32,
    factor: u32,
    limit: u32,
    scale: R,
}

/// What SplitMix64 adds to its state each time, 2⁶⁴ over the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: a bijection in which every bit of `x` flips each bit of the result with a chance of about one half.
///
/// 0 stays 0, so that a consumer mixes its seed in before it draws.
#[must_use]
#[inline(always)]
pub const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Share of elements that a [`Dropout`] drops, and where: one a layer and branch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site {
    /// Tells this place of the model and this run from others.
    pub key: u64,
    /// Probability that an element is dropped, at least 0 and below 1.
    pub rate: f64,
}

impl Site {
    /// A place where nothing is dropped.
    pub const NONE: Self = Self { key: 0, rate: 0.0 };

    /// Whether anything is dropped.
    pub fn drops(&self) -> bool {
        self.rate > 0.0
    }

    /// What is dropped along the row with this key.
    #[inline(always)]
    pub fn row<R: Real>(&self, key: u64) -> Dropout<R> {
        let mixed = mix(self.key.wrapping_add(GOLDEN) ^ key);
        // Of 2³² equally likely values, those below the limit are dropped.
        let limit = (self.rate * 4_294_967_296.0) as u32;
        Dropout { offset: mixed as u32, factor: (mixed >> 32) as u32 | 1, limit, scale: R::of(1.0 / (1.0 - self.rate)) }
    }
}

impl<R: Real> Dropout<R> {
    /// What element `index` is multiplied by: 0, or 1 / (1 - rate).
    ///
    /// The hash is two rounds of multiplication and shift; key and multiplier come from 64 mixed bits, so that no two rows
    /// draw shifted copies of the same numbers.
    #[inline(always)]
    pub fn factor(&self, index: u32) -> R {
        let x = index.wrapping_add(self.offset);
        let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        let x = (x ^ (x >> 15)).wrapping_mul(self.factor);
        let x = (x ^ (x >> 16)).wrapping_mul(0x846c_a68b);
        let x = x ^ (x >> 15);
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
    fn mix_is_the_published_finaliser() {
        // SplitMix64 seeded with 0 and 1: its state advances by the golden ratio and goes through the finaliser.
        assert_eq!(mix(GOLDEN), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(GOLDEN.wrapping_mul(2)), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(mix(0), 0);
    }

    #[test]
    fn the_share_is_as_asked_for_every_key() {
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
    fn neighbours_know_nothing_of_each_other() {
        let site = Site { key: 1, rate: 0.5 };
        let n = 20_000;
        let agree = |a: &[bool], b: &[bool]| {
            let same = a.iter().zip(b).filter(|(a, b)| a == b).count() as f64;
            (same - a.len() as f64 / 2.0) / (a.len() as f64 / 4.0).sqrt()
        };
        for key in 0..200 {
            let row = mask(site, key, n);
            for shift in [1, 2, 16, 64, 768] {
                assert!(agree(&row[shift..], &row[..row.len() - shift]).abs() < 5.5, "key {key}, shift {shift}");
            }
            assert!(agree(&row, &mask(site, key + 1, n)).abs() < 5.5, "next key of {key}");
            assert!(agree(&row, &mask(Site { key: 2, ..site }, key, n)).abs() < 5.5, "next site, key {key}");
        }
    }

    #[test]
    fn what_stays_is_scaled() {
        let row = Site { key: 3, rate: 0.2 }.row::<f64>(9);
        assert!((0..100).all(|i| row.factor(i) == 0.0 || row.factor(i) == 1.25));
        assert_eq!(Site::NONE.row::<f32>(9).factor(5), 1.0);
    }
}
