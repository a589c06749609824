//! Random draws of one sample: a sequence of numbers that is a function of the sample's key and of what they are for.
//!
//! The published code seeds two generators per batch, so that what is masked depends on the batch size, the number of ranks and,
//! after a resumption, on the step. Here nothing but the sample decides.

use crate::batch::key::mix;

/// Purpose of random numbers. Each purpose has a sequence of its own, so that a change in the use of one leaves the others alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Part of a long document.
    Window = 1,
    /// Objective, and whether the sample is cut into short pieces.
    Objective,
    /// Short pieces.
    Pieces,
    /// Spans.
    Spans,
    /// Hidden tokens of spans.
    Hidden,
}

/// A sequence of random numbers: SplitMix64, whose number `n` is a function of its key and `n` alone.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    state: u64,
}

impl Draws {
    /// The sequence of a sample's key for a use, for row `row` of the sample.
    pub(super) fn new(key: u64, used_for: Use, row: usize) -> Self {
        Self { state: mix(mix(key ^ mix(used_for as u64)) ^ row as u64) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A uniform number below `n`; 0 for `n` = 0. The bias is below `n` / 2⁶⁴.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A uniform number in `0.0..1.0`.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    /// Puts items into a random order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_and_independent_of_other_uses() {
        let mut draws = Draws::new(7, Use::Spans, 0);
        let mut counts = [0; 6];
        for _ in 0..60_000 {
            counts[draws.below(6)] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        let first = |used_for, row| Draws::new(7, used_for, row).next();
        let all = [first(Use::Spans, 0), first(Use::Spans, 1), first(Use::Hidden, 0), first(Use::Window, 0)];
        assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])));
        assert_eq!((draws.below(0), draws.below(1)), (0, 0));
        assert!(draws.chance(1.0) && !draws.chance(0.0));
        let mut items = [0, 1, 2, 3, 4];
        draws.shuffle(&mut items);
        items.sort_unstable();
        assert_eq!(items, [0, 1, 2, 3, 4]);
    }
}
