//! Matrix products.

use std::ops::Range;

use glm_kernels::few_rows;
use libtorch_ext::autograd::record;
use libtorch_ext::operators::matmul_nt;
use tch::{Device, TchError, Tensor, no_grad};

use super::{Stored, add_to_gradient, by_kind, for_each_if_large, gradient_of, values, values_mut};
use crate::model::ops::clock::{Stage, timed};

/// `x Wᵀ` with some rows of `weight` `[output, input]`: `x` is `[tokens, input]`, the result `[tokens, rows]`, in the kind of `x`.
/// `values` is the weight or its copy in that kind.
///
/// # Errors
/// A [`TchError`].
pub fn linear(x: &Tensor, weight: &Tensor, values: &Tensor, rows: Range<i64>) -> Result<Tensor, TchError> {
    let kind = x.f_kind()?;
    let gradient = gradient_of(weight)?;
    let (out, cast) = no_grad(|| {
        let values = values.f_detach()?.f_narrow(0, rows.start, rows.end - rows.start)?;
        let cast = timed(Stage::Cast, Device::Cpu, || values.f_totype(kind))?;
        let out = timed(Stage::Linear, Device::Cpu, || matmul_nt(&x.f_detach()?, &cast))?;
        Ok::<_, TchError>((out, cast))
    })?;
    let input = x.f_detach()?;
    record(c"glm::linear", &[x, weight], &[&out], move |grads| {
        let Some(dy) = grads[0].as_ref() else { return Ok(vec![None, None]) };
        no_grad(|| {
            timed(Stage::LinearWeight, Device::Cpu, || {
                // Before the backward pass arrives here, there may be no memory for it.
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

/// Number of rows up to which [`linear_of_few_rows`] is faster than [`linear`].
pub const FEW_ROWS: i64 = 8;
/// Multiplications per task.
const PER_TASK: usize = 1 << 17;

/// `x Wᵀ` for a few tokens, without a backward pass: `x` is `[tokens, input]`, `weight` `[output, input]` in the same kind, both
/// contiguous.
///
/// # Errors
/// A [`TchError`].
pub fn linear_of_few_rows(x: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
    let kind = x.f_kind()?;
    timed(Stage::Linear, Device::Cpu, || by_kind!(kind, few_rows_of(x, weight)))
}

fn few_rows_of<T: Stored>(x: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
    let ((rows, width), (outputs, weight_width)) = (x.size2()?, weight.size2()?);
    if width != weight_width {
        return Err(TchError::Shape(format!("{width} inputs for weights of {weight_width}")));
    }
    let mut out = Tensor::f_empty([rows, outputs], (T::KIND, Device::Cpu))?;
    let [rows, width, outputs] = [rows, width, outputs].map(|size| size as usize);
    if rows * width * outputs == 0 {
        return out.f_zero_();
    }
    // SAFETY: nothing writes to the input or to parameters during a forward pass.
    let (x, weight) = unsafe { (values::<T>(x, T::KIND)?, values::<T>(weight, T::KIND)?) };
    // SAFETY: just made, and nobody else has it.
    let to = unsafe { values_mut::<T>(&mut out, T::KIND) }?;
    let per_task = (PER_TASK / (rows * width)).max(1).next_multiple_of(4);
    let mut tasks: Vec<_> = weight.chunks(per_task * width).map(|weight| (weight, Vec::with_capacity(rows))).collect();
    for row in to.chunks_mut(outputs) {
        for (part, (_, parts)) in row.chunks_mut(per_task).zip(&mut tasks) {
            parts.push(part);
        }
    }
    for_each_if_large(rows * width * outputs, tasks, |(weight, mut out)| few_rows::product(x, width, weight, &mut out))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn few_rows_equal_the_product_of_many() {
        tch::manual_seed(4);
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-4), (Kind::BFloat16, 0.3)] {
            for (rows, width, outputs) in [(1, 128, 384), (1, 256, 3000), (5, 100, 7), (8, 64, 1001), (2, 3, 1)] {
                let random = |rows: i64| Tensor::randn([rows, width], (Kind::Double, Device::Cpu)).to_kind(kind);
                let (x, weight) = (random(rows), random(outputs));
                let found = linear_of_few_rows(&x, &weight).expect("product");
                let exact = x.to_kind(Kind::Double).matmul(&weight.to_kind(Kind::Double).tr());
                let off = (found.to_kind(Kind::Double) - exact).abs().max().double_value(&[]);
                assert!(found.size() == [rows, outputs] && off < tolerance, "{kind:?} {rows} {width} {outputs}: {off}");
            }
        }
        let [x, weight] = [[2, 3], [4, 5]].map(|shape| Tensor::ones(shape, (Kind::Float, Device::Cpu)));
        assert!(linear_of_few_rows(&x, &weight).is_err());
    }
}
