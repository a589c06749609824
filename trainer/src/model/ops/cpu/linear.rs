//! Matrix products.

use std::ops::Range;

use libtorch_ext::autograd::record;
use libtorch_ext::operators::matmul_nt;
use tch::{Device, TchError, Tensor, no_grad};

use super::{add_to_gradient, by_kind, gradient_of};
use crate::model::ops::clock::{Stage, timed};

/// `x Wᵀ` with some rows of `weight` `[output, input]`: `x` is `[tokens, input]`, the result `[tokens, rows]`, in the kind of `x`.
///
/// # Errors
/// A [`TchError`].
pub fn linear(x: &Tensor, weight: &Tensor, rows: Range<i64>) -> Result<Tensor, TchError> {
    let kind = x.f_kind()?;
    let gradient = gradient_of(weight)?;
    let (out, cast) = no_grad(|| {
        let weight = weight.f_detach()?.f_narrow(0, rows.start, rows.end - rows.start)?;
        let cast = timed(Stage::Cast, Device::Cpu, || weight.f_totype(kind))?;
        let out = timed(Stage::Linear, Device::Cpu, || matmul_nt(&x.f_detach()?, &cast))?;
        Ok::<_, TchError>((out, cast))
    })?;
    let input = x.f_detach()?;
    record(c"glm::linear", &[x, weight], &[&out], move |grads| {
        let Some(dy) = grads[0].as_ref() else { return Ok(vec![None, None]) };
        no_grad(|| {
            timed(Stage::LinearWeight, Device::Cpu, || {
                let mut gradient = gradient.f_narrow(0, rows.start, rows.end - rows.start)?;
                if kind == gradient.f_kind()? {
                    return gradient.f_addmm_(&dy.f_tr()?, &input).map(drop);
                }
                let dw = dy.f_tr()?.f_mm(&input)?;
                by_kind!(kind, add_to_gradient(&mut gradient, &dw))
            })?;
            drop(input);
            Ok(vec![Some(timed(Stage::LinearInput, Device::Cpu, || matmul_nt(dy, &cast.f_tr()?))?), None])
        })
    })?;
    Ok(out)
}
