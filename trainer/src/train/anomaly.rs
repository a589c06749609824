//! Steps that go wrong: what is told of them, and when it is too much.
//!
//! | what | the step | log | `metrics.jsonl` |
//! | --- | --- | --- | --- |
//! | overflow of fp16, and the loss scale can still shrink | skipped | debug | counted by `skipped` |
//! | loss or gradient not finite | skipped | warning | kind `skipped` |
//! | a [spike](crate::optim::spikes) | made; skipped with `train.skip_on_spike` | warning | kind `spike` |
//!
//! Warnings and lines name the step's questions, whatever rank has them. `train.max_consecutive_skips` skipped steps in a row end the run;
//! of these the first row's, which are normal, do not count. All ranks read the same outcomes and so end behind the same step.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::run_folder::RunState;
use crate::optim::control::Outcome;
use crate::optim::spikes::{Deviation, Quantity, SpikeRules};
use crate::record::metrics::{Record, SkippedRecord, SpikeRecord};
use crate::record::progress::Progress;
use crate::train::{Run, TrainError};

/// More questions than that are left to `metrics.jsonl`.
const MOST_NAMED: usize = 8;

/// Under which name the first rank leaves its newest checkpoint for the others.
const LAST_CHECKPOINT: &str = "last checkpoint";

/// What is wrong with a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Anomaly {
    /// Half precision has too small a range for the loss scale, which adapts.
    Overflow,
    /// Loss or gradient is not finite, and no loss scale is to blame.
    NotFinite,
    /// Loss or gradient is far above what it was of late.
    Spike(Deviation),
}

impl Anomaly {
    fn of(outcome: &Outcome, state: &RunState) -> Option<Self> {
        if outcome.finite() {
            return outcome.spike.then(|| Self::Spike(state.spikes.furthest(outcome.loss, outcome.log_gradient_norm)));
        }
        let can_shrink = state.loss_scale.is_dynamic() && !state.loss_scale.is_at_floor();
        Some(if can_shrink && outcome.loss.is_finite() { Self::Overflow } else { Self::NotFinite })
    }
}

impl RunState {
    /// Follows a decision of [`StepControl`](crate::optim::control::StepControl); what was wrong with the step, if anything.
    pub(crate) fn follow(&mut self, outcome: &Outcome, rules: SpikeRules) -> Option<Anomaly> {
        let anomaly = Anomaly::of(outcome, self);
        self.loss_scale.update(!outcome.finite());
        if outcome.skipped {
            self.skipped += 1;
            self.skipped_in_a_row += u64::from(anomaly != Some(Anomaly::Overflow));
        } else {
            self.step += 1;
            self.skipped_in_a_row = 0;
            self.spikes.update(rules, outcome.loss, outcome.log_gradient_norm);
        }
        anomaly
    }
}

/// Too many steps were skipped in a row.
#[derive(Debug, Error)]
#[error(
    "{skipped} steps in a row were skipped (train.max_consecutive_skips) behind step {step}; the last one had loss {loss} and gradient norm \
     {gradient_norm}, on {questions}. {} {remedy}",
    self.checkpoint()
)]
pub struct TooManySkippedSteps {
    step: u64,
    skipped: u64,
    loss: f64,
    gradient_norm: f64,
    questions: Questions,
    last_checkpoint: Option<PathBuf>,
    remedy: Remedy,
}

impl TooManySkippedSteps {
    fn checkpoint(&self) -> String {
        match &self.last_checkpoint {
            Some(path) => format!("The last checkpoint from before is {}.", path.display()),
            None => "There is no checkpoint yet.".to_owned(),
        }
    }
}

/// What may help a run in which all steps are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    Weights,
    Rate,
    Spikes,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => {
                "Not one step was made: look at the weights that the run started from (--init), or take train.precision=bf16 or \
                 fp32 in place of fp16"
            }
            Self::Rate => {
                "Take a lower optim.lr, or train.precision=bf16 or fp32 in place of fp16, and look at these questions with \
                 `glm-prep inspect --id`"
            }
            Self::Spikes => {
                "Look at these questions with `glm-prep inspect --id`; a lower optim.lr makes fewer spikes, a higher \
                 train.spike_zscore or train.skip_on_spike=false lets them pass"
            }
        })
    }
}

/// The questions of a step, named in short.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Questions(Vec<String>);

impl fmt::Display for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.0.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.0.len().saturating_sub(MOST_NAMED) {
            0 => write!(f, "{} {named}", if self.0.len() == 1 { "question" } else { "questions" }),
            more => write!(f, "questions {named} and {more} more"),
        }
    }
}

/// What makes a step a spike.
fn describe(deviation: &Deviation, outcome: &Outcome) -> String {
    let Deviation { quantity, mean, zscore, .. } = deviation;
    match quantity {
        Quantity::Loss => format!("loss {:.4} is {zscore:.1} standard deviations above its mean of {mean:.4}", outcome.loss),
        Quantity::LogGradientNorm => format!(
            "gradient norm {:.4} is, as a logarithm, {zscore:.1} standard deviations above its mean of {:.4}",
            outcome.gradient_norm,
            mean.exp()
        ),
    }
}

impl Run {
    /// Tells of a step that went wrong; `rows` are its questions' in the split.
    ///
    /// # Errors
    /// [`TrainError::TooManySkippedSteps`] where it was one too many; [`TrainError`] where it cannot be told of.
    pub(crate) fn report_anomaly(
        &mut self,
        anomaly: Anomaly,
        outcome: &Outcome,
        rows: &[usize],
        progress: &Progress,
    ) -> Result<(), TrainError> {
        let RunState { step, samples, skipped_in_a_row, loss_scale, .. } = self.state;
        if anomaly == Anomaly::Overflow {
            progress.detail(&format!(
                "step {step}: overflow, so a step is skipped; the loss scale is {:e} now",
                loss_scale.scale()
            ));
            return Ok(());
        }
        let max_consecutive_skips = self.config.train.max_consecutive_skips;
        let stuck = max_consecutive_skips > 0 && skipped_in_a_row >= max_consecutive_skips;
        if self.records.is_none() && !stuck {
            return Ok(());
        }
        let questions = Questions(self.train_data.example_ids(rows)?);
        let Outcome { loss, gradient_norm, skipped, .. } = *outcome;
        let so = if skipped { format!("; the step is skipped, {skipped_in_a_row} in a row now") } else { String::new() };
        let example_ids = questions.0.clone();
        match anomaly {
            Anomaly::Spike(deviation) => {
                progress.warning(&format!("step {step}: {}{so}; {questions}", describe(&deviation, outcome)));
                let record = SpikeRecord { step, samples, skipped, loss, gradient_norm, deviation, example_ids };
                self.write(&Record::Spike(record));
            }
            Anomaly::Overflow | Anomaly::NotFinite => {
                progress.warning(&format!("step {step}: loss {loss}, gradient norm {gradient_norm}{so}; {questions}"));
                let loss_scale = loss_scale.scale();
                let record = SkippedRecord { step, samples, skipped_in_a_row, loss, gradient_norm, loss_scale, example_ids };
                self.write(&Record::Skipped(record));
            }
        }
        if !stuck {
            return Ok(());
        }
        let remedy = match anomaly {
            Anomaly::Spike(_) => Remedy::Spikes,
            _ if step == 0 => Remedy::Weights,
            _ => Remedy::Rate,
        };
        let last_checkpoint = self.last_checkpoint(progress)?;
        Err(TooManySkippedSteps { step, skipped: skipped_in_a_row, loss, gradient_norm, questions, last_checkpoint, remedy }
            .into())
    }

    /// The newest checkpoint, which the first rank knows.
    fn last_checkpoint(&mut self, progress: &Progress) -> Result<Option<PathBuf>, TrainError> {
        if let Some(records) = &mut self.records {
            records.follow(progress, true);
        }
        let own = self.records.as_ref().map(|records| records.folder().latest());
        match &self.world {
            Some(world) => Ok(world.broadcast_value(LAST_CHECKPOINT, own)?),
            None => Ok(own.flatten()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::optim::loss_scale::LossScale;

    fn state(loss_scale: LossScale) -> RunState {
        RunState { step: 5, ..RunState::new(Config::default(), loss_scale, "f".to_owned(), None) }
    }

    fn outcome(loss: f64, gradient_norm: f64) -> Outcome {
        let skipped = !(loss.is_finite() && gradient_norm.is_finite());
        Outcome { loss, gradient_norm, log_gradient_norm: gradient_norm.ln(), skipped, spike: false, stop: false }
    }

    #[test]
    fn overflows_count_only_where_the_scale_can_no_longer_shrink() {
        let mut state = state(LossScale::dynamic(4.0, 2.0, 1000, 1, 1.0));
        let mut follow = |outcome: &Outcome| (state.follow(outcome, SpikeRules::OFF), state.skipped, state.skipped_in_a_row);
        let overflow = outcome(0.5, f64::INFINITY);
        assert_eq!(follow(&overflow), (Some(Anomaly::Overflow), 1, 0));
        assert_eq!(follow(&outcome(f64::NAN, 1.0)), (Some(Anomaly::NotFinite), 2, 1));
        assert_eq!(follow(&overflow), (Some(Anomaly::NotFinite), 3, 2), "the scale is at its floor");
        assert_eq!(follow(&outcome(0.5, 1.0)), (None, 3, 0));
        assert_eq!(state.step, 6);
    }

    #[test]
    fn without_a_loss_scale_nothing_is_normal() {
        let mut state = state(LossScale::off());
        assert_eq!(state.follow(&outcome(0.5, f64::INFINITY), SpikeRules::OFF), Some(Anomaly::NotFinite));
        assert_eq!((state.step, state.skipped_in_a_row), (5, 1));
    }

    #[test]
    fn skipped_spikes_are_counted_and_leave_no_trace() {
        let mut state = state(LossScale::off());
        let rules = SpikeRules { zscore: 6.0, skips: true };
        assert_eq!(state.follow(&outcome(0.5, 1.0), rules), None);
        let known = state.spikes;
        let spike = Outcome { skipped: true, spike: true, ..outcome(9.0, 1.0) };
        let Some(Anomaly::Spike(deviation)) = state.follow(&spike, rules) else { panic!("{state:?}") };
        assert_eq!((deviation.quantity, deviation.value, deviation.mean), (Quantity::Loss, 9.0, 0.5));
        assert_eq!((state.spikes, state.step, state.skipped_in_a_row), (known, 6, 1));
        let made = Outcome { skipped: false, ..spike };
        assert!(matches!(state.follow(&made, rules), Some(Anomaly::Spike(_))));
        assert!(state.spikes != known && state.skipped_in_a_row == 0);
    }

    #[test]
    fn states_of_versions_that_knew_no_spikes_can_be_read() {
        let state = state(LossScale::off());
        let mut json = serde_json::to_value(&state).expect("json");
        let keys = json.as_object_mut().expect("object");
        assert!(keys.remove("spikes").is_some() && keys.remove("skipped_in_a_row").is_some());
        let train = keys["config"]["train"].as_object_mut().expect("section");
        for key in ["max_consecutive_skips", "spike_zscore", "skip_on_spike"] {
            assert!(train.remove(key).is_some());
        }
        assert_eq!(serde_json::from_value::<RunState>(json).expect("state"), state);
    }

    #[test]
    fn many_questions_are_named_in_short() {
        let questions = |count: usize| Questions((0..count).map(|i| format!("q{i}")).collect()).to_string();
        assert_eq!(questions(1), "question q0");
        assert_eq!(questions(8), "questions q0, q1, q2, q3, q4, q5, q6, q7");
        assert_eq!(questions(11), "questions q0, q1, q2, q3, q4, q5, q6, q7 and 3 more");
    }
}
