//! Copy of everything that a checkpoint contains, so that training can continue while it is written.

use tch::{Device, TchError, Tensor, no_grad};

use super::run_state::RunState;
use crate::model::{Glm, ModelConfig};
use crate::optim::adamw::AdamW;

/// A run at one moment, on the CPU.
#[derive(Debug)]
pub struct Snapshot {
    /// Weights by name.
    pub weights: Vec<(String, Tensor)>,
    /// Averages of the optimizer: `first.NAME` and `second.NAME`.
    pub moments: Vec<(String, Tensor)>,
    /// Sizes of the model.
    pub sizes: ModelConfig,
    /// State of the run.
    pub state: RunState,
    /// Content of `metrics.jsonl`.
    pub metrics: Vec<u8>,
}

impl Snapshot {
    /// Copies everything that training modifies: three 32-bit numbers per parameter.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn take(model: &Glm, optimizer: &AdamW, state: RunState, metrics: Vec<u8>) -> Result<Self, TchError> {
        let parameters = model.parameters();
        let names = || parameters.iter().map(|parameter| parameter.name.as_str());
        let (values, first, second) = no_grad(|| {
            let parts = parameters.groups().iter().map(|group| group.values.f_to_device(Device::Cpu));
            // Concatenation copies the values even if they are already on the CPU.
            let values = Tensor::f_cat(&parts.collect::<Result<Vec<_>, _>>()?, 0)?;
            let copy = |tensor: &Tensor| tensor.f_to_device_(Device::Cpu, tensor.f_kind()?, false, true);
            Ok::<_, TchError>((values, copy(optimizer.exp_avg())?, copy(optimizer.exp_avg_sq())?))
        })?;
        let named = |prefix: &str, vector: &Tensor| -> Result<Vec<(String, Tensor)>, TchError> {
            Ok(names().map(|name| format!("{prefix}{name}")).zip(parameters.unflatten(vector)?).collect())
        };
        let moments = named("first.", &first)?.into_iter().zip(named("second.", &second)?);
        Ok(Self {
            weights: named("", &values)?,
            moments: moments.flat_map(|(first, second)| [first, second]).collect(),
            sizes: model.config().clone(),
            state,
            metrics,
        })
    }
}
