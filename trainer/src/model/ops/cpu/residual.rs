//! Bias, dropout, residual sum and LayerNorm.

use std::sync::Arc;

use glm_kernels::accumulate::add_parts;
use glm_kernels::dropout::Site;
use glm_kernels::residual::{self, Branch, BranchBackward, Moments, Norm};
use libtorch_ext::autograd::record;
use libtorch_ext::parallel::for_each;
use tch::{Device, TchError, Tensor, no_grad};

use super::{Stored, TOKENS_PER_TASK, by_kind, contiguous, gradient_of, values, values_mut};
use crate::model::layers::LayerNorm;
use crate::model::ops::clock::{Stage, timed};

/// Branch that is added to the residual stream.
#[derive(Debug)]
pub struct Addend<'a> {
    /// `[tokens, width]`, without its bias.
    pub values: Tensor,
    /// The bias of the matrix product that made it, `[width]`.
    pub bias: &'a Tensor,
    /// A key for each token.
    pub keys: Arc<[u64]>,
    /// Dropout.
    pub site: Site,
}

/// `(sum, norm(sum))` with `sum = residual + dropout(addend + bias)`, both `[tokens, width]`.
///
/// # Errors
/// A [`TchError`].
pub fn add_and_norm(residual: &Tensor, addend: Addend<'_>, norm: &LayerNorm) -> Result<(Tensor, Tensor), TchError> {
    let kind = residual.f_kind()?;
    timed(Stage::Residual, Device::Cpu, || by_kind!(kind, add_and_norm_of(residual, addend, norm)))
}

/// `norm(x)`, `[tokens, width]`.
///
/// # Errors
/// A [`TchError`].
pub fn norm(x: &Tensor, norm: &LayerNorm) -> Result<Tensor, TchError> {
    let kind = x.f_kind()?;
    timed(Stage::Residual, Device::Cpu, || by_kind!(kind, norm_of(x, norm)))
}

/// The tensors of a forward pass.
struct Made<T: Stored> {
    sum: Tensor,
    out: Tensor,
    moments: Vec<Moments<T::Real>>,
}

fn forward<T: Stored>(
    residual: &Tensor,
    branch: Option<(&Tensor, &Tensor, &[u64], Site)>,
    norm: &LayerNorm,
) -> Result<Made<T>, TchError> {
    let (tokens, width) = residual.size2()?;
    let (tokens, width) = (tokens as usize, width as usize);
    let (residual, weight, bias) = (residual.f_contiguous()?.f_detach()?, norm.weight().f_detach()?, norm.bias().f_detach()?);
    let mut out = no_grad(|| residual.f_empty_like())?;
    let mut sum = match branch {
        Some(_) => no_grad(|| residual.f_empty_like())?,
        None => residual.shallow_clone(),
    };
    let mut moments = vec![Moments::default(); tokens];
    // SAFETY: nothing writes to parameters or to the caller's inputs during a forward pass.
    let (weight, bias) = unsafe { (values::<T::Real>(&weight, T::REAL)?, values::<T::Real>(&bias, T::REAL)?) };
    // SAFETY: as above.
    let x = unsafe { values::<T>(&residual, T::KIND) }?;
    // SAFETY: just made, and nobody else has it.
    let to = unsafe { values_mut::<T>(&mut out, T::KIND) }?;
    let norm = Norm { weight, bias, eps: norm.eps() };
    let step = width * TOKENS_PER_TASK;
    let tasks = x.chunks(step).zip(to.chunks_mut(step)).zip(moments.chunks_mut(TOKENS_PER_TASK));
    match branch {
        None => for_each(tasks, |((residual, out), moments)| {
            residual::forward(residual::Forward { residual, branch: None, norm, sum: &mut [], out, moments });
        })?,
        Some((addend, bias, keys, site)) => {
            // SAFETY: as for the other inputs.
            let (addend, bias) = unsafe { (values::<T>(addend, T::KIND)?, values::<T::Real>(bias, T::REAL)?) };
            // SAFETY: just made, and nobody else has it.
            let sums = unsafe { values_mut::<T>(&mut sum, T::KIND) }?;
            let branches = addend.chunks(step).zip(keys.chunks(TOKENS_PER_TASK)).zip(sums.chunks_mut(step));
            for_each(tasks.zip(branches), |(((residual, out), moments), ((values, keys), sum))| {
                let branch = Some(Branch { values, bias, keys, site });
                residual::forward(residual::Forward { residual, branch, norm, sum, out, moments });
            })?;
        }
    }
    Ok(Made { sum, out, moments })
}

fn add_and_norm_of<T: Stored>(residual: &Tensor, addend: Addend<'_>, norm: &LayerNorm) -> Result<(Tensor, Tensor), TchError> {
    let Addend { values: branch, bias, keys, site } = addend;
    let made = forward::<T>(residual, Some((&branch.f_detach()?, &bias.f_detach()?, &keys, site)), norm)?;
    let Made { sum, out, moments } = made;
    let saved = Saved::<T> {
        sum: sum.f_detach()?,
        moments,
        weight: norm.weight().f_detach()?,
        gradients: [gradient_of(norm.weight())?, gradient_of(norm.bias())?, gradient_of(bias)?],
        branch: Some((keys, site)),
    };
    let inputs = [residual, &branch, bias, norm.weight(), norm.bias()];
    record(c"glm::add_and_norm", &inputs, &[&sum, &out], move |grads| {
        let (residual, branch) = timed(Stage::Residual, Device::Cpu, || saved.backward(grads[0].as_ref(), grads[1].as_ref()))?;
        Ok(vec![Some(residual), branch, None, None, None])
    })?;
    Ok((sum, out))
}

fn norm_of<T: Stored>(x: &Tensor, norm: &LayerNorm) -> Result<Tensor, TchError> {
    let Made { sum, out, moments } = forward::<T>(x, None, norm)?;
    let gradients = [gradient_of(norm.weight())?, gradient_of(norm.bias())?, Tensor::new()];
    let saved = Saved::<T> { sum, moments, weight: norm.weight().f_detach()?, gradients, branch: None };
    record(c"glm::norm", &[x, norm.weight(), norm.bias()], &[&out], move |grads| {
        let (residual, _) = timed(Stage::Residual, Device::Cpu, || saved.backward(None, grads[0].as_ref()))?;
        Ok(vec![Some(residual), None, None])
    })?;
    Ok(out)
}

/// Values saved for the backward pass.
struct Saved<T: Stored> {
    sum: Tensor,
    moments: Vec<Moments<T::Real>>,
    weight: Tensor,
    /// Of the norm's weight and bias, and of the branch's bias.
    gradients: [Tensor; 3],
    branch: Option<(Arc<[u64]>, Site)>,
}

/// Partial sums of one task.
struct Part<R> {
    weight: Vec<R>,
    bias: Vec<R>,
    branch_bias: Vec<R>,
}

impl<T: Stored> Saved<T> {
    /// Gradients of the residual and of the branch.
    fn backward(mut self, d_sum: Option<&Tensor>, d_out: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>), TchError> {
        let width = self.weight.numel();
        let d_out = contiguous(d_out, &self.sum)?;
        let d_sum = d_sum.map(|gradient| gradient.f_contiguous()).transpose()?;
        let drops = self.branch.as_ref().filter(|(_, site)| site.drops());
        let (mut residual, mut branch) = no_grad(|| {
            let branch = drops.map(|_| self.sum.f_empty_like()).transpose()?;
            Ok::<_, TchError>((self.sum.f_empty_like()?, branch))
        })?;

        // SAFETY: gradients that came in and what was saved are not written to meanwhile.
        let (sum, d_out) = unsafe { (values::<T>(&self.sum, T::KIND)?, values::<T>(&d_out, T::KIND)?) };
        // SAFETY: as above; parameters do not change during a backward pass.
        let weight = unsafe { values::<T::Real>(&self.weight, T::REAL) }?;
        let more: Option<&[T]> = match &d_sum {
            // SAFETY: as above.
            Some(gradient) => Some(unsafe { values(gradient, T::KIND) }?),
            None => None,
        };
        // SAFETY: just made, and nobody else has it.
        let to = unsafe { values_mut::<T>(&mut residual, T::KIND) }?;
        let to_branch: &mut [T] = match &mut branch {
            // SAFETY: as above.
            Some(branch) => unsafe { values_mut(branch, T::KIND) }?,
            None => &mut [],
        };

        let step = width * TOKENS_PER_TASK;
        let tasks = self.moments.len().div_ceil(TOKENS_PER_TASK);
        let zeros = || vec![T::Real::default(); width];
        let mut parts: Vec<_> = (0..tasks).map(|_| Part { weight: zeros(), bias: zeros(), branch_bias: zeros() }).collect();
        let mut branches = to_branch.chunks_mut(step);
        let work: Vec<_> =
            to.chunks_mut(step).zip(&mut parts).enumerate().map(|(i, task)| (i, task, branches.next())).collect();
        for_each(work, |(i, (residual_gradient, part), gradient)| {
            let at = i * step..i * step + residual_gradient.len();
            let tokens = i * TOKENS_PER_TASK..i * TOKENS_PER_TASK + residual_gradient.len() / width;
            let branch = match (&self.branch, gradient) {
                (None, _) => BranchBackward::None,
                (Some((keys, site)), Some(gradient)) => BranchBackward::Dropped {
                    keys: &keys[tokens.clone()],
                    site: *site,
                    gradient,
                    bias_gradient: &mut part.branch_bias,
                },
                (Some(_), None) => BranchBackward::Kept(&mut part.branch_bias),
            };
            residual::backward(residual::Backward {
                sum: &sum[at.clone()],
                moments: &self.moments[tokens],
                weight,
                out_gradient: &d_out[at.clone()],
                sum_gradient: more.map(|more| &more[at]),
                residual_gradient,
                branch,
                weight_gradient: &mut part.weight,
                bias_gradient: &mut part.bias,
            });
        })?;

        let mut columns: [Vec<Vec<T::Real>>; 3] = Default::default();
        for Part { weight, bias, branch_bias } in parts {
            for (column, part) in columns.iter_mut().zip([weight, bias, branch_bias]) {
                column.push(part);
            }
        }
        for (column, gradient) in columns.iter().zip(&mut self.gradients).filter(|(_, gradient)| gradient.defined()) {
            // SAFETY: one backward pass at a time adds to a model's gradients.
            add_parts(unsafe { values_mut::<T::Real>(gradient, T::REAL) }?, column);
        }
        let branch = match (&self.branch, branch) {
            (None, _) => None,
            (Some(_), Some(dropped)) => Some(dropped),
            // Nothing was dropped: both gradients are the same numbers, and nothing writes to either.
            (Some(_), None) => Some(residual.shallow_clone()),
        };
        Ok((residual, branch))
    }
}
