//! One step of AdamW.

use glm_kernels::cuda::calls::AdamW;
use tch::{TchError, Tensor};

use super::launch::{Form, Launcher};

/// Numbers that a program updates, as compiled.
const BLOCK: usize = 1024;

/// Parameters and what belongs to them: `[n]` each, in fp32 but for the last.
#[derive(Debug)]
pub struct Vectors<'a> {
    /// Values.
    pub values: &'a Tensor,
    /// Gradients, which are set to zero.
    pub gradient: &'a Tensor,
    /// Moving average of gradients.
    pub first: &'a Tensor,
    /// Moving average of squared gradients.
    pub second: &'a Tensor,
    /// Copy of the values in half precision.
    pub half: &'a Tensor,
}

/// Rates of the step; tensors have one element in fp32 on the device, but for `corrections`.
#[derive(Debug)]
pub struct Rates<'a> {
    /// Learning rate.
    pub lr: &'a Tensor,
    /// Divisor of the gradients.
    pub divisor: &'a Tensor,
    /// If not 0, only the gradients are set to zero.
    pub skip: &'a Tensor,
    /// `1 - β1ᵗ` and `sqrt(1 - β2ᵗ)`: `[2]`.
    pub corrections: &'a Tensor,
    /// Decay rate of the first average.
    pub beta1: f64,
    /// Decay rate of the second average.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub decay: f64,
}

/// Updates parameters, see [`crate::optim::adamw::AdamW`] for the formula.
///
/// # Errors
/// A [`TchError`]; vectors of different lengths are one.
pub fn step(launcher: Launcher, vectors: &Vectors<'_>, rates: &Rates<'_>) -> Result<(), TchError> {
    let &Vectors { values, gradient, first, second, half } = vectors;
    let &Rates { lr, divisor, skip, corrections, beta1, beta2, eps, decay } = rates;
    let numbers = values.numel();
    if [gradient, first, second, half].iter().any(|vector| vector.numel() != numbers || !vector.is_contiguous()) {
        return Err(TchError::Shape(format!("AdamW of {numbers} parameters with vectors of other lengths")));
    }
    let call = AdamW {
        values,
        gradient,
        first,
        second,
        half,
        lr,
        divisor,
        skip,
        corrections,
        beta1: beta1 as f32,
        beta2: beta2 as f32,
        rest1: (1.0 - beta1) as f32,
        rest2: (1.0 - beta2) as f32,
        eps: eps as f32,
        decay: decay as f32,
        numbers: numbers as i64,
    };
    // SAFETY: the vectors were checked above; the caller passes scalars of one element, and two corrections.
    unsafe { launcher.launch(Form::default(), [numbers.div_ceil(BLOCK), 1], call) }
}
