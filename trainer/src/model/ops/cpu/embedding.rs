//! The sum of three embeddings.

use std::sync::Arc;

use glm_kernels::dropout::Site;
use glm_kernels::embedding::{self, Lookup, TableGradient};
use libtorch_ext::autograd::record;
use libtorch_ext::parallel::for_each;
use tch::{Device, Kind, TchError, Tensor};

use super::{Stored, TOKENS_PER_TASK, by_kind, contiguous, gradient_of, values, values_mut};
use crate::batch::packed::Batch;
use crate::model::ops::clock::{Stage, timed};
use crate::model::ops::fused::check_lookups;

/// Parts that a table is cut into, so that tasks even out.
const PARTS: usize = 16;

/// Dropout of the sum of the rows of word, position and block position tables that a batch's tokens take: `[tokens, width]` in
/// `kind`.
///
/// # Errors
/// A [`TchError`]; a token that is not in a table is one.
pub fn embed(tables: [&Tensor; 3], batch: &Arc<Batch>, site: Site, kind: Kind) -> Result<Tensor, TchError> {
    timed(Stage::Embedding, Device::Cpu, || by_kind!(kind, embed_of(tables, batch, site)))
}

fn embed_of<T: Stored>(tables: [&Tensor; 3], batch: &Arc<Batch>, site: Site) -> Result<Tensor, TchError> {
    let (tokens, width) = (batch.tokens(), tables[0].size2()?.1 as usize);
    let detached = [tables[0].f_detach()?, tables[1].f_detach()?, tables[2].f_detach()?];
    check_lookups(tables, &batch.inputs)?;
    let mut out = Tensor::f_empty([tokens as i64, width as i64], (T::KIND, Device::Cpu))?;
    {
        // SAFETY: nothing writes to parameters during a forward pass.
        let table = |i: usize| unsafe { values::<T::Real>(&detached[i], T::REAL) };
        let (tables, columns) = ([table(0)?, table(1)?, table(2)?], batch.inputs.lookups());
        // SAFETY: just made, and nobody else has it.
        let out = unsafe { values_mut::<T>(&mut out, T::KIND) }?;
        let tasks = out.chunks_mut(width * TOKENS_PER_TASK).zip(batch.inputs.token_key.chunks(TOKENS_PER_TASK)).enumerate();
        for_each(tasks, |(i, (out, keys))| {
            let tokens = i * TOKENS_PER_TASK..i * TOKENS_PER_TASK + keys.len();
            let lookup = |i: usize| Lookup { table: tables[i], rows: &columns[i][tokens.clone()] };
            embedding::forward([lookup(0), lookup(1), lookup(2)], width, keys, site, out);
        })?;
    }
    let gradients = [gradient_of(tables[0])?, gradient_of(tables[1])?, gradient_of(tables[2])?];
    let (batch, like) = (Arc::clone(batch), out.f_detach()?);
    record(c"glm::embed", &tables, &[&out], move |grads| {
        let dy = contiguous(grads[0].as_ref(), &like)?;
        timed(Stage::Embedding, Device::Cpu, || backward::<T>(gradients, &batch, site, width, &dy))?;
        Ok(vec![None, None, None])
    })?;
    Ok(out)
}

fn backward<T: Stored>(gradients: [Tensor; 3], batch: &Batch, site: Site, width: usize, dy: &Tensor) -> Result<(), TchError> {
    // SAFETY: the gradient that came in is not written to meanwhile.
    let dy = unsafe { values::<T>(dy, T::KIND) }?;
    for (mut gradient, taken) in gradients.into_iter().zip(batch.inputs.lookups()) {
        // SAFETY: one backward pass at a time adds to a model's gradients.
        let gradient = unsafe { values_mut::<T::Real>(&mut gradient, T::REAL) }?;
        let rows = (gradient.len() / width).div_ceil(PARTS);
        for_each(gradient.chunks_mut(rows * width).enumerate(), |(i, gradient)| {
            let rows = i * rows..i * rows + gradient.len() / width;
            embedding::backward(TableGradient { rows, gradient, taken }, width, &batch.inputs.token_key, site, dy);
        })?;
    }
    Ok(())
}
