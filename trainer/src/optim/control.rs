//! What an optimizer step does with its gradient: learning rate, clipping, loss scale, and whether it is skipped.
//!
//! All of it is computed where the gradient is, so that no step has to wait until the host knows how the one before went.
//! The host follows from the [`Outcome`]s, which it may read some steps later: [`Schedule`] and [`LossScale`] are functions of
//! which steps were skipped, and both sides compute the same.

use libtorch_ext::stream::{Event, Stream};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::loss_scale::LossScale;
use super::schedule::Schedule;

/// Keeps clipping finite, as Megatron has it: gradients are multiplied by `min(1, limit / (norm + 1e-6))`.
const CLIP_EPS: f64 = 1e-6;

/// Decides about steps.
#[derive(Debug)]
pub struct StepControl {
    schedule: Schedule,
    clip: f64,
    scaling: LossScale,
    scales: bool,
    /// 64-bit numbers of shape `[]` on the device: completed steps; the loss scale, its steps since an overflow and its
    /// hysteresis left.
    step: Tensor,
    scale: Tensor,
    since: Tensor,
    hysteresis: Tensor,
}

/// What to do with a gradient, in numbers on the device, and the report of it.
#[derive(Debug)]
pub struct Decision {
    /// The learning rate, shape `[]`.
    pub lr: Tensor,
    /// What the gradient is divided by, 32 bits, shape `[]`.
    pub gradient_divisor: Tensor,
    /// 1 where the step is to be skipped, 32 bits, shape `[1]`.
    pub skip: Tensor,
    /// What the host will want to know.
    pub report: Report,
}

/// The outcome of a step, on its way to the host.
#[derive(Debug)]
pub struct Report {
    values: Tensor,
    arrived: Option<Event>,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Mean loss a question.
    pub loss: f64,
    /// Norm of the gradient before clipping, without the loss scale.
    pub gradient_norm: f64,
    /// Whether the gradient was not finite and the step therefore skipped.
    pub skipped: bool,
    /// Whether any rank had been asked to stop.
    pub stop: bool,
}

impl StepControl {
    /// For a run that has completed `step` steps and stands at `scaling`, on `device`. `clip`: the largest norm, 0 for none.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(schedule: Schedule, clip: f64, scaling: LossScale, step: u64, device: Device) -> Result<Self, TchError> {
        let number = |value: f64| Tensor::from(value).f_to_device(device);
        let (scale, since, hysteresis) = scaling.state();
        Ok(Self {
            schedule,
            clip,
            scaling,
            scales: scaling.is_dynamic(),
            step: number(step as f64)?,
            scale: number(scale)?,
            since: number(since)?,
            hysteresis: number(hysteresis)?,
        })
    }

    /// `loss` as it is to be differentiated: times the loss scale.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn scale_loss(&self, loss: &Tensor) -> Result<Tensor, TchError> {
        if self.scales { loss.f_mul(&self.scale.f_totype(loss.f_kind()?)?) } else { Ok(loss.shallow_clone()) }
    }

    /// Decides about a step whose gradient, loss scale included, has this norm, and counts it. `told` comes back in the
    /// [`Outcome`]: the mean loss a question, and how many ranks were asked to stop, which may be left out.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn decide(&mut self, norm: &Tensor, told: &Tensor) -> Result<Decision, TchError> {
        no_grad(|| {
            let norm = norm.f_totype(Kind::Double)?;
            let skip = norm.f_isfinite()?.f_logical_not()?;
            let divisor = match self.clip > 0.0 {
                // scale / min(1, limit · scale / (norm + ε)), with the norm still scaled.
                true => {
                    let unscaled = norm.f_div(&self.scale)?.f_add_scalar(CLIP_EPS)?;
                    unscaled.f_div_scalar(self.clip)?.f_clamp_min(1.0)?.f_mul(&self.scale)?
                }
                false => self.scale.f_detach_copy()?,
            };
            let lr = self.schedule_at()?;
            let skipped = skip.f_totype(Kind::Double)?;
            let unscaled = norm.f_div(&self.scale)?;
            let own = Tensor::f_stack(&[unscaled, skipped.shallow_clone()], 0)?;
            let values = Tensor::f_cat(&[own, told.f_totype(Kind::Double)?.f_reshape([-1])?], 0)?;
            let _ = self.step.f_add_(&skipped.f_rsub_scalar(1.0)?)?;
            if self.scales {
                self.adapt(&skip, &skipped)?;
            }
            let on_cpu = lr.device() == Device::Cpu;
            Ok(Decision {
                lr: if on_cpu { lr } else { lr.f_totype(Kind::Float)? },
                gradient_divisor: divisor.f_totype(Kind::Float)?,
                skip: skipped.f_totype(Kind::Float)?.f_reshape([1])?,
                report: Report::send(&values)?,
            })
        })
    }

    /// [`Schedule::at`] of the step on the device.
    fn schedule_at(&self) -> Result<Tensor, TchError> {
        let Schedule { lr, warmup, steps, floor } = self.schedule;
        let (n, end) = (&self.step, steps as f64);
        let warm = warmup * end;
        let falling = n.f_sub_scalar(warm)?.f_mul_scalar(-(1.0 - floor) * lr / (end - warm).max(f64::MIN_POSITIVE))?;
        let decayed = falling.f_add_scalar(lr)?;
        let late = Tensor::f_full_like(n, lr * floor)?.f_where_self(&n.f_ge(end)?, &decayed)?;
        if warm <= 0.0 {
            return Ok(late);
        }
        n.f_mul_scalar(lr)?.f_div_scalar(warm)?.f_where_self(&n.f_le(warm)?, &late)
    }

    /// [`LossScale::update`] on the device.
    fn adapt(&mut self, overflow: &Tensor, overflowed: &Tensor) -> Result<(), TchError> {
        let (factor, window, hysteresis, floor) = self.scaling.rules();
        let spent = self.hysteresis.f_le(1.0)?;
        let shrinks = overflow.f_logical_and(&spent)?;
        let forgiven = overflow.f_logical_and(&spent.f_logical_not()?)?;
        let since = self.since.f_add_scalar(1.0)?.f_mul(&overflowed.f_rsub_scalar(1.0)?)?;
        let grows = since.f_ge(window)?;
        let smaller = self.scale.f_div_scalar(factor)?.f_clamp_min(floor)?;
        let larger = self.scale.f_mul_scalar(factor)?;
        self.scale = smaller.f_where_self(&shrinks, &larger.f_where_self(&grows, &self.scale)?)?;
        let fewer = self.hysteresis.f_sub(&forgiven.f_totype(Kind::Double)?)?;
        self.hysteresis = Tensor::f_full_like(&fewer, hysteresis)?.f_where_self(&grows, &fewer)?;
        self.since = since.f_masked_fill(&grows, 0.0)?;
        Ok(())
    }
}

impl Report {
    fn send(values: &Tensor) -> Result<Self, TchError> {
        let Device::Cuda(index) = values.device() else { return Ok(Self { values: values.f_detach_copy()?, arrived: None }) };
        // Into pinned memory, without waiting; the event says when it is there.
        let there = values.f_to_device_(Device::Cpu, Kind::Double, true, true)?;
        let arrived = Event::record(&Stream::current(index)?)?;
        Ok(Self { values: there, arrived: Some(arrived) })
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    /// A [`TchError`] of the device: where a step failed there, it is here that one hears of it.
    pub fn read(&self) -> Result<Outcome, TchError> {
        if let Some(arrived) = &self.arrived {
            arrived.synchronize()?;
        }
        let values = Vec::<f64>::try_from(&self.values)?;
        match values[..] {
            [gradient_norm, skipped, loss, ref stop @ ..] => {
                Ok(Outcome { loss, gradient_norm, skipped: skipped != 0.0, stop: stop.iter().any(|&votes| votes > 0.0) })
            }
            _ => Err(TchError::Shape(format!("{} numbers in a report", values.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEDULE: Schedule = Schedule { lr: 1e-3, warmup: 0.2, steps: 20, floor: 0.1 };

    fn number(value: f64) -> Tensor {
        Tensor::from(value)
    }

    proptest! {
        /// The device's learning rate and loss scale are those that the host computes from which steps were skipped.
        #[test]
        fn device_and_host_agree(overflows in prop::collection::vec(prop::bool::weighted(0.3), 1..60), warmup in 0_u8..3) {
            let schedule = Schedule { warmup: f64::from(warmup) / 4.0, ..SCHEDULE };
            let mut scaling = LossScale::dynamic(65536.0, 2.0, 4, 2, 1.0);
            let mut control = StepControl::new(schedule, 1.0, scaling, 0, Device::Cpu).expect("control");
            let mut step = 0;
            for overflowed in overflows {
                let scaled = control.scale_loss(&number(2.0)).expect("scale").double_value(&[]);
                prop_assert_eq!(scaled, 2.0 * scaling.scale());
                let norm = if overflowed { f64::INFINITY } else { 3.0 * scaling.scale() };
                let decision = control.decide(&number(norm), &number(0.5)).expect("decide");
                let lr = decision.lr.double_value(&[]);
                prop_assert!((lr - schedule.at(step)).abs() <= 1e-12 * schedule.lr, "step {}: {} {}", step, lr, schedule.at(step));
                let outcome = decision.report.read().expect("report");
                prop_assert_eq!((outcome.loss, outcome.skipped), (0.5, overflowed));
                prop_assert_eq!(decision.skip.double_value(&[0]), f64::from(u8::from(overflowed)));
                if !overflowed {
                    prop_assert_eq!(outcome.gradient_norm, 3.0);
                    let divisor = decision.gradient_divisor.double_value(&[]) / scaling.scale();
                    prop_assert!((divisor - 3.0).abs() < 1e-5, "clipped to 1, and the scale taken out: {}", divisor);
                }
                step += u64::from(!overflowed);
                scaling.update(overflowed);
            }
        }
    }

    #[test]
    fn short_gradients_are_left_alone_and_clipping_can_be_switched_off() {
        let mut control = StepControl::new(SCHEDULE, 1.0, LossScale::off(), 3, Device::Cpu).expect("control");
        let decision = control.decide(&number(0.25), &number(0.0)).expect("decide");
        assert_eq!(decision.gradient_divisor.double_value(&[]), 1.0);
        assert!((decision.lr.double_value(&[]) - SCHEDULE.at(3)).abs() < 1e-15);
        let mut unclipped = StepControl::new(SCHEDULE, 0.0, LossScale::off(), 0, Device::Cpu).expect("control");
        assert_eq!(unclipped.decide(&number(9.0), &number(0.0)).expect("decide").gradient_divisor.double_value(&[]), 1.0);
    }
}
