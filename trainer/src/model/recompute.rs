//! Activation checkpointing: blocks that keep only their input for the backward pass, which computes them again.
//!
//! "Training Deep Nets with Sublinear Memory Cost" (Chen et al. 2016), with a block as the unit. Dropout is a function of the batch's keys
//! and of the place in the model, so the second computation drops what the first one dropped, and its results are the same bits.

use std::sync::{Arc, Mutex, PoisonError};

use libtorch_ext::autograd::{backward, record};
use tch::{TchError, Tensor, no_grad, with_grad};

use super::backend::Backend;
use super::block::{Block, Stream};
use super::layers::LayerNorm;
use super::ops::{Ops, Queries};
use super::parameters::Parameters;
use super::pass::Pass;
use crate::batch::device::DeviceBatch;

/// State of a forward pass over one batch, beside the layers, that the backward passes of its blocks need.
#[derive(Debug, Clone)]
pub(super) struct Recompute(Arc<Mutex<Context>>);

#[derive(Debug)]
struct Context {
    backend: Backend,
    pass: Pass,
    batch: DeviceBatch,
    parameters: Parameters,
}

impl Recompute {
    pub(super) fn new(backend: Backend, pass: &Pass, batch: &DeviceBatch, parameters: &Parameters) -> Self {
        let (batch, parameters) = (batch.share(), parameters.share_copies());
        Self(Arc::new(Mutex::new(Context { backend, pass: *pass, batch, parameters })))
    }

    /// Computes a block like [`Block::forward`] for all tokens, and keeps `x` only.
    pub(super) fn forward(&self, block: &Block, ops: &dyn Ops, x: &Stream, next: &LayerNorm) -> Result<Stream, TchError> {
        let pass = self.0.lock().unwrap_or_else(PoisonError::into_inner).pass;
        let saved = Stream { residual: x.residual.f_detach()?, normed: x.normed.f_detach()? };
        let made = no_grad(|| block.forward(ops, &pass, &saved, Queries::All, next))?;
        let (context, block, next) = (Arc::clone(&self.0), block.share(), next.share());
        let inputs = [&x.residual, &x.normed];
        record(c"glm::block", &inputs, &[&made.residual, &made.normed], move |grads| {
            let context = context.lock().unwrap_or_else(PoisonError::into_inner);
            with_grad(|| again(&context, &block, saved, &next, grads))
        })?;
        Ok(made)
    }
}

/// Computes a block again, with its backward pass. Returns the gradients of its input.
fn again(
    context: &Context,
    block: &Block,
    saved: Stream,
    next: &LayerNorm,
    grads: &[Option<Tensor>],
) -> Result<Vec<Option<Tensor>>, TchError> {
    let Context { backend, pass, batch, parameters } = context;
    let x = Stream { residual: saved.residual.f_set_requires_grad(true)?, normed: saved.normed.f_set_requires_grad(true)? };
    let made = {
        let ops = backend.ops(batch, pass, parameters)?;
        block.forward(&*ops, pass, &x, Queries::All, next)?
    };
    let outputs = [&made.residual, &made.normed].into_iter().zip(grads);
    let used: Vec<(&Tensor, &Tensor)> = outputs.filter_map(|(output, grad)| Some((output, grad.as_ref()?))).collect();
    backward(&used)?;
    let gradient = |x: &Tensor| {
        let gradient = x.f_grad()?;
        Ok::<_, TchError>(gradient.defined().then_some(gradient))
    };
    Ok(vec![gradient(&x.residual)?, gradient(&x.normed)?])
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::batch::packed::Batch;
    use crate::model::{Glm, Kernels, ModelConfig, Preset};

    fn batch() -> Arc<Batch> {
        let mut batch = Batch::default();
        for row in 0..3_i32 {
            let context = 40 + 7 * row;
            batch.push_context(&(0..context).map(|i| (i * 31 + row) % 500).collect::<Vec<_>>());
            for token in 0..4 {
                let scored = batch.push_scored(90 + token, 3, 1 + i64::from(token), context as usize);
                batch.push_target(scored, 91 + token, row as usize);
            }
            batch.end_row(row as u64, 0);
            batch.end_example(row as usize, row as usize, 1);
        }
        Arc::new(batch)
    }

    #[test]
    fn recomputed_blocks_have_the_same_losses_and_gradients_bit_by_bit() {
        let config = ModelConfig { vocab_rows: 512, layers: 4, hidden: 64, heads: 4, positions: 64, ..Preset::TINY.config() };
        for (kernels, kind) in [(Kernels::Auto, Kind::Float), (Kernels::Auto, Kind::BFloat16), (Kernels::Torch, Kind::Float)] {
            let pass = Pass { kind, dropout: Some(7), kernels };
            let [plain, checkpointed] = [false, true].map(|checkpoint| {
                tch::manual_seed(1);
                let mut model = Glm::random(&config, Kind::Float, Device::Cpu).expect("model");
                model.alloc_grads().expect("gradients");
                model.checkpoint_activations(checkpoint);
                let batch = batch().to_device(Device::Cpu, model.backend(&pass).layout()).expect("batch");
                let loss = model.target_log_probs(&batch, &pass).expect("forward").sum(Kind::Double);
                loss.backward();
                (loss.double_value(&[]), model.parameters().gradients().copy())
            });
            assert!(plain.0.is_finite() && plain.1.abs().sum(Kind::Double).double_value(&[]) > 0.0);
            assert_eq!(plain.0.to_bits(), checkpointed.0.to_bits(), "{kernels:?} {kind:?}");
            assert!(plain.1.equal(&checkpointed.1), "{kernels:?} {kind:?}");
        }
    }
}
