//! Embeddings of words, positions and block positions.

use tch::{Kind, TchError, Tensor};

use super::config::ModelConfig;
use super::ops::Ops;
use super::parameters::{Init, Parameters};
use super::pass::{Pass, Place};
use crate::batch::device::DeviceBatch;

/// `hidden = word[id] + position[p] + block_position[b]`, then dropout.
///
/// Position is a token's index in the context; the tokens of a piece have the position of the blank that the piece fills. Block
/// position counts the tokens within a piece and is 0 in the context (GLM's two-dimensional positional encoding).
#[derive(Debug)]
pub struct Embeddings {
    word: Tensor,
    position: Tensor,
    block_position: Tensor,
    dropout: f64,
}

impl Embeddings {
    /// Adds the three tables to the parameters.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(parameters: &mut Parameters, config: &ModelConfig) -> Result<Self, TchError> {
        let (hidden, init) = (config.hidden as i64, Init::Normal(config.init_std));
        let positions = [config.positions as i64, hidden];
        Ok(Self {
            word: parameters.add("word_embeddings.weight".into(), &[config.vocab_rows as i64, hidden], init)?,
            position: parameters.add("transformer.position_embeddings.weight".into(), &positions, init)?,
            block_position: parameters.add("transformer.block_position_embeddings.weight".into(), &positions, init)?,
            dropout: config.dropout,
        })
    }

    /// Embeds the batch's tokens: `[tokens, hidden]` in the pass's kind.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn forward(&self, ops: &dyn Ops, pass: &Pass) -> Result<Tensor, TchError> {
        ops.embed([&self.word, &self.position, &self.block_position], pass.site(Place::Embeddings, self.dropout))
    }

    /// Output projection, tied to the word embeddings: `[n, hidden]` to logits `[n, vocab_rows]`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn logits(&self, ops: &dyn Ops, x: &Tensor) -> Result<Tensor, TchError> {
        Ok(ops.linear(x, &self.word, None)?.values)
    }

    /// For each target of the batch, the mean logit over the vocabulary less the logit of the target: `x · (mean word - word[target])`,
    /// `[targets]` in `kind`; `x` `[scored, hidden]` is the input of the output projection.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn mean_logit_excess(&self, x: &Tensor, batch: &DeviceBatch, kind: Kind) -> Result<Tensor, TchError> {
        let of_targets = x.f_totype(kind)?.f_index_select(0, &batch.scored_index)?;
        let mean = self.word.f_totype(kind)?.f_mean_dim([0_i64].as_slice(), true, kind)?;
        let words = self.word.f_index_select(0, &batch.target)?.f_totype(kind)?;
        of_targets.f_mul(&mean.f_sub(&words)?)?.f_sum_dim_intlist([1_i64].as_slice(), false, kind)
    }
}
