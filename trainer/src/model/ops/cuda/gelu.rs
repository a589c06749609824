//! Bias and GELU.

use glm_kernels::cuda::calls::{GeluBackward, GeluForward};
use libtorch_ext::autograd::record;
use tch::{Kind, TchError, Tensor, no_grad};

use super::launch::{Form, Launcher};
use super::residual::add_partials;
use super::{check_size, contiguous, defined, gradient_of, number, programs, split_rows};
use crate::model::ops::clock::{Stage, timed};

/// Columns and rows of a program, as compiled.
const COLUMNS: i64 = 1024;
const ROWS: i64 = 2;
/// Programs along the rows in the backward pass; each leaves a partial sum of the bias's gradient.
const PROGRAMS: i64 = 256;

/// `gelu(x + bias)`: `x` is `[tokens, width]`, `bias` `[width]`. `x` must be the result of a linear layer and used by nothing else: its
/// memory receives its gradient.
///
/// # Errors
/// A [`TchError`].
pub(super) fn bias_gelu(launcher: Launcher, x: Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
    let ((tokens, width), device) = (x.size2()?, x.device());
    check_size(tokens, width)?;
    let gradient = gradient_of(bias)?;
    let (input, parameter) = (x.f_detach()?, bias.f_detach()?);
    let out = no_grad(|| input.f_empty_like())?;
    let forward = GeluForward { x: &input, bias: &parameter, out: &out, tokens: number(tokens)?, width: number(width)? };
    let grid = [programs(tokens, ROWS), programs(width, COLUMNS)];
    // SAFETY: x and out are contiguous [tokens, width], the bias has `width` fp32 numbers.
    timed(Stage::Gelu, device, || unsafe { launcher.launch(Form::default(), grid, forward) })?;
    record(c"glm::bias_gelu", &[&x, bias], &[&out], move |grads| {
        defined(&[&gradient])?;
        timed(Stage::Gelu, device, || {
            let d_out = contiguous(grads[0].as_ref(), &input)?;
            let (rows, parts) = split_rows(tokens, PROGRAMS);
            let partial = Tensor::f_empty([parts, width], (Kind::Float, device))?;
            let backward = GeluBackward {
                x: &input,
                bias: &parameter,
                d_out: &d_out,
                partial: &partial,
                tokens: number(tokens)?,
                width: number(width)?,
                rows_per_program: number(rows)?,
            };
            // SAFETY: as above; d_out has the shape of x, and `partial` a row for each program.
            unsafe { launcher.launch(Form::default(), [parts as usize, programs(width, COLUMNS)], backward) }?;
            add_partials(launcher, &partial, &[&gradient])
        })?;
        Ok(vec![Some(input), None])
    })?;
    Ok(out)
}
