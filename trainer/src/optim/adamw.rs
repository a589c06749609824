//! Adam with decoupled weight decay.

use libtorch_ext::operators::{AdamWEntry, AdamWRates, fused_adamw};
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

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

/// "Decoupled Weight Decay Regularization" (Loshchilov and Hutter 2019), as in PyTorch, in one pass over memory.
///
/// With gradient g at step t: `θ -= lr · λ · θ`; `m = β1 m + (1-β1) g`; `v = β2 v + (1-β2) g²`;
/// `θ -= lr / (1-β1ᵗ) · m / (sqrt(v) / sqrt(1-β2ᵗ) + ε)`.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    first: Tensor,
    second: Tensor,
    moments: Vec<Moments>,
    steps: Tensor,
}

/// The two running averages of one parameter, in its shape: views of the optimizer's buffers.
#[derive(Debug)]
pub struct Moments {
    /// Average of gradients.
    pub first: Tensor,
    /// Average of squared gradients.
    pub second: Tensor,
}

/// One step's rates, each one number on the parameters' device.
#[derive(Debug)]
pub struct StepRates<'a> {
    /// The learning rate.
    pub lr: &'a Tensor,
    /// Gradients are divided by it (clipping and loss scale).
    pub gradient_divisor: &'a Tensor,
    /// Where this is not 0 nothing changes, and the step does not count.
    pub skip: &'a Tensor,
}

impl AdamW {
    /// An optimizer that has seen no gradient yet, for parameters that have room for gradients.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn new(config: AdamWConfig, parameters: &Parameters) -> Result<Self, TchError> {
        let zeros = || parameters.gradients().f_detach()?.f_zeros_like();
        let (first, second) = (zeros()?, zeros()?);
        let pieces = parameters.cut(&first)?.into_iter().zip(parameters.cut(&second)?);
        let moments = pieces.map(|(first, second)| Moments { first, second }).collect();
        let steps = Tensor::f_zeros([1], (Kind::Float, parameters.device()))?;
        Ok(Self { config, first, second, moments, steps })
    }

    /// Steps made so far. On a GPU this waits for them.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn steps(&self) -> Result<u64, TchError> {
        Ok(self.steps.f_double_value(&[0])? as u64)
    }

    /// All averages of gradients, and all of their squares, end to end.
    pub fn averages(&self) -> [&Tensor; 2] {
        [&self.first, &self.second]
    }

    /// The averages, in the order of the parameters.
    pub fn moments(&self) -> &[Moments] {
        &self.moments
    }

    /// Takes up where another optimizer, whose averages have been copied into [`Self::moments`], stood.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn set_steps(&mut self, steps: u64) -> Result<(), TchError> {
        self.steps.f_fill_(steps as f64).map(drop)
    }

    /// One step with the gradients that the parameters have; these are divided in place.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn step(&mut self, parameters: &Parameters, rates: &StepRates<'_>) -> Result<(), TchError> {
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        let before = self.steps.f_detach_copy()?;
        let mut next = 0;
        for group in parameters.groups() {
            let count = group.values.numel() as i64;
            let (first, second) = (self.first.f_narrow(0, next, count)?, self.second.f_narrow(0, next, count)?);
            next += count;
            // Each group counts from the same number.
            self.steps.f_copy_(&before)?;
            let entry = AdamWEntry {
                parameter: &group.values,
                gradient: &group.gradients,
                exp_avg: &first,
                exp_avg_sq: &second,
                steps: &self.steps,
            };
            let rates = AdamWRates {
                lr: rates.lr,
                beta1,
                beta2,
                weight_decay: if group.decay { weight_decay } else { 0.0 },
                eps,
                gradient_divisor: Some(rates.gradient_divisor),
                skip: Some(rates.skip),
            };
            fused_adamw(&[entry], &rates)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::Init;
    use tch::{Device, no_grad};

    /// The formula of the documentation, in 64 bits.
    struct Plain {
        weight: Vec<f64>,
        first: Vec<f64>,
        second: Vec<f64>,
    }

    impl Plain {
        fn step(&mut self, config: AdamWConfig, t: i32, lr: f64, decay: f64, gradient: &[f64]) {
            for (i, g) in gradient.iter().enumerate() {
                self.weight[i] -= lr * decay * self.weight[i];
                self.first[i] = config.beta1 * self.first[i] + (1.0 - config.beta1) * g;
                self.second[i] = config.beta2 * self.second[i] + (1.0 - config.beta2) * g * g;
                let (m, v) = (self.first[i] / (1.0 - config.beta1.powi(t)), self.second[i] / (1.0 - config.beta2.powi(t)));
                self.weight[i] -= lr * m / (v.sqrt() + config.eps);
            }
        }
    }

    #[test]
    fn twenty_steps_equal_the_formula_and_a_skipped_one_changes_nothing() {
        let config = AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
        let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
        tch::manual_seed(3);
        let bias = parameters.add("bias".into(), &[40], Init::Normal(1.0)).expect("bias");
        let weight = parameters.add("weight".into(), &[8, 5], Init::Normal(1.0)).expect("weight");
        parameters.gather().expect("gather");
        parameters.draw().expect("draw");
        parameters.alloc_grads().expect("gradients");
        let numbers = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).reshape([-1])).expect("numbers");
        let plain = |tensor: &Tensor| Plain { weight: numbers(tensor), first: vec![0.0; 40], second: vec![0.0; 40] };
        let mut expected = [(plain(&bias), 0.0), (plain(&weight), 0.1)];
        let mut optimizer = AdamW::new(config, &parameters).expect("optimizer");
        let one = |value: f64| Tensor::full([1], value, (Kind::Float, Device::Cpu));
        let mut made = 0;
        for step in 0..22 {
            let (lr, skipped) = (0.01 * f64::from(step + 1), step == 7 || step == 8);
            let gradient = |which: u64| -> Vec<f64> {
                (0..40).map(|i| ((i * 7 + u64::from(step as u8) * 13 + which) % 19) as f64 / 9.0 - 1.0).collect()
            };
            no_grad(|| {
                for (parameter, which) in [(&bias, 0), (&weight, 5)] {
                    parameter.grad().view([-1]).copy_(&Tensor::from_slice(&gradient(which)));
                }
                if skipped {
                    let _ = weight.grad().fill_(f64::INFINITY);
                }
            });
            let rates =
                StepRates { lr: &one(lr).squeeze(), gradient_divisor: &one(4.0), skip: &one(f64::from(u8::from(skipped))) };
            optimizer.step(&parameters, &rates).expect("step");
            if skipped {
                continue;
            }
            made += 1;
            for ((plain, decay), which) in expected.iter_mut().zip([0, 5]) {
                let gradient: Vec<f64> = gradient(which).iter().map(|g| g / 4.0).collect();
                plain.step(config, made, lr, *decay, &gradient);
            }
        }
        assert_eq!(optimizer.steps().expect("steps"), 20);
        for ((plain, _), parameter) in expected.iter().zip([&bias, &weight]) {
            for (found, expected) in numbers(parameter).iter().zip(&plain.weight) {
                assert!((found - expected).abs() < 2e-6 * expected.abs().max(1.0), "{found}, expected {expected}");
            }
        }
        assert_eq!(optimizer.moments()[1].first.size(), [8, 5], "in the order of the parameters");
        let second = numbers(&optimizer.moments()[1].second);
        assert!(second.iter().zip(&expected[1].0.second).all(|(found, expected)| (found - expected).abs() < 1e-7));
    }
}
