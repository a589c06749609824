//! Operators that tch does not bind.

use tch::{TchError, Tensor};

use crate::ffi::{self, TensorPtr, as_raw, check};

/// Computes `a bᵀ` of `a` `[m, k]` and `b` `[n, k]`, without recording it for a backward pass. Either may be a transposed view.
///
/// fp32 products on a CPU use oneDNN, which is up to 10 % faster than the MKL in libtorch's `mm` for products of activations
/// and weights on an AMD processor with AVX-512. All other products use `mm`.
///
/// # Errors
/// A [`TchError`] if shapes or kinds do not match.
pub fn matmul_nt(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let mut out: TensorPtr = std::ptr::null_mut();
    // SAFETY: both tensors outlive the call, and `out` is valid for writes.
    check(unsafe { ffi::glm_ext_matmul_nt(&mut out, as_raw(a), as_raw(b)) })?;
    // SAFETY: the call succeeded, so `out` is a tensor owned by the caller.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// Computes `x Wᵀ + b` of `x` `[n, k]`, `weight` `[m, k]` and `bias` `[m]`, without recording it for a backward pass.
///
/// # Errors
/// A [`TchError`] if shapes or kinds do not match.
pub fn linear_nt(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
    let mut out: TensorPtr = std::ptr::null_mut();
    let bias = bias.map_or(std::ptr::null_mut(), as_raw);
    // SAFETY: the tensors outlive the call, and `out` is valid for writes.
    check(unsafe { ffi::glm_ext_linear_nt(&mut out, as_raw(x), as_raw(weight), bias) })?;
    // SAFETY: the call succeeded, so `out` is a tensor owned by the caller.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

/// Adds `aᵀ b` of `a` `[n, m]` and `b` `[n, k]` to `total` `[m, k]`, which may be fp32 where `a` and `b` are bf16 or fp16. On a GPU
/// the product itself then adds up in fp32.
///
/// # Errors
/// A [`TchError`] if shapes or kinds do not match.
pub fn add_product_tn(total: &Tensor, a: &Tensor, b: &Tensor) -> Result<(), TchError> {
    // SAFETY: the tensors outlive the call.
    check(unsafe { ffi::glm_ext_add_product_tn(as_raw(total), as_raw(a), as_raw(b)) })
}

/// A parameter to be updated by [`fused_adamw`], with its optimizer state. All tensors but `steps` have the same shape.
#[derive(Debug, Clone, Copy)]
pub struct AdamWEntry<'a> {
    /// Parameter.
    pub parameter: &'a Tensor,
    /// Gradient.
    pub gradient: &'a Tensor,
    /// Exponential moving average of gradients.
    pub exp_avg: &'a Tensor,
    /// Exponential moving average of squared gradients.
    pub exp_avg_sq: &'a Tensor,
    /// Number of steps: one fp32 element on the parameter's device.
    pub steps: &'a Tensor,
}

/// Hyperparameters of [`fused_adamw`].
#[derive(Debug, Clone, Copy)]
pub struct AdamWRates<'a> {
    /// Learning rate: one element on the device.
    pub lr: &'a Tensor,
    /// Decay rate of `exp_avg`.
    pub beta1: f64,
    /// Decay rate of `exp_avg_sq`.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Divisor of the gradients: one fp32 element on the device.
    pub gradient_divisor: Option<&'a Tensor>,
    /// Skips the step if it is not zero: one fp32 element on the device.
    pub skip: Option<&'a Tensor>,
}

/// Performs one AdamW step in a single pass over memory. Step counts are incremented unless the step is skipped.
///
/// # Errors
/// A [`TchError`] if shapes, kinds or devices do not match.
pub fn fused_adamw(entries: &[AdamWEntry<'_>], rates: &AdamWRates<'_>) -> Result<(), TchError> {
    let list = |of: fn(&AdamWEntry<'_>) -> TensorPtr| entries.iter().map(of).collect::<Vec<_>>();
    let parameters = list(|entry| as_raw(entry.parameter));
    let gradients = list(|entry| as_raw(entry.gradient));
    let exp_avgs = list(|entry| as_raw(entry.exp_avg));
    let exp_avg_sqs = list(|entry| as_raw(entry.exp_avg_sq));
    let steps = list(|entry| as_raw(entry.steps));
    let optional = |tensor: Option<&Tensor>| tensor.map_or(std::ptr::null_mut(), as_raw);
    // The operator expects its caller to count steps.
    for entry in entries {
        let _ = entry.steps.shallow_clone().f_add_scalar_(1.0)?;
    }
    // SAFETY: every list has one pointer per entry, and all tensors outlive the call.
    check(unsafe {
        ffi::glm_ext_fused_adamw(
            parameters.as_ptr(),
            gradients.as_ptr(),
            exp_avgs.as_ptr(),
            exp_avg_sqs.as_ptr(),
            steps.as_ptr(),
            entries.len(),
            as_raw(rates.lr),
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
    fn products_match_libtorch_for_any_strides() {
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
    fn weight_gradients_add_up_in_fp32() {
        let (a, b) = (Tensor::ones([3, 2], (Kind::BFloat16, Device::Cpu)), Tensor::ones([3, 4], (Kind::BFloat16, Device::Cpu)));
        let total = Tensor::full([2, 4], 0.001, (Kind::Float, Device::Cpu));
        add_product_tn(&total, &a, &b).expect("product");
        assert!((total.double_value(&[1, 3]) - 3.001).abs() < 1e-6, "bf16 would round to 3");
        let bias = Tensor::from_slice(&[0.5_f32, 1.0]);
        let (x, weight) = (b.to_kind(Kind::Float), Tensor::ones([2, 4], (Kind::Float, Device::Cpu)));
        let out = linear_nt(&x, &weight, Some(&bias)).expect("linear");
        assert_eq!((out.size(), out.double_value(&[2, 0])), (vec![3, 2], 4.5));
        assert!(linear_nt(&x, &weight.tr(), None).is_err());
    }

    #[test]
    fn adamw_counts_steps_and_skips() {
        let make = |value: f64| Tensor::full([3], value, (Kind::Float, Device::Cpu));
        let one = |value: f64| Tensor::full([1], value, (Kind::Float, Device::Cpu));
        let (parameter, gradient, exp_avg, exp_avg_sq, steps) = (make(1.0), make(4.0), make(0.0), make(0.0), one(0.0));
        let entry = AdamWEntry {
            parameter: &parameter,
            gradient: &gradient,
            exp_avg: &exp_avg,
            exp_avg_sq: &exp_avg_sq,
            steps: &steps,
        };
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
            // The first step moves by the learning rate, and weight decay subtracts lr · λ times the weight.
            assert!((parameter.double_value(&[0]) - value).abs() < 1e-6, "{parameter:?}");
            assert_eq!(steps.double_value(&[0]), count);
        }
        assert!((exp_avg.double_value(&[0]) - 0.2).abs() < 1e-6, "0.1 times the gradient divided by 2");
    }
}
