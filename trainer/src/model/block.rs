//! Transformer block.

use tch::{TchError, Tensor};

use super::config::ModelConfig;
use super::layers::{LayerNorm, Linear};
use super::ops::{Ops, Queries};
use super::parameters::Parameters;
use super::pass::{Pass, Place};

/// `x += dropout(dense(attention(ln1 x))); x += dropout(W2 gelu(W1 ln2 x))`: LayerNorm before each branch, GELU in its tanh form.
#[derive(Debug)]
pub struct Block {
    input_layernorm: LayerNorm,
    query_key_value: Linear,
    dense: Linear,
    post_attention_layernorm: LayerNorm,
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
    layer: usize,
    heads: i64,
    attention_dropout: f64,
    dropout: f64,
}

/// Residual stream between two blocks, and the LayerNorm with which the next one begins.
#[derive(Debug)]
pub struct Stream {
    /// `[tokens, hidden]`.
    pub residual: Tensor,
    /// LayerNorm of `residual`, `[tokens, hidden]`.
    pub normed: Tensor,
}

impl Block {
    /// Adds the parameters of block `layer`, whose names start with `{name}.`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(parameters: &mut Parameters, name: &str, layer: usize, config: &ModelConfig) -> Result<Self, TchError> {
        let &ModelConfig { hidden, layernorm_eps: eps, init_std: std, .. } = config;
        // Two branches per block write to the residual stream; this keeps its variance from growing with depth (GPT-2).
        let output_std = std / (2.0 * config.layers as f64).sqrt();
        Ok(Self {
            input_layernorm: LayerNorm::new(parameters, &format!("{name}.input_layernorm"), hidden, eps)?,
            query_key_value: Linear::new(parameters, &format!("{name}.attention.query_key_value"), hidden, 3 * hidden, std)?,
            dense: Linear::new(parameters, &format!("{name}.attention.dense"), hidden, hidden, output_std)?,
            post_attention_layernorm: LayerNorm::new(parameters, &format!("{name}.post_attention_layernorm"), hidden, eps)?,
            dense_h_to_4h: Linear::new(parameters, &format!("{name}.mlp.dense_h_to_4h"), hidden, 4 * hidden, std)?,
            dense_4h_to_h: Linear::new(parameters, &format!("{name}.mlp.dense_4h_to_h"), 4 * hidden, hidden, output_std)?,
            layer,
            heads: config.heads as i64,
            attention_dropout: config.attention_dropout,
            dropout: config.dropout,
        })
    }

    /// Handles to the same parameters, for a backward pass.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            input_layernorm: self.input_layernorm.share(),
            query_key_value: self.query_key_value.share(),
            dense: self.dense.share(),
            post_attention_layernorm: self.post_attention_layernorm.share(),
            dense_h_to_4h: self.dense_h_to_4h.share(),
            dense_4h_to_h: self.dense_4h_to_h.share(),
            ..*self
        }
    }

    /// LayerNorm with which the block begins.
    pub fn input_layernorm(&self) -> &LayerNorm {
        &self.input_layernorm
    }

    /// Computes the block and the LayerNorm `next` that follows it.
    ///
    /// With [`Queries::Scored`], keys and values are those of all tokens; queries, and everything after attention, are those of
    /// the scored tokens only: `[scored, hidden]`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn forward(
        &self,
        ops: &dyn Ops,
        pass: &Pass,
        x: &Stream,
        queries: Queries,
        next: &LayerNorm,
    ) -> Result<Stream, TchError> {
        let site = |place: fn(usize) -> Place, rate: f64| pass.site(place(self.layer), rate);
        let probabilities = site(Place::AttentionProbabilities, self.attention_dropout);
        let mixed = ops.attention(&x.normed, &self.query_key_value, self.heads, queries, probabilities)?;
        let attended = ops.linear(&mixed, self.dense.weight(), Some(self.dense.bias()))?;
        let residual = ops.of_queries(&x.residual, queries)?;
        let output = site(Place::AttentionOutput, self.dropout);
        let (residual, normed) = ops.add_norm(&residual, attended, &self.post_attention_layernorm, queries, output)?;

        let inner = ops.linear(&normed, self.dense_h_to_4h.weight(), Some(self.dense_h_to_4h.bias()))?;
        let inner = ops.bias_gelu(inner)?;
        let fed = ops.linear(&inner, self.dense_4h_to_h.weight(), Some(self.dense_4h_to_h.bias()))?;
        let output = site(Place::FeedForward, self.dropout);
        let (residual, normed) = ops.add_norm(&residual, fed, next, queries, output)?;
        Ok(Stream { residual, normed })
    }
}
