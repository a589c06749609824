//! AdamW: Adam with decoupled weight decay.

use libtorch_ext::operators::{AdamWEntry, AdamWRates, fused_adamw};
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor, no_grad};

use super::shard::{Piece, Shard};
use crate::model::ops::cuda::adamw::{self, Rates, Vectors};
use crate::model::ops::cuda::launch::{self, Launcher, Runner};
use crate::model::parameters::Parameters;

/// Hyperparameters of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWConfig {
    /// Decay rate of the moving average of gradients.
    pub beta1: f64,
    /// Decay rate of the moving average of squared gradients.
    pub beta2: f64,
    /// Constant in the denominator, for numerical stability.
    pub eps: f64,
    /// Decay of weights and embeddings; biases and LayerNorm parameters do not decay.
    pub weight_decay: f64,
}

/// "Decoupled Weight Decay Regularization" (Loshchilov and Hutter 2019) as in PyTorch, in one pass over memory.
///
/// With gradient g at step t: `θ -= lr · λ · θ`; `m = β1 m + (1-β1) g`; `v = β2 v + (1-β2) g²`;
/// `θ -= lr / (1-β1ᵗ) · m / (sqrt(v) / sqrt(1-β2ᵗ) + ε)`.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    /// Pieces of the flat buffers that it updates.
    shard: Shard,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor,
    /// Natural logarithms of both decay rates, `[2]` in fp64.
    log_betas: Tensor,
    /// Powers that their bias corrections are raised to, `[2]`.
    powers: Tensor,
    /// Runner of the CUDA kernel, if there is one for the device.
    runner: Option<&'static dyn Runner>,
}

/// Rates of one step, each a scalar on the device of the parameters.
#[derive(Debug)]
pub struct StepRates<'a> {
    /// Learning rate.
    pub lr: &'a Tensor,
    /// Divisor of the gradients (clipping and loss scale).
    pub gradient_divisor: &'a Tensor,
    /// If not 0, nothing changes and the step does not count.
    pub skip: &'a Tensor,
}

impl AdamW {
    /// Creates an optimizer in its initial state. The parameters must have gradient buffers.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn new(config: AdamWConfig, parameters: &Parameters) -> Result<Self, TchError> {
        Self::sharded(config, parameters, Shard::whole(parameters))
    }

    /// As [`Self::new`], for the part of the parameters that this rank updates.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn sharded(config: AdamWConfig, parameters: &Parameters, shard: Shard) -> Result<Self, TchError> {
        let device = parameters.device();
        let zeros = || Tensor::f_zeros([shard.count()], (parameters.kind(), device));
        Ok(Self {
            config,
            exp_avg: zeros()?,
            exp_avg_sq: zeros()?,
            steps: Tensor::f_zeros([1], (Kind::Float, device))?,
            log_betas: Tensor::f_from_slice(&[config.beta1.ln(), config.beta2.ln()])?.f_to_device(device)?,
            powers: Tensor::f_from_slice(&[1.0, 0.5])?.f_to_device(device)?,
            runner: launch::runner(device).ok(),
            shard,
        })
    }

    /// Number of steps so far. On a GPU this waits for the device.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn steps(&self) -> Result<u64, TchError> {
        Ok(self.steps.f_double_value(&[0])? as u64)
    }

    /// The part of the parameters that this rank updates, which determines the layout of the averages.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Moving average of the gradients of all parameters, as one vector; see [`Parameters::unflatten`]. With a shard, of its pieces, one
    /// after the other.
    pub fn exp_avg(&self) -> &Tensor {
        &self.exp_avg
    }

    /// Moving average of the squared gradients, likewise.
    pub fn exp_avg_sq(&self) -> &Tensor {
        &self.exp_avg_sq
    }

    /// Sets the number of steps, for an optimizer whose averages are restored from a checkpoint.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn set_steps(&mut self, steps: u64) -> Result<(), TchError> {
        self.steps.f_fill_(steps as f64).map(drop)
    }

    /// Updates its part of the parameters from their gradients, which are divided in place or, by the CUDA kernel, set to zero, and of the
    /// copies in half precision ([`Parameters::cast`]), if there are any. The kernel is used where there are.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn step(&mut self, parameters: &Parameters, rates: &StepRates<'_>) -> Result<(), TchError> {
        let copied = parameters.copied().zip(self.runner);
        let launcher = copied.and_then(|(kind, runner)| Some((Launcher::new(runner, kind)?, kind)));
        if let Some((launcher, kind)) = launcher {
            return self.step_by_kernel(launcher, kind, parameters, rates);
        }
        self.step_by_libtorch(parameters, rates)?;
        for piece in self.shard.pieces() {
            if let Views { values, half: Some(half), .. } = self.views(piece, parameters)? {
                no_grad(|| half.shallow_clone().f_copy_(&values))?;
            }
        }
        Ok(())
    }

    /// As [`Self::step`], by a kernel that writes copies in this kind.
    fn step_by_kernel(
        &mut self,
        launcher: Launcher,
        kind: Kind,
        parameters: &Parameters,
        rates: &StepRates<'_>,
    ) -> Result<(), TchError> {
        let (corrections, done) = no_grad(|| {
            let step = self.steps.f_totype(Kind::Double)?.f_add_scalar(1.0)?;
            let corrections = self.log_betas.f_mul(&step)?.f_expm1()?.f_neg()?.f_pow(&self.powers)?;
            Ok::<_, TchError>((corrections.f_totype(Kind::Float)?, rates.skip.f_rsub_scalar(1.0)?))
        })?;
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        for piece in self.shard.pieces() {
            let Views { values, gradient, first, second, half } = self.views(piece, parameters)?;
            // The kernel writes copies that nobody keeps, too.
            let half = half.map_or_else(|| Tensor::f_empty([values.numel() as i64], (kind, values.device())), Ok)?;
            let vectors = Vectors { values: &values, gradient: &gradient, first: &first, second: &second, half: &half };
            let decay = if piece.decay { weight_decay } else { 0.0 };
            let StepRates { lr, gradient_divisor: divisor, skip } = *rates;
            let rates = Rates { lr, divisor, skip, corrections: &corrections, beta1, beta2, eps, decay };
            adamw::step(launcher, &vectors, &rates)?;
        }
        let _counted = no_grad(|| self.steps.f_add_(&done))?;
        if self.shard.ranks() == 1 && parameters.totals().is_none() {
            parameters.gradients_are_zero();
        }
        Ok(())
    }

    fn step_by_libtorch(&mut self, parameters: &Parameters, rates: &StepRates<'_>) -> Result<(), TchError> {
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        let before = self.steps.f_detach_copy()?;
        // The operator divides by a number in fp32, which would round gradients in fp64.
        let gradient_divisor = match parameters.kind() {
            Kind::Double => {
                no_grad(|| {
                    self.shard
                        .pieces()
                        .iter()
                        .try_for_each(|piece| self.views(piece, parameters)?.gradient.f_div_(rates.gradient_divisor).map(drop))
                })?;
                None
            }
            _ => Some(rates.gradient_divisor.f_totype(Kind::Float)?),
        };
        for piece in self.shard.pieces() {
            let Views { values, gradient, first, second, .. } = self.views(piece, parameters)?;
            // The operator increments the step counter, once per piece.
            self.steps.f_copy_(&before)?;
            let entry = AdamWEntry {
                parameter: &values,
                gradient: &gradient,
                exp_avg: &first,
                exp_avg_sq: &second,
                steps: &self.steps,
            };
            let rates = AdamWRates {
                lr: rates.lr,
                beta1,
                beta2,
                weight_decay: if piece.decay { weight_decay } else { 0.0 },
                eps,
                gradient_divisor: gradient_divisor.as_ref(),
                skip: Some(rates.skip),
            };
            fused_adamw(&[entry], &rates)?;
        }
        Ok(())
    }

    fn views(&self, piece: &Piece, parameters: &Parameters) -> Result<Views, TchError> {
        let count = piece.place.end - piece.place.start;
        let half = match (parameters.divided(), parameters.cast_values()) {
            (Some(divided), _) => divided.own_half(&piece.slice).map(Tensor::shallow_clone),
            (None, Some(cast)) => Some(cast.f_narrow(0, piece.place.start, count)?),
            (None, None) => None,
        };
        Ok(Views {
            half,
            values: match parameters.divided() {
                Some(divided) => divided.own().f_narrow(0, piece.start, count)?,
                None => parameters.values().f_narrow(0, piece.place.start, count)?,
            },
            gradient: match parameters.totals() {
                Some(totals) => totals.f_narrow(0, piece.start, count)?,
                None => parameters.gradients().f_narrow(0, piece.place.start, count)?,
            },
            first: self.exp_avg.f_narrow(0, piece.start, count)?,
            second: self.exp_avg_sq.f_narrow(0, piece.start, count)?,
        })
    }
}

/// Views of what a step updates in one piece.
struct Views {
    values: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    /// Of the copies in half precision, if there are any.
    half: Option<Tensor>,
}

#[cfg(test)]
mod tests {
    use libtorch_ext::distributed::{GroupOptions, PART_MULTIPLE, ProcessGroup, Store, StoreOptions, available};
    use tch::Device;

    use super::*;
    use crate::model::Division;
    use crate::model::ops::cuda::interpreter::interpreter;
    use crate::model::parameters::Init;

    /// Documented formula in fp64.
    struct Reference {
        weight: Vec<f64>,
        exp_avg: Vec<f64>,
        exp_avg_sq: Vec<f64>,
    }

    impl Reference {
        fn step(&mut self, config: AdamWConfig, t: i32, lr: f64, decay: f64, gradient: &[f64]) {
            for (i, g) in gradient.iter().enumerate() {
                self.weight[i] -= lr * decay * self.weight[i];
                self.exp_avg[i] = config.beta1 * self.exp_avg[i] + (1.0 - config.beta1) * g;
                self.exp_avg_sq[i] = config.beta2 * self.exp_avg_sq[i] + (1.0 - config.beta2) * g * g;
                let (m, v) =
                    (self.exp_avg[i] / (1.0 - config.beta1.powi(t)), self.exp_avg_sq[i] / (1.0 - config.beta2.powi(t)));
                self.weight[i] -= lr * m / (v.sqrt() + config.eps);
            }
        }
    }

    #[test]
    fn twenty_steps_match_the_formula_and_skipped_steps_change_nothing() {
        check_steps(false, None);
    }

    #[test]
    fn the_cuda_kernel_matches_the_formula_clears_gradients_and_updates_the_copy() {
        check_steps(true, None);
    }

    /// Tests of process groups are skipped in a build without Gloo.
    const DIVISIONS: [Division; 2] = [Division::Masters(Kind::Float), Division::Blocks(Some(Kind::Float))];

    #[test]
    fn divided_weights_match_the_formula_and_their_copies_are_updated() {
        if available().is_ok() {
            DIVISIONS.into_iter().for_each(|division| check_steps(false, Some(division)));
        }
    }

    #[test]
    fn the_cuda_kernel_updates_divided_weights_and_their_copies() {
        if available().is_ok() {
            DIVISIONS.into_iter().for_each(|division| check_steps(true, Some(division)));
        }
    }

    /// Parameters with random values, the same for every call: a bias, and the matrix of a block.
    fn drawn() -> (Parameters, [Tensor; 2]) {
        let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
        let shapes = [("bias", &[40][..]), ("transformer.layers.0.weight", &[8, 5])];
        let handles = shapes.map(|(name, shape)| parameters.add(name.into(), shape, Init::Normal(1.0)).expect("parameter"));
        parameters.make_divisible(PART_MULTIPLE);
        parameters.flatten().expect("flatten");
        tch::manual_seed(3);
        parameters.draw().expect("draw");
        (parameters, handles)
    }

    /// The same, divided among the ranks of a group of one.
    fn divided(division: Division) -> (Parameters, [Tensor; 2]) {
        let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store");
        let group = ProcessGroup::new(&store, 0, 1, &GroupOptions::default()).expect("a group");
        let ((mut parameters, handles), (whole, _)) = (drawn(), drawn());
        parameters.divide(Some(whole.values()), &group, division).expect("divided");
        (parameters, handles)
    }

    fn check_steps(kernel: bool, division: Option<Division>) {
        let config = AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
        let (mut parameters, [bias, weight]) = division.map_or_else(drawn, divided);
        parameters.alloc_grads().expect("gradients");
        let numbers = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).reshape([-1])).expect("numbers");
        let masters = |parameters: &Parameters| {
            let mut values = parameters.copy(true).expect("values");
            values.sort_by_key(|(index, _)| *index);
            values.into_iter().map(|(_, values)| values).collect::<Vec<_>>()
        };
        let reference =
            |tensor: &Tensor| Reference { weight: numbers(tensor), exp_avg: vec![0.0; 40], exp_avg_sq: vec![0.0; 40] };
        let initial = masters(&parameters);
        let mut expected = [(reference(&initial[0]), 0.0), (reference(&initial[1]), 0.1)];
        let shard = match division {
            Some(_) => Shard::of_rank(&parameters, vec![0..PART_MULTIPLE, PART_MULTIPLE..2 * PART_MULTIPLE], 0, 1),
            None => Shard::whole(&parameters),
        };
        let mut optimizer = AdamW::sharded(config, &parameters, shard).expect("optimizer");
        if kernel {
            optimizer.runner = Some(interpreter());
            parameters.cast(&weight, Kind::Float).expect("copy");
        }
        let one = |value: f64| Tensor::full([1], value, (Kind::Float, Device::Cpu));
        let mut steps = 0;
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
            if let Some(divided) = parameters.divided() {
                divided.refresh(|whole, own| no_grad(|| whole.f_copy_(own).map(drop))).expect("refreshed");
            }
            if kernel {
                assert_eq!(parameters.gradients().count_nonzero(None).int64_value(&[]), 0);
            }
            if parameters.copied().is_some() {
                let block = parameters.temporary_weights(0);
                block.iter().for_each(|block| block.gather(None).expect("gathered"));
                for (parameter, master) in [&bias, &weight].into_iter().zip(masters(&parameters)) {
                    assert!(parameters.cast(parameter, Kind::Float).expect("copy").equal(&master));
                }
                block.iter().for_each(|block| block.release().expect("released"));
            }
            if skipped {
                continue;
            }
            steps += 1;
            for ((reference, decay), which) in expected.iter_mut().zip([0, 5]) {
                let gradient: Vec<f64> = gradient(which).iter().map(|g| g / 4.0).collect();
                reference.step(config, steps, lr, *decay, &gradient);
            }
        }
        assert_eq!(optimizer.steps().expect("steps"), 20);
        for ((reference, _), values) in expected.iter().zip(masters(&parameters)) {
            for (found, expected) in numbers(&values).iter().zip(&reference.weight) {
                assert!((found - expected).abs() < 2e-6 * expected.abs().max(1.0), "{found}, expected {expected}");
            }
        }
        let exp_avg_sq = parameters.unflatten(optimizer.exp_avg_sq()).expect("unflatten");
        assert_eq!(exp_avg_sq[1].size(), [8, 5], "in the order of the parameters");
        let found = numbers(&exp_avg_sq[1]);
        assert!(found.iter().zip(&expected[1].0.exp_avg_sq).all(|(found, expected)| (found - expected).abs() < 1e-7));
    }
}
