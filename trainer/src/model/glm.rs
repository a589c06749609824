//! The whole model.

use std::ffi::CStr;

use libtorch_ext::autograd::record;
use libtorch_ext::distributed::{ProcessGroup, Reducer};
use libtorch_ext::memory::allocate_zeros;
use tch::{Device, Kind, TchError, Tensor};

use super::backend::Backend;
use super::block::{Block, Stream};
use super::config::ModelConfig;
use super::divided::{BlockWeights, Division};
use super::embeddings::Embeddings;
use super::layers::LayerNorm;
use super::ops::{Ops, Queries};
use super::parameters::{BLOCKS, Parameters};
use super::pass::Pass;
use super::recompute::Recompute;
use crate::batch::device::DeviceBatch;

/// GLM ("General Language Model Pretraining with Autoregressive Blank Infilling", Du et al. 2022): a pre-LayerNorm
/// transformer that fills blanks of a context with pieces.
#[derive(Debug)]
pub struct Glm {
    embeddings: Embeddings,
    blocks: Vec<Block>,
    final_layernorm: LayerNorm,
    parameters: Parameters,
    config: ModelConfig,
    /// Blocks keep only their input for the backward pass.
    recomputes: bool,
}

impl Glm {
    /// Returns a model whose weights are uninitialised, to be loaded; `kind` is that of the master weights. Training also needs
    /// [`Self::alloc_grads`].
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn new(config: &ModelConfig, kind: Kind, device: Device) -> Result<Self, TchError> {
        let mut model = Self::unallocated(config, kind, device)?;
        model.parameters.flatten()?;
        Ok(model)
    }

    /// As [`Self::new`], with flat buffers of which each parameter takes a multiple of this number of elements, see
    /// [`Parameters::make_divisible`].
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn divisible(config: &ModelConfig, kind: Kind, device: Device, multiple: usize) -> Result<Self, TchError> {
        let mut model = Self::unallocated(config, kind, device)?;
        model.parameters.make_divisible(multiple);
        model.parameters.flatten()?;
        Ok(model)
    }

    /// As [`Self::new`], without training: the matrices of blocks are in the kind of the activations, and nowhere else.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn for_inference(config: &ModelConfig, activations: Kind, device: Device) -> Result<Self, TchError> {
        let mut model = Self::unallocated(config, Kind::Float, device)?;
        model.parameters.hold_matrices(activations);
        model.parameters.flatten()?;
        Ok(model)
    }

    /// Returns a model whose parameters have names and shapes, but no memory.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn unallocated(config: &ModelConfig, kind: Kind, device: Device) -> Result<Self, TchError> {
        let mut parameters = Parameters::new(kind, device);
        let embeddings = Embeddings::new(&mut parameters, config)?;
        let blocks = (0..config.layers)
            .map(|i| Block::new(&mut parameters, &format!("{BLOCKS}{i}"), i, config))
            .collect::<Result<_, _>>()?;
        let final_layernorm =
            LayerNorm::new(&mut parameters, "transformer.final_layernorm", config.hidden, config.layernorm_eps)?;
        Ok(Self { embeddings, blocks, final_layernorm, parameters, config: config.clone(), recomputes: false })
    }

    /// Returns a model with random weights drawn from libtorch's generator, see [`tch::manual_seed`].
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn random(config: &ModelConfig, kind: Kind, device: Device) -> Result<Self, TchError> {
        let model = Self::new(config, kind, device)?;
        model.parameters.draw()?;
        Ok(model)
    }

    /// Allocates gradients, which evaluation does not need.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn alloc_grads(&mut self) -> Result<(), TchError> {
        self.parameters.alloc_grads()
    }

    /// Allocates gradients that ranks divide, see [`Parameters::alloc_divided_grads`].
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn alloc_divided_grads(&mut self, ranks: usize) -> Result<(), TchError> {
        self.parameters.alloc_divided_grads(ranks)
    }

    /// Returns a model whose weights are divided among the ranks of a group, see [`Parameters::divide`]; rank 0 has them in `whole`.
    /// `multiple`: see [`Self::divisible`].
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or if another rank failed or timed out.
    pub fn divided(
        config: &ModelConfig,
        (kind, device): (Kind, Device),
        multiple: usize,
        whole: Option<&Self>,
        group: &ProcessGroup,
        division: Division,
    ) -> Result<Self, TchError> {
        let mut model = Self::unallocated(config, kind, device)?;
        model.parameters.make_divisible(multiple);
        model.parameters.divide(whole.map(|whole| whole.parameters.values()), group, division)?;
        Ok(model)
    }

    /// Takes part in the gathering of weights and the reduction of gradients of the passes of other ranks, on a rank that has no batch.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out.
    pub fn idle_pass(&self, reducer: &mut Reducer) -> Result<(), TchError> {
        let Some(weights) = self.parameters.divided() else { return reducer.reduce() };
        // In the order of a forward pass, and of a backward pass.
        let blocks: Vec<&BlockWeights> = weights.blocks().collect();
        let back: Vec<&BlockWeights> = blocks.iter().rev().copied().collect();
        let visit = |order: &[&BlockWeights], at: usize| {
            let Some(block) = order.get(at) else { return Ok(()) };
            block.gather(order.get(at + 1).copied())?;
            block.release()
        };
        (0..blocks.len()).try_for_each(|at| visit(&blocks, at))?;
        // The slices of the blocks are the first, from the last block to the first one.
        reducer.reduce_after(|slice| visit(&back, slice))
    }

    /// Makes all blocks but the last keep only their input for the backward pass, which computes them again: less memory, more time, and
    /// the same results bit for bit.
    pub fn checkpoint_activations(&mut self, checkpoint: bool) {
        self.recomputes = checkpoint;
    }

    /// Returns true if blocks keep only their input for the backward pass.
    pub fn recomputes_activations(&self) -> bool {
        self.recomputes
    }

    /// Sizes of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Named parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Implementation of the operations that a pass goes through; batches must have its layout.
    pub fn backend(&self, pass: &Pass) -> Backend {
        Backend::select(pass.kernels, self.parameters.device(), pass.kind, self.parameters.kind(), &self.config)
    }

    /// For each group of the batch, the sum of its targets' log probabilities: `[groups]`, in 32 bits at least.
    ///
    /// In the last block only scored positions are queries; and only they go through its feed-forward layer, the final
    /// LayerNorm and the vocabulary projection.
    ///
    /// # Errors
    /// A [`TchError`]; a batch with another layout than the backend's is one.
    pub fn target_log_probs(&self, batch: &DeviceBatch, pass: &Pass) -> Result<Tensor, TchError> {
        self.smoothed_log_probs(batch, pass, 0.0)
    }

    /// For each group of the batch, the sum over its targets of `(1 - ε) log p(target) + ε u`, where `u` is the mean of `log p` over all
    /// rows of the vocabulary: `[groups]`, in 32 bits at least. Its negative is the cross entropy with label smoothing `ε`.
    ///
    /// # Errors
    /// As [`Self::target_log_probs`].
    pub fn smoothed_log_probs(&self, batch: &DeviceBatch, pass: &Pass, epsilon: f64) -> Result<Tensor, TchError> {
        let ops = &*self.backend(pass).ops(batch, pass, &self.parameters)?;
        let hidden = self.scored(ops, pass, self.recompute(batch, pass)?.as_ref())?;
        let log_probs = ops.target_log_probs(self.embeddings.logits(ops, &hidden)?)?;
        if epsilon == 0.0 {
            return Ok(log_probs);
        }
        // u - log p(target) = mean logit - logit of the target, so no second pass over the vocabulary is needed.
        let excess = self.embeddings.mean_logit_excess(&hidden, batch, log_probs.f_kind()?)?;
        let of_groups = log_probs.f_zeros_like()?.f_index_add(0, &batch.group, &excess)?;
        log_probs.f_add(&of_groups.f_mul_scalar(epsilon)?)
    }

    /// As [`Self::target_log_probs`], and the most probable token at each scored position: `[scored]`, the first of equal ones.
    ///
    /// # Errors
    /// As [`Self::target_log_probs`].
    pub fn target_log_probs_and_best(&self, batch: &DeviceBatch, pass: &Pass) -> Result<(Tensor, Tensor), TchError> {
        let ops = &*self.backend(pass).ops(batch, pass, &self.parameters)?;
        let logits = self.scored_logits(ops, pass)?;
        let best = logits.f_detach()?.f_argmax(-1, false)?;
        Ok((ops.target_log_probs(logits)?, best))
    }

    /// Logits of the scored tokens, `[scored, vocabulary]`.
    pub(super) fn scored_logits(&self, ops: &dyn Ops, pass: &Pass) -> Result<Tensor, TchError> {
        self.embeddings.logits(ops, &self.scored(ops, pass, None)?)
    }

    /// Context with which blocks are computed again, if they are.
    fn recompute(&self, batch: &DeviceBatch, pass: &Pass) -> Result<Option<Recompute>, TchError> {
        if !self.recomputes {
            return Ok(None);
        }
        let backend = self.backend(pass);
        if let (Backend::Cuda, Some(first)) = (backend, self.parameters.iter().next()) {
            // The copies must exist before they are shared.
            let _copy = self.parameters.cast(&first.tensor, pass.kind)?;
        }
        Ok(Some(Recompute::new(backend, pass, batch, &self.parameters)))
    }

    /// Output of the final LayerNorm at the scored tokens, `[scored, hidden]`.
    fn scored(&self, ops: &dyn Ops, pass: &Pass, recompute: Option<&Recompute>) -> Result<Tensor, TchError> {
        let Some((last, blocks)) = self.blocks.split_last() else {
            return Err(TchError::Shape("a model without blocks".to_owned()));
        };
        let residual = self.embeddings.forward(ops, pass)?;
        let normed = ops.norm(&residual, self.blocks[0].input_layernorm())?;
        let mut x = Stream { residual, normed };
        for (layer, (block, next)) in blocks.iter().zip(&self.blocks[1..]).enumerate() {
            x = self.enter(layer, x)?;
            x = match recompute {
                Some(recompute) => recompute.forward(block, ops, &x, next.input_layernorm())?,
                None => block.forward(ops, pass, &x, Queries::All, next.input_layernorm())?,
            };
            x = self.leave(layer, x)?;
        }
        x = self.enter(blocks.len(), x)?;
        x = last.forward(ops, pass, &x, Queries::Scored, &self.final_layernorm)?;
        Ok(self.leave(blocks.len(), x)?.normed)
    }

    /// Gathers the weights of a block, if ranks divide them, with those of the next one on their way. The backward pass frees them when it
    /// has gone through the block, whose input is `x`.
    fn enter(&self, layer: usize, x: Stream) -> Result<Stream, TchError> {
        let Some(weights) = self.parameters.temporary_weights(layer) else { return Ok(x) };
        weights.gather(self.parameters.temporary_weights(layer + 1).as_ref())?;
        before_backward(c"glm::enter", x, move || weights.release())
    }

    /// Frees the weights of a block, if ranks divide them. Before the backward pass goes through the block, whose output is `x`, it gathers
    /// them again, with those of the block before on their way, and allocates the gradients of the block, if ranks divide these.
    fn leave(&self, layer: usize, x: Stream) -> Result<Stream, TchError> {
        let (weights, gradients) = (self.parameters.temporary_weights(layer), self.parameters.temporary_gradients(layer));
        if let Some(weights) = &weights {
            weights.release()?;
        }
        let Some(gradients) = gradients.map(Tensor::shallow_clone) else { return Ok(x) };
        let before = layer.checked_sub(1).and_then(|before| self.parameters.temporary_weights(before));
        before_backward(c"glm::leave", x, move || {
            allocate_zeros(&gradients)?;
            weights.map_or(Ok(()), |weights| weights.gather(before.as_ref()))
        })
    }
}

/// Returns `x`, for which the backward pass calls `act` before it goes through the operations that computed `x`.
fn before_backward(
    name: &CStr,
    x: Stream,
    act: impl FnOnce() -> Result<(), TchError> + Send + 'static,
) -> Result<Stream, TchError> {
    let out = Stream { residual: x.residual.f_detach()?, normed: x.normed.f_detach()? };
    record(name, &[&x.residual, &x.normed], &[&out.residual, &out.normed], move |grads| {
        act()?;
        Ok(grads.iter().map(|grad| grad.as_ref().map(Tensor::shallow_clone)).collect())
    })?;
    Ok(out)
}
