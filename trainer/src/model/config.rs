//! Sizes of a model.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Sizes and rates that define a GLM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Attention heads; `hidden` is a multiple of it.
    pub heads: usize,
    /// Rows of the word embedding table.
    pub vocab_rows: usize,
    /// Rows of the two position tables: the longest sequence and one more.
    pub positions: usize,
    /// Dropout of embeddings and of both branches of a block.
    pub dropout: f64,
    /// Dropout of attention probabilities.
    pub attention_dropout: f64,
    /// Epsilon of every LayerNorm.
    pub layernorm_eps: f64,
    /// Standard deviation of initial weights.
    pub init_std: f64,
}

/// A published size, or one to try things with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// GLM-large: 24 layers, width 1024, 16 heads, 335 million parameters.
    Large,
    /// GLM-base: 12 layers, width 768, 12 heads, 110 million parameters.
    Base,
    /// 3 layers, width 128, 4 heads: trains on a laptop in minutes.
    Tiny,
}

/// Sizes that do not go together.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A size is zero.
    #[error("model.{0} is 0")]
    Zero(&'static str),
    /// Heads do not divide the width.
    #[error("model.hidden = {hidden} is no multiple of model.heads = {heads}")]
    Heads {
        /// The width.
        hidden: usize,
        /// The number of heads.
        heads: usize,
    },
    /// A rate outside [0, 1).
    #[error("model.{0} must be at least 0 and below 1")]
    Rate(&'static str),
}

impl Preset {
    /// The sizes.
    pub fn config(self) -> ModelConfig {
        let (layers, hidden, heads) = match self {
            Self::Large => (24, 1024, 16),
            Self::Base => (12, 768, 12),
            Self::Tiny => (3, 128, 4),
        };
        ModelConfig {
            layers,
            hidden,
            heads,
            vocab_rows: 30592,
            positions: 513,
            dropout: 0.1,
            attention_dropout: 0.1,
            layernorm_eps: 1e-5,
            init_std: 0.02,
        }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Base => "base",
            Self::Tiny => "tiny",
        }
    }

    /// The preset with this width, if there is one.
    pub fn with_hidden(hidden: usize) -> Option<Self> {
        [Self::Large, Self::Base, Self::Tiny].into_iter().find(|preset| preset.config().hidden == hidden)
    }
}

impl ModelConfig {
    /// Checks that the sizes go together.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
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

    /// Number of parameters; the output projection is the word embedding and counts once.
    pub fn parameters(&self) -> usize {
        let h = self.hidden;
        // Four LayerNorm vectors; attention 4h²+4h; feed-forward 8h²+5h.
        let block = 12 * h * h + 13 * h;
        (self.vocab_rows + 2 * self.positions) * h + self.layers * block + 2 * h
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes() {
        assert_eq!(Preset::Large.config().parameters(), 334_688_256);
        assert_eq!(Preset::Base.config().parameters() / 1_000_000, 109);
    }

    #[test]
    fn sizes_that_do_not_go_together() {
        let config = ModelConfig { heads: 7, ..Preset::Base.config() };
        assert_eq!(config.validate(), Err(ConfigError::Heads { hidden: 768, heads: 7 }));
        let config = ModelConfig { dropout: 1.0, ..Preset::Base.config() };
        assert_eq!(config.validate(), Err(ConfigError::Rate("dropout")));
    }
}
