//! Length of a run, and the settings that follow it.

use super::{Config, TrainSettings};

/// Number of evaluations per run with `train.eval_every = 0`.
const EVALUATIONS: u64 = 10;
/// Minimum number of optimizer steps between them.
const STEPS_BETWEEN_EVALUATIONS: u64 = 10;

/// Length of a run by its settings, if no step is skipped and the target is not reached before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Optimizer steps.
    pub steps: u64,
    /// Samples, each counted once per epoch.
    pub samples: u64,
}

impl Plan {
    /// Computes the length of a run with `samples` training samples per epoch. The last step of an epoch may have fewer of them than
    /// the others, so an epoch has a whole number of steps.
    pub fn of(config: &Config, samples: usize) -> Self {
        let samples = (samples as u64).max(1);
        let per_step = (config.samples_per_update() as u64).max(1);
        let per_epoch = samples.div_ceil(per_step);
        let TrainSettings { epochs, max_steps, max_samples, .. } = config.train;
        let mut steps = epochs.saturating_mul(per_epoch);
        if max_steps > 0 {
            steps = steps.min(max_steps);
        }
        if max_samples > 0 {
            steps = steps.min((max_samples / samples).saturating_mul(per_epoch) + (max_samples % samples).div_ceil(per_step));
        }
        let in_last_epoch = (steps % per_epoch).saturating_mul(per_step).min(samples);
        Self { steps, samples: (steps / per_epoch).saturating_mul(samples).saturating_add(in_last_epoch) }
    }
}

/// Replaces the zeros of `optim.decay_steps` and `train.eval_every`, which stand for the length of the run, by their numbers.
/// Every rank gets the same ones.
pub fn resolve(config: &mut Config, samples: usize) {
    let plan = Plan::of(config, samples);
    if config.optim.decay_steps == 0 {
        // Whole numbers of TOML have 63 bits.
        config.optim.decay_steps = plan.steps.clamp(1, i64::MAX as u64);
    }
    if config.train.eval_every == 0 {
        let least = STEPS_BETWEEN_EVALUATIONS.saturating_mul(config.samples_per_update() as u64);
        config.train.eval_every = match config.train.eval_each_epoch {
            true => (samples as u64).max(1),
            false => plan.samples.div_ceil(EVALUATIONS).max(least),
        };
    }
}

/// Replaces these zeros by the numbers with which the run was started: a run that becomes longer keeps its schedule.
pub fn keep_recorded(config: &mut Config, recorded: &Config) {
    if config.optim.decay_steps == 0 {
        config.optim.decay_steps = recorded.optim.decay_steps;
    }
    if config.train.eval_every == 0 {
        config.train.eval_every = recorded.train.eval_every;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(epochs: u64, max_steps: u64, max_samples: u64) -> Config {
        let mut config = Config::default();
        (config.train.epochs, config.train.max_steps, config.train.max_samples) = (epochs, max_steps, max_samples);
        (config.data.batch_size, config.optim.grad_accumulation) = (8, 4);
        config
    }

    #[test]
    fn the_shortest_limit_counts_and_epochs_have_whole_steps() {
        // 10 steps per epoch: nine of 32 questions and one of 12.
        let plan = |epochs, max_steps, max_samples| {
            let Plan { steps, samples } = Plan::of(&config(epochs, max_steps, max_samples), 300);
            (steps, samples)
        };
        assert_eq!(plan(4, 0, 0), (40, 1200));
        assert_eq!(plan(4, 15, 0), (15, 300 + 5 * 32));
        assert_eq!(plan(4, 0, 300), (10, 300));
        assert_eq!(plan(4, 0, 301), (11, 332));
        assert_eq!(plan(4, 99, 0), (40, 1200));
        assert_eq!(plan(u64::MAX, 0, 0).0, u64::MAX);
    }

    #[test]
    fn the_schedule_and_evaluations_follow_the_length() {
        let resolved = |mut config: Config| {
            resolve(&mut config, 3200);
            (config.optim.decay_steps, config.train.eval_every)
        };
        assert_eq!(resolved(config(4, 0, 0)), (400, 1280));
        // At most one evaluation per 10 steps.
        assert_eq!(resolved(config(4, 15, 0)), (15, 320));
        let mut each = config(4, 0, 0);
        each.train.eval_each_epoch = true;
        assert_eq!(resolved(each), (400, 3200));
        let mut set = config(4, 0, 0);
        (set.optim.decay_steps, set.train.eval_every) = (4338, 19200);
        assert_eq!(resolved(set), (4338, 19200));
    }

    #[test]
    fn a_longer_run_keeps_its_schedule() {
        let mut first = config(4, 10, 0);
        resolve(&mut first, 3200);
        let mut longer = config(4, 20, 0);
        keep_recorded(&mut longer, &first);
        resolve(&mut longer, 3200);
        assert_eq!((longer.optim.decay_steps, longer.train.eval_every), (10, 320));
    }
}
