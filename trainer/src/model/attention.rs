//! Multi-head attention under GLM's mask.

use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::config::ModelConfig;
use super::layers::{Linear, dropout};
use super::ops::cpu::attention::{Projected, attention};
use super::parameters::Parameters;
use super::pass::{Pass, Place};
use crate::batch::device::PaddedView;
use crate::batch::packed::Batch;

/// Who sees whom, as a bias that is added to attention scores: 0 where a query sees a key, minus infinity where not.
/// Shape `[rows, 1, width, width]`.
///
/// The context is visible to all. A choice's token also sees the start of piece, which stands right behind the context, and
/// its own choice up to itself, and no other choice: so one pass over a context and all its choices computes what the
/// published code computes in one padded pass a choice.
///
/// # Errors
/// A [`TchError`].
pub fn visibility_bias(view: &PaddedView, kind: Kind) -> Result<Tensor, TchError> {
    let index = Tensor::f_arange(view.width, (Kind::Int64, view.sep.device()))?;
    let (query, key) = (index.f_unsqueeze(1)?, index.f_unsqueeze(0)?);
    // [rows, 1, width]: keys that belong to the context, and the one that is the start of piece.
    let sep = view.sep.f_unsqueeze(1)?;
    let in_context = key.f_lt_tensor(&sep)?.f_unsqueeze(1)?;
    let start_of_piece = key.f_eq_tensor(&sep)?.f_unsqueeze(1)?;
    // [rows, width, width]: both in the same choice, the key not behind the query.
    let same_piece = view.piece.f_unsqueeze(2)?.f_eq_tensor(&view.piece.f_unsqueeze(1)?)?;
    let own_piece = same_piece.f_logical_and(&key.f_le_tensor(&query)?)?.f_logical_or(&start_of_piece)?;
    // [rows, width, 1]: queries that belong to a piece. Padding sees the context, so that its softmax is defined.
    let in_piece = view.piece.f_gt(0)?.f_unsqueeze(2)?;
    let hidden = in_context.f_logical_or(&own_piece.f_logical_and(&in_piece)?)?.f_logical_not()?.f_unsqueeze(1)?;
    let (rows, width) = (view.rows, view.width);
    Tensor::f_zeros([rows, 1, width, width], (kind, view.sep.device()))?.f_masked_fill(&hidden, f64::NEG_INFINITY)
}

/// `dense(softmax(q kᵀ / sqrt(d) + bias) v)`, heads side by side.
#[derive(Debug)]
pub struct Attention {
    query_key_value: Linear,
    dense: Linear,
    layer: usize,
    heads: i64,
    hidden: i64,
    attention_dropout: f64,
    dropout: f64,
}

impl Attention {
    /// The parameters of block `layer` under `{name}.query_key_value` and `{name}.dense`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        layer: usize,
        config: &ModelConfig,
        output_std: f64,
    ) -> Result<Self, TchError> {
        let hidden = config.hidden;
        let query_key_value = Linear::new(parameters, &format!("{name}.query_key_value"), hidden, 3 * hidden, config.init_std)?;
        Ok(Self {
            query_key_value,
            dense: Linear::new(parameters, &format!("{name}.dense"), hidden, hidden, output_std)?,
            layer,
            heads: config.heads as i64,
            hidden: hidden as i64,
            attention_dropout: config.attention_dropout,
            dropout: config.dropout,
        })
    }

    /// By libtorch's operations, in rows of equal width: `x` `[tokens, hidden]`, `bias` as of [`visibility_bias`]. The result,
    /// with dropout, is that of the tokens at the places `asked` of the padded view: `[asked, hidden]`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn padded(
        &self,
        x: &Tensor,
        view: &PaddedView,
        bias: &Tensor,
        asked: &Tensor,
        training: bool,
    ) -> Result<Tensor, TchError> {
        let (rows, width, hidden) = (view.rows, view.width, self.hidden);
        // [tokens, 3 hidden] -> [rows · width, 3 hidden] -> 3 x [rows, heads, width, hidden / heads]
        let projected = self.query_key_value.forward(x)?.f_index_select(0, &view.pad_index)?;
        let split = projected.f_view([rows, width, 3, self.heads, hidden / self.heads])?.f_permute([2, 0, 3, 1, 4])?;
        let [query, key, value] = [split.f_select(0, 0)?, split.f_select(0, 1)?, split.f_select(0, 2)?];
        let rate = if training { self.attention_dropout } else { 0.0 };
        let mixed = Tensor::f_scaled_dot_product_attention(&query, &key, &value, Some(bias), rate, false, None, false)?;
        // [rows, heads, width, hidden / heads] -> [rows · width, hidden] -> [asked, hidden]
        let joined = mixed.f_transpose(1, 2)?.f_reshape([rows * width, hidden])?.f_index_select(0, asked)?;
        dropout(self.dense.forward(&joined)?, self.dropout, training)
    }

    /// By fused operations: `x` `[tokens, hidden]` to `[tokens, hidden]`, without the bias of the last projection.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn fused(&self, x: &Tensor, batch: &Arc<Batch>, pass: &Pass) -> Result<Tensor, TchError> {
        self.mix(&Projected::Together(self.query_key_value.product(x)?), batch, pass)
    }

    /// [`Self::fused`] for the tokens whose output is scored: `x` `[tokens, hidden]` and `asked`, the scored rows of it, to
    /// `[scored, hidden]`.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn fused_for_scored(&self, x: &Tensor, asked: &Tensor, batch: &Arc<Batch>, pass: &Pass) -> Result<Tensor, TchError> {
        let query = self.query_key_value.part_of_product(asked, 0..self.hidden)?;
        let key_value = self.query_key_value.part_of_product(x, self.hidden..3 * self.hidden)?;
        self.mix(&Projected::Apart { query, key_value }, batch, pass)
    }

    fn mix(&self, projected: &Projected, batch: &Arc<Batch>, pass: &Pass) -> Result<Tensor, TchError> {
        let site = pass.site(Place::AttentionProbabilities(self.layer), self.attention_dropout);
        let mixed = attention(projected, self.query_key_value.bias(), batch, self.heads, site)?;
        self.dense.product(&mixed)
    }

    /// Of the last projection.
    pub fn output_bias(&self) -> &Tensor {
        self.dense.bias()
    }
}
