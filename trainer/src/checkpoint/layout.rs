//! Parameters of a GLM in published files: names, shapes and order.

use tch::{Device, Kind, TchError};

use crate::model::parameters::Parameter;
use crate::model::{Glm, ModelConfig};

/// Word embeddings, tied to the output projection.
pub const WORD_EMBEDDINGS: &str = "word_embeddings.weight";
/// Tables of positions in the context and in a piece.
pub const POSITION_EMBEDDINGS: [&str; 2] =
    ["transformer.position_embeddings.weight", "transformer.block_position_embeddings.weight"];
/// Weight of the final LayerNorm.
pub const FINAL_LAYERNORM: &str = "transformer.final_layernorm.weight";
const LAYERS: &str = "transformer.layers.";

/// Returns names and shapes of all parameters, in the order of a published file.
///
/// # Errors
/// A [`TchError`].
pub fn parameters(config: &ModelConfig) -> Result<Vec<(String, Vec<usize>)>, TchError> {
    let model = Glm::unallocated(config, Kind::Float, Device::Cpu)?;
    let shape = |parameter: &Parameter| parameter.shape().iter().map(|size| *size as usize).collect::<Vec<_>>();
    Ok(model.parameters().iter().map(|parameter| (parameter.name.clone(), shape(parameter))).collect())
}

/// Returns the index of the layer of a parameter.
pub fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix(LAYERS)?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::pickle::read_module;
    use crate::model::Preset;

    #[test]
    fn the_model_and_a_published_file_agree() {
        let config = ModelConfig { layers: 2, hidden: 16, heads: 2, ..Preset::TINY.config() };
        let expected = parameters(&config).expect("parameters");
        let golden = "../tests/fixtures/golden/model/full-vocab/blocklm-tiny/200000/mp_rank_00_model_states.pt";
        let file = read_module(&Path::new(env!("CARGO_MANIFEST_DIR")).join(golden)).expect("golden file");
        let shape = |name: &str| file.describe(name).expect("tensor").1.to_vec();
        let published: Vec<_> = file.names().map(|name| (name.to_owned(), shape(name))).collect();
        assert_eq!(published, expected);
        for name in [WORD_EMBEDDINGS, FINAL_LAYERNORM].into_iter().chain(POSITION_EMBEDDINGS) {
            assert!(expected.iter().any(|(known, _)| known == name), "{name}");
        }
    }

    #[test]
    fn layers_are_parsed_from_names() {
        assert_eq!(layer_of("transformer.layers.23.mlp.dense_h_to_4h.bias"), Some(23));
        assert_eq!(layer_of("transformer.final_layernorm.bias"), None);
    }
}
