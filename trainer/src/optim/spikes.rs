//! Spikes: steps whose loss or gradient norm lies far above what the run has seen of late.
//!
//! Two numbers are followed, the loss and the natural logarithm of the gradient's norm. The step that comes behind `n` others
//! brings `x` to each of them:
//!
//! ```text
//! a = max(1 / (n + 1), 1 - 2^(-1 / HALF_LIFE))
//! δ = x - mean;  mean += a δ;  variance = (1 - a) (variance + a δ²)
//! ```
//!
//! which is mean and variance of all steps as long as these are few, and later an average in which a step's weight halves
//! every [`HALF_LIFE`] steps. Behind [`WARM_UP`] steps, one is a spike if `δ > z · max(√variance, floor)` for either number;
//! it is only above the mean that anything is wrong. The floor keeps a run that repeats itself almost exactly from crying
//! wolf: 1 % of the mean loss and a thousandth, and 1 % of the norm.
//!
//! Steps that are skipped, for whatever reason, leave no trace here. So where spikes are skipped and the loss stays high, each
//! step that follows is a spike too: `train.max_consecutive_skips` ends such a run. Spikes that are not skipped count like any step, and
//! what has become normal stops being one.
//!
//! The decision falls where the gradient is (`DeviceStatistics`), and the host follows from the outcomes
//! ([`SpikeStatistics`]). Both do the same additions, multiplications, divisions and roots of 64 bits in the same order, so
//! they agree to the last bit; the one logarithm is taken on the device and told to the host.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

/// Steps in which a step's weight in mean and variance halves.
pub const HALF_LIFE: f64 = 100.0;
/// Steps that have to be known before one is judged.
pub const WARM_UP: u64 = 100;

/// Least standard deviation, as a share of the mean and besides that, of the loss and of the logarithm of the norm.
const FLOORS: [Floor; 2] = [Floor { relative: 0.01, absolute: 0.001 }, Floor { relative: 0.0, absolute: 0.01 }];

/// The norm is taken for at least this, so that it has a logarithm.
const LEAST_NORM: f64 = 1e-12;

#[derive(Debug, Clone, Copy)]
struct Floor {
    relative: f64,
    absolute: f64,
}

/// What is a spike, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpikeRules {
    /// Standard deviations above the mean; 0 or less: nothing is a spike.
    pub zscore: f64,
    /// Whether the step is skipped.
    pub skips: bool,
}

impl SpikeRules {
    /// Nothing is a spike.
    pub const OFF: Self = Self { zscore: 0.0, skips: false };

    fn on(&self) -> bool {
        self.zscore > 0.0
    }
}

/// Which of the two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// The mean loss a question.
    Loss,
    /// The natural logarithm of the gradient's norm before clipping.
    LogGradientNorm,
}

/// A number beside what was expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Deviation {
    /// Which number.
    pub quantity: Quantity,
    /// What it was.
    pub value: f64,
    /// The mean before.
    pub mean: f64,
    /// By how many standard deviations it is above the mean.
    pub zscore: f64,
}

/// What the steps of a run have been like: as the host knows it, and as a checkpoint keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SpikeStatistics {
    steps: u64,
    loss: Running,
    log_gradient_norm: Running,
}

/// A running mean and variance.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Running {
    mean: f64,
    variance: f64,
}

impl SpikeStatistics {
    /// Takes note of a step that was not skipped.
    pub fn update(&mut self, rules: SpikeRules, loss: f64, log_gradient_norm: f64) {
        if !rules.on() {
            return;
        }
        let weight = (1.0 / (self.steps as f64 + 1.0)).max(least_weight());
        self.loss.update(loss, weight);
        self.log_gradient_norm.update(log_gradient_norm, weight);
        self.steps += 1;
    }

    /// Whether a step is a spike.
    pub fn is_spike(&self, rules: SpikeRules, loss: f64, log_gradient_norm: f64) -> bool {
        let far = |running: &Running, value: f64, floor| value - running.mean > running.deviation(floor) * rules.zscore;
        let [loss_floor, norm_floor] = FLOORS;
        let either = far(&self.loss, loss, loss_floor) || far(&self.log_gradient_norm, log_gradient_norm, norm_floor);
        rules.on() && self.steps >= WARM_UP && either
    }

    /// Of the two numbers, both finite, the one that is further off.
    pub fn furthest(&self, loss: f64, log_gradient_norm: f64) -> Deviation {
        let [loss_floor, norm_floor] = FLOORS;
        let of = |quantity, running: &Running, value: f64, floor| Deviation {
            quantity,
            value,
            mean: running.mean,
            zscore: (value - running.mean) / running.deviation(floor),
        };
        let loss = of(Quantity::Loss, &self.loss, loss, loss_floor);
        let norm = of(Quantity::LogGradientNorm, &self.log_gradient_norm, log_gradient_norm, norm_floor);
        if norm.zscore > loss.zscore { norm } else { loss }
    }
}

impl Running {
    fn update(&mut self, value: f64, weight: f64) {
        let difference = value - self.mean;
        self.mean += difference * weight;
        self.variance = (self.variance + difference * difference * weight) * (1.0 - weight);
    }

    fn deviation(&self, floor: Floor) -> f64 {
        self.variance.sqrt().max(self.mean.abs() * floor.relative + floor.absolute)
    }
}

/// The weight of a new step once many are known.
fn least_weight() -> f64 {
    1.0 - (-1.0 / HALF_LIFE).exp2()
}

/// [`SpikeStatistics`] on the device that decides. Pairs are of the loss and of the logarithm of the gradient's norm.
#[derive(Debug)]
pub(super) struct DeviceStatistics {
    rules: SpikeRules,
    /// Steps known, 64-bit, shape `[]`.
    steps: Tensor,
    /// 64-bit, shape `[2]` each, as are the floors.
    mean: Tensor,
    variance: Tensor,
    relative_floor: Tensor,
    absolute_floor: Tensor,
}

impl DeviceStatistics {
    pub(super) fn new(rules: SpikeRules, known: &SpikeStatistics, device: Device) -> Result<Self, TchError> {
        let pair = |values: [f64; 2]| Tensor::f_from_slice(&values)?.f_to_device(device);
        let SpikeStatistics { steps, loss, log_gradient_norm } = known;
        Ok(Self {
            rules,
            steps: Tensor::from(*steps as f64).f_to_device(device)?,
            mean: pair([loss.mean, log_gradient_norm.mean])?,
            variance: pair([loss.variance, log_gradient_norm.variance])?,
            relative_floor: pair(FLOORS.map(|floor| floor.relative))?,
            absolute_floor: pair(FLOORS.map(|floor| floor.absolute))?,
        })
    }

    /// Both numbers of a step, of loss and norm in 64 bits and of shape `[]`.
    pub(super) fn observe(loss: &Tensor, gradient_norm: &Tensor) -> Result<Tensor, TchError> {
        Tensor::f_stack(&[loss, &gradient_norm.f_clamp_min(LEAST_NORM)?.f_log()?], 0)
    }

    /// [`SpikeStatistics::is_spike`]: a truth value of shape `[]`.
    pub(super) fn is_spike(&self, observed: &Tensor) -> Result<Tensor, TchError> {
        if !self.rules.on() {
            return Tensor::f_zeros([1; 0], (Kind::Bool, observed.device()));
        }
        let floor = self.mean.f_abs()?.f_mul(&self.relative_floor)?.f_add(&self.absolute_floor)?;
        let limit = self.variance.f_sqrt()?.f_maximum(&floor)?.f_mul_scalar(self.rules.zscore)?;
        let far = observed.f_sub(&self.mean)?.f_gt_tensor(&limit)?.f_any()?;
        far.f_logical_and(&self.steps.f_ge(WARM_UP as f64)?)
    }

    /// Whether spikes are skipped.
    pub(super) fn skips(&self) -> bool {
        self.rules.on() && self.rules.skips
    }

    /// [`SpikeStatistics::update`], except where `skipped`, a truth value of shape `[]`.
    pub(super) fn update(&mut self, observed: &Tensor, skipped: &Tensor) -> Result<(), TchError> {
        if !self.rules.on() {
            return Ok(());
        }
        let steps = self.steps.f_add_scalar(1.0)?;
        // A tensor divided by a number may be multiplied by its reciprocal on a GPU; this is rounded once everywhere.
        let weight = steps.f_reciprocal()?.f_clamp_min(least_weight())?;
        let difference = observed.f_sub(&self.mean)?;
        let mean = self.mean.f_add(&difference.f_mul(&weight)?)?;
        let variance = self.variance.f_add(&difference.f_mul(&difference)?.f_mul(&weight)?)?;
        let variance = variance.f_mul(&weight.f_rsub_scalar(1.0)?)?;
        self.steps = self.steps.f_where_self(skipped, &steps)?;
        self.mean = self.mean.f_where_self(skipped, &mean)?;
        self.variance = self.variance.f_where_self(skipped, &variance)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: SpikeRules = SpikeRules { zscore: 6.0, skips: false };

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![-3.0..3.0, -1e6..1e6, Just(0.0)]
    }

    /// Statistics of `steps` losses that go up and down by 1 around 5, and norms of about 1.
    fn settled(steps: u64) -> SpikeStatistics {
        let mut known = SpikeStatistics::default();
        (0..steps).for_each(|i| known.update(RULES, 5.0 + if i % 2 == 0 { 1.0 } else { -1.0 }, 0.0));
        known
    }

    proptest! {
        /// While steps are few, mean and variance are those of all of them.
        #[test]
        fn few_steps_weigh_the_same(values in prop::collection::vec(number(), 1..100)) {
            let mut running = SpikeStatistics::default();
            values.iter().for_each(|&value| running.update(RULES, value, 0.0));
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            let scale = values.iter().fold(1.0, |most: f64, value| most.max(value.abs()));
            prop_assert!((running.loss.mean - mean).abs() <= 1e-12 * scale);
            prop_assert!((running.loss.variance - variance).abs() <= 1e-12 * scale * scale);
        }

        /// The device comes to the same bits as the host, and to the same verdicts.
        #[test]
        fn device_and_host_agree(
            // A norm that overflows is none that is observed: its step is skipped.
            values in prop::collection::vec((number(), -300.0..300.0_f64, prop::bool::weighted(0.1)), 1..200),
            known in 0..2 * WARM_UP, zscore in 0.5..4.0,
        ) {
            let rules = SpikeRules { zscore, skips: true };
            let mut host = settled(known);
            let mut device = DeviceStatistics::new(rules, &host, Device::Cpu).expect("statistics");
            for (loss, norm, skipped) in values {
                let loss = if skipped { f64::NAN } else { loss };
                // A norm that is not finite is always skipped.
                let norm = Tensor::from(norm.clamp(-300.0, 300.0).exp());
                let observed = DeviceStatistics::observe(&Tensor::from(loss), &norm).expect("observe");
                let log_norm = observed.double_value(&[1]);
                let spike = device.is_spike(&observed).expect("verdict").int64_value(&[]) != 0;
                prop_assert_eq!(spike, host.is_spike(rules, loss, log_norm));
                let furthest = host.furthest(loss, log_norm).zscore;
                prop_assert!(skipped || !spike || furthest >= zscore * (1.0 - 1e-12), "{} {}", furthest, zscore);
                device.update(&observed, &Tensor::from(skipped)).expect("update");
                if !skipped {
                    host.update(rules, loss, log_norm);
                }
                let pair = |pair: &Tensor| Vec::<f64>::try_from(pair).expect("pair");
                prop_assert_eq!(pair(&device.mean), [host.loss.mean, host.log_gradient_norm.mean]);
                prop_assert_eq!(pair(&device.variance), [host.loss.variance, host.log_gradient_norm.variance]);
                prop_assert_eq!(device.steps.double_value(&[]), host.steps as f64);
            }
        }

        /// What a checkpoint keeps comes back to the last bit.
        #[test]
        fn json_keeps_every_bit(values in prop::collection::vec((number(), number()), 0..9)) {
            let mut known = SpikeStatistics::default();
            values.iter().for_each(|&(loss, norm)| known.update(RULES, loss / 3.0, norm / 7.0));
            let json = serde_json::to_string(&known).expect("json");
            prop_assert_eq!(serde_json::from_str::<SpikeStatistics>(&json).expect("statistics"), known);
        }
    }

    #[test]
    fn nothing_is_judged_before_the_warm_up_or_below_the_mean() {
        assert!(!settled(WARM_UP - 1).is_spike(RULES, 1000.0, 9.0));
        let known = settled(WARM_UP);
        assert!(known.is_spike(RULES, 12.0, 0.0) && !known.is_spike(RULES, 10.0, 0.0));
        assert!(!known.is_spike(RULES, -1000.0, -9.0), "a loss that falls is what training is for");
        assert!(!known.is_spike(SpikeRules::OFF, 1000.0, 9.0));
    }

    #[test]
    fn a_constant_has_a_floor() {
        let known = settled(WARM_UP);
        // The norm was always 1: its standard deviation is taken for 1 %.
        assert!(!known.is_spike(RULES, 5.0, 0.05));
        assert!(known.is_spike(RULES, 5.0, 0.07));
        assert_eq!(known.furthest(5.0, 0.07).quantity, Quantity::LogGradientNorm);
        assert!((known.furthest(5.0, 0.07).zscore - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_level_that_stays_becomes_normal() {
        let mut known = settled(10 * WARM_UP);
        assert!(known.is_spike(RULES, 50.0, 0.0));
        (0..5).for_each(|_| known.update(RULES, 50.0, 0.0));
        assert!(!known.is_spike(RULES, 50.0, 0.0), "{known:?}");
    }

    #[test]
    fn the_weight_of_a_step_halves() {
        let mut known = settled(100 * WARM_UP);
        let before = known.loss.mean;
        (0..HALF_LIFE as u64).for_each(|_| known.update(RULES, before + 1.0, 0.0));
        assert!((known.loss.mean - before - 0.5).abs() < 1e-9, "{}", known.loss.mean - before);
    }
}
