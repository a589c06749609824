//! Learning rate schedule.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

/// Form of the decay of the learning rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// A straight line.
    #[default]
    Linear,
    /// Half a period of a cosine.
    Cosine,
}

/// Linear warm-up from 0, followed by decay to a constant minimum.
///
/// With `w = warmup · decay_steps`, `p = (n - w) / (decay_steps - w)` and `f = min_lr_ratio`: `lr(n) = lr · n / w` up to `w`, then
/// `lr · (1 - (1 - f) · p)` if the decay is linear and `lr · (f + (1 - f) · (1 + cos πp) / 2)` if it is a cosine, then `lr · f` from
/// `decay_steps` on. The published linear schedule has no minimum and becomes negative at about `1.1 · decay_steps`; up to `decay_steps`
/// the two are equal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Peak learning rate.
    pub lr: f64,
    /// Fraction of `decay_steps` used for warm-up.
    pub warmup: f64,
    /// Steps after which the learning rate has reached its minimum.
    pub decay_steps: u64,
    /// Minimum learning rate as a fraction of `lr`.
    pub min_lr_ratio: f64,
    /// Form of the decay.
    pub decay: Decay,
}

impl Schedule {
    /// Returns the learning rate of the step that follows `completed` optimizer steps; with warm-up, the first step has 0.
    /// Both are 64-bit scalars on the same device.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn at(&self, completed: &Tensor) -> Result<Tensor, TchError> {
        let Self { lr, warmup, decay_steps, min_lr_ratio, decay } = *self;
        let end = decay_steps as f64;
        let warm = warmup * end;
        let (since, range) = (completed.f_sub_scalar(warm)?, (1.0 - min_lr_ratio) * lr);
        let decayed = match decay {
            Decay::Linear => since.f_mul_scalar(-range / (end - warm).max(f64::MIN_POSITIVE))?.f_add_scalar(lr)?,
            Decay::Cosine => {
                let angle = since.f_mul_scalar(PI / (end - warm).max(f64::MIN_POSITIVE))?;
                angle.f_cos()?.f_add_scalar(1.0)?.f_mul_scalar(0.5 * range)?.f_add_scalar(lr * min_lr_ratio)?
            }
        };
        let minimum = Tensor::f_full_like(completed, lr * min_lr_ratio)?;
        let decayed = minimum.f_where_self(&completed.f_ge(end)?, &decayed)?;
        if warm <= 0.0 {
            return Ok(decayed);
        }
        completed.f_mul_scalar(lr)?.f_div_scalar(warm)?.f_where_self(&completed.f_le(warm)?, &decayed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices;
    use super::*;

    const PUBLISHED: Schedule = Schedule { lr: 1e-5, warmup: 0.1, decay_steps: 4338, min_lr_ratio: 0.1, decay: Decay::Linear };

    /// Learning rates on every device.
    fn at(schedule: Schedule, completed: u64) -> Vec<f64> {
        let on = |device| schedule.at(&Tensor::from(completed as f64).to_device(device)).expect("learning rate");
        devices().into_iter().map(|device| on(device).double_value(&[])).collect()
    }

    #[test]
    fn equals_the_published_schedule_up_to_its_end() {
        // Learning rates printed by the published code.
        let printed = [
            (0, 0.0),
            (1, 2.3052097740894423e-08),
            (100, 2.305209774089442e-06),
            (433, 9.981558321807286e-06),
            (434, 9.999538958045182e-06),
            (1000, 8.694790225910558e-06),
            (4337, 1.0023052097740901e-06),
            (4338, 1.0000000000000006e-06),
        ];
        for (step, expected) in printed {
            for lr in at(PUBLISHED, step) {
                assert!((lr - expected).abs() <= 1e-12 * expected, "step {step}: {lr}, expected {expected}");
            }
        }
    }

    #[test]
    fn schedules_of_the_published_pretraining_runs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/golden/infilling/schedules.json");
        let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("json");
        let runs = golden["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 8);
        for run in runs {
            let number = |key: &str| run[key].as_f64().expect("a number");
            let decay = if run["decay"] == "cosine" { Decay::Cosine } else { Decay::Linear };
            let schedule = Schedule {
                lr: number("lr"),
                warmup: number("warmup"),
                decay_steps: number("decay_iters") as u64,
                min_lr_ratio: number("floor_ratio"),
                decay,
            };
            for point in run["points"].as_array().expect("points") {
                let (step, expected) = (point[0].as_u64().expect("a step"), point[1].as_f64().expect("a rate"));
                // The published linear schedule falls below the floor after the decay.
                let floor = if step >= schedule.decay_steps { schedule.lr * schedule.min_lr_ratio } else { 0.0 };
                for lr in at(schedule, step) {
                    let expected = expected.max(floor);
                    assert!((lr - expected).abs() <= 1e-12 * schedule.lr, "{} {step}: {lr}, expected {expected}", run["run"]);
                }
            }
        }
    }

    #[test]
    fn stays_at_the_minimum_after_the_decay() {
        for step in [4338, 4772, u64::MAX] {
            assert!(at(PUBLISHED, step).iter().all(|lr| (lr - 1e-6).abs() < 1e-18), "step {step}");
        }
    }

    #[test]
    fn starts_at_the_peak_without_warm_up() {
        assert!(at(Schedule { warmup: 0.0, ..PUBLISHED }, 0).iter().all(|&lr| lr == 1e-5));
    }

    #[test]
    fn warm_up_may_take_all_steps() {
        let schedule = Schedule { warmup: 1.0, ..PUBLISHED };
        assert!(at(schedule, 4338).iter().all(|lr| (lr - 1e-5).abs() < 1e-18));
        assert!(at(schedule, 4339).iter().all(|lr| (lr - 1e-6).abs() < 1e-18));
    }
}
