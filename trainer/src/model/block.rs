//! One transformer block.

use std::sync::Arc;

use tch::{TchError, Tensor};

use super::attention::Attention;
use super::config::ModelConfig;
use super::layers::{LayerNorm, Linear, dropout};
use super::ops::cpu::gelu::bias_gelu;
use super::ops::cpu::residual::{Addend, add_and_norm};
use super::parameters::Parameters;
use super::pass::{Pass, Place};
use crate::batch::device::PaddedView;
use crate::batch::packed::Batch;

/// `x += dropout(attention(ln1 x)); x += dropout(W2 gelu(W1 ln2 x))`: LayerNorm first, GELU in its tanh form.
#[derive(Debug)]
pub struct Block {
    input_layernorm: LayerNorm,
    attention: Attention,
    post_attention_layernorm: LayerNorm,
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
    layer: usize,
    dropout: f64,
}

/// The residual stream between two fused blocks, and what the next one begins with.
#[derive(Debug)]
pub struct Stream {
    /// `[tokens, hidden]`.
    pub residual: Tensor,
    /// The next LayerNorm of it, `[tokens, hidden]`.
    pub normed: Tensor,
}

impl Block {
    /// Block number `layer`: the parameters under `{name}.`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(parameters: &mut Parameters, name: &str, layer: usize, config: &ModelConfig) -> Result<Self, TchError> {
        let (hidden, eps) = (config.hidden, config.layernorm_eps);
        // Two branches a block write to the residual stream; this keeps its variance from growing with depth (GPT-2).
        let output_std = config.init_std / (2.0 * config.layers as f64).sqrt();
        Ok(Self {
            input_layernorm: LayerNorm::new(parameters, &format!("{name}.input_layernorm"), hidden, eps)?,
            attention: Attention::new(parameters, &format!("{name}.attention"), layer, config, output_std)?,
            post_attention_layernorm: LayerNorm::new(parameters, &format!("{name}.post_attention_layernorm"), hidden, eps)?,
            dense_h_to_4h: Linear::new(parameters, &format!("{name}.mlp.dense_h_to_4h"), hidden, 4 * hidden, config.init_std)?,
            dense_4h_to_h: Linear::new(parameters, &format!("{name}.mlp.dense_4h_to_h"), 4 * hidden, hidden, output_std)?,
            layer,
            dropout: config.dropout,
        })
    }

    /// The LayerNorm that the block begins with.
    pub fn input_layernorm(&self) -> &LayerNorm {
        &self.input_layernorm
    }

    /// By libtorch's operations: `[tokens, hidden]` to the same shape; `bias` as of [`super::attention::visibility_bias`]. In
    /// the last block `scored` names the tokens that are wanted: `[scored, hidden]` comes back.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn padded(
        &self,
        x: &Tensor,
        view: &PaddedView,
        bias: &Tensor,
        scored: Option<&Tensor>,
        training: bool,
    ) -> Result<Tensor, TchError> {
        let (x_asked, asked) = match scored {
            None => (x.shallow_clone(), view.unpad_index.shallow_clone()),
            Some(scored) => (x.f_index_select(0, scored)?, view.unpad_index.f_index_select(0, scored)?),
        };
        let normed = self.input_layernorm.forward(x)?;
        let x = x_asked.f_add(&self.attention.padded(&normed, view, bias, &asked, training)?)?;
        let inner = self.dense_h_to_4h.forward(&self.post_attention_layernorm.forward(&x)?)?.f_gelu("tanh")?;
        x.f_add(&dropout(self.dense_4h_to_h.forward(&inner)?, self.dropout, training)?)
    }

    /// By fused operations, up to the LayerNorm `next` behind the block.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn fused(&self, stream: &Stream, batch: &Arc<Batch>, next: &LayerNorm, pass: &Pass) -> Result<Stream, TchError> {
        let mixed = self.attention.fused(&stream.normed, batch, pass)?;
        self.finish(&stream.residual, mixed, batch.token_key.as_slice().into(), next, pass)
    }

    /// [`Self::fused`] for the last block: keys and values of all tokens, but queries, and everything behind attention, of
    /// the scored tokens only. `scored` `[scored]` names them.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn fused_for_scored(
        &self,
        stream: &Stream,
        scored: &Tensor,
        batch: &Arc<Batch>,
        next: &LayerNorm,
        pass: &Pass,
    ) -> Result<Stream, TchError> {
        let asked = stream.normed.f_index_select(0, scored)?;
        let mixed = self.attention.fused_for_scored(&stream.normed, &asked, batch, pass)?;
        let keys = batch.scored.iter().map(|token| batch.token_key[*token as usize]).collect();
        self.finish(&stream.residual.f_index_select(0, scored)?, mixed, keys, next, pass)
    }

    fn finish(
        &self,
        residual: &Tensor,
        mixed: Tensor,
        keys: Arc<[u64]>,
        next: &LayerNorm,
        pass: &Pass,
    ) -> Result<Stream, TchError> {
        let site = |place: fn(usize) -> Place| pass.site(place(self.layer), self.dropout);
        let attended = Addend {
            values: mixed,
            bias: self.attention.output_bias(),
            keys: Arc::clone(&keys),
            site: site(Place::AttentionOutput),
        };
        let (residual, normed) = add_and_norm(residual, attended, &self.post_attention_layernorm)?;
        let inner = bias_gelu(self.dense_h_to_4h.product(&normed)?, self.dense_h_to_4h.bias())?;
        let fed = Addend {
            values: self.dense_4h_to_h.product(&inner)?,
            bias: self.dense_4h_to_h.bias(),
            keys,
            site: site(Place::FeedForward),
        };
        let (residual, normed) = add_and_norm(&residual, fed, next)?;
        Ok(Stream { residual, normed })
    }
}
