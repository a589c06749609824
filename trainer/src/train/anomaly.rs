//! Anomalies: steps with a non-finite loss or gradient, and spikes.
//!
//! | anomaly | step | log | `metrics.jsonl` |
//! | --- | --- | --- | --- |
//! | fp16 overflow while the loss scale can shrink | skipped | info for the 1st, 2nd, 4th, …, else debug | counted by `skipped` |
//! | loss or gradient not finite | skipped | warning | kind `skipped` |
//! | [spike](crate::optim::spikes) | made; skipped with `train.skip_on_spike` | warning | kind `spike` |
//!
//! Warnings and records name the questions of the step on all ranks. `train.max_consecutive_skips` skipped steps in a row end the
//! run; overflows in the first row of the table are normal and do not count. All ranks read the same outcomes, so they end after
//! the same step.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::run_folder::RunState;
use crate::optim::control::{ControlState, Outcome};
use crate::optim::loss_scale::LossScale;
use crate::optim::spikes::{Deviation, Quantity};
use crate::record::metrics::{Record, SkippedRecord, SpikeRecord};

/// Maximum number of questions named in a message; `metrics.jsonl` lists all.
const MAX_NAMED: usize = 8;

/// Anomaly of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Anomaly {
    /// The scaled gradient overflowed fp16, and the loss scale can adapt.
    Overflow,
    /// Loss or gradient is not finite for another reason.
    NotFinite,
    /// Loss or gradient norm is far above that of the steps before.
    Spike(Deviation),
}

impl Anomaly {
    /// Classifies an outcome; `loss_scale` is the one before the step.
    fn of(outcome: &Outcome, loss_scale: &LossScale) -> Option<Self> {
        if outcome.is_finite() {
            return outcome.spike.map(Self::Spike);
        }
        let can_shrink = loss_scale.is_dynamic() && !loss_scale.is_at_min();
        Some(if can_shrink && outcome.loss.is_finite() { Self::Overflow } else { Self::NotFinite })
    }
}

/// Updates the state of a run after a step, and returns the anomaly of the step, if any.
pub(crate) fn follow(state: &mut RunState, outcome: &Outcome) -> Option<Anomaly> {
    let anomaly = Anomaly::of(outcome, &state.loss_scale);
    let ControlState { step, loss_scale, spikes } = outcome.state;
    (state.step, state.loss_scale, state.spikes) = (step, loss_scale, spikes);
    if outcome.skipped {
        state.skipped += 1;
        state.skipped_in_a_row += u64::from(anomaly != Some(Anomaly::Overflow));
    } else {
        state.skipped_in_a_row = 0;
    }
    anomaly
}

/// Error that ends a run after too many consecutive skipped steps.
#[derive(Debug, Error)]
#[error(
    "{skipped} steps in a row were skipped (train.max_consecutive_skips) after step {step}; the last one had loss {loss} and \
     gradient norm {gradient_norm}, on {rows}. {} {}",
    self.checkpoint(),
    remedy.text(rows.word)
)]
pub struct TooManySkippedSteps {
    step: u64,
    skipped: u64,
    loss: f64,
    gradient_norm: f64,
    rows: Rows,
    last_checkpoint: Option<PathBuf>,
    remedy: Remedy,
}

impl TooManySkippedSteps {
    fn checkpoint(&self) -> String {
        match &self.last_checkpoint {
            Some(path) => format!("The last checkpoint before them is {}.", path.display()),
            None => "No checkpoint has been written yet.".to_owned(),
        }
    }
}

/// Suggestion for a run in which all steps are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    Weights,
    Rate,
    Spikes,
}

impl Remedy {
    /// The suggestion; `rows` is the task's word for rows.
    fn text(self, rows: &str) -> String {
        match self {
            Self::Weights => {
                "Not one step succeeded: check the initial weights (--init), or use train.precision=bf16 or fp32 instead of fp16"
                    .to_owned()
            }
            Self::Rate => format!(
                "Use a lower optim.lr, or train.precision=bf16 or fp32 instead of fp16, and check these {rows} with \
                 `glm-prep inspect --id`"
            ),
            Self::Spikes => format!(
                "Check these {rows} with `glm-prep inspect --id`; a lower optim.lr causes fewer spikes, and a higher \
                 train.spike_zscore or train.skip_on_spike=false tolerates them"
            ),
        }
    }
}

/// Example ids of the rows of a step; displays the first few.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rows {
    ids: Vec<String>,
    /// The task's word for rows, in the plural.
    word: &'static str,
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.ids.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let word = if self.ids.len() == 1 { self.word.trim_end_matches('s') } else { self.word };
        match self.ids.len().saturating_sub(MAX_NAMED) {
            0 => write!(f, "{word} {named}"),
            more => write!(f, "{word} {named} and {more} more"),
        }
    }
}

/// Anomalous step of a run: its log line, metrics record and error.
#[derive(Debug)]
pub(crate) struct AnomalousStep<'a> {
    anomaly: Anomaly,
    outcome: &'a Outcome,
    state: &'a RunState,
    rows: Rows,
}

impl<'a> AnomalousStep<'a> {
    /// `state` is the one after the step; `word` is the task's word for rows.
    pub(crate) fn new(
        anomaly: Anomaly,
        outcome: &'a Outcome,
        state: &'a RunState,
        ids: Vec<String>,
        word: &'static str,
    ) -> Self {
        Self { anomaly, outcome, state, rows: Rows { ids, word } }
    }

    /// Record for `metrics.jsonl`.
    pub(crate) fn record(&self) -> Record {
        let RunState { step, samples, skipped_in_a_row, loss_scale, .. } = *self.state;
        let Outcome { loss, gradient_norm, skipped, .. } = *self.outcome;
        let example_ids = self.rows.ids.clone();
        match self.anomaly {
            Anomaly::Spike(deviation) => {
                Record::Spike(SpikeRecord { step, samples, skipped, loss, gradient_norm, deviation, example_ids })
            }
            Anomaly::Overflow | Anomaly::NotFinite => {
                let loss_scale = loss_scale.scale();
                Record::Skipped(SkippedRecord { step, samples, skipped_in_a_row, loss, gradient_norm, loss_scale, example_ids })
            }
        }
    }

    /// Error for a run that ends with this step.
    pub(crate) fn into_error(self, last_checkpoint: Option<PathBuf>) -> TooManySkippedSteps {
        let RunState { step, skipped_in_a_row: skipped, .. } = *self.state;
        let Outcome { loss, gradient_norm, .. } = *self.outcome;
        let remedy = match self.anomaly {
            Anomaly::Spike(_) => Remedy::Spikes,
            _ if step == 0 => Remedy::Weights,
            _ => Remedy::Rate,
        };
        TooManySkippedSteps { step, skipped, loss, gradient_norm, rows: self.rows, last_checkpoint, remedy }
    }
}

impl fmt::Display for AnomalousStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { loss, gradient_norm, skipped, .. } = self.outcome;
        write!(f, "step {}: ", self.state.step)?;
        match self.anomaly {
            Anomaly::Overflow => {
                return write!(f, "overflow; step skipped, loss scale is now {:e}", self.state.loss_scale.scale());
            }
            Anomaly::NotFinite => write!(f, "loss {loss}, gradient norm {gradient_norm}")?,
            Anomaly::Spike(Deviation { quantity, value, mean, zscore }) => {
                let quantity = match quantity {
                    Quantity::Loss => "loss",
                    Quantity::LogGradientNorm => "log gradient norm",
                };
                write!(f, "{quantity} {value:.4} is {zscore:.1} standard deviations above its mean of {mean:.4}")?;
            }
        }
        if *skipped {
            write!(f, "; step skipped, {} in a row", self.state.skipped_in_a_row)?;
        }
        write!(f, "; {}", self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn state(loss_scale: LossScale) -> RunState {
        RunState { step: 5, ..RunState::new(Config::default(), loss_scale, "f".to_owned(), None, None) }
    }

    /// Outcome of the step after `state`, skipped if it is not finite.
    fn outcome(state: &RunState, loss: f64, gradient_norm: f64) -> Outcome {
        let skipped = !(loss.is_finite() && gradient_norm.is_finite());
        let step = state.step + u64::from(!skipped);
        let state = ControlState { step, loss_scale: state.loss_scale, spikes: state.spikes };
        Outcome { loss, lr: 1e-5, gradient_norm, skipped, spike: None, stop: false, state }
    }

    #[test]
    fn overflows_count_only_if_the_loss_scale_cannot_shrink() {
        let mut state = state(LossScale::dynamic(2.0, 2.0, 1000, 1, 1.0));
        let mut next = |loss, gradient_norm| {
            let outcome = outcome(&state, loss, gradient_norm);
            (follow(&mut state, &outcome), state.skipped, state.skipped_in_a_row, state.step)
        };
        assert_eq!(next(0.5, f64::INFINITY), (Some(Anomaly::Overflow), 1, 0, 5));
        assert_eq!(next(f64::NAN, 1.0), (Some(Anomaly::NotFinite), 2, 1, 5));
        assert_eq!(next(0.5, 1.0), (None, 2, 0, 6));
        state.loss_scale = LossScale::dynamic(1.0, 2.0, 1000, 1, 1.0);
        let overflow = outcome(&state, 0.5, f64::INFINITY);
        assert_eq!(follow(&mut state, &overflow), Some(Anomaly::NotFinite), "the scale is at its minimum");
        assert_eq!((state.skipped, state.skipped_in_a_row), (3, 1));
    }

    #[test]
    fn without_a_loss_scale_no_overflow_is_normal() {
        let mut state = state(LossScale::off());
        let overflow = outcome(&state, 0.5, f64::INFINITY);
        assert_eq!(follow(&mut state, &overflow), Some(Anomaly::NotFinite));
        assert_eq!((state.step, state.skipped_in_a_row), (5, 1));
    }

    #[test]
    fn the_loss_scale_is_that_of_the_outcome() {
        let mut state = state(LossScale::dynamic(4.0, 2.0, 1000, 1, 1.0));
        let mut overflow = outcome(&state, 0.5, f64::INFINITY);
        overflow.state.loss_scale = LossScale::dynamic(2.0, 2.0, 1000, 1, 1.0);
        let anomaly = follow(&mut state, &overflow).expect("overflow");
        assert_eq!(state.loss_scale.scale(), 2.0);
        let message = AnomalousStep::new(anomaly, &overflow, &state, Vec::new(), "questions").to_string();
        assert_eq!(message, "step 5: overflow; step skipped, loss scale is now 2e0");
    }

    #[test]
    fn skipped_spikes_count() {
        let mut state = state(LossScale::off());
        let deviation = Deviation { quantity: Quantity::Loss, value: 9.0, mean: 0.5, zscore: 7.0 };
        let made = Outcome { spike: Some(deviation), ..outcome(&state, 9.0, 1.0) };
        assert_eq!(follow(&mut state, &made), Some(Anomaly::Spike(deviation)));
        assert_eq!((state.step, state.skipped_in_a_row), (6, 0));
        let skipped = Outcome { skipped: true, ..made };
        let anomaly = follow(&mut state, &skipped).expect("spike");
        assert_eq!((state.step, state.skipped_in_a_row), (6, 1));
        let message = AnomalousStep::new(anomaly, &skipped, &state, vec!["a".to_owned()], "questions").to_string();
        let expected =
            "step 6: loss 9.0000 is 7.0 standard deviations above its mean of 0.5000; step skipped, 1 in a row; question a";
        assert_eq!(message, expected);
    }

    #[test]
    fn states_without_spike_statistics_can_be_read() {
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
    fn long_lists_of_questions_are_shortened() {
        let questions =
            |count: usize| Rows { ids: (0..count).map(|i| format!("q{i}")).collect(), word: "questions" }.to_string();
        assert_eq!(questions(1), "question q0");
        assert_eq!(questions(8), "questions q0, q1, q2, q3, q4, q5, q6, q7");
        assert_eq!(questions(11), "questions q0, q1, q2, q3, q4, q5, q6, q7 and 3 more");
    }
}
