//! State of a run besides its tensors.

use glm_schemas::manifest::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::config::{Config, overrides};
use crate::data::sampler::Position;
use crate::optim::loss_scale::LossScale;
use crate::optim::spikes::SpikeStatistics;
use crate::task::metrics::Measured;

/// Progress and settings of a run, `state.json` in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Completed optimizer steps, the argument of the learning rate schedule.
    pub step: u64,
    /// Number of skipped steps, see [`crate::train::anomaly`].
    pub skipped: u64,
    /// Number of steps skipped since the last completed one, without normal overflows.
    #[serde(default)]
    pub skipped_in_a_row: u64,
    /// Statistics of past losses and gradients.
    #[serde(default)]
    pub spikes: SpikeStatistics,
    /// Number of questions used.
    pub samples: u64,
    /// Position in the order of samples.
    pub position: Position,
    /// Steps counted by the optimizer's bias correction.
    pub optimizer_steps: u64,
    /// Loss scale.
    pub loss_scale: LossScale,
    /// Source of the initial weights, or `random`.
    #[serde(default)]
    pub init: Option<String>,
    /// Number of questions used before the latest evaluation.
    #[serde(default)]
    pub evaluated_at: Option<u64>,
    /// Number of questions used before the latest evaluation on all questions of the split.
    #[serde(default)]
    pub evaluated_all_at: Option<u64>,
    /// Metric that selects the best checkpoint, at the latest evaluation.
    pub latest: Option<Measured>,
    /// Best value of that metric over all evaluations.
    pub best: Option<Measured>,
    /// Fingerprint of the data set.
    pub fingerprint: String,
    /// Vocabulary of the data set; `None` in checkpoints of older versions.
    #[serde(default)]
    pub tokenizer: Option<Tokenizer>,
    /// Settings.
    #[serde(deserialize_with = "overrides::stored")]
    pub config: Config,
}

impl RunState {
    /// State of a new run; `init` is the source of its weights.
    pub fn new(
        config: Config,
        loss_scale: LossScale,
        fingerprint: String,
        tokenizer: Option<Tokenizer>,
        init: Option<String>,
    ) -> Self {
        Self {
            step: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            spikes: SpikeStatistics::default(),
            samples: 0,
            position: Position::default(),
            optimizer_steps: 0,
            loss_scale,
            init,
            evaluated_at: None,
            evaluated_all_at: None,
            latest: None,
            best: None,
            fingerprint,
            tokenizer,
            config,
        }
    }
}
