//! What an optimizer step does with its gradient: learning rate, clipping, loss scale, and whether it is skipped.
//!
//! All of it is computed where the gradient is, so that no step has to wait until the host knows how the one before went.
//! The host follows from the [`Outcome`]s, which it may read some steps later: [`Schedule`], [`LossScale`] and
//! [`SpikeStatistics`] are functions of them, and both sides compute the same.

use libtorch_ext::stream::{Event, Stream};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::loss_scale::LossScale;
use super::schedule::Schedule;
use super::spikes::{DeviceStatistics, SpikeRules, SpikeStatistics};

/// Keeps clipping finite, as Megatron has it: gradients are multiplied by `min(1, limit / (norm + 1e-6))`.
const CLIP_EPS: f64 = 1e-6;

/// Decides about steps.
#[derive(Debug)]
pub struct StepControl {
    schedule: Schedule,
    clip: f64,
    scaling: LossScale,
    scales: bool,
    spikes: DeviceStatistics,
    /// 64-bit numbers of shape `[]` on the device: completed steps; the loss scale, its steps since an overflow and its
    /// hysteresis left.
    step: Tensor,
    scale: Tensor,
    since: Tensor,
    hysteresis: Tensor,
}

/// Where the decisions of a run stand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlState {
    /// Completed optimizer steps.
    pub step: u64,
    /// The loss scale.
    pub scaling: LossScale,
    /// What losses and gradients have been like.
    pub spikes: SpikeStatistics,
}

impl ControlState {
    /// That of a new run.
    pub fn first(scaling: LossScale) -> Self {
        Self { step: 0, scaling, spikes: SpikeStatistics::default() }
    }
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
    /// Logarithm of that norm, as [`SpikeStatistics`] takes it.
    pub log_gradient_norm: f64,
    /// Whether the step was skipped, because loss or gradient was not finite, or for a spike.
    pub skipped: bool,
    /// Whether loss or gradient was a spike.
    pub spike: bool,
    /// Whether any rank had been asked to stop.
    pub stop: bool,
}

impl Outcome {
    /// Whether loss and gradient were finite.
    pub fn finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

impl StepControl {
    /// For a run that stands at `standing`, on `device`. `clip`: the largest norm, 0 for none.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(
        schedule: Schedule,
        clip: f64,
        rules: SpikeRules,
        standing: ControlState,
        device: Device,
    ) -> Result<Self, TchError> {
        let ControlState { step, scaling, spikes } = standing;
        let number = |value: f64| Tensor::from(value).f_to_device(device);
        let (scale, since, hysteresis) = scaling.state();
        Ok(Self {
            schedule,
            clip,
            scaling,
            scales: scaling.is_dynamic(),
            spikes: DeviceStatistics::new(rules, &spikes, device)?,
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
            let told = told.f_totype(Kind::Double)?.f_reshape([-1])?;
            let loss = told.f_select(0, 0)?;
            let finite = norm.f_isfinite()?.f_logical_and(&loss.f_isfinite()?)?;
            let overflow = finite.f_logical_not()?;
            let unscaled = norm.f_div(&self.scale)?;
            let observed = DeviceStatistics::observe(&loss, &unscaled)?;
            let spike = self.spikes.is_spike(&observed)?.f_logical_and(&finite)?;
            let skip = if self.spikes.skips() { overflow.f_logical_or(&spike)? } else { overflow.shallow_clone() };
            let divisor = match self.clip > 0.0 {
                // scale / min(1, limit · scale / (norm + ε)), with the norm still scaled.
                true => {
                    let relative = unscaled.f_add_scalar(CLIP_EPS)?.f_div_scalar(self.clip)?;
                    relative.f_clamp_min(1.0)?.f_mul(&self.scale)?
                }
                false => self.scale.f_detach_copy()?,
            };
            let lr = self.schedule_at()?;
            let skipped = skip.f_totype(Kind::Double)?;
            let log_norm = observed.f_select(0, 1)?;
            let own = Tensor::f_stack(&[&unscaled, &log_norm, &skipped, &spike.f_totype(Kind::Double)?], 0)?;
            let values = Tensor::f_cat(&[own, told], 0)?;
            self.spikes.update(&observed, &skip)?;
            let _ = self.step.f_add_(&skipped.f_rsub_scalar(1.0)?)?;
            if self.scales {
                self.adapt(&overflow, &overflow.f_totype(Kind::Double)?)?;
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
        let Schedule { lr, warmup, decay_steps: steps, min_lr_ratio: floor } = self.schedule;
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
            [gradient_norm, log_gradient_norm, skipped, spike, loss, ref stop @ ..] => Ok(Outcome {
                loss,
                gradient_norm,
                log_gradient_norm,
                skipped: skipped != 0.0,
                spike: spike != 0.0,
                stop: stop.iter().any(|&votes| votes > 0.0),
            }),
            _ => Err(TchError::Shape(format!("{} numbers in a report", values.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spikes::WARM_UP;
    use super::*;
    use proptest::prelude::*;

    const SCHEDULE: Schedule = Schedule { lr: 1e-3, warmup: 0.2, decay_steps: 20, min_lr_ratio: 0.1 };

    fn number(value: f64) -> Tensor {
        Tensor::from(value)
    }

    fn control_at(clip: f64, step: u64) -> StepControl {
        let standing = ControlState { step, ..ControlState::first(LossScale::off()) };
        StepControl::new(SCHEDULE, clip, SpikeRules::OFF, standing, Device::Cpu).expect("control")
    }

    /// What a step brings.
    #[derive(Debug, Clone, Copy)]
    enum Brings {
        Normal(f64),
        Overflow,
        LossNotFinite,
        Outlier,
    }

    fn steps() -> impl Strategy<Value = Vec<Brings>> {
        let step = prop_oneof![
            12 => (0.4..0.6).prop_map(Brings::Normal),
            2 => Just(Brings::Overflow),
            1 => Just(Brings::LossNotFinite),
            1 => Just(Brings::Outlier),
        ];
        prop::collection::vec(step, 1..240)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The device's learning rate, loss scale and verdicts are those that the host computes from the outcomes.
        #[test]
        fn device_and_host_agree(steps in steps(), warmup in 0_u8..3, skips: bool) {
            let schedule = Schedule { warmup: f64::from(warmup) / 4.0, ..SCHEDULE };
            let rules = SpikeRules { zscore: 6.0, skips };
            let ControlState { mut step, mut scaling, mut spikes } =
                ControlState::first(LossScale::dynamic(65536.0, 2.0, 4, 2, 1.0));
            let standing = ControlState { step, scaling, spikes };
            let mut control = StepControl::new(schedule, 1.0, rules, standing, Device::Cpu).expect("control");
            for brings in steps {
                let scaled = control.scale_loss(&number(2.0)).expect("scale").double_value(&[]);
                prop_assert_eq!(scaled, 2.0 * scaling.scale());
                let (loss, norm) = match brings {
                    Brings::Normal(loss) => (loss, 3.0),
                    Brings::Overflow => (0.5, f64::INFINITY),
                    Brings::LossNotFinite => (f64::NAN, 3.0),
                    Brings::Outlier => (50.0, 4.0),
                };
                let decision = control.decide(&number(norm * scaling.scale()), &number(loss)).expect("decide");
                let lr = decision.lr.double_value(&[]);
                prop_assert!((lr - schedule.at(step)).abs() <= 1e-12 * schedule.lr, "step {}: {} {}", step, lr, schedule.at(step));
                let outcome = decision.report.read().expect("report");
                prop_assert_eq!(outcome.loss.to_bits(), loss.to_bits());
                let overflowed = matches!(brings, Brings::Overflow | Brings::LossNotFinite);
                let spike = !overflowed && spikes.is_spike(rules, loss, outcome.log_gradient_norm);
                let skipped = overflowed || (skips && spike);
                prop_assert_eq!((outcome.skipped, outcome.spike, outcome.finite()), (skipped, spike, !overflowed));
                prop_assert_eq!(decision.skip.double_value(&[0]), f64::from(u8::from(skipped)));
                if norm.is_finite() {
                    prop_assert_eq!(outcome.gradient_norm, norm);
                    let divisor = decision.gradient_divisor.double_value(&[]) / scaling.scale();
                    prop_assert!((divisor - norm).abs() < 1e-5, "clipped to 1, and the scale taken out: {}", divisor);
                }
                step += u64::from(!skipped);
                scaling.update(overflowed);
                if !skipped {
                    spikes.update(rules, loss, outcome.log_gradient_norm);
                }
            }
        }
    }

    #[test]
    fn outliers_are_found_behind_the_warm_up_and_skipped_where_asked() {
        for skips in [false, true] {
            let rules = SpikeRules { zscore: 6.0, skips };
            let standing = ControlState::first(LossScale::off());
            let mut control = StepControl::new(SCHEDULE, 1.0, rules, standing, Device::Cpu).expect("control");
            let mut decide = |loss: f64| {
                let decision = control.decide(&number(3.0), &number(loss)).expect("decide");
                let outcome = decision.report.read().expect("report");
                (outcome.spike, outcome.skipped)
            };
            assert_eq!(decide(50.0), (false, false), "nothing is known yet");
            for i in 0..3 * WARM_UP {
                assert_eq!(decide(0.5 + 0.1 * (i % 2) as f64), (false, false));
            }
            assert_eq!(decide(50.0), (true, skips));
            assert_eq!(decide(0.5), (false, false));
        }
    }

    #[test]
    fn short_gradients_are_left_alone_and_clipping_can_be_switched_off() {
        let mut control = control_at(1.0, 3);
        let decision = control.decide(&number(0.25), &number(0.0)).expect("decide");
        assert_eq!(decision.gradient_divisor.double_value(&[]), 1.0);
        assert!((decision.lr.double_value(&[]) - SCHEDULE.at(3)).abs() < 1e-15);
        let mut unclipped = control_at(0.0, 0);
        assert_eq!(unclipped.decide(&number(9.0), &number(0.0)).expect("decide").gradient_divisor.double_value(&[]), 1.0);
    }
}
