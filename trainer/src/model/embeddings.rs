//! What the first block sees: word, position and block position.

use tch::{TchError, Tensor};

use super::config::ModelConfig;
use super::layers::dropout;
use super::ops::cpu as fused;
use super::parameters::{Init, Parameters};
use super::pass::{Pass, Place};
use crate::batch::device::DeviceBatch;

/// `hidden = word[id] + position[p] + block_position[b]`, then dropout.
///
/// Position is where a token stands in the context; a piece has the position of the blank that it fills. Block position
/// counts the tokens inside a piece and is 0 in the context (GLM's two-dimensional positional encoding).
#[derive(Debug)]
pub struct Embeddings {
    word: Tensor,
    position: Tensor,
    block_position: Tensor,
    dropout: f64,
}

impl Embeddings {
    /// The three tables.
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

    /// The batch's tokens as `[tokens, hidden]`, in the pass's kind, by libtorch's operations.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn forward(&self, batch: &DeviceBatch, pass: &Pass) -> Result<Tensor, TchError> {
        let look_up = |table: &Tensor, ids: &Tensor| Tensor::f_embedding(table, ids, -1, false, false);
        let mut sum = look_up(&self.word, &batch.ids)?;
        // In place: no gradient needs the partial sums.
        let _ = sum.f_add_(&look_up(&self.position, &batch.position)?)?;
        let _ = sum.f_add_(&look_up(&self.block_position, &batch.block_position)?)?;
        dropout(sum.f_totype(pass.kind)?, self.dropout, pass.trains())
    }

    /// The same by fused operations.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn fused(&self, batch: &DeviceBatch, pass: &Pass) -> Result<Tensor, TchError> {
        let tables = [&self.word, &self.position, &self.block_position];
        fused::embedding::embed(tables, &batch.host, pass.site(Place::Embeddings, self.dropout), pass.kind)
    }

    /// The output projection, tied to the word embeddings: `[n, hidden]` to logits `[n, vocab_rows]`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn project(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.word.f_totype(x.f_kind()?)?, None::<&Tensor>)
    }

    /// [`Self::project`] by fused operations.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn project_fused(&self, x: &Tensor) -> Result<Tensor, TchError> {
        fused::linear::linear(x, &self.word, 0..self.word.size2()?.0)
    }
}
