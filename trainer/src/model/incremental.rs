//! Forward passes over new tokens of sequences whose earlier keys and values are in a [`KeyValueCache`].
//!
//! All operations but attention are those of the [backend](super::Backend), on a packed batch of the new tokens. Contexts go through the
//! backend's attention as well; later tokens attend to the cache.

use std::cell::Cell;
use std::sync::Arc;

use glm_kernels::dropout::Site;
use glm_schemas::vocab::TokenId;
use libtorch_ext::operators::matmul_nt;
use tch::{Kind, TchError, Tensor, no_grad};

use super::backend::Backend;
use super::cache::KeyValueCache;
use super::glm::Glm;
use super::layers::{LayerNorm, Linear};
use super::ops::cpu::linear::{FEW_ROWS, linear_of_few_rows};
use super::ops::{Ops, Projection, Queries};
use super::parameters::Parameters;
use super::pass::Pass;
use crate::batch::packed::Batch;

/// A token that is appended to a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewToken {
    /// Token id.
    pub id: TokenId,
    /// Position id: index of the blank in the context.
    pub position: usize,
    /// Block position id: number of the token in its piece, 1 for the start of piece.
    pub block_position: usize,
}

impl Glm {
    /// Adds sequences to a cache: each is a context, which sees itself fully, and the start of its first piece. Returns the logits that
    /// follow, `[sequences, vocabulary]`.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or a token outside the embeddings.
    pub fn start_sequences<'a>(
        &self,
        contexts: impl IntoIterator<Item = (&'a [TokenId], NewToken)>,
        pass: &Pass,
        cache: &mut KeyValueCache,
    ) -> Result<Tensor, TchError> {
        let mut batch = Batch::default();
        for (number, (context, start)) in contexts.into_iter().enumerate() {
            batch.push_context(context);
            batch.push_scored(start.id, start.position as i64, start.block_position as i64, context.len());
            batch.end_row(number as u64, 0);
        }
        let batch = Arc::new(batch);
        let rows = &batch.inputs.rows;
        let first = cache.sequences();
        let longest = cache.shared_lengths().iter().copied().chain([batch.inputs.max_row()]).max().unwrap_or(0);
        cache.reserve(first + rows.len(), longest, 0)?;
        let logits = self.forward_cached(&batch, pass, cache, Feed::Contexts)?;
        cache.add(rows.iter().map(|row| row.length));
        logits.f_narrow(0, 0, rows.len() as i64)
    }

    /// Appends a token to each beam of each sequence, `tokens` being those of the first sequence's beams, then of the second's, and so on.
    /// Returns the logits that follow, `[sequences · beams, vocabulary]`.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, a wrong number of tokens, or a token outside the embeddings.
    pub fn append_to_beams(&self, tokens: &[NewToken], pass: &Pass, cache: &mut KeyValueCache) -> Result<Tensor, TchError> {
        if tokens.len() != cache.sequences() * cache.beams() {
            let message = format!("{} tokens for {} sequences of {} beams", tokens.len(), cache.sequences(), cache.beams());
            return Err(TchError::Shape(message));
        }
        let shared = cache.shared_lengths().iter().copied().max().unwrap_or(0);
        let own = 1 + cache.own_lengths().iter().copied().max().unwrap_or(0);
        cache.reserve(cache.sequences(), shared, own)?;
        let feed = match self.backend(pass) {
            Backend::Cpu => Feed::FusedBeams,
            _ => Feed::Beams(StepTables::new(cache, shared, own)?),
        };
        let logits = self.forward_cached(&new_tokens(tokens, false), pass, cache, feed)?;
        cache.count_step();
        logits.f_narrow(0, 0, tokens.len() as i64)
    }

    /// Appends tokens, each of which sees those before it, to what all beams of one sequence see, in place of the beams' own tokens: the
    /// piece that was chosen and the start of the next one. Returns the logits that follow the last token, `[1, vocabulary]`.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or a token outside the embeddings.
    pub fn append_shared(
        &self,
        sequence: usize,
        tokens: &[NewToken],
        pass: &Pass,
        cache: &mut KeyValueCache,
    ) -> Result<Tensor, TchError> {
        let before = cache.shared_lengths()[sequence];
        cache.reserve(cache.sequences(), before + tokens.len(), 0)?;
        let count = tokens.len() as i64;
        // Query i sees the keys up to its own.
        let hidden = Tensor::f_ones([count, before as i64 + count], (Kind::Bool, self.parameters().device()))?
            .f_triu(before as i64 + 1)?;
        let bias = hidden.f_zeros_like()?.f_totype(pass.kind)?.f_masked_fill(&hidden, f64::NEG_INFINITY)?;
        let feed = Feed::Shared { sequence, before, count, bias };
        let logits = self.forward_cached(&new_tokens(tokens, true), pass, cache, feed)?;
        cache.start_piece(sequence, tokens.len());
        logits.f_narrow(0, 0, 1)
    }

    fn forward_cached(&self, batch: &Arc<Batch>, pass: &Pass, cache: &KeyValueCache, feed: Feed) -> Result<Tensor, TchError> {
        let (backend, parameters) = (self.backend(pass), self.parameters());
        no_grad(|| {
            let on_device = batch.to_device(parameters.device(), backend.layout())?;
            let inner = backend.ops(&on_device, pass, parameters)?;
            let is_fused = backend == Backend::Cpu;
            let ops = CachedOps { inner, batch, parameters, kind: pass.kind, is_fused, cache, feed, layer: Cell::new(0) };
            self.scored_logits(&ops, pass)
        })
    }
}

/// A batch of new tokens in one row, all of them scored or only the last.
fn new_tokens(tokens: &[NewToken], only_last: bool) -> Arc<Batch> {
    let mut batch = Batch::default();
    batch.push_context(&[]);
    for (index, token) in tokens.iter().enumerate() {
        batch.push_scored(token.id, token.position as i64, token.block_position as i64, index);
    }
    if only_last {
        let scored = &mut batch.targets.scored;
        scored.drain(..scored.len().saturating_sub(1));
    }
    batch.end_row(0, 0);
    Arc::new(batch)
}

/// New tokens of a forward pass.
enum Feed {
    /// Contexts of new sequences, each with the start of a piece.
    Contexts,
    /// A token for each beam of all sequences, by a kernel.
    FusedBeams,
    /// The same by libtorch's operators.
    Beams(StepTables),
    /// Tokens for all beams of one sequence.
    Shared {
        sequence: usize,
        /// Number of earlier tokens.
        before: usize,
        count: i64,
        /// `[count, before + count]`.
        bias: Tensor,
    },
}

/// Tables of a step, which all blocks use.
struct StepTables {
    shared: usize,
    own: usize,
    /// See [`KeyValueCache::next_rows`].
    rows: Tensor,
    /// 0 where a sequence has a token, minus infinity elsewhere: `[sequences, 1, 1, shared + own]`; `None` if all have all.
    bias: Option<Tensor>,
}

impl StepTables {
    /// Tables for sequences of up to `shared` shared and `own` own tokens, with the new one.
    fn new(cache: &KeyValueCache, shared: usize, own: usize) -> Result<Self, TchError> {
        let device = cache.device();
        let lengths: Vec<_> = cache.shared_lengths().iter().zip(cache.own_lengths()).map(|(a, b)| (*a, b + 1)).collect();
        let bias = if lengths.iter().all(|&length| length == (shared, own)) {
            None
        } else {
            let mut bias = vec![0.0_f32; lengths.len() * (shared + own)];
            for (row, (a, b)) in bias.chunks_mut(shared + own).zip(&lengths) {
                row[*a..shared].fill(f32::NEG_INFINITY);
                row[shared + b..].fill(f32::NEG_INFINITY);
            }
            let shape = [lengths.len() as i64, 1, 1, (shared + own) as i64];
            Some(Tensor::f_from_slice(&bias)?.f_view(shape)?.f_to_device(device)?)
        };
        Ok(Self { shared, own, rows: Tensor::f_from_slice(&cache.next_rows())?.f_to_device(device)?, bias })
    }
}

/// Operations on a batch of new tokens: those of a backend, but attention also to the cache.
struct CachedOps<'a> {
    inner: Box<dyn Ops + 'a>,
    batch: &'a Batch,
    parameters: &'a Parameters,
    kind: Kind,
    /// True if there are kernels for new tokens.
    is_fused: bool,
    cache: &'a KeyValueCache,
    feed: Feed,
    /// Number of the block whose attention comes next.
    layer: Cell<usize>,
}

impl CachedOps<'_> {
    /// `x Wᵀ`, with weights in the kind of `x`.
    fn product(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
        match self.is_fused && x.size2()?.0 <= FEW_ROWS {
            true => linear_of_few_rows(x, weight),
            false => matmul_nt(x, weight),
        }
    }

    /// A parameter in the kind of the activations. It is cast once, not in every step.
    fn cast(&self, parameter: &Tensor) -> Result<Tensor, TchError> {
        match self.kind == self.parameters.kind() {
            true => parameter.f_detach(),
            false => Ok(self.parameters.cast(parameter, self.kind)?.shallow_clone()),
        }
    }

    /// Some outputs of `x Wᵀ + b`: `[tokens, outputs]`.
    fn project(&self, x: &Tensor, linear: &Linear, first: i64, outputs: i64) -> Result<Tensor, TchError> {
        let (weight, bias) = (self.cast(linear.weight())?, self.cast(linear.bias())?);
        self.product(x, &weight.f_narrow(0, first, outputs)?)?.f_add_(&bias.f_narrow(0, first, outputs)?)
    }

    /// Attention of a new token per beam, `[sequences · beams, hidden]`.
    fn of_beams(&self, x: &Tensor, linear: &Linear, layer: usize, tables: &StepTables) -> Result<Tensor, TchError> {
        let StepTables { shared, own, rows, bias } = tables;
        let (sequences, beams) = (self.cache.sequences() as i64, self.cache.beams() as i64);
        let hidden = x.size2()?.1;
        let heads = self.cache.heads() as i64;
        let head_size = hidden / heads;
        let x = x.f_narrow(0, 0, sequences * beams)?;
        // [sequences · beams, 3 hidden] -> [3, sequences, heads, beams, head size]
        let projected = self.project(&x, linear, 0, 3 * hidden)?;
        let projected = projected.f_reshape([sequences, beams, 3, heads, head_size])?.f_permute([2, 0, 3, 1, 4])?;
        let query = projected.f_select(0, 0)?.f_mul_scalar(1.0 / (head_size as f64).sqrt())?;
        self.cache.write_own(layer, rows, &projected.f_narrow(0, 1, 2)?.f_reshape([-1, head_size])?)?;
        let seen = self.cache.seen(layer, *shared, *own)?;

        let by_sequence = query.f_reshape([sequences * heads, beams, head_size])?;
        let by_beam = by_sequence.f_reshape([sequences * heads * beams, 1, head_size])?;
        let of_shared = by_sequence.f_bmm(&seen.shared_key.f_transpose(1, 2)?)?;
        let of_own = by_beam.f_bmm(&seen.own_key.f_transpose(1, 2)?)?.f_reshape([sequences * heads, beams, -1])?;
        let (shared, own) = (*shared as i64, *own as i64);
        let mut scores = Tensor::f_cat(&[of_shared, of_own], 2)?.f_reshape([sequences, heads, beams, shared + own])?;
        if self.kind != Kind::Double {
            scores = scores.f_totype(Kind::Float)?;
        }
        if let Some(bias) = bias {
            scores = scores.f_add_(bias)?;
        }
        let probabilities = scores.f_softmax(-1, None::<Kind>)?.f_totype(self.kind)?;
        let probabilities = probabilities.f_reshape([sequences * heads, beams, shared + own])?;
        let of_shared = probabilities.f_narrow(2, 0, shared)?.f_bmm(&seen.shared_value)?;
        let of_own = probabilities.f_narrow(2, shared, own)?.f_reshape([sequences * heads * beams, 1, own])?;
        let of_own = of_own.f_bmm(&seen.own_value)?.f_reshape([sequences * heads, beams, head_size])?;
        // [sequences · heads, beams, head size] -> [sequences · beams, hidden]
        let mixed = of_shared.f_add(&of_own)?.f_reshape([sequences, heads, beams, head_size])?;
        mixed.f_transpose(1, 2)?.f_reshape([sequences * beams, hidden])
    }
}

impl Ops for CachedOps<'_> {
    fn scored(&self) -> &Tensor {
        self.inner.scored()
    }

    fn embed(&self, tables: [&Tensor; 3], dropout: Site) -> Result<Tensor, TchError> {
        self.inner.embed(tables, dropout)
    }

    fn linear<'a>(&self, x: &Tensor, weight: &Tensor, bias: Option<&'a Tensor>) -> Result<Projection<'a>, TchError> {
        if self.kind == self.parameters.kind() && !(self.is_fused && x.size2()?.0 <= FEW_ROWS) {
            return self.inner.linear(x, weight, bias);
        }
        Ok(Projection { values: self.product(x, &self.cast(weight)?)?, bias })
    }

    fn bias_gelu(&self, x: Projection<'_>) -> Result<Tensor, TchError> {
        self.inner.bias_gelu(x)
    }

    fn norm(&self, x: &Tensor, norm: &LayerNorm) -> Result<Tensor, TchError> {
        self.inner.norm(x, norm)
    }

    fn add_norm(
        &self,
        residual: &Tensor,
        branch: Projection<'_>,
        norm: &LayerNorm,
        queries: Queries,
        dropout: Site,
    ) -> Result<(Tensor, Tensor), TchError> {
        self.inner.add_norm(residual, branch, norm, queries, dropout)
    }

    fn attention(
        &self,
        x: &Tensor,
        query_key_value: &Linear,
        heads: i64,
        queries: Queries,
        dropout: Site,
    ) -> Result<Tensor, TchError> {
        let layer = self.layer.replace(self.layer.get() + 1);
        let (all, hidden) = x.size2()?;
        let mixed = match &self.feed {
            Feed::Contexts => {
                let key_value = self.project(x, query_key_value, hidden, 2 * hidden)?;
                let first = self.cache.sequences();
                for (number, row) in self.batch.inputs.rows.iter().enumerate() {
                    let of_row = key_value.f_narrow(0, row.start as i64, row.length as i64)?;
                    self.cache.write_shared(layer, first + number, 0, &of_row)?;
                }
                return self.inner.attention(x, query_key_value, heads, queries, dropout);
            }
            Feed::FusedBeams => {
                let projected = self.product(x, &self.cast(query_key_value.weight())?)?;
                self.cache.attend(layer, &projected, query_key_value.bias())?
            }
            Feed::Beams(tables) => self.of_beams(x, query_key_value, layer, tables)?,
            Feed::Shared { sequence, before, count, bias } => {
                let x = x.f_narrow(0, 0, *count)?;
                let key_value = self.project(&x, query_key_value, hidden, 2 * hidden)?;
                self.cache.write_shared(layer, *sequence, *before, &key_value)?;
                // The last block needs the last token's query only.
                let first = if queries == Queries::Scored { count - 1 } else { 0 };
                let query = self.project(&x.f_narrow(0, first, count - first)?, query_key_value, 0, hidden)?;
                // [queries, hidden] -> [1, heads, queries, head size]
                let query = query.f_view([1, count - first, heads, hidden / heads])?.f_transpose(1, 2)?;
                let [key, value] = self.cache.shared_of(layer, *sequence, before + *count as usize)?;
                let bias = bias.f_narrow(0, first, count - first)?;
                let mixed = Tensor::f_scaled_dot_product_attention(&query, &key, &value, Some(&bias), 0.0, false, None, false)?;
                mixed.f_transpose(1, 2)?.f_reshape([count - first, hidden])?
            }
        };
        // A layout of blocks ends with padding, which nothing sees.
        let rows = if queries == Queries::Scored { self.scored().size1()? } else { all };
        let missing = rows - mixed.size2()?.0;
        if missing == 0 { Ok(mixed) } else { mixed.f_constant_pad_nd([0, 0, 0, missing]) }
    }

    fn target_log_probs(&self, logits: Tensor) -> Result<Tensor, TchError> {
        self.inner.target_log_probs(logits)
    }
}
