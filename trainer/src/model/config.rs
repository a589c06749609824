//! Model configuration and named sizes.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Configuration of a GLM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of transformer blocks.
    pub layers: usize,
    /// Hidden size.
    pub hidden: usize,
    /// Number of attention heads, a divisor of `hidden`.
    pub heads: usize,
    /// Number of rows of the word embeddings.
    pub vocab_rows: usize,
    /// Number of rows of both position embeddings: maximum sequence length plus one.
    pub positions: usize,
    /// Dropout rate of the embeddings and of both branches of a block.
    pub dropout: f64,
    /// Dropout rate of the attention probabilities.
    pub attention_dropout: f64,
    /// Epsilon of LayerNorm.
    pub layernorm_eps: f64,
    /// Standard deviation of initial weights.
    pub init_std: f64,
}

/// Named model size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Name in settings, on the command line and in messages.
    pub name: &'static str,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Hidden size.
    pub hidden: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Published weights that a run starts from by default; `None`: random weights.
    pub weights: Option<PublishedWeights>,
}

/// Published weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedWeights {
    /// Name for `glm-trainer fetch`; the archive is `NAME.tar.bz2`.
    pub name: &'static str,
    /// Folder in the archive.
    pub folder: &'static str,
}

impl PublishedWeights {
    /// File name of the archive.
    pub fn archive(&self) -> String {
        format!("{}.tar.bz2", self.name)
    }
}

/// All named model sizes. To add a size, add a row.
pub const PRESETS: [Preset; 3] = [
    Preset {
        name: "large",
        layers: 24,
        hidden: 1024,
        heads: 16,
        weights: Some(PublishedWeights { name: "glm-large-blank", folder: "blocklm-large-blank" }),
    },
    Preset { name: "base", layers: 12, hidden: 768, heads: 12, weights: None },
    Preset { name: "tiny", layers: 3, hidden: 128, heads: 4, weights: None },
];

/// Invalid model configuration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A size is zero.
    #[error("model.{0} is 0")]
    Zero(&'static str),
    /// The hidden size is not a multiple of the number of heads.
    #[error("model.hidden = {hidden} is not a multiple of model.heads = {heads}")]
    Heads {
        /// Hidden size.
        hidden: usize,
        /// Number of heads.
        heads: usize,
    },
    /// A dropout rate is outside [0, 1).
    #[error("model.{0} must be at least 0 and below 1")]
    Rate(&'static str),
}

impl Preset {
    /// GLM-large.
    pub const LARGE: Self = PRESETS[0];
    /// GLM-base.
    pub const BASE: Self = PRESETS[1];
    /// A small model, which trains on a laptop in minutes.
    pub const TINY: Self = PRESETS[2];

    /// Returns the model configuration, with default rates.
    pub fn config(self) -> ModelConfig {
        ModelConfig {
            layers: self.layers,
            hidden: self.hidden,
            heads: self.heads,
            vocab_rows: 30592,
            positions: 513,
            dropout: 0.1,
            attention_dropout: 0.1,
            layernorm_eps: 1e-5,
            init_std: 0.02,
        }
    }

    /// Returns the preset with these sizes, if there is one.
    pub fn with_sizes(layers: usize, hidden: usize) -> Option<Self> {
        PRESETS.into_iter().find(|preset| (preset.layers, preset.hidden) == (layers, hidden))
    }
}

impl ValueEnum for Preset {
    fn value_variants<'a>() -> &'a [Self] {
        &PRESETS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let Self { name, layers, hidden, heads, .. } = self;
        let millions = self.config().parameters() / 1_000_000;
        let help = format!("{layers} layers, hidden size {hidden}, {heads} heads, {millions} million parameters");
        Some(PossibleValue::new(*name).help(help))
    }
}

impl Serialize for Preset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Preset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        PRESETS.into_iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names = PRESETS.map(|preset| preset.name).join(", ");
            D::Error::custom(format!("unknown preset `{name}`, expected one of {names}"))
        })
    }
}

impl ModelConfig {
    /// Checks sizes and rates.
    ///
    /// # Errors
    /// [`ConfigError`] with the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("vocab_rows", self.vocab_rows),
            ("positions", self.positions),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ConfigError::Zero(name));
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(ConfigError::Heads { hidden: self.hidden, heads: self.heads });
        }
        let rates = [("dropout", self.dropout), ("attention_dropout", self.attention_dropout)];
        match rates.into_iter().find(|(_, rate)| !(0.0..1.0).contains(rate)) {
            Some((name, _)) => Err(ConfigError::Rate(name)),
            None => Ok(()),
        }
    }

    /// Number of parameters. The output projection shares the word embeddings.
    pub fn parameters(&self) -> usize {
        let h = self.hidden;
        // Two LayerNorms 4h; attention 4h²+4h; feed-forward 8h²+5h.
        let block = 12 * h * h + 13 * h;
        (self.vocab_rows + 2 * self.positions) * h + self.layers * block + 2 * h
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes() {
        assert_eq!(Preset::LARGE.config().parameters(), 334_688_256);
        assert_eq!(Preset::BASE.config().parameters() / 1_000_000, 109);
    }

    #[test]
    fn presets_are_found_by_name_and_by_both_sizes() {
        let names = [Preset::LARGE, Preset::BASE, Preset::TINY].map(|preset| preset.name);
        assert_eq!(names, ["large", "base", "tiny"]);
        for preset in PRESETS {
            let name = serde_json::to_value(preset).expect("name");
            assert_eq!((name.as_str(), serde_json::from_value(name.clone()).ok()), (Some(preset.name), Some(preset)));
            assert_eq!(Preset::from_str(preset.name, false), Ok(preset));
            assert_eq!(Preset::with_sizes(preset.layers, preset.hidden), Some(preset));
            assert_eq!(preset.config().validate(), Ok(()));
        }
        assert_eq!(Preset::with_sizes(2, 1024), None);
        let error = serde_json::from_str::<Preset>("\"huge\"").expect_err("unknown").to_string();
        assert!(error.starts_with("unknown preset `huge`, expected one of large, base, tiny"), "{error}");
    }

    #[test]
    fn invalid_sizes_are_rejected() {
        let config = ModelConfig { heads: 7, ..Preset::BASE.config() };
        assert_eq!(config.validate(), Err(ConfigError::Heads { hidden: 768, heads: 7 }));
        let config = ModelConfig { dropout: 1.0, ..Preset::BASE.config() };
        assert_eq!(config.validate(), Err(ConfigError::Rate("dropout")));
    }
}
