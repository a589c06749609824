//! Adam with decoupled weight decay.

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor, no_grad};

use crate::model::parameters::Parameters;

/// Rates of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWConfig {
    /// Decay of the average of gradients.
    pub beta1: f64,
    /// Decay of the average of squared gradients.
    pub beta2: f64,
    /// Keeps the division finite.
    pub eps: f64,
    /// Decay of weights and embeddings; biases and LayerNorm do not decay.
    pub weight_decay: f64,
}

/// "Decoupled Weight Decay Regularization" (Loshchilov and Hutter 2019), as in PyTorch.
///
/// With gradient g at step t: `θ -= lr · λ · θ`; `m = β1 m + (1-β1) g`; `v = β2 v + (1-β2) g²`;
/// `θ -= lr / (1-β1ᵗ) · m / (sqrt(v) / sqrt(1-β2ᵗ) + ε)`.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    moments: Vec<Moments>,
}

/// The two running averages of one parameter, in its shape.
#[derive(Debug)]
pub struct Moments {
    /// Average of gradients.
    pub first: Tensor,
    /// Average of squared gradients.
    pub second: Tensor,
}

impl AdamW {
    /// An optimizer that has seen no gradient yet.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn new(config: AdamWConfig, parameters: &Parameters) -> Result<Self, TchError> {
        let zeros = |tensor: &Tensor| tensor.f_detach()?.f_zeros_like();
        let moments = parameters
            .iter()
            .map(|parameter| Ok(Moments { first: zeros(&parameter.tensor)?, second: zeros(&parameter.tensor)? }))
            .collect::<Result<_, TchError>>()?;
        Ok(Self { config, steps: 0, moments })
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The averages, in the order of the parameters.
    pub fn moments(&self) -> &[Moments] {
        &self.moments
    }

    /// Takes up where another optimizer, whose averages have been copied into [`Self::moments`], stood.
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// One step at learning rate `lr`, with every gradient multiplied by `gradient_factor` (clipping and loss scale).
    ///
    /// # Errors
    /// A [`TchError`]; a parameter without a gradient is one.
    pub fn step(&mut self, parameters: &Parameters, lr: f64, gradient_factor: f64) -> Result<(), TchError> {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        let exponent = self.steps as f64;
        let correction1 = 1.0 - beta1.powf(exponent);
        let correction2 = (1.0 - beta2.powf(exponent)).sqrt();
        no_grad(|| {
            for (parameter, Moments { first, second }) in parameters.iter().zip(&mut self.moments) {
                let mut weight = parameter.tensor.shallow_clone();
                let mut gradient = parameter.tensor.f_grad()?;
                if gradient_factor != 1.0 {
                    let _ = gradient.f_mul_scalar_(gradient_factor)?;
                }
                if parameter.decay {
                    let _ = weight.f_mul_scalar_(1.0 - lr * weight_decay)?;
                }
                let _ = first.f_lerp_(&gradient, 1.0 - beta1)?;
                let mut square = gradient.f_mul(&gradient)?;
                let _ = second.f_lerp_(&square, 1.0 - beta2)?;
                // The square's memory serves for the update.
                square.f_copy_(second)?;
                let _ = square.f_sqrt_()?.f_mul_scalar_(1.0 / correction2)?.f_add_scalar_(eps)?;
                let mut update = first.f_div(&square)?;
                let _ = weight.f_add_(&update.f_mul_scalar_(-lr / correction1)?)?;
            }
            Ok(())
        })
    }
}
