//! Reasons to doubt the result of a run.

use glm_support::page::number::{count, value};

use super::Known;
use super::records::Entry;
use crate::config::Config;
use crate::task::metrics::Role;

/// Standard deviations that a share of right answers must exceed chance by.
const DEVIATIONS: f64 = 2.0;

impl Known {
    /// Returns sentences about a run that has not learned anything, or was too short for its schedule.
    pub(super) fn warnings(&self) -> Vec<String> {
        let config = self.config.as_ref().ok();
        let rising = config.and_then(|config| still_rising(&self.records.train, config));
        let at_chance = self.at_chance();
        match (at_chance, rising) {
            (Some(chance), Some(rising)) => vec![format!("{chance}, and {rising}")],
            (Some(chance), None) => vec![format!("{chance}.")],
            // An unfinished run has time to complete its warm-up.
            (None, Some(_)) if self.going_on => Vec::new(),
            (None, Some(rising)) => vec![format!("The schedule does not fit the run: {rising}")],
            (None, None) => Vec::new(),
        }
    }

    /// Returns the beginning of a sentence if the last evaluation is not above chance.
    fn at_chance(&self) -> Option<String> {
        // Other metrics are not shares of right answers.
        let quality = self.metrics().iter().find(|info| info.name == "accuracy")?;
        let chance = self.metrics().iter().find(|info| info.role == Role::Baseline)?;
        let eval = self.records.evals.last()?;
        let (found, guessed) = (eval.value(quality.name)?, eval.value(chance.name)?);
        let questions = eval.value("questions")?;
        is_at_chance(found, guessed, questions).then(|| {
            let [found, guessed] = [(quality, found), (chance, guessed)].map(|(info, value)| info.format(value));
            format!(
                "The last {} ({found} of {} questions) cannot be told from chance ({guessed})",
                quality.label,
                count(questions as u64)
            )
        })
    }
}

/// Returns true if so many right answers would be no surprise for guesses.
fn is_at_chance(found: f64, guessed: f64, questions: f64) -> bool {
    let deviation = (guessed * (1.0 - guessed) / questions.max(1.0)).sqrt();
    found <= guessed + DEVIATIONS * deviation
}

/// Returns the end of a sentence if the last logged learning rate is in the warm-up.
fn still_rising(train: &[Entry], config: &Config) -> Option<String> {
    let rates = || train.iter().filter_map(|train| Some((train.step, train.value("lr")?)));
    let (step, last) = rates().next_back()?;
    let highest = rates().map(|(_, rate)| rate).fold(0.0, f64::max);
    let peak = config.optim.lr;
    if last < highest || last > 0.999 * peak {
        return None;
    }
    let remedy = match config.optim.decay_steps {
        0 => "Train for more steps.".to_owned(),
        decay_steps => format!(
            "Warm-up takes {} steps, the part optim.warmup of optim.decay_steps; optim.decay_steps = 0 follows the length of the run.",
            count((config.optim.warmup * decay_steps as f64).ceil() as u64)
        ),
    };
    Some(format!(
        "the learning rate was still rising at step {}: it had reached {} of {}. {remedy}",
        count(step),
        value(last),
        value(peak)
    ))
}

#[cfg(test)]
mod tests {
    use super::super::records::Records;
    use super::*;

    fn rising(rates: &[f64]) -> Option<String> {
        let mut config = Config::default();
        config.optim.decay_steps = 4338;
        let lines =
            (1..).zip(rates).map(|(step, lr)| format!("{{\"kind\":\"train\",\"step\":{step},\"samples\":1,\"lr\":{lr}}}\n"));
        still_rising(&Records::parse(lines.collect::<String>().as_bytes()).train, &config)
    }

    #[test]
    fn a_run_that_ends_in_its_warm_up_is_noticed() {
        let text = rising(&[0.0, 1e-7, 9e-7]).expect("a warning");
        assert!(text.contains("at step 3: it had reached 9e-7 of 1e-5. Warm-up takes 434 steps"), "{text}");
        assert_eq!([rising(&[5e-6, 1e-5]), rising(&[5e-6, 1e-5, 9e-6]), rising(&[])], [None, None, None]);
    }

    #[test]
    fn chance_is_exceeded_by_two_standard_deviations() {
        // Of 60 guesses among four, 15 are right, with a standard deviation of 3.4.
        assert!(is_at_chance(0.25, 0.25, 60.0) && is_at_chance(0.35, 0.25, 60.0) && is_at_chance(0.1, 0.25, 60.0));
        assert!(!is_at_chance(0.37, 0.25, 60.0) && !is_at_chance(0.27, 0.25, 10_000.0));
    }
}
