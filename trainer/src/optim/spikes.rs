//! Spike detection: steps whose loss or gradient norm is far above that of recent steps.
//!
//! The detector follows two quantities, the loss and the natural logarithm of the gradient norm. After `n` earlier steps, a step
//! with value `x` updates the mean and variance of each:
//!
//! ```text
//! a = max(1 / (n + 1), 1 - 2^(-1 / HALF_LIFE))
//! δ = x - mean;  mean += a δ;  variance = (1 - a) (variance + a δ²)
//! ```
//!
//! This is the mean and variance of all steps while there are few of them, and later an exponential moving average in which the
//! weight of a step halves every [`HALF_LIFE`] steps. After [`WARM_UP`] steps, a step is a spike if `δ > z · max(√variance, floor)`
//! for either quantity; values below the mean are never spikes. The floor (1 % of the mean loss plus 0.001, and 1 % of the norm)
//! prevents false alarms in a run whose steps are almost identical.
//!
//! Skipped steps do not update the statistics. So if spikes are skipped and the loss stays high, every following step is a spike
//! too, and `train.max_consecutive_skips` ends the run. Spikes that are not skipped update the statistics like any other step, so
//! a new level becomes normal.

use serde::{Deserialize, Serialize};
use tch::{Device, TchError, Tensor};

/// Number of steps in which the weight of a step in mean and variance halves.
pub const HALF_LIFE: f64 = 100.0;
/// Number of steps before the first one that can be a spike.
pub const WARM_UP: u64 = 100;

/// Minimum standard deviation of the loss and of the log gradient norm: a fraction of the mean, plus a constant.
const RELATIVE_FLOOR: [f64; 2] = [0.01, 0.0];
const ABSOLUTE_FLOOR: [f64; 2] = [0.001, 0.01];

/// Smaller norms are replaced by this one, so that the logarithm is finite.
const MIN_NORM: f64 = 1e-12;

/// Rules of spike detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpikeRules {
    /// Threshold in standard deviations above the mean; 0 disables detection.
    pub zscore: f64,
    /// If true, spikes are skipped.
    pub skips: bool,
}

impl SpikeRules {
    fn is_enabled(&self) -> bool {
        self.zscore > 0.0
    }
}

/// Quantity that is checked for spikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Mean loss per question.
    Loss,
    /// Natural logarithm of the gradient norm before clipping.
    LogGradientNorm,
}

/// Deviation of a value from its expected value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Deviation {
    /// Quantity that deviates.
    pub quantity: Quantity,
    /// Value of the step.
    pub value: f64,
    /// Mean over the steps before.
    pub mean: f64,
    /// Distance from the mean in standard deviations.
    pub zscore: f64,
}

impl Deviation {
    /// The larger deviation of an observation, from [`Observation::numbers`].
    pub(super) fn largest([loss, log_norm, loss_mean, log_norm_mean, loss_zscore, log_norm_zscore]: [f64; 6]) -> Self {
        if log_norm_zscore > loss_zscore {
            let (value, mean, zscore) = (log_norm, log_norm_mean, log_norm_zscore);
            return Self { quantity: Quantity::LogGradientNorm, value, mean, zscore };
        }
        Self { quantity: Quantity::Loss, value: loss, mean: loss_mean, zscore: loss_zscore }
    }
}

/// Statistics of the steps of a run, as stored in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SpikeStatistics {
    steps: u64,
    loss: Running,
    log_gradient_norm: Running,
}

/// Running mean and variance.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Running {
    mean: f64,
    variance: f64,
}

impl SpikeStatistics {
    /// The statistics of [`SpikeDetector::state`].
    pub(super) fn from_state([steps, loss_mean, log_norm_mean, loss_variance, log_norm_variance]: [f64; 5]) -> Self {
        Self {
            steps: steps as u64,
            loss: Running { mean: loss_mean, variance: loss_variance },
            log_gradient_norm: Running { mean: log_norm_mean, variance: log_norm_variance },
        }
    }
}

/// Spike detector whose [`SpikeStatistics`] live on a device.
///
/// Tensors are 64-bit: scalars, or pairs of the loss and the log gradient norm.
#[derive(Debug)]
pub(super) struct SpikeDetector {
    rules: SpikeRules,
    steps: Tensor,
    mean: Tensor,
    variance: Tensor,
    relative_floor: Tensor,
    absolute_floor: Tensor,
}

/// Loss and log gradient norm of a step, compared with the steps before: pairs as in [`SpikeDetector`].
#[derive(Debug)]
pub(super) struct Observation {
    values: Tensor,
    mean: Tensor,
    difference: Tensor,
    deviation: Tensor,
}

impl Observation {
    /// Values, means and z-scores, shape `[6]`; see [`Deviation::largest`].
    pub(super) fn numbers(&self) -> Result<Tensor, TchError> {
        Tensor::f_cat(&[&self.values, &self.mean, &self.difference.f_div(&self.deviation)?], 0)
    }
}

impl SpikeDetector {
    pub(super) fn new(rules: SpikeRules, statistics: &SpikeStatistics, device: Device) -> Result<Self, TchError> {
        let pair = |values: [f64; 2]| Tensor::f_from_slice(&values)?.f_to_device(device);
        let SpikeStatistics { steps, loss, log_gradient_norm } = statistics;
        Ok(Self {
            rules,
            steps: Tensor::from(*steps as f64).f_to_device(device)?,
            mean: pair([loss.mean, log_gradient_norm.mean])?,
            variance: pair([loss.variance, log_gradient_norm.variance])?,
            relative_floor: pair(RELATIVE_FLOOR)?,
            absolute_floor: pair(ABSOLUTE_FLOOR)?,
        })
    }

    /// Steps, means and variances, shape `[5]`; see [`SpikeStatistics::from_state`].
    pub(super) fn state(&self) -> Result<Tensor, TchError> {
        Tensor::f_cat(&[&self.steps.f_reshape([1])?, &self.mean, &self.variance], 0)
    }

    /// Compares the loss and gradient norm of a step, both scalars, with the steps before.
    pub(super) fn observe(&self, loss: &Tensor, gradient_norm: &Tensor) -> Result<Observation, TchError> {
        let values = Tensor::f_stack(&[loss, &gradient_norm.f_clamp_min(MIN_NORM)?.f_log()?], 0)?;
        let floor = self.mean.f_abs()?.f_mul(&self.relative_floor)?.f_add(&self.absolute_floor)?;
        let deviation = self.variance.f_sqrt()?.f_maximum(&floor)?;
        Ok(Observation { difference: values.f_sub(&self.mean)?, values, mean: self.mean.shallow_clone(), deviation })
    }

    /// Returns whether the step is a spike, as a boolean scalar.
    pub(super) fn is_spike(&self, observation: &Observation) -> Result<Tensor, TchError> {
        // The deviation is above zero, so nothing exceeds an infinite threshold.
        let zscore = if self.rules.is_enabled() { self.rules.zscore } else { f64::INFINITY };
        let far = observation.difference.f_gt_tensor(&observation.deviation.f_mul_scalar(zscore)?)?.f_any()?;
        far.f_logical_and(&self.steps.f_ge(WARM_UP as f64)?)
    }

    /// Returns true if spikes are skipped.
    pub(super) fn skips(&self) -> bool {
        self.rules.skips
    }

    /// Updates the statistics, unless `skipped`, a boolean scalar.
    pub(super) fn update(&mut self, observation: &Observation, skipped: &Tensor) -> Result<(), TchError> {
        if !self.rules.is_enabled() {
            return Ok(());
        }
        let steps = self.steps.f_add_scalar(1.0)?;
        let min_weight = 1.0 - (-1.0 / HALF_LIFE).exp2();
        let weight = steps.f_reciprocal()?.f_clamp_min(min_weight)?;
        let difference = &observation.difference;
        let mean = self.mean.f_add(&difference.f_mul(&weight)?)?;
        let variance = self.variance.f_add(&difference.f_mul(difference)?.f_mul(&weight)?)?;
        let variance = variance.f_mul(&weight.f_rsub_scalar(1.0)?)?;
        self.steps = self.steps.f_where_self(skipped, &steps)?;
        self.mean = self.mean.f_where_self(skipped, &mean)?;
        self.variance = self.variance.f_where_self(skipped, &variance)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices;
    use super::*;
    use proptest::prelude::*;

    const RULES: SpikeRules = SpikeRules { zscore: 6.0, skips: false };

    /// Detector with a host interface.
    struct Detector(SpikeDetector, Device);

    impl Detector {
        fn new(rules: SpikeRules, statistics: &SpikeStatistics, device: Device) -> Self {
            Self(SpikeDetector::new(rules, statistics, device).expect("detector"), device)
        }

        /// After `steps` steps whose losses alternate between 4 and 6, and whose norms are 1.
        fn settled(steps: u64, device: Device) -> Self {
            let mut detector = Self::new(RULES, &SpikeStatistics::default(), device);
            (0..steps).for_each(|i| detector.update(5.0 + if i % 2 == 0 { 1.0 } else { -1.0 }, 0.0));
            detector
        }

        fn observe(&self, loss: f64, log_norm: f64) -> Observation {
            let scalar = |value: f64| Tensor::from(value).to_device(self.1);
            self.0.observe(&scalar(loss), &scalar(log_norm.exp())).expect("observation")
        }

        fn update(&mut self, loss: f64, log_norm: f64) {
            let observation = self.observe(loss, log_norm);
            self.0.update(&observation, &Tensor::from(false).to_device(self.1)).expect("update");
        }

        fn is_spike(&self, loss: f64, log_norm: f64) -> bool {
            self.0.is_spike(&self.observe(loss, log_norm)).expect("verdict").int64_value(&[]) != 0
        }

        fn largest(&self, loss: f64, log_norm: f64) -> Deviation {
            Deviation::largest(numbers(&self.observe(loss, log_norm).numbers().expect("numbers")))
        }

        fn statistics(&self) -> SpikeStatistics {
            SpikeStatistics::from_state(numbers(&self.0.state().expect("state")))
        }
    }

    fn numbers<const N: usize>(tensor: &Tensor) -> [f64; N] {
        Vec::try_from(tensor).expect("numbers").try_into().expect("length")
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![-3.0..3.0, -1e6..1e6, Just(0.0)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn few_steps_have_equal_weights(values in prop::collection::vec(number(), 1..100)) {
            for device in devices() {
                let mut detector = Detector::new(RULES, &SpikeStatistics::default(), device);
                values.iter().for_each(|&value| detector.update(value, 0.0));
                let count = values.len() as f64;
                let mean = values.iter().sum::<f64>() / count;
                let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
                let scale = values.iter().fold(1.0, |max: f64, value| max.max(value.abs()));
                let found = detector.statistics();
                prop_assert_eq!(found.steps, values.len() as u64);
                prop_assert!((found.loss.mean - mean).abs() <= 1e-12 * scale);
                prop_assert!((found.loss.variance - variance).abs() <= 1e-12 * scale * scale);
            }
        }

        #[test]
        fn statistics_survive_json_and_a_new_detector_bit_for_bit(values in prop::collection::vec((number(), -9.0..9.0_f64), 0..9)) {
            for device in devices() {
                let mut detector = Detector::new(RULES, &SpikeStatistics::default(), device);
                values.iter().for_each(|&(loss, norm)| detector.update(loss / 3.0, norm / 7.0));
                let json = serde_json::to_string(&detector.statistics()).expect("json");
                let restored = Detector::new(RULES, &serde_json::from_str(&json).expect("statistics"), device);
                prop_assert_eq!(restored.statistics(), detector.statistics());
            }
        }
    }

    #[test]
    fn no_spikes_before_the_warm_up_or_below_the_mean() {
        for device in devices() {
            assert!(!Detector::settled(WARM_UP - 1, device).is_spike(1000.0, 9.0));
            let settled = Detector::settled(WARM_UP, device);
            assert!(settled.is_spike(12.0, 0.0) && !settled.is_spike(10.0, 0.0));
            assert!(!settled.is_spike(-1000.0, -9.0), "a falling loss is the goal of training");
            assert!(!settled.is_spike(f64::NAN, 0.0));
            let off = SpikeRules { zscore: 0.0, skips: true };
            let mut off = Detector::new(off, &settled.statistics(), device);
            assert!(!off.is_spike(1000.0, 9.0));
            off.update(1000.0, 9.0);
            assert_eq!(off.statistics(), settled.statistics());
        }
    }

    #[test]
    fn the_deviation_has_a_floor() {
        for device in devices() {
            let settled = Detector::settled(WARM_UP, device);
            // The norm was always 1, so its standard deviation counts as 1 %.
            assert!(!settled.is_spike(5.0, 0.05));
            assert!(settled.is_spike(5.0, 0.07));
            let largest = settled.largest(5.0, 0.07);
            assert_eq!((largest.quantity, largest.mean), (Quantity::LogGradientNorm, 0.0));
            assert!((largest.value - 0.07).abs() < 1e-12 && (largest.zscore - 7.0).abs() < 1e-9, "{largest:?}");
            let largest = settled.largest(20.0, 0.07);
            assert_eq!((largest.quantity, largest.value), (Quantity::Loss, 20.0));
            assert!((largest.mean - 5.0).abs() < 1e-9 && (largest.zscore - 15.0).abs() < 1e-9, "{largest:?}");
        }
    }

    #[test]
    fn a_lasting_level_becomes_normal() {
        for device in devices() {
            let mut detector = Detector::settled(10 * WARM_UP, device);
            assert!(detector.is_spike(50.0, 0.0));
            (0..5).for_each(|_| detector.update(50.0, 0.0));
            assert!(!detector.is_spike(50.0, 0.0), "{:?}", detector.statistics());
        }
    }

    #[test]
    fn the_weight_of_a_step_halves() {
        for device in devices() {
            let mut detector = Detector::settled(20 * WARM_UP, device);
            let before = detector.statistics().loss.mean;
            (0..HALF_LIFE as u64).for_each(|_| detector.update(before + 1.0, 0.0));
            let moved = detector.statistics().loss.mean - before;
            assert!((moved - 0.5).abs() < 1e-9, "{moved}");
        }
    }
}
