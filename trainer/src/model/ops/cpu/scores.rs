//! Log probabilities of targets, from logits.

use std::sync::Arc;

use glm_kernels::scores;
use libtorch_ext::autograd::record;
use libtorch_ext::parallel::for_each;
use tch::{Device, TchError, Tensor};

use super::{Stored, by_kind, contiguous, values, values_mut};
use crate::batch::packed::Batch;
use crate::model::ops::clock::{Stage, timed};
use crate::model::ops::fused::check_targets;

/// For each group of the batch, the sum of `log softmax(logits)[target]` over its targets: `[groups]`, in 32 bits at least.
/// `logits` `[scored, words]` must be the result of [`super::linear::linear`] and used by nothing else: its memory receives
/// its gradient.
///
/// # Errors
/// A [`TchError`]; a target outside the vocabulary is one.
pub fn target_log_probs(logits: Tensor, batch: &Arc<Batch>) -> Result<Tensor, TchError> {
    let kind = logits.f_kind()?;
    timed(Stage::Scores, Device::Cpu, || by_kind!(kind, target_log_probs_of(logits, batch)))
}

fn target_log_probs_of<T: Stored>(logits: Tensor, batch: &Arc<Batch>) -> Result<Tensor, TchError> {
    let (scored, words) = logits.size2()?;
    check_targets(&batch.targets, words)?;
    let (scored, words) = (scored as usize, words as usize);
    let saved = logits.f_detach()?;
    let mut log_sum = vec![T::Real::default(); scored];
    let mut out = vec![T::Real::default(); batch.targets.groups];
    {
        // SAFETY: nothing writes to the logits during a forward pass.
        let logits = unsafe { values::<T>(&saved, T::KIND) }?;
        for_each(logits.chunks(words).zip(log_sum.chunks_mut(1)), |(row, sum)| scores::log_sum_exp(row, words, sum))?;
        for ((&scored, &target), &group) in
            batch.targets.scored_index.iter().zip(&batch.targets.token).zip(&batch.targets.group)
        {
            let scored = scored as usize;
            out[group as usize] += logits[scored * words + target as usize].load() - log_sum[scored];
        }
    }
    let mut result = Tensor::f_empty([batch.targets.groups as i64], (T::REAL, Device::Cpu))?;
    // SAFETY: just made, and nobody else has it.
    unsafe { values_mut::<T::Real>(&mut result, T::REAL) }?.copy_from_slice(&out);

    let (batch, like) = (Arc::clone(batch), result.f_detach()?);
    record(c"glm::target_log_probs", &[&logits], &[&result], move |grads| {
        let mut saved = saved;
        let dy = contiguous(grads[0].as_ref(), &like)?;
        timed(Stage::Scores, Device::Cpu, || backward::<T>(&mut saved, &batch, &log_sum, &dy))?;
        Ok(vec![Some(saved)])
    })?;
    Ok(result)
}

fn backward<T: Stored>(logits: &mut Tensor, batch: &Batch, log_sum: &[T::Real], dy: &Tensor) -> Result<(), TchError> {
    let words = logits.size2()?.1 as usize;
    // SAFETY: the gradient that came in is not written to meanwhile.
    let dy = unsafe { values::<T::Real>(dy, T::REAL) }?;
    // SAFETY: by this function's contract nobody else uses the logits.
    let logits = unsafe { values_mut::<T>(logits, T::KIND) }?;
    let pairs = || batch.targets.scored_index.iter().zip(&batch.targets.token).zip(&batch.targets.group);
    let mut weights = vec![T::Real::default(); log_sum.len()];
    for ((&scored, _), &group) in pairs() {
        weights[scored as usize] += dy[group as usize];
    }
    let rows = logits.chunks_mut(words).zip(log_sum.chunks(1).zip(weights.chunks(1)));
    for_each(rows, |(row, (sum, weight))| scores::backward(row, words, sum, weight))?;
    for ((&scored, &target), &group) in pairs() {
        let value = &mut logits[scored as usize * words + target as usize];
        *value = T::store(value.load() + dy[group as usize]);
    }
    Ok(())
}
