//! Matrix products.

use std::ops::Range;

use libtorch_ext::autograd::record;
use libtorch_ext::operators::{add_product_tn, linear_nt, matmul_nt};
use tch::{TchError, Tensor, no_grad};

use super::{defined, gradient_of};
use crate::model::ops::clock::{Stage, timed};

/// `x Wᵀ + b` with some rows of `weight` `[output, input]`: `x` is `[tokens, input]`, the result `[tokens, rows]`. `cast` and `bias`
/// are weight and bias in the kind of `x`. The gradient of the bias is left to the operation that follows.
///
/// # Errors
/// A [`TchError`].
pub(super) fn linear(
    x: &Tensor,
    weight: &Tensor,
    cast: &Tensor,
    bias: Option<&Tensor>,
    rows: Option<Range<i64>>,
) -> Result<Tensor, TchError> {
    let device = x.device();
    let part = |tensor: &Tensor| match &rows {
        Some(rows) => tensor.f_narrow(0, rows.start, rows.end - rows.start),
        None => Ok(tensor.shallow_clone()),
    };
    let gradient = gradient_of(weight)?;
    let cast = part(cast)?;
    let bias = bias.map(part).transpose()?;
    let input = x.f_detach()?;
    let out = timed(Stage::Linear, device, || linear_nt(&input, &cast, bias.as_ref()))?;
    record(c"glm::linear", &[x, weight], &[&out], move |grads| {
        let Some(dy) = grads[0].as_ref() else { return Ok(vec![None, None]) };
        defined(&[&gradient])?;
        no_grad(|| {
            // Before the backward pass arrives here, there may be no memory for it.
            let gradient = match &rows {
                Some(rows) => gradient.f_narrow(0, rows.start, rows.end - rows.start)?,
                None => gradient,
            };
            timed(Stage::LinearWeight, device, || add_product_tn(&gradient, dy, &input))?;
            drop(input);
            let d_input = timed(Stage::LinearInput, device, || matmul_nt(dy, &cast.f_tr()?))?;
            Ok(vec![Some(d_input), None])
        })
    })?;
    Ok(out)
}
