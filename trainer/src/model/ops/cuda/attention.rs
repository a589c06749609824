//! Attention over packed rows.

use glm_kernels::cuda::calls::{AttentionBackwardKey, AttentionBackwardQuery, AttentionForward};
use glm_kernels::dropout::Site;
use libtorch_ext::autograd::record;
use tch::{Kind, TchError, Tensor};

use super::launch::{Form, Launcher};
use super::residual::add_partials;
use super::{check_size, contiguous, defined, dropout_arguments, gradient_of, number};
use crate::batch::blocks::QueryTables;
use crate::model::ops::clock::{Stage, timed};

/// Query, key and value projections with their bias.
#[derive(Debug)]
pub(super) enum Projected {
    /// Query, key and value side by side, `[tokens, 3 hidden]`: all tokens ask.
    Together(Tensor),
    /// The scored tokens ask.
    Apart {
        /// `[scored, hidden]`.
        query: Tensor,
        /// Key and value side by side, `[tokens, 2 hidden]`.
        key_value: Tensor,
    },
}

/// Query, key and value, or their gradients: views of what was projected, with the distance between two rows.
struct Parts {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_stride: i64,
    key_stride: i64,
}

impl Projected {
    fn parts(&self) -> Result<Parts, TchError> {
        let (query, query_stride, key_value, first) = match self {
            Self::Together(all) => (all.f_detach()?, all.size2()?.1, all.f_detach()?, all.size2()?.1 / 3),
            Self::Apart { query, key_value } => (query.f_detach()?, query.size2()?.1, key_value.f_detach()?, 0),
        };
        let key_stride = key_value.size2()?.1;
        let hidden = (key_stride - first) / 2;
        let part = |first: i64| key_value.f_narrow(1, first, hidden);
        Ok(Parts {
            query: query.f_narrow(1, 0, hidden)?,
            key: part(first)?,
            value: part(first + hidden)?,
            query_stride,
            key_stride,
        })
    }

    /// Memory of the same shape.
    fn empty_like(&self) -> Result<Self, TchError> {
        let empty = |tensor: &Tensor| tensor.f_detach()?.f_empty_like();
        Ok(match self {
            Self::Together(all) => Self::Together(empty(all)?),
            Self::Apart { query, key_value } => Self::Apart { query: empty(query)?, key_value: empty(key_value)? },
        })
    }

    fn detached(&self) -> Result<Self, TchError> {
        Ok(match self {
            Self::Together(all) => Self::Together(all.f_detach()?),
            Self::Apart { query, key_value } => Self::Apart { query: query.f_detach()?, key_value: key_value.f_detach()? },
        })
    }

    fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::Together(all) => vec![all],
            Self::Apart { query, key_value } => vec![query, key_value],
        }
    }
}

/// Values saved for the backward pass.
struct Saved {
    launcher: Launcher,
    projected: Projected,
    tables: QueryTables,
    bias_gradient: Tensor,
    out: Tensor,
    log_sums: Tensor,
    masks: Tensor,
    heads: i64,
    site: Site,
}

/// `softmax(q kᵀ / sqrt(d)) v` with dropout, heads side by side: `[queries, hidden]`. `bias` `[3 hidden]` is that of the projection, which
/// was added to it already and whose gradient is computed here.
///
/// # Errors
/// A [`TchError`].
pub(super) fn attention(
    launcher: Launcher,
    projected: &Projected,
    bias: &Tensor,
    tables: QueryTables,
    heads: i64,
    site: Site,
) -> Result<Tensor, TchError> {
    let parts = projected.parts()?;
    let ((queries, hidden), device, kind) = (parts.query.size2()?, parts.query.device(), parts.query.f_kind()?);
    check_size(parts.key.size2()?.0.max(queries), parts.query_stride.max(parts.key_stride))?;
    let out = Tensor::f_empty([queries, hidden], (kind, device))?;
    let log_sums = Tensor::f_empty([heads, queries], (Kind::Float, device))?;
    // Without dropout it stays as it is: a limit of 0 drops nothing, whatever the mask.
    let masks = Tensor::f_empty([heads, queries], (Kind::Int64, device))?;
    let (key, limit, keep_scale) = dropout_arguments(site);
    let call = AttentionForward {
        q: &parts.query,
        k: &parts.key,
        v: &parts.value,
        out: &out,
        lse: &log_sums,
        masks: &masks,
        rows: &tables.rows,
        blocks: &tables.query_blocks,
        query_token: &tables.token,
        query_piece: &tables.piece,
        query_key: &tables.key,
        q_stride: number(parts.query_stride)?,
        kv_stride: number(parts.key_stride)?,
        heads: number(heads)?,
        all_queries: number(queries)?,
        site: key,
        limit,
        keep_scale,
        scale: scale(hidden, heads),
    };
    let form = Form { size: (hidden / heads) as u32, dropout: site.drops(), ..Form::default() };
    let grid = [tables.query_blocks.numel() / 2, heads as usize];
    // SAFETY: the tables describe the rows of this batch, of which q, k and v are projections; the outputs were made above.
    timed(Stage::Attention, device, || unsafe { launcher.launch(form, grid, call) })?;

    let saved = Saved {
        launcher,
        projected: projected.detached()?,
        tables,
        bias_gradient: gradient_of(bias)?,
        out: out.f_detach()?,
        log_sums,
        masks,
        heads,
        site,
    };
    let mut inputs = projected.tensors();
    inputs.push(bias);
    record(c"glm::attention", &inputs, &[&out], move |grads| {
        let gradients = timed(Stage::AttentionBack, device, || saved.backward(grads[0].as_ref()))?;
        let of_inputs = match gradients {
            Projected::Together(all) => vec![Some(all), None],
            Projected::Apart { query, key_value } => vec![Some(query), Some(key_value), None],
        };
        Ok(of_inputs)
    })?;
    Ok(out)
}

impl Saved {
    /// Gradients of what was projected; that of the bias is added to its place.
    fn backward(self, d_out: Option<&Tensor>) -> Result<Projected, TchError> {
        let Self { launcher, ref projected, ref tables, ref bias_gradient, ref out, ref log_sums, ref masks, heads, site } =
            self;
        defined(&[bias_gradient])?;
        let gradients = projected.empty_like()?;
        let (parts, d_parts) = (projected.parts()?, gradients.parts()?);
        let ((queries, hidden), device) = (parts.query.size2()?, parts.query.device());
        let d_out = contiguous(d_out, out)?;
        let (query_programs, key_programs) = (tables.query_blocks.numel() / 2, tables.key_blocks.numel() / 2);
        let partial = |programs: usize, width: i64| Tensor::f_empty([programs as i64, width], (Kind::Float, device));
        let (query_bias, key_bias) = (partial(query_programs, hidden)?, partial(key_programs, 2 * hidden)?);
        let delta = log_sums.f_empty_like()?;
        let (_, limit, keep_scale) = dropout_arguments(site);
        let (q_stride, kv_stride) = (number(parts.query_stride)?, number(parts.key_stride)?);
        let form = Form { size: (hidden / heads) as u32, dropout: true, ..Form::default() };
        let call = AttentionBackwardQuery {
            q: &parts.query,
            k: &parts.key,
            v: &parts.value,
            out,
            d_out: &d_out,
            lse: log_sums,
            masks,
            delta: &delta,
            d_q: &d_parts.query,
            d_bias: &query_bias,
            rows: &tables.rows,
            blocks: &tables.query_blocks,
            query_token: &tables.token,
            query_piece: &tables.piece,
            q_stride,
            kv_stride,
            heads: number(heads)?,
            all_queries: number(queries)?,
            limit,
            keep_scale,
            scale: scale(hidden, heads),
        };
        // SAFETY: as in the forward pass; gradients have the shapes and strides of what they belong to.
        unsafe { launcher.launch(form, [query_programs, heads as usize], call) }?;
        let call = AttentionBackwardKey {
            q: &parts.query,
            k: &parts.key,
            v: &parts.value,
            d_out: &d_out,
            lse: log_sums,
            masks,
            delta: &delta,
            d_k: &d_parts.key,
            d_v: &d_parts.value,
            d_bias: &key_bias,
            rows: &tables.rows,
            blocks: &tables.key_blocks,
            query_token: &tables.token,
            query_piece: &tables.piece,
            q_stride,
            kv_stride,
            heads: number(heads)?,
            all_queries: number(queries)?,
            limit,
            keep_scale,
            scale: scale(hidden, heads),
        };
        // SAFETY: as above.
        unsafe { launcher.launch(form, [key_programs, heads as usize], call) }?;
        add_partials(launcher, &query_bias, &[&bias_gradient.f_narrow(0, 0, hidden)?])?;
        add_partials(launcher, &key_bias, &[&bias_gradient.f_narrow(0, hidden, 2 * hidden)?])?;
        Ok(gradients)
    }
}

fn scale(hidden: i64, heads: i64) -> f32 {
    (1.0 / ((hidden / heads) as f64).sqrt()) as f32
}
