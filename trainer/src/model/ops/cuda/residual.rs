//! Bias, dropout, residual sum and LayerNorm.

use glm_kernels::cuda::calls::{AddPartials, NormBackward, NormForward, ResidualBackward, ResidualForward};
use glm_kernels::dropout::Site;
use libtorch_ext::autograd::record;
use tch::{Kind, TchError, Tensor, no_grad};

use super::launch::{Form, Launcher};
use super::{
    PROGRAMS, check_size, contiguous, defined, dropout_arguments, gradient_of, number, programs, row_block, split_rows,
};
use crate::model::layers::LayerNorm;
use crate::model::ops::clock::{Stage, timed};

/// Columns of a program that adds up partial sums, as compiled.
const PARTIAL_COLUMNS: i64 = 32;

/// Branch that is added to the residual stream.
#[derive(Debug)]
pub(super) struct Addend<'a> {
    /// `[tokens, width]`, without its bias.
    pub(super) values: Tensor,
    /// The bias of the matrix product that made it, `[width]`.
    pub(super) bias: &'a Tensor,
    /// Dropout key of each token.
    pub(super) keys: Tensor,
    /// Dropout.
    pub(super) site: Site,
}

/// Adds partial sums `[gradients, programs, width]` to up to three gradients of `width` numbers.
///
/// # Errors
/// A [`TchError`].
pub(super) fn add_partials(launcher: Launcher, partial: &Tensor, gradients: &[&Tensor]) -> Result<(), TchError> {
    let [first, ..] = gradients else { return Ok(()) };
    let width = first.numel() as i64;
    let parts = partial.numel() as i64 / width / gradients.len() as i64;
    let call = AddPartials {
        partial,
        gradient0: first,
        gradient1: gradients.get(1).unwrap_or(first),
        gradient2: gradients.get(2).unwrap_or(first),
        programs: number(parts)?,
        width: number(width)?,
    };
    let form = Form { any_element: true, ..Form::default() };
    // SAFETY: a program of the second dimension reads its `programs` rows of partial sums, and writes its own gradient.
    unsafe { launcher.launch(form, [programs(width, PARTIAL_COLUMNS), gradients.len()], call) }
}

/// `norm(x)`, `[tokens, width]`.
///
/// # Errors
/// A [`TchError`].
pub(super) fn norm(launcher: Launcher, x: &Tensor, norm: &LayerNorm) -> Result<Tensor, TchError> {
    let ((tokens, width), device) = (x.size2()?, x.device());
    check_size(tokens, width)?;
    let (block, rows) = row_block(width)?;
    let form = Form { size: block, ..Form::default() };
    let (input, weight, bias) = (x.f_contiguous()?.f_detach()?, norm.weight().f_detach()?, norm.bias().f_detach()?);
    let gradients = [gradient_of(norm.weight())?, gradient_of(norm.bias())?];
    let out = no_grad(|| input.f_empty_like())?;
    let [mean, rstd] = [(); 2].map(|()| Tensor::f_empty([tokens], (Kind::Float, device)));
    let (mean, rstd) = (mean?, rstd?);
    let forward = NormForward {
        x: &input,
        weight: &weight,
        bias: &bias,
        out: &out,
        mean: &mean,
        rstd: &rstd,
        eps: norm.eps() as f32,
        tokens: number(tokens)?,
        width: number(width)?,
    };
    // SAFETY: x and out are contiguous [tokens, width], mean and rstd [tokens], weight and bias [width], all fp32 but the first two.
    timed(Stage::Residual, device, || unsafe { launcher.launch(form, [programs(tokens, rows), 1], forward) })?;
    record(c"glm::norm", &[x, norm.weight(), norm.bias()], &[&out], move |grads| {
        defined(&[&gradients[0], &gradients[1]])?;
        let d_x = no_grad(|| input.f_empty_like())?;
        timed(Stage::Residual, device, || {
            let d_out = contiguous(grads[0].as_ref(), &input)?;
            let (rows, parts) = split_rows(tokens, PROGRAMS);
            let partial = Tensor::f_empty([2, parts, width], (Kind::Float, device))?;
            let backward = NormBackward {
                d_out: &d_out,
                x: &input,
                weight: &weight,
                mean: &mean,
                rstd: &rstd,
                d_x: &d_x,
                partial: &partial,
                tokens: number(tokens)?,
                width: number(width)?,
                rows_per_program: number(rows)?,
            };
            // SAFETY: as above; gradients have the shape of x, and `partial` two rows for each program.
            unsafe { launcher.launch(form, [parts as usize, 1], backward) }?;
            add_partials(launcher, &partial, &[&gradients[0], &gradients[1]])
        })?;
        Ok(vec![Some(d_x), None, None])
    })?;
    Ok(out)
}

/// `(sum, norm(sum))` with `sum = residual + dropout(addend + bias)`, both `[tokens, width]`.
///
/// # Errors
/// A [`TchError`].
pub(super) fn add_and_norm(
    launcher: Launcher,
    residual: &Tensor,
    addend: Addend<'_>,
    norm: &LayerNorm,
) -> Result<(Tensor, Tensor), TchError> {
    let ((tokens, width), device) = (residual.size2()?, residual.device());
    check_size(tokens, width)?;
    let (block, rows) = row_block(width)?;
    let form = Form { size: block, dropout: true, ..Form::default() };
    let Addend { values: branch, bias: branch_bias, keys, site } = addend;
    let (x, added, added_bias) = (residual.f_contiguous()?.f_detach()?, branch.f_detach()?, branch_bias.f_detach()?);
    let (weight, bias) = (norm.weight().f_detach()?, norm.bias().f_detach()?);
    let gradients = [gradient_of(norm.weight())?, gradient_of(norm.bias())?, gradient_of(branch_bias)?];
    let [sum, out] = [(); 2].map(|()| no_grad(|| x.f_empty_like()));
    let [mean, rstd] = [(); 2].map(|()| Tensor::f_empty([tokens], (Kind::Float, device)));
    let (sum, out, mean, rstd) = (sum?, out?, mean?, rstd?);
    let (site, limit, keep_scale) = dropout_arguments(site);
    let forward = ResidualForward {
        x: &x,
        branch: &added,
        branch_bias: &added_bias,
        weight: &weight,
        bias: &bias,
        sum: &sum,
        out: &out,
        mean: &mean,
        rstd: &rstd,
        key: &keys,
        site,
        limit,
        keep_scale,
        eps: norm.eps() as f32,
        tokens: number(tokens)?,
        width: number(width)?,
    };
    // SAFETY: x, branch, sum and out are contiguous [tokens, width]; keys, mean and rstd [tokens]; the others [width] in fp32.
    timed(Stage::Residual, device, || unsafe { launcher.launch(form, [programs(tokens, rows), 1], forward) })?;
    let saved = sum.f_detach()?;
    let inputs = [residual, &branch, branch_bias, norm.weight(), norm.bias()];
    record(c"glm::add_and_norm", &inputs, &[&sum, &out], move |grads| {
        let [d_weight, d_bias, d_branch_bias] = &gradients;
        defined(&[d_weight, d_bias, d_branch_bias])?;
        let [d_x, d_branch] = [(); 2].map(|()| no_grad(|| saved.f_empty_like()));
        let (d_x, d_branch) = (d_x?, d_branch?);
        timed(Stage::Residual, device, || {
            let (d_sum, d_out) = (contiguous(grads[0].as_ref(), &saved)?, contiguous(grads[1].as_ref(), &saved)?);
            let (rows, parts) = split_rows(tokens, PROGRAMS);
            let partial = Tensor::f_empty([3, parts, width], (Kind::Float, device))?;
            let backward = ResidualBackward {
                d_out: &d_out,
                d_sum: &d_sum,
                sum: &saved,
                weight: &weight,
                mean: &mean,
                rstd: &rstd,
                d_x: &d_x,
                d_branch: &d_branch,
                partial: &partial,
                key: &keys,
                site,
                limit,
                keep_scale,
                tokens: number(tokens)?,
                width: number(width)?,
                rows_per_program: number(rows)?,
            };
            // SAFETY: as above; gradients have the shape of the sum, and `partial` three rows for each program.
            unsafe { launcher.launch(form, [parts as usize, 1], backward) }?;
            add_partials(launcher, &partial, &[d_weight, d_bias, d_branch_bias])
        })?;
        Ok(vec![Some(d_x), Some(d_branch), None, None, None])
    })?;
    Ok((sum, out))
}
