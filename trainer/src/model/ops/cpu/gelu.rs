//! Bias and GELU.

use glm_kernels::{accumulate, gelu};
use libtorch_ext::autograd::record;
use libtorch_ext::parallel::for_each;
use tch::{Device, TchError, Tensor, no_grad};

use super::{Stored, TOKENS_PER_TASK, by_kind, contiguous, gradient_of, values, values_mut};
use crate::model::ops::clock::{Stage, timed};

/// `gelu(x + bias)`: `x` is `[tokens, width]`, `bias` `[width]`. `x` must be the result of [`super::linear::linear`] and used
/// by nothing else: its memory receives its gradient.
///
/// # Errors
/// A [`TchError`].
pub fn bias_gelu(x: Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
    let kind = x.f_kind()?;
    let gradient = gradient_of(bias)?;
    let (mut input, parameter) = (x.f_detach()?, bias.f_detach()?);
    let out = timed(Stage::Gelu, Device::Cpu, || by_kind!(kind, forward(&input, &parameter)))?;
    record(c"glm::bias_gelu", &[&x, bias], &[&out], move |grads| {
        let mut gradient = gradient;
        let dy = contiguous(grads[0].as_ref(), &input)?;
        timed(Stage::Gelu, Device::Cpu, || by_kind!(kind, backward(&mut input, &parameter, &dy, &mut gradient)))?;
        Ok(vec![Some(input), None])
    })?;
    Ok(out)
}

fn forward<T: Stored>(x: &Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
    let mut out = no_grad(|| x.f_empty_like())?;
    let width = bias.numel();
    // SAFETY: nothing writes to a parameter or to the caller's input during a forward pass.
    let (x, bias) = unsafe { (values::<T>(x, T::KIND)?, values::<T::Real>(bias, T::REAL)?) };
    // SAFETY: just made, and nobody else has it.
    let to = unsafe { values_mut::<T>(&mut out, T::KIND) }?;
    let tasks = x.chunks(width * TOKENS_PER_TASK).zip(to.chunks_mut(width * TOKENS_PER_TASK));
    for_each(tasks, |(x, out)| gelu::forward(x, bias, out))?;
    Ok(out)
}

fn backward<T: Stored>(x: &mut Tensor, bias: &Tensor, dy: &Tensor, gradient: &mut Tensor) -> Result<(), TchError> {
    let width = bias.numel();
    // SAFETY: `dy` belongs to the backward pass, which does not write to it meanwhile; parameters do not change during one.
    let (dy, bias) = unsafe { (values::<T>(dy, T::KIND)?, values::<T::Real>(bias, T::REAL)?) };
    // SAFETY: by this function's contract nobody else uses `x`; one backward pass at a time adds to gradients.
    let (x, total) = unsafe { (values_mut::<T>(x, T::KIND)?, values_mut::<T::Real>(gradient, T::REAL)?) };
    let mut parts = vec![vec![T::Real::default(); width]; (x.len() / width).div_ceil(TOKENS_PER_TASK)];
    let tasks = x.chunks_mut(width * TOKENS_PER_TASK).zip(dy.chunks(width * TOKENS_PER_TASK)).zip(&mut parts);
    for_each(tasks, |((x, dy), part)| gelu::backward(x, bias, dy, part))?;
    accumulate::add_parts(total, &parts);
    Ok(())
}
