//! libtorch's operators on rows of equal width: the reference implementation, for any device and kind.
//!
//! Parameters are cast to the kind of the activations within the graph, so gradients arrive in the parameters' kind.
//!
//! The [clock](super::clock) measures the forward pass only: the backward pass is libtorch's own.

use glm_kernels::dropout::{Site, mix};
use tch::{Device, Kind, TchError, Tensor};

use super::clock::{Stage, timed};
use super::{Ops, Projection, Queries};
use crate::batch::device::DeviceBatch;
use crate::batch::layout::{Layout, PaddedView};
use crate::model::layers::{LayerNorm, Linear};
use crate::model::pass::Pass;

/// Operations on one batch, which must have a padded layout.
#[derive(Debug)]
pub struct TorchOps<'a> {
    batch: &'a DeviceBatch,
    view: &'a PaddedView,
    device: Device,
    kind: Kind,
    /// See [`attention_bias`].
    bias: Tensor,
    /// Dropout key of the batch.
    key: u64,
}

impl<'a> TorchOps<'a> {
    /// Operations on one batch.
    ///
    /// # Errors
    /// A [`TchError`] where the batch has no padded layout.
    pub fn new(batch: &'a DeviceBatch, pass: &Pass) -> Result<Self, TchError> {
        let Layout::Padded(view) = &batch.layout else {
            return Err(TchError::Shape("libtorch's operators need a padded layout of the batch".to_owned()));
        };
        let first = batch.host.inputs.row_key.first().copied().unwrap_or_default();
        let device = batch.ids.device();
        let bias = timed(Stage::Attention, device, || attention_bias(view, pass.kind))?;
        Ok(Self { batch, view, device, kind: pass.kind, bias, key: mix(first) })
    }

    /// Counts the time of `work`, see [`timed`].
    fn timed<T>(&self, stage: Stage, work: impl FnOnce() -> Result<T, TchError>) -> Result<T, TchError> {
        timed(stage, self.device, work)
    }

    /// Seeds libtorch's generator for one place of the model and this batch, so that a resumed run draws what an uninterrupted one draws,
    /// and a block that is computed again what it drew before.
    fn seed(&self, site: Site) {
        if site.drops() {
            tch::manual_seed(mix(site.key ^ self.key) as i64);
        }
    }

    /// libtorch's dropout, which draws from libtorch's generator.
    fn drop_out(&self, x: Tensor, site: Site) -> Result<Tensor, TchError> {
        self.seed(site);
        if site.drops() { x.f_dropout(site.rate, true) } else { Ok(x) }
    }

    /// A parameter in the kind of the activations.
    fn cast(&self, parameter: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
        self.timed(Stage::Cast, || parameter.f_totype(kind))
    }
}

impl Ops for TorchOps<'_> {
    fn scored(&self) -> &Tensor {
        &self.batch.scored
    }

    fn embed(&self, tables: [&Tensor; 3], dropout: Site) -> Result<Tensor, TchError> {
        let [word, position, block_position] = tables;
        let look_up = |table: &Tensor, ids: &Tensor| Tensor::f_embedding(table, ids, -1, false, false);
        self.timed(Stage::Embedding, || {
            let mut sum = look_up(word, &self.batch.ids)?;
            // In place: no gradient needs the partial sums.
            let _ = sum.f_add_(&look_up(position, &self.batch.position)?)?;
            let _ = sum.f_add_(&look_up(block_position, &self.batch.block_position)?)?;
            self.drop_out(sum.f_totype(self.kind)?, dropout)
        })
    }

    fn linear<'a>(&self, x: &Tensor, weight: &Tensor, bias: Option<&'a Tensor>) -> Result<Projection<'a>, TchError> {
        let kind = x.f_kind()?;
        let bias = bias.map(|bias| self.cast(bias, kind)).transpose()?;
        let weight = self.cast(weight, kind)?;
        Ok(Projection { values: self.timed(Stage::Linear, || x.f_linear(&weight, bias.as_ref()))?, bias: None })
    }

    fn bias_gelu(&self, x: Projection<'_>) -> Result<Tensor, TchError> {
        self.timed(Stage::Gelu, || with_bias(x)?.f_gelu("tanh"))
    }

    fn norm(&self, x: &Tensor, norm: &LayerNorm) -> Result<Tensor, TchError> {
        let kind = x.f_kind()?;
        let (weight, bias) = (self.cast(norm.weight(), kind)?, self.cast(norm.bias(), kind)?);
        self.timed(Stage::Residual, || x.f_layer_norm([norm.width()], Some(&weight), Some(&bias), norm.eps(), true))
    }

    fn add_norm(
        &self,
        residual: &Tensor,
        branch: Projection<'_>,
        norm: &LayerNorm,
        _queries: Queries,
        dropout: Site,
    ) -> Result<(Tensor, Tensor), TchError> {
        let sum = self.timed(Stage::Residual, || residual.f_add(&self.drop_out(with_bias(branch)?, dropout)?))?;
        let normed = self.norm(&sum, norm)?;
        Ok((sum, normed))
    }

    fn attention(
        &self,
        x: &Tensor,
        query_key_value: &Linear,
        heads: i64,
        queries: Queries,
        dropout: Site,
    ) -> Result<Tensor, TchError> {
        let PaddedView { rows, width, ref pad_index, ref unpad_index, .. } = *self.view;
        let hidden = x.size2()?.1;
        // [tokens, 3 hidden] -> [rows · width, 3 hidden] -> 3 x [rows, heads, width, hidden / heads]
        let projected = self.linear(x, query_key_value.weight(), Some(query_key_value.bias()))?.values;
        self.timed(Stage::Attention, || {
            let split = projected.f_index_select(0, pad_index)?.f_view([rows, width, 3, heads, hidden / heads])?;
            let split = split.f_permute([2, 0, 3, 1, 4])?;
            let [query, key, value] = [split.f_select(0, 0)?, split.f_select(0, 1)?, split.f_select(0, 2)?];
            let (bias, rate) = (Some(&self.bias), dropout.rate);
            self.seed(dropout);
            let mixed = Tensor::f_scaled_dot_product_attention(&query, &key, &value, bias, rate, false, None, false)?;
            // [rows, heads, width, hidden / heads] -> [rows · width, hidden] -> [tokens, hidden]
            let places = self.of_queries(unpad_index, queries)?;
            mixed.f_transpose(1, 2)?.f_reshape([rows * width, hidden])?.f_index_select(0, &places)
        })
    }

    fn target_log_probs(&self, logits: Tensor) -> Result<Tensor, TchError> {
        self.timed(Stage::Scores, || {
            // In half precision the sum would flip answers.
            let kind = if logits.f_kind()? == Kind::Double { Kind::Double } else { Kind::Float };
            let log_probs = logits.f_log_softmax(-1, kind)?;
            let vocabulary = log_probs.size2()?.1;
            let index = self.batch.scored_index.f_mul_scalar(vocabulary)?.f_add(&self.batch.target)?;
            let of_targets = log_probs.f_reshape([-1])?.f_index_select(0, &index)?;
            let groups = self.batch.host.targets.groups as i64;
            let zeros = Tensor::f_zeros([groups], (kind, of_targets.device()))?;
            zeros.f_index_add(0, &self.batch.group, &of_targets)
        })
    }
}

fn with_bias(x: Projection<'_>) -> Result<Tensor, TchError> {
    match x.bias {
        Some(bias) => x.values.f_add(&bias.f_totype(x.values.f_kind()?)?),
        None => Ok(x.values),
    }
}

/// Attention mask as an additive bias: 0 where a query sees a key, minus infinity elsewhere. Shape `[rows, 1, width, width]`.
///
/// All tokens see the context. A token of a piece also sees the start of piece, which follows the context, and its own piece up
/// to itself. So one pass over a context and all its pieces computes what a padded pass per piece computes.
///
/// # Errors
/// A [`TchError`].
pub fn attention_bias(view: &PaddedView, kind: Kind) -> Result<Tensor, TchError> {
    let index = Tensor::f_arange(view.width, (Kind::Int64, view.context.device()))?;
    let (query, key) = (index.f_unsqueeze(1)?, index.f_unsqueeze(0)?);
    // [rows, 1, width]: keys in the context, and the key that is the start of piece.
    let context = view.context.f_unsqueeze(1)?;
    let in_context = key.f_lt_tensor(&context)?.f_unsqueeze(1)?;
    let start_of_piece = key.f_eq_tensor(&context)?.f_unsqueeze(1)?;
    // [rows, width, width]: both in the same piece, the key not after the query.
    let same_piece = view.piece.f_unsqueeze(2)?.f_eq_tensor(&view.piece.f_unsqueeze(1)?)?;
    let own_piece = same_piece.f_logical_and(&key.f_le_tensor(&query)?)?.f_logical_or(&start_of_piece)?;
    // [rows, width, 1]: queries in a piece. Padding sees the context, so that its softmax is defined.
    let in_piece = view.piece.f_gt(0)?.f_unsqueeze(2)?;
    let hidden = in_context.f_logical_or(&own_piece.f_logical_and(&in_piece)?)?.f_logical_not()?.f_unsqueeze(1)?;
    let (rows, width) = (view.rows, view.width);
    Tensor::f_zeros([rows, 1, width, width], (kind, view.context.device()))?.f_masked_fill(&hidden, f64::NEG_INFINITY)
}
