//! The whole model.

use tch::{Device, Kind, TchError, Tensor};

use super::attention::visibility_bias;
use super::block::Block;
use super::config::ModelConfig;
use super::embeddings::Embeddings;
use super::layers::LayerNorm;
use super::parameters::Parameters;
use crate::data::device_batch::DeviceBatch;

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
    /// A model with initial weights drawn from torch's generator (see [`tch::manual_seed`]); `kind` is that of the master weights.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn new(config: &ModelConfig, kind: Kind, device: Device) -> Result<Self, TchError> {
        let mut parameters = Parameters::new(kind, device);
        let embeddings = Embeddings::new(&mut parameters, config)?;
        let blocks = (0..config.layers)
            .map(|i| Block::new(&mut parameters, &format!("transformer.layers.{i}"), config))
            .collect::<Result<_, _>>()?;
        let final_layernorm =
            LayerNorm::new(&mut parameters, "transformer.final_layernorm", config.hidden, config.layernorm_eps)?;
        Ok(Self { embeddings, blocks, final_layernorm, parameters, config: config.clone() })
    }

    /// The sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The named parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Logits `[scored, vocab_rows]` of the batch's scored positions, computed in `kind`.
    ///
    /// Only those positions go through the final LayerNorm and the vocabulary projection.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn scored_logits(&self, batch: &DeviceBatch, kind: Kind, training: bool) -> Result<Tensor, TchError> {
        let Some(view) = &batch.padded else {
            return Err(TchError::Torch("the batch has no padded view".to_owned()));
        };
        let bias = visibility_bias(view, kind)?;
        let mut x = self.embeddings.forward(batch, kind, training)?;
        for block in &self.blocks {
            x = block.forward(&x, view, &bias, training)?;
        }
        let scored = x.f_index_select(0, &batch.scored)?;
        self.embeddings.project(&self.final_layernorm.forward(&scored)?)
    }
}
