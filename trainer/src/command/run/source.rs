//! Initial weights of a run.

use std::path::{Path, PathBuf};

use glm_schemas::manifest::Manifest;
use glm_schemas::vocab::embedding_rows;
use tch::{Device, Kind};

use super::places::published_weights;
use super::{Init, Request};
use crate::checkpoint::sizes::checked_sizes;
use crate::checkpoint::weights::Weights;
use crate::command::setup::{SetupError, Use, load_model};
use crate::config::Config;
use crate::model::preset::PublishedWeights;
use crate::model::{Glm, ModelConfig};

/// Place of initial weights, which may be named like published ones next to the data.
pub(super) fn place_of(init: &Path, data: &Path) -> Result<PathBuf, SetupError> {
    match init.to_str().filter(|_| !init.exists()).and_then(PublishedWeights::named) {
        Some(weights) => published_weights(data, weights),
        None => Ok(init.to_owned()),
    }
}

/// Source of the weights of a run.
pub(super) enum Source {
    Weights(Weights),
    Random(ModelConfig),
}

impl Source {
    /// Opens the weights of a checkpoint, or the initial ones.
    pub(super) fn open(
        request: &Request,
        data: &Path,
        config: &Config,
        manifest: &Manifest,
        checkpoint: Option<&Path>,
    ) -> Result<Self, SetupError> {
        let random = || Ok(Self::Random(config.random_model(embedding_rows(manifest.tokenizer.vocab_size))?));
        let path = match (checkpoint, &request.init) {
            (Some(checkpoint), _) => return Ok(Self::Weights(Weights::open_verified(checkpoint)?)),
            (None, Some(Init::Path(path))) => place_of(path, data)?,
            (None, Some(Init::Random)) => return random(),
            (None, None) => match config.model.preset.default_weights() {
                Some(weights) => published_weights(data, weights)?,
                None => {
                    tracing::info!("no --init: GLM-{} starts from random weights", config.model.preset.name);
                    return random();
                }
            },
        };
        Ok(Self::Weights(Weights::open_checkpoint(&path, request.checkpoint)?))
    }

    /// Sizes of the model.
    pub(super) fn sizes(&self, config: &Config) -> Result<ModelConfig, SetupError> {
        Ok(match self {
            Self::Weights(weights) => checked_sizes(weights, &config.model)?,
            Self::Random(sizes) => sizes.clone(),
        })
    }

    /// Makes the model, with buffers of which each parameter takes a multiple of this number of elements.
    pub(super) fn load(self, config: &Config, manifest: &Manifest, device: Device, multiple: usize) -> Result<Glm, SetupError> {
        match self {
            Self::Weights(weights) => load_model(&weights, config, &manifest.tokenizer, device, Use::Training(multiple)),
            Self::Random(sizes) => {
                tch::manual_seed(config.train.seed as i64);
                let model = Glm::divisible(&sizes, Kind::Float, device, multiple)?;
                model.parameters().draw()?;
                Ok(model)
            }
        }
    }
}
