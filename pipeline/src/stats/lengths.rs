//! How often each length occurs, and what follows from that.

use std::collections::BTreeMap;

use serde::Serialize;

/// Most bars of a histogram.
const MAX_BARS: usize = 16;

/// Counts lengths. There are few distinct ones, so every one is kept and the quantiles are exact.
#[derive(Debug, Clone, Default)]
pub(super) struct LengthCounter {
    counts: BTreeMap<usize, usize>,
}

/// What is said about lengths. All are 0 where nothing was counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// How many there are.
    pub count: usize,
    /// The shortest.
    pub min: usize,
    /// The mean.
    pub mean: f64,
    /// Half of all are no longer.
    pub p50: usize,
    /// Nine tenths of all are no longer.
    pub p90: usize,
    /// 99 of 100 are no longer.
    pub p99: usize,
    /// The longest.
    pub max: usize,
    /// Bars of equal width, the first one with the shortest.
    pub histogram: Vec<Bar>,
}

/// One bar of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// The shortest length that falls into it.
    pub from: usize,
    /// The longest length that falls into it.
    pub to: usize,
    /// How many fall into it.
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

    /// The shortest length that `percent` of 100 do not exceed.
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

/// The next of 1, 2, 5, 10, 20, 50, … : bars that begin at round numbers are easier to read.
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
    fn quantiles_are_those_of_the_sorted_list() {
        let hundred = lengths((1..=100).rev());
        assert_eq!((hundred.min, hundred.p50, hundred.p90, hundred.p99, hundred.max), (1, 50, 90, 99, 100));
        assert!((hundred.mean - 50.5).abs() < 1e-12);
        let three = lengths([7, 3, 3]);
        assert_eq!((three.p50, three.p90, three.p99), (3, 7, 7));
        assert_eq!(lengths([]), Lengths::default());
    }

    #[test]
    fn bars_have_round_bounds_and_hold_everything() {
        let bar = |from, to, count| Bar { from, to, count };
        assert_eq!(lengths([2, 2, 4]).histogram, [bar(2, 2, 2), bar(3, 3, 0), bar(4, 4, 1)]);
        let wide = lengths([13, 19, 20, 99, 412]).histogram;
        assert!(wide.len() <= MAX_BARS + 1);
        assert_eq!((wide[0], wide[1].from, wide[wide.len() - 1].count), (bar(0, 49, 3), 50, 1));
        assert_eq!(wide.iter().map(|bar| bar.count).sum::<usize>(), 5);
    }
}
