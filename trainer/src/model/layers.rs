//! The two layers that everything is made of.
//!
//! Both keep their parameters in the master kind. In libtorch's own operations these are cast to the kind of the input, so
//! that a forward pass in 16 bits trains 32-bit weights: the cast is part of the graph, and gradients arrive in the master kind.

use tch::{TchError, Tensor};

use super::ops::cpu as fused;
use super::parameters::{Init, Parameters};

/// `y = x Wᵀ + b`.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// A layer from width `input` to width `output`: `{name}.weight` `[output, input]` and `{name}.bias` `[output]`.
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

    /// `[output]`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// `[…, input]` to `[…, output]`, by libtorch's own operations.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let kind = x.f_kind()?;
        x.f_linear(&self.weight.f_totype(kind)?, Some(&self.bias.f_totype(kind)?))
    }

    /// `[tokens, input]` to `[tokens, output]` without the bias, which whoever uses the result adds: see [`fused`].
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn product(&self, x: &Tensor) -> Result<Tensor, TchError> {
        fused::linear::linear(x, &self.weight, 0..self.weight.size2()?.0)
    }

    /// [`Self::product`] with the outputs `rows` only.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn part_of_product(&self, x: &Tensor, rows: std::ops::Range<i64>) -> Result<Tensor, TchError> {
        fused::linear::linear(x, &self.weight, rows)
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
    /// A layer of width `width`: `{name}.weight` and `{name}.bias`, `[width]` each.
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

    /// `[width]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[width]`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// `[…, width]` to the same shape, by libtorch's own operation.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let kind = x.f_kind()?;
        let (weight, bias) = (self.weight.f_totype(kind)?, self.bias.f_totype(kind)?);
        x.f_layer_norm([self.width], Some(&weight), Some(&bias), self.eps, true)
    }
}

/// Dropout in training, the input itself otherwise, by libtorch's own operation.
///
/// # Errors
/// A [`TchError`].
pub fn dropout(x: Tensor, rate: f64, training: bool) -> Result<Tensor, TchError> {
    if !training || rate == 0.0 {
        return Ok(x);
    }
    x.f_dropout(rate, true)
}
