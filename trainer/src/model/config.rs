//! Model configuration.

use serde::{Deserialize, Serialize};
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
    use crate::model::preset::Preset;

    #[test]
    fn invalid_sizes_are_rejected() {
        let config = ModelConfig { heads: 7, ..Preset::BASE.config() };
        assert_eq!(config.validate(), Err(ConfigError::Heads { hidden: 768, heads: 7 }));
        let config = ModelConfig { dropout: 1.0, ..Preset::BASE.config() };
        assert_eq!(config.validate(), Err(ConfigError::Rate("dropout")));
    }
}
