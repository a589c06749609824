//! Axes: mapping of values to pixels, and ticks.

/// Larger values are not drawn: their differences may overflow.
const LARGEST: f64 = 1e100;

/// Returns true if a chart can show the value.
#[must_use]
pub fn is_drawable(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// Returns the range of the drawable values; `None` if there are none.
#[must_use]
pub fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|&value| is_drawable(value)).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// An axis that maps values from `low` to `high` to pixels from `from` to `to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Tick spacing, if the ends of the axis are ticks.
    step: Option<f64>,
    from: f64,
    to: f64,
}

impl Scale {
    /// A linear axis over exactly this range; an empty range is widened on both sides.
    #[must_use]
    pub fn linear((low, high): (f64, f64), from: f64, to: f64) -> Self {
        let room = if high > low { 0.0 } else { (low.abs() * 0.1).max(0.5) };
        Self { low: low - room, high: high + room, log: false, step: None, from, to }
    }

    /// A linear axis that starts and ends at a tick, with about `ticks` ticks or fewer.
    #[must_use]
    pub fn nice(range: (f64, f64), ticks: usize, from: f64, to: f64) -> Self {
        let exact = Self::linear(range, from, to);
        let step = step(exact.low, exact.high, ticks);
        // A range that exceeds a tick by a rounding error does not extend to the next one.
        let (low, high) = ((exact.low / step + 1e-9).floor() * step, (exact.high / step - 1e-9).ceil() * step);
        Self { low, high, step: Some(step), ..exact }
    }

    /// A logarithmic axis; the values must be positive.
    #[must_use]
    pub fn logarithmic((low, high): (f64, f64), from: f64, to: f64) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        let room = if high > low { 1.0 } else { 2.0 };
        Self { low: low / room, high: high.max(low) * room, log: true, step: None, from, to }
    }

    /// Maps a value to a pixel.
    #[must_use]
    pub fn position(&self, value: f64) -> f64 {
        let part = match self.log {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + part * (self.to - self.from)
    }

    /// Returns about `most` round values on the axis in ascending order, at least two unless the range is below the precision
    /// of `f64`.
    #[must_use]
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        if self.log {
            let ticks = self.log_ticks(most);
            if ticks.len() >= 2 {
                return ticks;
            }
        }
        if let Some(step) = self.step {
            return self.multiples(step);
        }
        // A coarse step may have fewer than two multiples in the range; then a finer one is used.
        let finer = (most..most + 6).map(|pieces| self.multiples(step(self.low, self.high, pieces)));
        finer.reduce(|found, next| if found.len() >= 2 { found } else { next }).unwrap_or_default()
    }

    /// Returns the multiples of `step` on the axis.
    fn multiples(&self, step: f64) -> Vec<f64> {
        let slack = step * 1e-9;
        let (first, last) = (((self.low - slack) / step).ceil(), ((self.high + slack) / step).floor());
        if last < first {
            return Vec::new();
        }
        // Division by the inverse of a small step rounds once: 3 / 10 instead of 3 * 0.1.
        let inverse = (1.0 / step).round();
        let at = |number: f64| if step < 1.0 && (inverse * step - 1.0).abs() < 1e-9 { number / inverse } else { number * step };
        (0..=(last - first) as usize).map(|number| at(first + number as f64)).collect()
    }

    fn log_ticks(&self, most: usize) -> Vec<f64> {
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let inside = |&value: &f64| value >= self.low * (1.0 - 1e-9) && value <= self.high * (1.0 + 1e-9);
        let of = |digits: &'static [f64]| {
            decades.clone().flat_map(move |decade| digits.iter().map(move |digit| power(*digit, decade)))
        };
        let dense: Vec<f64> = of(&[1.0, 2.0, 5.0]).filter(inside).collect();
        if dense.len() <= most {
            return dense;
        }
        let whole: Vec<f64> = of(&[1.0]).filter(inside).collect();
        let every = whole.len().div_ceil(most.max(2)).max(1);
        whole.into_iter().step_by(every).collect()
    }
}

/// Returns `digit` times ten to the power of `decade`, rounded once.
fn power(digit: f64, decade: i32) -> f64 {
    if decade < 0 { digit / 10_f64.powi(-decade) } else { digit * 10_f64.powi(decade) }
}

/// Returns the smallest of …, 1, 2, 5, 10, … that divides the range into at most `most` pieces.
fn step(low: f64, high: f64, most: usize) -> f64 {
    let least = (high - low) / most.max(1) as f64;
    if !(least > 0.0 && least.is_finite()) {
        return 1.0;
    }
    let decade = least.log10().floor() as i32;
    let candidates = [1.0, 2.0, 5.0, 10.0].map(|digit| power(digit, decade));
    candidates.into_iter().find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(candidates[3])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(Scale::nice((0.3, 2.9), 5, 0.0, 1.0).ticks(5), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(Scale::linear((0.0, 0.3), 0.0, 1.0).ticks(3), [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(Scale::linear((7.0, 7.0), 0.0, 1.0).ticks(4), [6.5, 7.0, 7.5]);
        assert_eq!(Scale::logarithmic((1.0, 1000.0), 0.0, 1.0).ticks(5), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(Scale::logarithmic((0.5, 4.0), 0.0, 1.0).ticks(5), [0.5, 1.0, 2.0]);
        assert_eq!(Scale::logarithmic((3.1, 3.4), 0.0, 1.0).ticks(4), [3.1, 3.2, 3.3, 3.4]);
    }

    #[test]
    fn values_that_cannot_be_drawn_are_ignored() {
        assert_eq!(extent([f64::NAN, 2.0, f64::INFINITY, 1.0, 1e200]), Some((1.0, 2.0)));
        assert_eq!(extent([f64::NAN]), None);
    }

    fn range() -> impl Strategy<Value = (f64, f64)> {
        let number = prop_oneof![-10.0..10.0_f64, -1e9..1e9_f64, -1e-6..1e-6_f64, Just(0.0)];
        (number.clone(), number).prop_map(|(a, b)| (a.min(b), a.max(b)))
    }

    proptest! {
        #[test]
        fn linear_axes((low, high) in range(), most in 2_usize..12, nice: bool) {
            prop_assume!(low == high || high - low > 1e-6 * high.abs().max(low.abs()));
            let scale = if nice { Scale::nice((low, high), most, 10.0, 110.0) } else { Scale::linear((low, high), 10.0, 110.0) };
            let ticks = scale.ticks(most);
            prop_assert!((2..=most + 3).contains(&ticks.len()), "{:?}", ticks);
            prop_assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", ticks);
            let inside = |value: f64| (9.99..=110.01).contains(&scale.position(value));
            prop_assert!(ticks.iter().all(|&tick| inside(tick)) && inside(low) && inside(high), "{:?}", ticks);
        }

        #[test]
        fn logarithmic_axes(low in 1e-9..1e9_f64, factor in prop_oneof![1.0..3.0_f64, 1.0..1e12_f64], most in 2_usize..9) {
            let scale = Scale::logarithmic((low, low * factor), 200.0, 0.0);
            prop_assume!(factor == 1.0 || factor > 1.0001);
            let ticks = scale.ticks(most);
            prop_assert!((1..=most + 3).contains(&ticks.len()), "{:?}", ticks);
            prop_assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", ticks);
            let inside = |value: f64| (-0.01..=200.01).contains(&scale.position(value));
            prop_assert!(ticks.iter().all(|&tick| inside(tick)) && inside(low), "{:?}", ticks);
        }

        #[test]
        fn positions_increase_with_values((low, high) in range(), a in 0.0..1.0_f64, b in 0.0..1.0_f64) {
            prop_assume!(high > low && a < b);
            let scale = Scale::linear((low, high), 0.0, 100.0);
            prop_assert!(scale.position(low + a * (high - low)) <= scale.position(low + b * (high - low)));
        }
    }
}
