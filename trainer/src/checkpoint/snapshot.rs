//! Copy of everything that a checkpoint contains, so that training can continue while it is written.

use std::collections::BTreeMap;

use libtorch_ext::stream::{Event, available_bytes};
use tch::{Device, TchError, Tensor, no_grad};

use super::device_copy::{DeviceCopier, DeviceCopy};
use super::run_state::RunState;
use crate::model::parameters::Parameters;
use crate::model::{Glm, ModelConfig};
use crate::optim::adamw::AdamW;
use crate::optim::shard::Part;

/// Share of a GPU's available memory that a duplicate of the training state may take: one in this many parts.
const DUPLICATE_SHARE: u64 = 8;

/// A run at one moment, on the CPU.
#[derive(Debug)]
pub struct Snapshot {
    /// Weights by name.
    pub weights: Vec<(String, Tensor)>,
    /// Averages of the optimizer: `first.NAME` and `second.NAME`; the elements that this rank has, if ranks divide them.
    pub moments: Vec<(String, Tensor)>,
    /// The part of the averages that this is, if ranks divide them.
    pub part: Option<MomentPart>,
    /// Sizes of the model.
    pub sizes: ModelConfig,
    /// State of the run.
    pub state: RunState,
    /// Content of `metrics.jsonl`.
    pub metrics: Vec<u8>,
    complete: Option<Event>,
}

/// Part of the optimizer's averages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MomentPart {
    /// Rank whose part it is.
    pub rank: usize,
    /// Number of parts.
    pub ranks: usize,
    /// Index of the first element of each parameter in it.
    pub starts: BTreeMap<String, i64>,
}

impl Snapshot {
    /// Waits until the tensors have their values: a GPU may still be copying them.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn wait(&self) -> Result<(), TchError> {
        self.complete.as_ref().map_or(Ok(()), Event::synchronize)
    }
}

/// Takes snapshots of a run.
#[derive(Debug)]
pub struct Snapshots {
    copier: Option<DeviceCopier>,
}

impl Snapshots {
    /// Prepares snapshots of a model that trains. On a GPU, this allocates memory for them, unless ranks divide the state.
    pub fn new(parameters: &Parameters, optimizer: &AdamW) -> Self {
        let index = match parameters.device() {
            Device::Cuda(index) if optimizer.shard().ranks() == 1 => index,
            _ => return Self { copier: None },
        };
        let elements: usize = parameters.groups().iter().map(|group| group.values.numel()).sum();
        let bytes = 3 * (elements * parameters.kind().elt_size_in_bytes()) as u64;
        let fits = available_bytes(index).is_ok_and(|available| bytes <= available / DUPLICATE_SHARE);
        match DeviceCopier::new(parameters, index, fits) {
            Ok(copier) => Self { copier: Some(copier) },
            Err(error) => {
                warn(&error);
                Self { copier: None }
            }
        }
    }

    /// Copies everything that training modifies: three 32-bit numbers per parameter. If ranks divide the averages, it is this rank's
    /// part of them, and the weights are copied on rank 0 only. On a GPU, the copy may only have been
    /// started; if so, the next update has to wait for the returned event. The previous snapshot must have been written.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn take(
        &mut self,
        model: &Glm,
        optimizer: &AdamW,
        state: RunState,
        metrics: Vec<u8>,
    ) -> Result<(Snapshot, Option<Event>), TchError> {
        let parameters = model.parameters();
        if optimizer.shard().ranks() > 1 {
            return Ok((part(model, optimizer, state, metrics)?, None));
        }
        let copy = match self.start(parameters, optimizer) {
            Some(DeviceCopy { tensors, complete, before_update }) => (tensors, Some(complete), before_update),
            None => (copy_now(parameters, optimizer)?, None, None),
        };
        let ([weights, first, second], complete, before_update) = copy;
        let named = |prefix: &'static str, tensors: Vec<Tensor>| {
            parameters.iter().map(move |parameter| format!("{prefix}{}", parameter.name)).zip(tensors)
        };
        let moments = named("first.", first).zip(named("second.", second));
        let snapshot = Snapshot {
            weights: named("", weights).collect(),
            moments: moments.flat_map(|(first, second)| [first, second]).collect(),
            part: None,
            sizes: model.config().clone(),
            state,
            metrics,
            complete,
        };
        Ok((snapshot, before_update))
    }

    /// Starts a copy from a GPU. `None` on a CPU, and if there is no memory for it.
    fn start(&mut self, parameters: &Parameters, optimizer: &AdamW) -> Option<DeviceCopy> {
        match self.copier.as_mut()?.start(parameters, [optimizer.exp_avg(), optimizer.exp_avg_sq()]) {
            Ok(copy) => Some(copy),
            Err(error) => {
                warn(&error);
                self.copier = None;
                None
            }
        }
    }
}

fn warn(error: &TchError) {
    tracing::warn!("checkpoints block training until they are copied from the GPU: {error}");
}

/// Copies a rank's part of the averages and, on rank 0, the weights, and waits for the copy.
fn part(model: &Glm, optimizer: &AdamW, state: RunState, metrics: Vec<u8>) -> Result<Snapshot, TchError> {
    let (parameters, shard) = (model.parameters(), optimizer.shard());
    let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    no_grad(|| {
        let copy = |tensor: &Tensor| tensor.f_to_device_(Device::Cpu, tensor.f_kind()?, false, true);
        let weights = parameters.copy(shard.rank() == 0)?;
        let weights = weights.into_iter().map(|(index, values)| (names[index].to_owned(), values)).collect();
        let vectors = [("first", copy(optimizer.exp_avg())?), ("second", copy(optimizer.exp_avg_sq())?)];
        let mut starts = BTreeMap::new();
        let mut moments = Vec::new();
        for Part { parameter, elements, start } in shard.parts(parameters) {
            starts.insert(names[parameter].to_owned(), elements.start);
            for (moment, vector) in &vectors {
                let numbers = vector.f_narrow(0, start, elements.end - elements.start)?;
                moments.push((format!("{moment}.{}", names[parameter]), numbers));
            }
        }
        let part = Some(MomentPart { rank: shard.rank(), ranks: shard.ranks(), starts });
        Ok(Snapshot { weights, moments, part, sizes: model.config().clone(), state, metrics, complete: None })
    })
}

/// Copies weights and both moments to new memory on the CPU, and waits for the copy.
fn copy_now(parameters: &Parameters, optimizer: &AdamW) -> Result<[Vec<Tensor>; 3], TchError> {
    no_grad(|| {
        let parts = parameters.groups().iter().map(|group| group.values.f_to_device(Device::Cpu));
        // Concatenation copies the values even if they are already on the CPU.
        let weights = Tensor::f_cat(&parts.collect::<Result<Vec<_>, _>>()?, 0)?;
        let copy = |tensor: &Tensor| tensor.f_to_device_(Device::Cpu, tensor.f_kind()?, false, true);
        let [first, second] = [copy(optimizer.exp_avg())?, copy(optimizer.exp_avg_sq())?];
        Ok([parameters.unflatten(&weights)?, parameters.unflatten(&first)?, parameters.unflatten(&second)?])
    })
}
