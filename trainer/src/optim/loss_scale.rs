//! Dynamic loss scale for half-precision training.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

/// Loss scale with its rules and its state, as stored in a checkpoint.
///
/// The loss is multiplied by the scale so that small gradients do not underflow in 16 bits. The scale adapts as in Megatron: an
/// overflow uses up hysteresis and, once that is used up, divides the scale by the growth factor; `growth_interval` steps without
/// overflow multiply it and restore the hysteresis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    scale: f64,
    growth_factor: f64,
    growth_interval: u32,
    hysteresis: u32,
    min_scale: f64,
    hysteresis_left: u32,
    steps_since_overflow: u32,
}

impl LossScale {
    /// Returns a dynamic loss scale in its initial state.
    pub fn dynamic(init_scale: f64, growth_factor: f64, growth_interval: u32, hysteresis: u32, min_scale: f64) -> Self {
        Self {
            scale: init_scale,
            growth_factor,
            growth_interval,
            hysteresis,
            min_scale,
            hysteresis_left: hysteresis,
            steps_since_overflow: 0,
        }
    }

    /// Returns the constant scale 1, for formats with the exponent range of fp32.
    pub fn off() -> Self {
        Self::dynamic(1.0, 1.0, u32::MAX, 1, 1.0)
    }

    /// Factor by which the loss is multiplied.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Returns true if the scale adapts.
    pub fn is_dynamic(&self) -> bool {
        self.growth_factor != 1.0
    }

    /// Returns true if another overflow cannot reduce the scale.
    pub fn is_at_min(&self) -> bool {
        self.scale <= self.min_scale
    }

    /// The same rules with the state of [`DeviceLossScale::state`].
    pub(super) fn with_state(self, [scale, steps_since_overflow, hysteresis_left]: [f64; 3]) -> Self {
        let (steps_since_overflow, hysteresis_left) = (steps_since_overflow as u32, hysteresis_left as u32);
        Self { scale, hysteresis_left, steps_since_overflow, ..self }
    }
}

/// [`LossScale`] whose state lives on a device as 64-bit scalars.
#[derive(Debug)]
pub(super) struct DeviceLossScale {
    rules: LossScale,
    scale: Tensor,
    steps_since_overflow: Tensor,
    hysteresis_left: Tensor,
}

impl DeviceLossScale {
    pub(super) fn new(state: LossScale, device: Device) -> Result<Self, TchError> {
        let scalar = |value: f64| Tensor::from(value).f_to_device(device);
        Ok(Self {
            rules: state,
            scale: scalar(state.scale)?,
            steps_since_overflow: scalar(state.steps_since_overflow.into())?,
            hysteresis_left: scalar(state.hysteresis_left.into())?,
        })
    }

    /// Rules, with the state that the scale started from.
    pub(super) fn rules(&self) -> LossScale {
        self.rules
    }

    /// Current scale. Updates replace this tensor and never change it in place.
    pub(super) fn scale(&self) -> &Tensor {
        &self.scale
    }

    /// Scale, steps since the last overflow, and hysteresis left, shape `[3]`.
    pub(super) fn state(&self) -> Result<Tensor, TchError> {
        Tensor::f_stack(&[&self.scale, &self.steps_since_overflow, &self.hysteresis_left], 0)
    }

    /// Adapts the scale after a step; `overflow` is a boolean scalar.
    pub(super) fn update(&mut self, overflow: &Tensor) -> Result<(), TchError> {
        let LossScale { growth_factor, growth_interval, hysteresis, min_scale, .. } = self.rules;
        if !self.rules.is_dynamic() {
            return Ok(());
        }
        let overflows = overflow.f_totype(Kind::Double)?;
        let used_up = self.hysteresis_left.f_le(1.0)?;
        let shrinks = overflow.f_logical_and(&used_up)?;
        let forgiven = overflow.f_logical_and(&used_up.f_logical_not()?)?;
        let since = self.steps_since_overflow.f_add_scalar(1.0)?.f_mul(&overflows.f_rsub_scalar(1.0)?)?;
        let grows = since.f_ge(f64::from(growth_interval))?;
        let smaller = self.scale.f_div_scalar(growth_factor)?.f_clamp_min(min_scale)?;
        let larger = self.scale.f_mul_scalar(growth_factor)?;
        self.scale = smaller.f_where_self(&shrinks, &larger.f_where_self(&grows, &self.scale)?)?;
        let left = self.hysteresis_left.f_sub(&forgiven.f_totype(Kind::Double)?)?;
        self.hysteresis_left = Tensor::f_full_like(&left, f64::from(hysteresis))?.f_where_self(&grows, &left)?;
        self.steps_since_overflow = since.f_masked_fill(&grows, 0.0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices;
    use super::*;

    /// Scales after each step, asserted to be the same on every device.
    fn scales(start: LossScale, overflows: &[bool]) -> Vec<f64> {
        let on = |device| {
            let mut scale = DeviceLossScale::new(start, device).expect("scale");
            let after = overflows.iter().map(|&overflow| {
                scale.update(&Tensor::from(overflow).to_device(device)).expect("update");
                let state = Vec::<f64>::try_from(scale.state().expect("state")).expect("numbers");
                start.with_state(state.try_into().expect("three numbers"))
            });
            after.collect::<Vec<LossScale>>()
        };
        let all: Vec<_> = devices().into_iter().map(on).collect();
        assert!(all.iter().all(|scales| scales == &all[0]), "{all:?}");
        all[0].iter().map(LossScale::scale).collect()
    }

    #[test]
    fn shrinks_once_the_hysteresis_is_used_up_and_grows_after_the_interval() {
        let overflows = [true, true, true, false, false, false, true];
        let expected = [
            16.0, // the first overflow only uses up hysteresis
            8.0, 4.0, // hysteresis is restored by growth only
            4.0, 4.0, 8.0, 8.0,
        ];
        assert_eq!(scales(LossScale::dynamic(16.0, 2.0, 3, 2, 1.0), &overflows), expected);
    }

    #[test]
    fn an_overflow_restarts_the_growth_interval() {
        let overflows = [false, false, true, false, false, false];
        assert_eq!(scales(LossScale::dynamic(16.0, 2.0, 3, 9, 1.0), &overflows), [16.0, 16.0, 16.0, 16.0, 16.0, 32.0]);
    }

    #[test]
    fn never_falls_below_the_minimum() {
        let start = LossScale::dynamic(2.0, 2.0, 3, 1, 1.0);
        assert!(!start.is_at_min() && start.with_state([1.0, 0.0, 1.0]).is_at_min());
        assert_eq!(scales(start, &[true; 3]), [1.0; 3]);
    }

    #[test]
    fn off_stays_one() {
        assert_eq!(scales(LossScale::off(), &[true, false, true]), [1.0; 3]);
    }
}
