//! The gradient's norm, and keeping it within bounds.

use tch::{TchError, Tensor};

use crate::model::parameters::Parameters;

/// The norm of all gradients taken as one vector, and the gradients themselves.
///
/// # Errors
/// A [`TchError`]; a parameter without a gradient is one.
pub fn global_norm(parameters: &Parameters) -> Result<f64, TchError> {
    let norms = parameters.iter().map(|parameter| parameter.tensor.f_grad()?.f_norm()).collect::<Result<Vec<_>, _>>()?;
    Tensor::f_stack(&norms, 0)?.f_norm()?.f_double_value(&[])
}

/// The factor that brings a gradient of norm `norm` to at most `limit`: `min(1, limit / (norm + 1e-6))`, as Megatron has it.
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    if limit <= 0.0 { 1.0 } else { (limit / (norm + 1e-6)).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_gradients_are_shortened() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
        assert_eq!(clip_factor(4.0, 0.0), 1.0, "0 switches clipping off");
    }
}
