//! Parameters of the two layers of which everything consists. [`super::ops`] computes with them.

use tch::{TchError, Tensor};

use super::parameters::{Init, Parameters};

/// `y = x Wᵀ + b`.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Adds `{name}.weight` `[output, input]` and `{name}.bias` `[output]` to the parameters; `std` is the standard deviation
    /// of initial weights.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(parameters: &mut Parameters, name: &str, input: usize, output: usize, std: f64) -> Result<Self, TchError> {
        let shape = [output as i64, input as i64];
        Ok(Self {
            weight: parameters.add(format!("{name}.weight"), &shape, Init::Normal(std))?,
            bias: parameters.add(format!("{name}.bias"), &shape[..1], Init::Zeros)?,
        })
    }

    /// Handles to the same parameters, for a backward pass.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { weight: self.weight.shallow_clone(), bias: self.bias.shallow_clone() }
    }

    /// `[output, input]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[output]`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }
}

/// `y = (x - mean) / sqrt(variance + eps) · w + b`, over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    /// Adds `{name}.weight` and `{name}.bias`, `[width]` each, to the parameters.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn new(parameters: &mut Parameters, name: &str, width: usize, eps: f64) -> Result<Self, TchError> {
        let width = width as i64;
        Ok(Self {
            weight: parameters.add(format!("{name}.weight"), &[width], Init::Ones)?,
            bias: parameters.add(format!("{name}.bias"), &[width], Init::Zeros)?,
            width,
            eps,
        })
    }

    /// Handles to the same parameters, for a backward pass.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { weight: self.weight.shallow_clone(), bias: self.bias.shallow_clone(), ..*self }
    }

    /// `[width]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[width]`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// Size of the last dimension.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// Term added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }
}
