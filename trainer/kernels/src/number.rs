//! Storage types and the types used for arithmetic.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Sub, SubAssign};

/// Number of partial sums in a reduction. It is fixed so that results are the same on every machine.
pub(crate) const LANES: usize = 16;

/// A floating-point type used for arithmetic.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity.
    const MINUS_INFINITY: Self;
    /// Rounds `value` to the nearest number of this type.
    fn of(value: f64) -> Self;
    /// Converts to 64 bits.
    fn wide(self) -> f64;
    /// Exponential function, accurate to rounding. NaN gives NaN.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
}

/// An element type for storage.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Type used for arithmetic.
    type Real: Real + Element<Real = Self::Real>;
    /// Converts to the arithmetic type.
    fn load(self) -> Self::Real;
    /// Rounds to the nearest number of the storage type.
    fn store(value: Self::Real) -> Self;
}

/// bfloat16: the upper 16 bits of an `f32`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Element for f32 {
    type Real = f32;
    #[inline(always)]
    fn load(self) -> f32 {
        self
    }
    #[inline(always)]
    fn store(value: f32) -> f32 {
        value
    }
}

impl Element for f64 {
    type Real = f64;
    #[inline(always)]
    fn load(self) -> f64 {
        self
    }
    #[inline(always)]
    fn store(value: f64) -> f64 {
        value
    }
}

impl Element for Bf16 {
    type Real = f32;
    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
    #[inline(always)]
    fn store(value: f32) -> Self {
        let bits = value.to_bits();
        // Round to nearest, ties to even. Rounding would turn some NaNs into numbers, so NaN is a separate case.
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        Self(if value.is_nan() { 0x7fc0 } else { rounded as u16 })
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const MINUS_INFINITY: Self = f64::NEG_INFINITY;
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const MINUS_INFINITY: Self = f32::NEG_INFINITY;
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }

    /// `eˣ = 2ⁿ eʳ` with `n = round(x / ln 2)`, and a polynomial of degree 6 for `eʳ`, `|r| <= ln 2 / 2`. It is free of
    /// branches so that loops over it are vectorized.
    #[inline(always)]
    fn exp(self) -> Self {
        // Adding 1.5 · 2²³ rounds to an integer, which is then in the low bits; subtracting it gives the rounded number.
        const ROUND: f32 = 12_582_912.0;
        // ln 2 as a sum of two numbers. The first has few bits, so that its product with n is exact.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // The result would be subnormal below this range and infinite above.
        let x = if self < -87.3 { -87.3 } else { self };
        let x = if x > 88.7 { 88.7 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * LN2_HIGH - n * LN2_LOW;
        let p = r * (1.0 / 720.0) + 1.0 / 120.0;
        let p = p * r + 1.0 / 24.0;
        let p = p * r + 1.0 / 6.0;
        let p = p * r + 0.5;
        let p = p * r + 1.0;
        let p = p * r + 1.0;
        // Two factors, because 2¹²⁸ is not representable in 32 bits.
        let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
        let half = n >> 1;
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
        p * power(half) * power(n.wrapping_sub(half))
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
}

/// Returns the sum of `of(i)` over `0..n`, in an order that does not depend on the machine.
#[inline(always)]
pub(crate) fn sum<R: Real>(n: usize, of: impl Fn(usize) -> R) -> R {
    let mut lanes = [R::ZERO; LANES];
    let whole = n - n % LANES;
    let mut i = 0;
    while i < whole {
        for (j, lane) in lanes.iter_mut().enumerate() {
            *lane += of(i + j);
        }
        i += LANES;
    }
    let mut total = R::ZERO;
    for lane in lanes {
        total += lane;
    }
    for i in whole..n {
        total += of(i);
    }
    total
}

/// Returns the largest of `values`, or minus infinity if there are none. NaNs are ignored here; they propagate through the
/// sum computed afterwards.
#[inline(always)]
pub(crate) fn largest<T: Element>(values: &[T]) -> T::Real {
    let mut lanes = [T::Real::MINUS_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            let value = value.load();
            *lane = if value > *lane { value } else { *lane };
        }
    }
    let mut most = T::Real::MINUS_INFINITY;
    for value in lanes.into_iter().chain(rest.iter().map(|value| value.load())) {
        most = if value > most { value } else { most };
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exp_is_accurate_to_rounding(x in -87.0_f32..88.5) {
            let exact = f64::from(x).exp();
            prop_assert!((f64::from(Real::exp(x)) / exact - 1.0).abs() < 3e-7, "{x}");
        }

        #[test]
        fn bf16_rounds_to_the_nearest(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            let stored = Bf16::store(value).load();
            let next = |step: i32| f32::from_bits(((stored.to_bits() >> 16) as i32 + step) as u32 * 0x1_0000);
            let off = |other: f32| (f64::from(other) - f64::from(value)).abs();
            prop_assert!(!stored.is_finite() || !next(1).is_finite() || off(stored) <= off(next(1)));
            prop_assert!(stored == 0.0 || !stored.is_finite() || off(stored) <= off(next(-1)));
        }

        #[test]
        fn sums_and_maxima_of_any_length(values in prop::collection::vec(-100.0_f64..100.0, 0..70)) {
            let total: f64 = values.iter().sum();
            prop_assert!((sum(values.len(), |i| values[i]) - total).abs() < 1e-9);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(largest(&values), most);
        }
    }

    #[test]
    fn exp_of_special_values() {
        assert!(Real::exp(f32::NAN).is_nan());
        assert!(Real::exp(f32::NEG_INFINITY) < 1.3e-38);
        assert!(Real::exp(f32::INFINITY) > 3e38);
        assert_eq!(Real::exp(0.0_f32), 1.0);
    }

    #[test]
    fn bf16_keeps_nan() {
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xffff_ffff, 0xff80_0001] {
            assert!(Bf16::store(f32::from_bits(bits)).load().is_nan());
        }
        assert_eq!(Bf16::store(f32::INFINITY).load(), f32::INFINITY);
        assert_eq!(Bf16::store(f32::MAX).load(), f32::INFINITY);
    }
}
