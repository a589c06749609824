//! Operators that tch's generator leaves out.

use tch::{TchError, Tensor};

use crate::ffi::{self, TensorPtr, check, lend};

/// `a bᵀ`, of `a` `[m, k]` and `b` `[n, k]`; either may be a transposed view. Not recorded for a backward pass.
///
/// In 32 bits on a CPU this goes through oneDNN, which for activations times weights is up to a tenth faster on an AMD
/// processor with AVX-512 than the MKL that libtorch's `mm` calls; everything else is `mm`.
///
/// # Errors
/// A [`TchError`] where shapes or kinds do not go together.
pub fn matmul_nt(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let mut out: TensorPtr = std::ptr::null_mut();
    // SAFETY: both tensors outlive the call, and `out` has room for one pointer.
    check(unsafe { ffi::glm_ext_matmul_nt(&mut out, lend(a), lend(b)) })?;
    // SAFETY: behind a call that succeeded, `out` is a tensor that belongs to us.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// What [`fused_adamw`] updates: one parameter and what belongs to it, of equal shape, and its count of steps, one 32-bit
/// number on the same device.
#[derive(Debug, Clone, Copy)]
pub struct AdamWEntry<'a> {
    /// The parameter.
    pub parameter: &'a Tensor,
    /// Its gradient.
    pub gradient: &'a Tensor,
    /// Average of gradients.
    pub first: &'a Tensor,
    /// Average of squared gradients.
    pub second: &'a Tensor,
    /// Steps made.
    pub steps: &'a Tensor,
}

/// Rates of [`fused_adamw`].
#[derive(Debug, Clone, Copy)]
pub struct AdamWRates<'a> {
    /// Learning rate: one number on the device.
    pub lr: &'a Tensor,
    /// Decay of the average of gradients.
    pub beta1: f64,
    /// Decay of the average of squared gradients.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Keeps the division finite.
    pub eps: f64,
    /// Gradients are divided by it: one 32-bit number on the device.
    pub gradient_divisor: Option<&'a Tensor>,
    /// Where this is not 0, nothing changes: one 32-bit number on the device.
    pub skip: Option<&'a Tensor>,
}

/// One step of AdamW in one pass over memory. Counts of steps go up by one and, where a step is skipped, down again.
///
/// # Errors
/// A [`TchError`] where shapes, kinds or devices do not go together.
pub fn fused_adamw(entries: &[AdamWEntry<'_>], rates: &AdamWRates<'_>) -> Result<(), TchError> {
    let list = |of: fn(&AdamWEntry<'_>) -> TensorPtr| entries.iter().map(of).collect::<Vec<_>>();
    let parameters = list(|entry| lend(entry.parameter));
    let gradients = list(|entry| lend(entry.gradient));
    let first = list(|entry| lend(entry.first));
    let second = list(|entry| lend(entry.second));
    let steps = list(|entry| lend(entry.steps));
    let optional = |tensor: Option<&Tensor>| tensor.map_or(std::ptr::null_mut(), lend);
    // The operator itself leaves counting to its caller, as torch.optim does.
    for entry in entries {
        let _ = entry.steps.shallow_clone().f_add_scalar_(1.0)?;
    }
    // SAFETY: every list has one pointer an entry, to tensors that outlive the call.
    check(unsafe {
        ffi::glm_ext_fused_adamw(
            parameters.as_ptr(),
            gradients.as_ptr(),
            first.as_ptr(),
            second.as_ptr(),
            steps.as_ptr(),
            entries.len(),
            lend(rates.lr),
            rates.beta1,
            rates.beta2,
            rates.weight_decay,
            rates.eps,
            optional(rates.gradient_divisor),
            optional(rates.skip),
        )
    })?;
    if let Some(skip) = rates.skip {
        for entry in entries {
            let _ = entry.steps.shallow_clone().f_sub_(skip)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn products_equal_libtorchs_own_whatever_the_strides() {
        tch::manual_seed(1);
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-4), (Kind::BFloat16, 0.5)] {
            let a = Tensor::randn([37, 64], (Kind::Float, Device::Cpu)).to_kind(kind);
            let b = Tensor::randn([50, 64], (Kind::Float, Device::Cpu)).to_kind(kind);
            let exact = |a: &Tensor, b: &Tensor| a.to_kind(Kind::Double).matmul(&b.to_kind(Kind::Double).tr());
            let close = |found: Tensor, expected: Tensor| {
                let off = (found.to_kind(Kind::Double) - &expected).abs().max().double_value(&[]);
                assert!(off < tolerance, "{kind:?}: off by {off}");
            };
            close(matmul_nt(&a, &b).expect("product"), exact(&a, &b));
            let (a, b) = (a.tr().contiguous(), b.tr().contiguous());
            close(matmul_nt(&a.tr(), &b.tr()).expect("product"), exact(&a.tr(), &b.tr()));
        }
        let (a, b) = (Tensor::ones([2, 3], (Kind::Float, Device::Cpu)), Tensor::ones([2, 4], (Kind::Float, Device::Cpu)));
        assert!(matmul_nt(&a, &b).is_err(), "inner sizes differ");
    }

    #[test]
    fn adamw_counts_steps_and_skips_when_told() {
        let make = |value: f64| Tensor::full([3], value, (Kind::Float, Device::Cpu));
        let one = |value: f64| Tensor::full([1], value, (Kind::Float, Device::Cpu));
        let (parameter, gradient, first, second, steps) = (make(1.0), make(4.0), make(0.0), make(0.0), one(0.0));
        let entry = AdamWEntry { parameter: &parameter, gradient: &gradient, first: &first, second: &second, steps: &steps };
        let (lr, divisor) = (one(0.5), one(2.0));
        for (skip, value, count) in [(1.0, 1.0, 0.0), (0.0, 0.5 - 0.05, 1.0)] {
            let skip = one(skip);
            let rates = AdamWRates {
                lr: &lr.squeeze(),
                beta1: 0.9,
                beta2: 0.999,
                weight_decay: 0.1,
                eps: 1e-8,
                gradient_divisor: Some(&divisor),
                skip: Some(&skip),
            };
            fused_adamw(&[entry], &rates).expect("step");
            // The first step moves by the learning rate, and decay takes lr · λ of the weight.
            assert!((parameter.double_value(&[0]) - value).abs() < 1e-6, "{parameter:?}");
            assert_eq!(steps.double_value(&[0]), count);
        }
        assert!((first.double_value(&[0]) - 0.2).abs() < 1e-6, "a tenth of the gradient, divided by 2");
    }
}
