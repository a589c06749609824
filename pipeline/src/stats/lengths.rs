//! Distributions of lengths: quantiles and histograms.

use std::collections::BTreeMap;

use serde::Serialize;

/// Maximum number of bars of a histogram.
const MAX_BARS: usize = 16;

/// Counter of lengths. It keeps a count of every distinct length, so that quantiles are exact.
#[derive(Debug, Clone, Default)]
pub(super) struct LengthCounter {
    counts: BTreeMap<usize, usize>,
}

/// Distribution of lengths. All numbers are 0 if nothing was counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// Number of lengths.
    pub count: usize,
    /// Minimum.
    pub min: usize,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: usize,
    /// 90th percentile.
    pub p90: usize,
    /// 99th percentile.
    pub p99: usize,
    /// Maximum.
    pub max: usize,
    /// Bars of equal width, in ascending order.
    pub histogram: Vec<Bar>,
}

/// One bar of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Smallest length in the bar.
    pub from: usize,
    /// Largest length in the bar.
    pub to: usize,
    /// Number of lengths in the bar.
    pub count: usize,
}

impl LengthCounter {
    pub(super) fn add(&mut self, length: usize) {
        *self.counts.entry(length).or_default() += 1;
    }

    pub(super) fn finish(&self) -> Lengths {
        let (Some((&min, _)), Some((&max, _))) = (self.counts.first_key_value(), self.counts.last_key_value()) else {
            return Lengths::default();
        };
        let count: usize = self.counts.values().sum();
        let sum: u128 = self.counts.iter().map(|(&length, &times)| length as u128 * times as u128).sum();
        let mean = sum as f64 / count as f64;
        let [p50, p90, p99] = [50, 90, 99].map(|percent| self.quantile(count, percent));
        Lengths { count, min, mean, p50, p90, p99, max, histogram: self.histogram(min, max) }
    }

    /// Returns the smallest length that `percent` percent of all lengths do not exceed.
    fn quantile(&self, count: usize, percent: usize) -> usize {
        let wanted = (count * percent).div_ceil(100);
        let mut seen = 0;
        let mut lengths = self.counts.iter();
        let found = lengths.find(|&(_, &times)| {
            seen += times;
            seen >= wanted
        });
        found.map_or(0, |(&length, _)| length)
    }

    fn histogram(&self, min: usize, max: usize) -> Vec<Bar> {
        let width = nice_width((max - min + 1).div_ceil(MAX_BARS));
        let first = min / width * width;
        let bars = (max - first) / width + 1;
        let mut histogram: Vec<_> =
            (0..bars).map(|i| Bar { from: first + i * width, to: first + (i + 1) * width - 1, count: 0 }).collect();
        for (&length, &times) in &self.counts {
            histogram[(length - first) / width].count += times;
        }
        histogram
    }
}

/// Returns the smallest of 1, 2, 5, 10, 20, 50, … that is at least `least`, so that bars start at round numbers.
fn nice_width(least: usize) -> usize {
    let mut power = 1;
    loop {
        for step in [1, 2, 5] {
            if power * step >= least {
                return power * step;
            }
        }
        power *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(of: impl IntoIterator<Item = usize>) -> Lengths {
        let mut counter = LengthCounter::default();
        of.into_iter().for_each(|length| counter.add(length));
        counter.finish()
    }

    #[test]
    fn quantiles_equal_those_of_the_sorted_list() {
        let hundred = lengths((1..=100).rev());
        assert_eq!((hundred.min, hundred.p50, hundred.p90, hundred.p99, hundred.max), (1, 50, 90, 99, 100));
        assert!((hundred.mean - 50.5).abs() < 1e-12);
        let three = lengths([7, 3, 3]);
        assert_eq!((three.p50, three.p90, three.p99), (3, 7, 7));
        assert_eq!(lengths([]), Lengths::default());
    }

    #[test]
    fn bars_have_round_bounds_and_cover_all_lengths() {
        let bar = |from, to, count| Bar { from, to, count };
        assert_eq!(lengths([2, 2, 4]).histogram, [bar(2, 2, 2), bar(3, 3, 0), bar(4, 4, 1)]);
        let wide = lengths([13, 19, 20, 99, 412]).histogram;
        assert!(wide.len() <= MAX_BARS + 1);
        assert_eq!((wide[0], wide[1].from, wide[wide.len() - 1].count), (bar(0, 49, 3), 50, 1));
        assert_eq!(wide.iter().map(|bar| bar.count).sum::<usize>(), 5);
    }
}
