//! The whole model.

use tch::{Device, Kind, TchError, Tensor};

use super::attention::visibility_bias;
use super::block::{Block, Stream};
use super::config::ModelConfig;
use super::embeddings::Embeddings;
use super::layers::LayerNorm;
use super::ops::cpu::residual::norm;
use super::parameters::Parameters;
use super::pass::Pass;
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
}

impl Glm {
    /// A model whose weights are still to be loaded; `kind` is that of the master weights. For training it needs
    /// [`Self::alloc_grads`] too.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn new(config: &ModelConfig, kind: Kind, device: Device) -> Result<Self, TchError> {
        let mut parameters = Parameters::new(kind, device);
        let embeddings = Embeddings::new(&mut parameters, config)?;
        let blocks = (0..config.layers)
            .map(|i| Block::new(&mut parameters, &format!("transformer.layers.{i}"), i, config))
            .collect::<Result<_, _>>()?;
        let final_layernorm =
            LayerNorm::new(&mut parameters, "transformer.final_layernorm", config.hidden, config.layernorm_eps)?;
        parameters.flatten()?;
        Ok(Self { embeddings, blocks, final_layernorm, parameters, config: config.clone() })
    }

    /// A model with initial weights drawn from torch's generator, see [`tch::manual_seed`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn random(config: &ModelConfig, kind: Kind, device: Device) -> Result<Self, TchError> {
        let model = Self::new(config, kind, device)?;
        model.parameters.draw()?;
        Ok(model)
    }

    /// Makes room for gradients, which an evaluation does not need.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn alloc_grads(&mut self) -> Result<(), TchError> {
        self.parameters.alloc_grads()
    }

    /// The sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The named parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Whether a pass on this model's device goes through the fused operations; else its batches need a padded view.
    pub fn is_fused(&self, pass: &Pass) -> bool {
        pass.is_fused(self.parameters.device(), self.parameters.kind())
    }

    /// Logits `[scored, vocab_rows]` of the batch's scored positions, in the pass's kind.
    ///
    /// In the last block only those positions ask; and only they go through its feed-forward layer, the final LayerNorm and the
    /// vocabulary projection.
    ///
    /// # Errors
    /// A [`TchError`]; without fused operations a batch without a padded view is one.
    pub fn scored_logits(&self, batch: &DeviceBatch, pass: &Pass) -> Result<Tensor, TchError> {
        if self.is_fused(pass) { self.fused_logits(batch, pass) } else { self.padded_logits(batch, pass) }
    }

    fn fused_logits(&self, batch: &DeviceBatch, pass: &Pass) -> Result<Tensor, TchError> {
        let Some((last, blocks)) = self.blocks.split_last() else { return Err(no_blocks()) };
        let residual = self.embeddings.fused(batch, pass)?;
        let normed = norm(&residual, self.blocks[0].input_layernorm())?;
        let mut stream = Stream { residual, normed };
        for (block, next) in blocks.iter().zip(&self.blocks[1..]) {
            stream = block.fused(&stream, &batch.host, next.input_layernorm(), pass)?;
        }
        let stream = last.fused_for_scored(&stream, &batch.scored, &batch.host, &self.final_layernorm, pass)?;
        self.embeddings.project_fused(&stream.normed)
    }

    fn padded_logits(&self, batch: &DeviceBatch, pass: &Pass) -> Result<Tensor, TchError> {
        let Some((last, blocks)) = self.blocks.split_last() else { return Err(no_blocks()) };
        let Some(view) = &batch.padded else {
            return Err(TchError::Shape("libtorch's attention needs a padded view of the batch".to_owned()));
        };
        let (bias, training) = (visibility_bias(view, pass.kind)?, pass.trains());
        let mut x = self.embeddings.forward(batch, pass)?;
        for block in blocks {
            x = block.padded(&x, view, &bias, None, training)?;
        }
        let scored = last.padded(&x, view, &bias, Some(&batch.scored), training)?;
        self.embeddings.project(&self.final_layernorm.forward(&scored)?)
    }
}

fn no_blocks() -> TchError {
    TchError::Shape("a model without blocks".to_owned())
}
