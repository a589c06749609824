//! The learning rate over the run.

use serde::{Deserialize, Serialize};

/// Linear warm-up from 0, then linear decay to a floor.
///
/// With `w = warmup · steps`: `lr(n) = lr · n / w` up to `w`, then `lr · (1 - (1 - floor) · (n - w) / (steps - w))` up to
/// `steps`, then `lr · floor`. The published schedule has no floor and turns negative at about 1.1 times `steps`; the two
/// are equal up to `steps`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest learning rate.
    pub lr: f64,
    /// Share of `steps` that warms up.
    pub warmup: f64,
    /// Steps until the floor.
    pub decay_steps: u64,
    /// Share of `lr` that is left in the end.
    pub min_lr_ratio: f64,
}

impl Schedule {
    /// Learning rate of the step behind `completed` optimizer steps: the first step runs at 0.
    pub fn at(&self, completed: u64) -> f64 {
        let (n, steps) = (completed as f64, self.decay_steps as f64);
        let warmup = self.warmup * steps;
        if n <= warmup && warmup > 0.0 {
            return self.lr * n / warmup;
        }
        if completed >= self.decay_steps {
            return self.lr * self.min_lr_ratio;
        }
        self.lr - (1.0 - self.min_lr_ratio) * self.lr * (n - warmup) / (steps - warmup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: Schedule = Schedule { lr: 1e-5, warmup: 0.1, decay_steps: 4338, min_lr_ratio: 0.1 };

    #[test]
    fn equals_the_published_schedule_up_to_its_end() {
        // Learning rates that the published code printed.
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
        for (step, lr) in printed {
            assert!((PUBLISHED.at(step) - lr).abs() <= 1e-12 * lr, "step {step}: {} is not {lr}", PUBLISHED.at(step));
        }
    }

    #[test]
    fn never_falls_below_the_floor() {
        for step in [4338, 4772, u64::MAX] {
            assert!((PUBLISHED.at(step) - 1e-6).abs() < 1e-18, "step {step}");
        }
    }

    #[test]
    fn no_warmup_starts_at_the_top() {
        assert_eq!(Schedule { warmup: 0.0, ..PUBLISHED }.at(0), 1e-5);
    }
}
