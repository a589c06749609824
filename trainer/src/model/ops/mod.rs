//! Operations of the model as one trait, on which the forward pass is written once.
//!
//! | implementation | where | what it is |
//! | --- | --- | --- |
//! | [`torch`] | any device and kind | libtorch's operators on rows of equal width: the reference |
//! | [`cpu`] | CPUs; fp32, bf16, fp64 | fused kernels on the packed batch |
//! | [`cuda`] | NVIDIA GPUs; bf16, fp16 | fused Triton kernels on the packed batch |
//!
//! [`Backend`](super::Backend) selects one. Each has its own backward pass and asks the batch for the [layout](crate::batch::layout) that it
//! needs. Tests run every implementation against `torch`, and both against outputs of the published code.

pub mod clock;
pub mod cpu;
pub mod cuda;
mod fused;
#[cfg(test)]
mod parity_tests;
pub mod torch;

use glm_kernels::dropout::Site;
use tch::{TchError, Tensor};

use super::layers::{LayerNorm, Linear};

/// Tokens for which an operation computes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    /// All tokens of the batch.
    All,
    /// Tokens whose output is scored: what the last block needs.
    Scored,
}

/// Output of a linear layer, whose bias may be left to the operation that follows.
#[derive(Debug)]
pub struct Projection<'a> {
    /// `[tokens, output]`.
    pub values: Tensor,
    /// The bias `[output]`, if it is still to be added.
    pub bias: Option<&'a Tensor>,
}

/// Operations on one packed batch. Each is recorded for the backward pass; gradients reach parameters in their own kind.
///
/// `tokens` below is all tokens of the batch, or the scored ones where [`Queries::Scored`] is given.
pub trait Ops {
    /// Indices of the scored tokens, `[scored]`.
    fn scored(&self) -> &Tensor;

    /// Rows of `x` `[tokens, …]` that belong to the queries.
    ///
    /// # Errors
    /// A [`TchError`].
    fn of_queries(&self, x: &Tensor, queries: Queries) -> Result<Tensor, TchError> {
        match queries {
            Queries::All => Ok(x.shallow_clone()),
            Queries::Scored => x.f_index_select(0, self.scored()),
        }
    }

    /// `dropout(word[id] + position[p] + block_position[b])`, `[tokens, hidden]` in the pass's kind.
    ///
    /// # Errors
    /// A [`TchError`].
    fn embed(&self, tables: [&Tensor; 3], dropout: Site) -> Result<Tensor, TchError>;

    /// `x Wᵀ + b`: `[n, input]` to `[n, output]`.
    ///
    /// # Errors
    /// A [`TchError`].
    fn linear<'a>(&self, x: &Tensor, weight: &Tensor, bias: Option<&'a Tensor>) -> Result<Projection<'a>, TchError>;

    /// `gelu(x)` in its tanh form. Nothing else may use the memory of `x`, which may receive its gradient.
    ///
    /// # Errors
    /// A [`TchError`].
    fn bias_gelu(&self, x: Projection<'_>) -> Result<Tensor, TchError>;

    /// LayerNorm of `x` `[tokens, hidden]`.
    ///
    /// # Errors
    /// A [`TchError`].
    fn norm(&self, x: &Tensor, norm: &LayerNorm) -> Result<Tensor, TchError>;

    /// `(sum, norm(sum))` with `sum = residual + dropout(branch)`, each `[tokens, hidden]`.
    ///
    /// # Errors
    /// A [`TchError`].
    fn add_norm(
        &self,
        residual: &Tensor,
        branch: Projection<'_>,
        norm: &LayerNorm,
        queries: Queries,
        dropout: Site,
    ) -> Result<(Tensor, Tensor), TchError>;

    /// `dropout(softmax(q kᵀ / √d)) v` under GLM's mask, with `q`, `k`, `v` = `query_key_value(x)`: `x` is that of all tokens,
    /// the result `[tokens, hidden]` has the heads side by side.
    ///
    /// # Errors
    /// A [`TchError`].
    fn attention(
        &self,
        x: &Tensor,
        query_key_value: &Linear,
        heads: i64,
        queries: Queries,
        dropout: Site,
    ) -> Result<Tensor, TchError>;

    /// For each group of the batch, the sum of `log softmax(logits)[target]` over its targets: `[groups]`, in 32 bits at
    /// least. `logits` is `[scored, vocabulary]`; nothing else may use its memory, which may receive its gradient.
    ///
    /// # Errors
    /// A [`TchError`]; a target outside the vocabulary is one.
    fn target_log_probs(&self, logits: Tensor) -> Result<Tensor, TchError>;
}
