//! Decision about a step from its gradient norm: learning rate, clipping, loss scale, and whether the step is skipped.
//!
//! All of it is computed on the device of the gradient, so that a GPU need not wait for the host. The host reads the [`Outcome`]
//! of a step, which includes the [`ControlState`] after it, some steps later.

use libtorch_ext::stream::{Event, Stream};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::loss_scale::{DeviceLossScale, LossScale};
use super::schedule::Schedule;
use super::spikes::{Deviation, SpikeDetector, SpikeRules, SpikeStatistics};

/// Keeps clipping finite, as in Megatron: gradients are multiplied by `min(1, max_grad_norm / (norm + 1e-6))`.
const CLIP_EPS: f64 = 1e-6;

/// Step control with its state on a device.
#[derive(Debug)]
pub struct StepControl {
    schedule: Schedule,
    max_grad_norm: f64,
    loss_scale: DeviceLossScale,
    spikes: SpikeDetector,
    /// Completed steps, a 64-bit scalar on the device.
    step: Tensor,
}

/// State of [`StepControl`] on the host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlState {
    /// Completed optimizer steps.
    pub step: u64,
    /// Loss scale.
    pub loss_scale: LossScale,
    /// Statistics of losses and gradient norms.
    pub spikes: SpikeStatistics,
}

impl ControlState {
    /// State of a new run.
    pub fn new(loss_scale: LossScale) -> Self {
        Self { step: 0, loss_scale, spikes: SpikeStatistics::default() }
    }
}

/// Decision about a step, as tensors on the device.
#[derive(Debug)]
pub struct Decision {
    /// Learning rate, shape `[]`.
    pub lr: Tensor,
    /// Divisor of the gradients (loss scale and clipping), shape `[]`.
    pub gradient_divisor: Tensor,
    /// 1 if the step is skipped, else 0; fp32, shape `[1]`.
    pub skip: Tensor,
    /// Outcome for the host.
    pub report: Report,
}

/// Outcome of a step, in transfer to the host.
#[derive(Debug)]
pub struct Report {
    values: Tensor,
    arrived: Option<Event>,
    /// Rules of the loss scale, whose state is among the values.
    loss_scale: LossScale,
}

/// Outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Mean loss per question.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Gradient norm before clipping, without the loss scale.
    pub gradient_norm: f64,
    /// True if the step was skipped: loss or gradient was not finite, or it was a spike and spikes are skipped.
    pub skipped: bool,
    /// Deviation from the steps before, if loss or gradient norm was a spike.
    pub spike: Option<Deviation>,
    /// True if any rank was asked to stop.
    pub stop: bool,
    /// State after the step.
    pub state: ControlState,
}

impl Outcome {
    /// Returns true if loss and gradient were finite.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

impl StepControl {
    /// Creates a control on `device` that continues from `state`. A `max_grad_norm` of 0 disables clipping.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(
        schedule: Schedule,
        max_grad_norm: f64,
        rules: SpikeRules,
        state: ControlState,
        device: Device,
    ) -> Result<Self, TchError> {
        Ok(Self {
            schedule,
            max_grad_norm,
            loss_scale: DeviceLossScale::new(state.loss_scale, device)?,
            spikes: SpikeDetector::new(rules, &state.spikes, device)?,
            step: Tensor::from(state.step as f64).f_to_device(device)?,
        })
    }

    /// Multiplies the loss by the loss scale.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn scale_loss(&self, loss: &Tensor) -> Result<Tensor, TchError> {
        match self.loss_scale.rules().is_dynamic() {
            true => loss.f_mul(&self.loss_scale.scale().f_totype(loss.f_kind()?)?),
            false => Ok(loss.shallow_clone()),
        }
    }

    /// Decides about the next step and updates the state. `norm` is the norm of the scaled gradient. `metrics`, which are
    /// included in the [`Outcome`], are the mean loss per question and, optionally, the number of ranks that were asked to stop.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn decide(&mut self, norm: &Tensor, metrics: &Tensor) -> Result<Decision, TchError> {
        no_grad(|| {
            let norm = norm.f_totype(Kind::Double)?;
            let metrics = metrics.f_totype(Kind::Double)?.f_reshape([-1])?;
            let loss = metrics.f_select(0, 0)?;
            let finite = norm.f_isfinite()?.f_logical_and(&loss.f_isfinite()?)?;
            let overflow = finite.f_logical_not()?;
            let unscaled = norm.f_div(self.loss_scale.scale())?;
            let observation = self.spikes.observe(&loss, &unscaled)?;
            let spike = self.spikes.is_spike(&observation)?.f_logical_and(&finite)?;
            let skip = if self.spikes.skips() { overflow.f_logical_or(&spike)? } else { overflow.shallow_clone() };
            let divisor = match self.max_grad_norm > 0.0 {
                // scale / min(1, max_grad_norm / (norm + ε)), with the unscaled norm.
                true => {
                    let relative = unscaled.f_add_scalar(CLIP_EPS)?.f_div_scalar(self.max_grad_norm)?;
                    relative.f_clamp_min(1.0)?.f_mul(self.loss_scale.scale())?
                }
                false => self.loss_scale.scale().shallow_clone(),
            };
            let lr = self.schedule.at(&self.step)?;
            let skipped = skip.f_totype(Kind::Double)?;
            let spiked = spike.f_totype(Kind::Double)?;
            self.step = self.step.f_add(&skipped.f_rsub_scalar(1.0)?)?;
            self.spikes.update(&observation, &skip)?;
            self.loss_scale.update(&overflow)?;
            let own = Tensor::f_stack(&[&lr, &unscaled, &skipped, &spiked, &self.step], 0)?;
            let (scale, spikes) = (self.loss_scale.state()?, self.spikes.state()?);
            let values = Tensor::f_cat(&[own, scale, spikes, observation.numbers()?, metrics], 0)?;
            // In fp64 on a CPU, in fp32 on a GPU.
            let rate = |rate: Tensor| if rate.device() == Device::Cpu { Ok(rate) } else { rate.f_totype(Kind::Float) };
            Ok(Decision {
                lr: rate(lr)?,
                gradient_divisor: rate(divisor)?,
                skip: skipped.f_totype(Kind::Float)?.f_reshape([1])?,
                report: Report::send(values, self.loss_scale.rules())?,
            })
        })
    }
}

impl Report {
    fn send(values: Tensor, loss_scale: LossScale) -> Result<Self, TchError> {
        let Device::Cuda(index) = values.device() else { return Ok(Self { values, arrived: None, loss_scale }) };
        // An asynchronous copy to pinned memory; the event marks its completion.
        let copy = values.f_to_device_(Device::Cpu, Kind::Double, true, true)?;
        let arrived = Event::record(&Stream::current(index)?)?;
        Ok(Self { values: copy, arrived: Some(arrived), loss_scale })
    }

    /// Returns true if the outcome has arrived, without waiting.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn has_arrived(&self) -> Result<bool, TchError> {
        self.arrived.as_ref().map_or(Ok(true), Event::is_reached)
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    /// A [`TchError`] of the device, including errors of the step itself, which ran asynchronously.
    pub fn read(&self) -> Result<Outcome, TchError> {
        if let Some(arrived) = &self.arrived {
            arrived.synchronize()?;
        }
        let values = Vec::<f64>::try_from(&self.values)?;
        self.outcome(&values).ok_or_else(|| TchError::Shape(format!("{} numbers in a report", values.len())))
    }

    fn outcome(&self, values: &[f64]) -> Option<Outcome> {
        let (&[lr, gradient_norm, skipped, spike, step], values) = values.split_first_chunk::<5>()?;
        let (&loss_scale, values) = values.split_first_chunk::<3>()?;
        let (&spikes, values) = values.split_first_chunk::<5>()?;
        let (&observation, metrics) = values.split_first_chunk::<6>()?;
        let (&loss, stop_votes) = metrics.split_first()?;
        Some(Outcome {
            loss,
            lr,
            gradient_norm,
            skipped: skipped != 0.0,
            spike: (spike != 0.0).then(|| Deviation::largest(observation)),
            stop: stop_votes.iter().any(|&votes| votes > 0.0),
            state: ControlState {
                step: step as u64,
                loss_scale: self.loss_scale.with_state(loss_scale),
                spikes: SpikeStatistics::from_state(spikes),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices;
    use super::super::schedule::Decay;
    use super::super::spikes::WARM_UP;
    use super::*;
    use proptest::prelude::*;

    const SCHEDULE: Schedule = Schedule { lr: 1e-3, warmup: 0.2, decay_steps: 20, min_lr_ratio: 0.1, decay: Decay::Linear };
    const NO_SPIKES: SpikeRules = SpikeRules { zscore: 0.0, skips: false };

    fn control(max_grad_norm: f64, rules: SpikeRules, state: ControlState, device: Device) -> StepControl {
        StepControl::new(SCHEDULE, max_grad_norm, rules, state, device).expect("control")
    }

    fn decide(control: &mut StepControl, norm: f64, metrics: &[f64]) -> Decision {
        let device = control.step.device();
        let (norm, metrics) = (Tensor::from(norm).to_device(device), Tensor::from_slice(metrics).to_device(device));
        control.decide(&norm, &metrics).expect("decide")
    }

    fn outcome(control: &mut StepControl, norm: f64, loss: f64) -> Outcome {
        decide(control, norm, &[loss]).report.read().expect("report")
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Normal(f64),
        Overflow,
        LossNotFinite,
        Outlier,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            12 => (0.4..0.6).prop_map(Step::Normal),
            2 => Just(Step::Overflow),
            1 => Just(Step::LossNotFinite),
            1 => Just(Step::Outlier),
        ];
        prop::collection::vec(step, 1..240)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// A control that is recreated from the reported state after every step makes the same decisions.
        #[test]
        fn the_reported_state_is_complete(steps in steps(), skips: bool) {
            for device in devices() {
                let rules = SpikeRules { zscore: 6.0, skips };
                let mut state = ControlState::new(LossScale::dynamic(65536.0, 2.0, 4, 2, 1.0));
                let mut control = control(1.0, rules, state, device);
                for step in &steps {
                    let scale = state.loss_scale.scale();
                    let scaled = control.scale_loss(&Tensor::from(2.0).to_device(device)).expect("scale");
                    prop_assert_eq!(scaled.double_value(&[]), 2.0 * scale);
                    let (loss, norm) = match *step {
                        Step::Normal(loss) => (loss, 3.0),
                        Step::Overflow => (0.5, f64::INFINITY),
                        Step::LossNotFinite => (f64::NAN, 3.0),
                        Step::Outlier => (50.0, 4.0),
                    };
                    let decision = decide(&mut control, norm * scale, &[loss]);
                    let found = decision.report.read().expect("report");
                    let recreated = outcome(&mut self::control(1.0, rules, state, device), norm * scale, loss);
                    prop_assert_eq!(format!("{found:?}"), format!("{recreated:?}"));

                    prop_assert_eq!(found.loss.to_bits(), loss.to_bits());
                    let overflow = matches!(step, Step::Overflow | Step::LossNotFinite);
                    prop_assert_eq!(found.is_finite(), !overflow);
                    prop_assert_eq!(found.skipped, overflow || (skips && found.spike.is_some()));
                    prop_assert_eq!(decision.skip.double_value(&[0]) != 0.0, found.skipped);
                    prop_assert_eq!(found.state.step, state.step + u64::from(!found.skipped));
                    prop_assert_eq!(found.state.spikes == state.spikes, found.skipped);
                    if norm.is_finite() {
                        prop_assert_eq!(found.gradient_norm, norm);
                        let divisor = decision.gradient_divisor.double_value(&[]) / scale;
                        prop_assert!((divisor - norm).abs() < 1e-5, "clipped to 1, without the scale: {}", divisor);
                    }
                    state = found.state;
                }
            }
        }
    }

    #[test]
    fn outliers_are_detected_after_the_warm_up_and_skipped_on_request() {
        for (device, skips) in devices().into_iter().flat_map(|device| [(device, false), (device, true)]) {
            let rules = SpikeRules { zscore: 6.0, skips };
            let mut control = control(1.0, rules, ControlState::new(LossScale::off()), device);
            let mut decide = |loss: f64| {
                let outcome = outcome(&mut control, 3.0, loss);
                (outcome.spike.map(|deviation| deviation.value), outcome.skipped)
            };
            assert_eq!(decide(50.0), (None, false), "there are no statistics yet");
            for i in 0..3 * WARM_UP {
                assert_eq!(decide(0.5 + 0.1 * (i % 2) as f64), (None, false));
            }
            assert_eq!(decide(50.0), (Some(50.0), skips));
            assert_eq!(decide(0.5), (None, false));
        }
    }

    #[test]
    fn short_gradients_are_not_clipped_and_clipping_can_be_disabled() {
        for device in devices() {
            let state = ControlState { step: 3, ..ControlState::new(LossScale::off()) };
            let mut clipped = control(1.0, NO_SPIKES, state, device);
            let decision = decide(&mut clipped, 0.25, &[0.0]);
            assert_eq!(decision.gradient_divisor.double_value(&[]), 1.0);
            assert!((decision.lr.double_value(&[]) - 0.75e-3).abs() < 1e-9);
            assert!((decision.report.read().expect("report").lr - 0.75e-3).abs() < 1e-15);
            let mut unclipped = control(0.0, NO_SPIKES, state, device);
            assert_eq!(decide(&mut unclipped, 9.0, &[0.0]).gradient_divisor.double_value(&[]), 1.0);
        }
    }

    #[test]
    fn one_vote_to_stop_is_enough() {
        for device in devices() {
            let mut control = control(1.0, NO_SPIKES, ControlState::new(LossScale::off()), device);
            let mut stop = |metrics: &[f64]| decide(&mut control, 1.0, metrics).report.read().expect("report").stop;
            assert!(!stop(&[0.5]) && !stop(&[0.5, 0.0]) && stop(&[0.5, 1.0]));
        }
    }
}
