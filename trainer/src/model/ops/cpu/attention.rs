//! Attention, one row of the batch after the other: within a row every head is a task.
//!
//! Scores, softmax and their gradients are 32 bits at least. With bfloat16 the probabilities and the scores' gradients are
//! rounded to it for the matrix products that follow, as in FlashAttention, which makes these twice as fast.

use std::sync::Arc;

use glm_kernels::attention::{Head, Visibility, softmax, softmax_backward};
use glm_kernels::dropout::{Site, mix};
use glm_kernels::number::Element;
use libtorch_ext::autograd::record;
use libtorch_ext::parallel::for_each;
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::{Queries, Stored, add_rows, by_kind, contiguous, gradient_of, values, values_mut};
use crate::batch::packed::{Batch, RowSpan};
use crate::model::ops::clock::{Stage, timed};

/// Query, key and value projections without their bias.
#[derive(Debug)]
pub enum Projected {
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

/// `softmax(q kᵀ / sqrt(d)) v` with dropout, heads side by side: `[queries, hidden]`. `bias` `[3 hidden]` is that of the
/// projection.
///
/// # Errors
/// A [`TchError`].
pub fn attention(projected: &Projected, bias: &Tensor, batch: &Arc<Batch>, heads: i64, site: Site) -> Result<Tensor, TchError> {
    let kind = match projected {
        Projected::Together(all) => all.f_kind()?,
        Projected::Apart { query, .. } => query.f_kind()?,
    };
    timed(Stage::Attention, Device::Cpu, || by_kind!(kind, attention_of(projected, bias, batch, heads, site)))
}

/// One row of a batch and who asks in it.
struct Row<'a> {
    span: RowSpan,
    from: &'a [i32],
    keys: &'a [u64],
    /// Index within the row of each query.
    queries: Vec<usize>,
    /// Place of the first query among all queries.
    first_query: i64,
}

/// The rows of a batch.
fn rows(batch: &Batch, queries: Queries) -> Vec<Row<'_>> {
    let mut scored = batch.targets.scored.iter().map(|token| *token as usize).peekable();
    let mut first_query = 0;
    let mut rows = Vec::with_capacity(batch.inputs.rows.len());
    for &span in &batch.inputs.rows {
        let tokens = span.start..span.start + span.length;
        let queries: Vec<usize> = match queries {
            Queries::All => (0..span.length).collect(),
            Queries::Scored => {
                std::iter::from_fn(|| scored.next_if(|token| *token < tokens.end)).map(|token| token - span.start).collect()
            }
        };
        let (from, keys) = (&batch.inputs.piece_start[tokens.clone()], &batch.inputs.token_key[tokens]);
        let count = queries.len() as i64;
        rows.push(Row { span, from, keys, queries, first_query });
        first_query += count;
    }
    rows
}

/// The heads' settings of a row; a site of its own for each head.
fn head<'a>(row: &'a Row<'_>, site: Site, head: usize, scale: f64) -> Head<'a> {
    let visibility = Visibility { context: row.span.context, from: row.from };
    let site = Site { key: mix(site.key.wrapping_add(head as u64)), ..site };
    Head { visibility, queries: &row.queries, keys: row.keys, site, scale }
}

/// Tensors that a forward and a backward pass share.
struct Source {
    /// `[queries, hidden]` and `[tokens, 2 hidden]`, views of what was projected.
    query: Tensor,
    key_value: Tensor,
    /// `[hidden]` and `[2 hidden]`.
    query_bias: Tensor,
    key_value_bias: Tensor,
    heads: i64,
    hidden: i64,
}

impl Source {
    fn new(projected: &Projected, bias: &Tensor, heads: i64) -> Result<Self, TchError> {
        let bias = bias.f_detach()?;
        let hidden = bias.size1()? / 3;
        let (query, key_value) = match projected {
            Projected::Together(all) => {
                let all = all.f_detach()?;
                (all.f_narrow(1, 0, hidden)?, all.f_narrow(1, hidden, 2 * hidden)?)
            }
            Projected::Apart { query, key_value } => (query.f_detach()?, key_value.f_detach()?),
        };
        let (query_bias, key_value_bias) = (bias.f_narrow(0, 0, hidden)?, bias.f_narrow(0, hidden, 2 * hidden)?);
        Ok(Self { query, key_value, query_bias, key_value_bias, heads, hidden })
    }

    fn scale(&self) -> f64 {
        1.0 / ((self.hidden / self.heads) as f64).sqrt()
    }

    /// `[n, heads · d]` as `[heads, n, d]`.
    fn by_head(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_reshape([-1, self.heads, self.hidden / self.heads])?.f_transpose(0, 1)
    }

    /// Query, key and value of a row with their bias, in the kind that is computed with: `[heads, n, d]` each.
    fn of_row(&self, row: &Row<'_>, real: Kind) -> Result<[Tensor; 3], TchError> {
        let part = |x: &Tensor, bias: &Tensor, start: i64, length: usize| {
            x.f_narrow(0, start, length as i64)?.f_totype(real)?.f_add(bias)
        };
        let query = part(&self.query, &self.query_bias, row.first_query, row.queries.len())?;
        let key_value = part(&self.key_value, &self.key_value_bias, row.span.start as i64, row.span.length)?;
        let (key, value) = (key_value.f_narrow(1, 0, self.hidden)?, key_value.f_narrow(1, self.hidden, self.hidden)?);
        Ok([self.by_head(&query)?, self.by_head(&key)?, self.by_head(&value)?])
    }
}

fn attention_of<T: Stored>(
    projected: &Projected,
    bias: &Tensor,
    batch: &Arc<Batch>,
    heads: i64,
    site: Site,
) -> Result<Tensor, TchError> {
    let source = Source::new(projected, bias, heads)?;
    let queries = match projected {
        Projected::Together(_) => Queries::All,
        Projected::Apart { .. } => Queries::Scored,
    };
    let (out, log_sums) = no_grad(|| forward::<T>(Pass { source: &source, rows: &rows(batch, queries), site }))?;
    let (batch, saved, gradient) = (Arc::clone(batch), out.f_detach()?, gradient_of(bias)?);
    let backward = move |grads: &[Option<Tensor>]| {
        let mut gradient = gradient;
        let dy = contiguous(grads[0].as_ref(), &saved)?;
        no_grad(|| {
            let pass = Pass { source: &source, rows: &rows(&batch, queries), site };
            timed(Stage::AttentionBack, Device::Cpu, || backward::<T>(pass, queries, [&saved, &dy], &log_sums, &mut gradient))
        })
    };
    match projected {
        Projected::Together(all) => record(c"glm::attention", &[all, bias], &[&out], move |grads| {
            let [all, _] = backward(grads)?;
            Ok(vec![Some(all), None])
        })?,
        Projected::Apart { query, key_value } => {
            record(c"glm::attention", &[query, key_value, bias], &[&out], move |grads| {
                let [query, key_value] = backward(grads)?;
                Ok(vec![Some(query), Some(key_value), None])
            })?;
        }
    }
    Ok(out)
}

/// Arguments of forward and backward pass.
#[derive(Clone, Copy)]
struct Pass<'a> {
    source: &'a Source,
    rows: &'a [Row<'a>],
    site: Site,
}

/// For each row of a batch, `[heads, queries]` logarithms of sums of exponentials.
type LogSums<T> = Vec<Vec<<T as Element>::Real>>;

/// The result, and what the backward pass needs.
fn forward<T: Stored>(pass: Pass<'_>) -> Result<(Tensor, LogSums<T>), TchError> {
    let Pass { source, rows, site } = pass;
    let (queries, scale) = (source.query.size2()?.0, source.scale());
    let out = Tensor::f_empty([queries, source.hidden], (T::KIND, Device::Cpu))?;
    let mut log_sums = Vec::with_capacity(rows.len());
    for row in rows {
        let (asked, tokens) = (row.queries.len(), row.span.length);
        let [query, key, value] = source.of_row(row, T::REAL)?;
        // [heads, queries, tokens]
        let mut scores = query.f_bmm(&key.f_transpose(1, 2)?)?.f_contiguous()?;
        let mut log_sum = vec![T::Real::default(); source.heads as usize * asked];
        // SAFETY: just made by the product, and nobody else has it.
        let numbers = unsafe { values_mut::<T::Real>(&mut scores, T::REAL) }?;
        let tasks = numbers.chunks_mut(asked * tokens).zip(log_sum.chunks_mut(asked)).enumerate();
        for_each(tasks, |(i, (scores, log_sum))| softmax(head(row, site, i, scale), scores, log_sum))?;
        let mixed = scores.f_totype(T::KIND)?.f_bmm(&value.f_totype(T::KIND)?)?;
        source.by_head(&out.f_narrow(0, row.first_query, asked as i64)?)?.f_copy_(&mixed)?;
        log_sums.push(log_sum);
    }
    Ok((out, log_sums))
}

/// Gradients of what was projected: `[all, nothing]` where it was together, else `[query, key_value]`. That of the bias is
/// added to `bias_gradient`.
fn backward<T: Stored>(
    pass: Pass<'_>,
    queries: Queries,
    [out, dy]: [&Tensor; 2],
    log_sums: &[Vec<T::Real>],
    bias_gradient: &mut Tensor,
) -> Result<[Tensor; 2], TchError> {
    let Pass { source, rows, site } = pass;
    let (hidden, scale) = (source.hidden, source.scale());
    let together = queries == Queries::All;
    let (queries, tokens) = (source.query.size2()?.0, source.key_value.size2()?.0);
    let options = (T::KIND, Device::Cpu);
    let (whole, d_query, d_key_value) = if together {
        let all = Tensor::f_empty([tokens, 3 * hidden], options)?;
        let parts = (all.f_narrow(1, 0, hidden)?, all.f_narrow(1, hidden, 2 * hidden)?);
        (Some(all), parts.0, parts.1)
    } else {
        (None, Tensor::f_empty([queries, hidden], options)?, Tensor::f_empty([tokens, 2 * hidden], options)?)
    };
    for (row, log_sum) in rows.iter().zip(log_sums) {
        let (asked, length) = (row.queries.len(), row.span.length);
        let [query, key, value] = source.of_row(row, T::REAL)?;
        let of_queries = |x: &Tensor| x.f_narrow(0, row.first_query, asked as i64)?.f_totype(T::REAL);
        let (d_out, out) = (of_queries(dy)?, of_queries(out)?);
        // [queries, heads] -> [heads, queries]
        let dot = d_out.f_mul(&out)?.f_reshape([asked as i64, source.heads, -1])?;
        let dot = dot.f_sum_dim_intlist(-1, false, None)?.f_tr()?.f_contiguous()?;
        let d_out = source.by_head(&d_out)?;
        let mut scores = query.f_bmm(&key.f_transpose(1, 2)?)?.f_contiguous()?;
        let mut gradient = d_out.f_bmm(&value.f_transpose(1, 2)?)?.f_contiguous()?;
        {
            // SAFETY: all three were just made, and nobody else has them.
            let (scores, gradient, dot) = unsafe {
                let scores = values_mut::<T::Real>(&mut scores, T::REAL)?;
                (scores, values_mut::<T::Real>(&mut gradient, T::REAL)?, values::<T::Real>(&dot, T::REAL)?)
            };
            let numbers = scores.chunks_mut(asked * length).zip(gradient.chunks_mut(asked * length));
            let sums = log_sum.chunks(asked).zip(dot.chunks(asked));
            for_each(numbers.zip(sums).enumerate(), |(i, ((scores, gradient), (log_sum, dot)))| {
                softmax_backward(head(row, site, i, scale), scores, gradient, log_sum, dot);
            })?;
        }
        let narrow = |x: &Tensor| x.f_totype(T::KIND);
        let (probabilities, gradient) = (narrow(&scores)?, narrow(&gradient)?);
        let (query, key, d_out) = (narrow(&query)?, narrow(&key)?, narrow(&d_out)?);
        let put = |target: &Tensor, start: i64, count: usize, values: &Tensor| {
            source.by_head(&target.f_narrow(0, start, count as i64)?)?.f_copy_(values)
        };
        put(&d_query, row.first_query, asked, &gradient.f_bmm(&key)?)?;
        let (d_key, d_value) = (d_key_value.f_narrow(1, 0, hidden)?, d_key_value.f_narrow(1, hidden, hidden)?);
        put(&d_key, row.span.start as i64, length, &gradient.f_transpose(1, 2)?.f_bmm(&query)?)?;
        put(&d_value, row.span.start as i64, length, &probabilities.f_transpose(1, 2)?.f_bmm(&d_out)?)?;
    }
    // SAFETY: one backward pass at a time adds to a model's gradients.
    let total = unsafe { values_mut::<T::Real>(bias_gradient, T::REAL) }?;
    match whole {
        Some(all) => {
            // SAFETY: made above, and nothing writes to it any more.
            add_rows(total, unsafe { values::<T>(&all, T::KIND) }?)?;
            Ok([all, Tensor::new()])
        }
        None => {
            let (query, key_value) = total.split_at_mut(hidden as usize);
            // SAFETY: as above.
            add_rows(query, unsafe { values::<T>(&d_query, T::KIND) }?)?;
            // SAFETY: as above.
            add_rows(key_value, unsafe { values::<T>(&d_key_value, T::KIND) }?)?;
            Ok([d_query, d_key_value])
        }
    }
}
