//! One transformer block.

use tch::{TchError, Tensor};

use super::attention::Attention;
use super::config::ModelConfig;
use super::layers::{LayerNorm, Linear, dropout};
use super::parameters::Parameters;
use crate::data::device_batch::PaddedView;

/// `x += dropout(attention(ln1 x)); x += dropout(W2 gelu(W1 ln2 x))`: LayerNorm first, GELU in its tanh form.
#[derive(Debug)]
pub struct Block {
    input_layernorm: LayerNorm,
    attention: Attention,
    post_attention_layernorm: LayerNorm,
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
    dropout: f64,
}

impl Block {
    /// The parameters under `{name}.`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(parameters: &mut Parameters, name: &str, config: &ModelConfig) -> Result<Self, TchError> {
        let (hidden, eps) = (config.hidden, config.layernorm_eps);
        // Two branches a block write to the residual stream; this keeps its variance from growing with depth (GPT-2).
        let output_std = config.init_std / (2.0 * config.layers as f64).sqrt();
        Ok(Self {
            input_layernorm: LayerNorm::new(parameters, &format!("{name}.input_layernorm"), hidden, eps)?,
            attention: Attention::new(parameters, &format!("{name}.attention"), config, output_std)?,
            post_attention_layernorm: LayerNorm::new(parameters, &format!("{name}.post_attention_layernorm"), hidden, eps)?,
            dense_h_to_4h: Linear::new(parameters, &format!("{name}.mlp.dense_h_to_4h"), hidden, 4 * hidden, config.init_std)?,
            dense_4h_to_h: Linear::new(parameters, &format!("{name}.mlp.dense_4h_to_h"), 4 * hidden, hidden, output_std)?,
            dropout: config.dropout,
        })
    }

    /// `[T, hidden]` to the same shape; `bias` as of [`super::attention::visibility_bias`].
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn forward(&self, x: &Tensor, view: &PaddedView, bias: &Tensor, training: bool) -> Result<Tensor, TchError> {
        let x = x.f_add(&self.attention.forward(&self.input_layernorm.forward(x)?, view, bias, training)?)?;
        let inner = self.dense_h_to_4h.forward(&self.post_attention_layernorm.forward(&x)?)?.f_gelu("tanh")?;
        x.f_add(&dropout(self.dense_4h_to_h.forward(&inner)?, self.dropout, training)?)
    }
}
