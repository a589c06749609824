//! The dynamic loss scale of half-precision training.

use serde::{Deserialize, Serialize};

/// Multiplies the loss so that small gradients survive 16 bits; adapts by watching for overflow, as Megatron does.
///
/// An overflow uses up hysteresis and, once that is gone, divides the scale; `window` steps without one multiply it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    scale: f64,
    factor: f64,
    window: u32,
    hysteresis: u32,
    floor: f64,
    hysteresis_left: u32,
    steps_since_overflow: u32,
}

impl LossScale {
    /// A scale that starts at `start` and adapts by `factor`, never below `floor`.
    pub fn dynamic(start: f64, factor: f64, window: u32, hysteresis: u32, floor: f64) -> Self {
        Self { scale: start, factor, window, hysteresis, floor, hysteresis_left: hysteresis, steps_since_overflow: 0 }
    }

    /// No scaling: for formats with the range of 32 bits.
    pub fn off() -> Self {
        Self::dynamic(1.0, 1.0, u32::MAX, 1, 1.0)
    }

    /// What the loss is multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Whether it adapts at all.
    pub fn is_dynamic(&self) -> bool {
        self.factor != 1.0
    }

    /// Whether an overflow would find it unable to shrink.
    pub fn is_at_floor(&self) -> bool {
        self.scale <= self.floor
    }

    /// Scale, steps since an overflow, and hysteresis left.
    pub(super) fn state(&self) -> (f64, f64, f64) {
        (self.scale, self.steps_since_overflow.into(), self.hysteresis_left.into())
    }

    /// Factor, window, hysteresis and floor.
    pub(super) fn rules(&self) -> (f64, f64, f64, f64) {
        (self.factor, self.window.into(), self.hysteresis.into(), self.floor)
    }

    /// Takes note of a step, `overflowed` if a gradient was not finite.
    pub fn update(&mut self, overflowed: bool) {
        if overflowed {
            self.steps_since_overflow = 0;
            if self.hysteresis_left <= 1 {
                self.scale = (self.scale / self.factor).max(self.floor);
            } else {
                self.hysteresis_left -= 1;
            }
            return;
        }
        self.steps_since_overflow = self.steps_since_overflow.saturating_add(1);
        if self.steps_since_overflow == self.window {
            self.steps_since_overflow = 0;
            self.hysteresis_left = self.hysteresis;
            self.scale *= self.factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_halves_once_the_hysteresis_is_used_up_and_a_window_doubles() {
        let mut scale = LossScale::dynamic(16.0, 2.0, 3, 2, 1.0);
        scale.update(true);
        assert_eq!(scale.scale(), 16.0, "the first overflow is forgiven");
        scale.update(true);
        assert_eq!(scale.scale(), 8.0);
        scale.update(true);
        assert_eq!(scale.scale(), 4.0, "hysteresis comes back with a good window only");
        (0..3).for_each(|_| scale.update(false));
        assert_eq!(scale.scale(), 8.0);
        scale.update(true);
        assert_eq!(scale.scale(), 8.0);
    }

    #[test]
    fn never_below_the_floor() {
        let mut scale = LossScale::dynamic(2.0, 2.0, 3, 1, 1.0);
        assert!(!scale.is_at_floor());
        (0..9).for_each(|_| scale.update(true));
        assert_eq!((scale.scale(), scale.is_at_floor()), (1.0, true));
    }

    #[test]
    fn off_stays_one() {
        let mut scale = LossScale::off();
        (0..9).for_each(|i| scale.update(i % 2 == 0));
        assert_eq!(scale.scale(), 1.0);
    }
}
