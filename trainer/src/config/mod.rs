//! Settings and their sources.
//!
//! In order of increasing precedence: the defaults, the recipe, the file given with `--config`, flags such as `--preset`, and
//! each `--set key=value`.

pub mod args;
pub mod changes;
mod distributed;
pub mod overrides;
pub mod page;
pub mod plan;
pub mod recipe;

use std::sync::Arc;

use glm_schemas::vocab::SpecialIds;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::distributed::{DistributedSettings, ReduceKind, ShardKind};
use crate::data::loader::LoaderConfig;
use crate::data::pack::Packer;
use crate::data::sampler::{Order, Position};
use crate::data::verify::Verify;
use crate::device::Precision;
use crate::model::Kernels;
use crate::model::config::{ConfigError, ModelConfig};
use crate::model::preset::Preset;
use crate::optim::adamw::AdamWConfig;
use crate::optim::loss_scale::LossScale;
use crate::optim::schedule::{Decay, Schedule};
use crate::optim::spikes::SpikeRules;
use crate::task::cloze::{ClozeForm, ClozeSettings, Truncation};
use crate::task::infill::InfillSettings;
use crate::task::seq2seq::Seq2seqSettings;
use crate::task::{Purpose, Task, TaskSettings};

/// Documented defaults: the output of `glm-trainer config`, from which [`Config::default`] is parsed.
pub const REFERENCE: &str = include_str!("reference.toml");

/// Tokens per batch with `data.micro_batch_tokens = 0`, except on a GPU.
pub const MICRO_BATCH_TOKENS: usize = 4096;

/// Settings of a run. [`REFERENCE`] documents every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Model.
    pub model: ModelSettings,
    /// Optimizer and learning rate schedule.
    pub optim: OptimSettings,
    /// Loss scale for fp16.
    pub loss_scale: LossScaleSettings,
    /// Data loading.
    pub data: DataSettings,
    /// Questions with choices. Runs of earlier versions have no such section.
    #[serde(default)]
    pub cloze: ClozeSettings,
    /// Blank infilling. Runs of earlier versions have no such section.
    #[serde(default)]
    pub infill: InfillSettings,
    /// Sequence to sequence. Runs of earlier versions have no such section.
    #[serde(default)]
    pub seq2seq: Seq2seqSettings,
    /// Training loop.
    pub train: TrainSettings,
    /// Distributed training.
    pub distributed: DistributedSettings,
}

/// `[model]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "reference.toml documents every key")]
pub struct ModelSettings {
    pub preset: Preset,
    /// True if the command line sets the preset: then weights must have its sizes. Not a setting, so not in files.
    #[serde(skip)]
    pub preset_explicit: bool,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub dropout: f64,
    pub attention_dropout: f64,
    pub layernorm_eps: f64,
    pub init_std: f64,
}

/// `[optim]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "reference.toml documents every key")]
pub struct OptimSettings {
    pub lr: f64,
    pub warmup: f64,
    // Runs of earlier versions do not have it.
    #[serde(default)]
    pub schedule: Decay,
    pub decay_steps: u64,
    pub min_lr_ratio: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
    pub grad_accumulation: usize,
}

/// `[loss_scale]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "reference.toml documents every key")]
pub struct LossScaleSettings {
    pub init_scale: f64,
    pub growth_factor: f64,
    pub growth_interval: u32,
    pub hysteresis: u32,
    pub min_scale: f64,
}

/// `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "reference.toml documents every key")]
pub struct DataSettings {
    pub max_seq_len: usize,
    pub truncation: Truncation,
    pub batch_size: usize,
    pub micro_batch_tokens: usize,
    pub decode_threads: usize,
    pub prefetch_steps: usize,
    pub verify: Verify,
    #[serde(default)]
    pub tokenizer: String,
}

/// `[train]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "reference.toml documents every key")]
pub struct TrainSettings {
    pub precision: Precision,
    pub kernels: Kernels,
    // Runs of earlier versions do not have it.
    #[serde(default)]
    pub checkpoint_activations: Checkpointing,
    pub threads: u64,
    pub epochs: u64,
    pub max_steps: u64,
    pub max_samples: u64,
    pub target_metric: f64,
    pub eval_every: u64,
    // Runs of earlier versions do not have it.
    #[serde(default)]
    pub eval_each_epoch: bool,
    pub eval_questions: usize,
    pub save_every: u64,
    pub log_every: u64,
    pub keep_checkpoints: usize,
    pub seed: u64,
    pub max_consecutive_skips: u64,
    pub spike_zscore: f64,
    pub skip_on_spike: bool,
}

/// Setting for blocks that keep only their input for the backward pass, which computes them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkpointing {
    /// If memory asks for it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Invalid settings.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The text is not valid TOML, or has an unknown key or value.
    #[error("{origin}: {message}")]
    Syntax {
        /// File or flag.
        origin: String,
        /// Description.
        message: String,
    },
    /// Invalid model sizes.
    #[error(transparent)]
    Model(#[from] ConfigError),
    /// A value out of range.
    #[error("{key} = {value} is out of range: {rule}")]
    Range {
        /// Key.
        key: &'static str,
        /// Value.
        value: String,
        /// Allowed range.
        rule: &'static str,
    },
}

impl Default for Config {
    fn default() -> Self {
        // A test parses the reference, so this cannot fail in a release.
        toml::from_str(REFERENCE).expect("reference.toml has every key")
    }
}

impl Config {
    /// Returns the configuration of a randomly initialized model with `vocab_rows` rows of word embeddings.
    ///
    /// # Errors
    /// [`SettingsError::Model`] if the sizes are invalid.
    pub fn random_model(&self, vocab_rows: usize) -> Result<ModelConfig, SettingsError> {
        let preset = self.model.preset.config();
        let or_preset = |size: usize, preset: usize| if size == 0 { preset } else { size };
        let config = ModelConfig {
            layers: or_preset(self.model.layers, preset.layers),
            hidden: or_preset(self.model.hidden, preset.hidden),
            heads: or_preset(self.model.heads, preset.heads),
            vocab_rows,
            positions: self.data.max_seq_len + 1,
            ..self.rates(&preset)
        };
        config.validate()?;
        Ok(config)
    }

    /// Returns `sizes` with the dropout rates, epsilon and standard deviation of the settings.
    pub fn rates(&self, sizes: &ModelConfig) -> ModelConfig {
        let ModelSettings { dropout, attention_dropout, layernorm_eps, init_std, .. } = self.model;
        ModelConfig { dropout, attention_dropout, layernorm_eps, init_std, ..sizes.clone() }
    }

    /// Learning rate schedule. `optim.decay_steps = 0` must be resolved before, see [`plan::resolve`].
    pub fn schedule(&self) -> Schedule {
        let OptimSettings { lr, warmup, schedule, decay_steps, min_lr_ratio, .. } = self.optim;
        Schedule { lr, warmup, decay_steps, min_lr_ratio, decay: schedule }
    }

    /// Hyperparameters of the optimizer.
    pub fn adamw(&self) -> AdamWConfig {
        let OptimSettings { beta1, beta2, eps, weight_decay, .. } = self.optim;
        AdamWConfig { beta1, beta2, eps, weight_decay }
    }

    /// Initial loss scale of a run with `precision`.
    pub fn loss_scale(&self, precision: Precision) -> LossScale {
        if precision != Precision::Fp16 {
            return LossScale::off();
        }
        let LossScaleSettings { init_scale, growth_factor, growth_interval, hysteresis, min_scale } = self.loss_scale;
        LossScale::dynamic(init_scale, growth_factor, growth_interval, hysteresis, min_scale)
    }

    /// Rules of spike detection.
    pub fn spikes(&self) -> SpikeRules {
        SpikeRules { zscore: self.train.spike_zscore, skips: self.train.skip_on_spike }
    }

    /// Number of samples per optimizer step, over all micro-batches and ranks.
    pub fn samples_per_update(&self) -> usize {
        self.data.batch_size.saturating_mul(self.optim.grad_accumulation)
    }

    /// Settings of the task, for a data set whose vocabulary has these special tokens.
    pub fn task(&self, special: SpecialIds) -> TaskSettings {
        let DataSettings { max_seq_len, truncation, .. } = self.data;
        TaskSettings {
            special,
            max_seq_len,
            truncation,
            cloze: self.cloze,
            form: ClozeForm::default(),
            infill: self.infill,
            seq2seq: self.seq2seq,
        }
    }

    /// Packer of a task's rows. On a GPU, `data.micro_batch_tokens` must be resolved before, see
    /// [`resolve_micro_batch_tokens`](crate::command::setup::resolve_micro_batch_tokens).
    pub fn packer(&self, task: Arc<dyn Task>, purpose: Purpose) -> Packer {
        let micro_batch_tokens = match self.data.micro_batch_tokens {
            0 => MICRO_BATCH_TOKENS,
            tokens => tokens,
        };
        Packer { task, purpose, micro_batch_tokens, share: None, seed: self.train.seed }
    }

    /// Configuration of the loader of training samples.
    pub fn loader(&self, packer: Packer, start: Position) -> LoaderConfig {
        LoaderConfig {
            order: Order::Shuffled { seed: self.train.seed },
            batch_size: self.samples_per_update(),
            start,
            epochs: self.train.epochs,
            threads: self.data.decode_threads,
            prefetch_steps: self.data.prefetch_steps,
            packer,
        }
    }

    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// [`SettingsError`] with the key.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let positive = [
            ("data.batch_size", self.data.batch_size),
            ("optim.grad_accumulation", self.optim.grad_accumulation),
            ("data.max_seq_len", self.data.max_seq_len),
        ];
        for (key, value) in positive {
            require(value > 0, key, value, "at least 1")?;
        }
        require((0.0..=1.0).contains(&self.optim.warmup), "optim.warmup", self.optim.warmup, "between 0 and 1")?;
        require(self.optim.lr.is_finite() && self.optim.lr >= 0.0, "optim.lr", self.optim.lr, "at least 0")?;
        for (key, beta) in [("optim.beta1", self.optim.beta1), ("optim.beta2", self.optim.beta2)] {
            require((0.0..1.0).contains(&beta), key, beta, "at least 0 and below 1")?;
        }
        require(self.loss_scale.init_scale >= 1.0, "loss_scale.init_scale", self.loss_scale.init_scale, "at least 1")?;
        require(self.loss_scale.growth_factor >= 1.0, "loss_scale.growth_factor", self.loss_scale.growth_factor, "at least 1")?;
        let DistributedSettings { timeout, bucket_mib, .. } = self.distributed;
        require(timeout >= 1.0, "distributed.timeout", timeout, "at least 1 second")?;
        require(bucket_mib > 0.0, "distributed.bucket_mib", bucket_mib, "greater than 0")?;
        require(self.train.epochs > 0, "train.epochs", 0, "at least 1")?;
        let TrainSettings { max_consecutive_skips, spike_zscore, skip_on_spike, .. } = self.train;
        require(spike_zscore >= 0.0, "train.spike_zscore", spike_zscore, "at least 0")?;
        require(
            max_consecutive_skips > 0 || !skip_on_spike,
            "train.max_consecutive_skips",
            max_consecutive_skips,
            "at least 1 with train.skip_on_spike",
        )?;
        if let Some((key, value, rule)) = self.cloze.out_of_range() {
            return Err(SettingsError::Range { key, value, rule });
        }
        if let Some((key, value, rule)) = self.infill.out_of_range() {
            return Err(SettingsError::Range { key, value: value.to_string(), rule });
        }
        if let Some((key, value, rule)) = self.seq2seq.out_of_range() {
            return Err(SettingsError::Range { key, value, rule });
        }
        self.random_model(1).map(drop)
    }
}

fn require(holds: bool, key: &'static str, value: impl ToString, rule: &'static str) -> Result<(), SettingsError> {
    if holds { Ok(()) } else { Err(SettingsError::Range { key, value: value.to_string(), rule }) }
}

#[cfg(test)]
mod tests {
    use super::overrides::Layers;
    use super::recipe::Recipe;
    use super::*;

    #[test]
    fn the_recipe_record_is_the_published_one() {
        let mut layers = Layers::default();
        layers.recipe(Recipe::Record).expect("settings");
        let config = layers.resolve().expect("valid");
        assert_eq!(
            config.schedule(),
            Schedule { lr: 1e-5, warmup: 0.1, decay_steps: 4338, min_lr_ratio: 0.1, decay: Decay::Linear }
        );
        assert_eq!(config.adamw(), AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 });
        assert_eq!(config.loss_scale(Precision::Fp16).scale(), 2_f64.powi(32));
        assert_eq!(config.random_model(30592).expect("sizes"), Preset::LARGE.config());
        assert_eq!((config.train.eval_every, config.train.target_metric, config.train.epochs), (19200, 0.81, 4));
    }

    #[test]
    fn settings_that_earlier_versions_do_not_have_are_optional() {
        let mut table = toml::Table::try_from(Config::default()).expect("settings");
        table.remove("cloze");
        table.remove("infill");
        table.remove("seq2seq");
        table["optim"].as_table_mut().expect("a section").remove("schedule");
        assert_eq!(table.try_into::<Config>().expect("settings"), Config::default());
    }

    #[test]
    fn errors_name_the_key_that_is_out_of_range() {
        let mut config = Config::default();
        config.optim.beta2 = 1.0;
        assert_eq!(
            config.validate().expect_err("range").to_string(),
            "optim.beta2 = 1 is out of range: at least 0 and below 1"
        );
    }
}
