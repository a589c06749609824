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

/// Lists names and shapes of all parameters, in the order of a published file. Only one layer is built to list them, whatever the number
/// of layers: it may come from a file that claims any number.
///
/// # Errors
/// A [`TchError`].
pub fn parameters(config: &ModelConfig) -> Result<impl Iterator<Item = (String, Vec<usize>)> + use<>, TchError> {
    let model = Glm::unallocated(&ModelConfig { layers: 1, ..config.clone() }, Kind::Float, Device::Cpu)?;
    let shape = |parameter: &Parameter| parameter.shape().iter().map(|size| *size as usize).collect::<Vec<_>>();
    let listed = model.parameters().iter().map(|parameter| (parameter.name.clone(), shape(parameter)));
    let (mut before, mut layer, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for (name, shape) in listed {
        match name.strip_prefix(LAYERS).and_then(|rest| rest.split_once('.')) {
            Some((_, within)) => layer.push((within.to_owned(), shape)),
            None if layer.is_empty() => before.push((name, shape)),
            None => after.push((name, shape)),
        }
    }
    let numbered = move |number: usize| {
        let named = |(within, shape): &(String, Vec<usize>)| (format!("{LAYERS}{number}.{within}"), shape.clone());
        layer.iter().map(named).collect::<Vec<_>>()
    };
    Ok(before.into_iter().chain((0..config.layers).flat_map(numbered)).chain(after))
}

/// Returns the index of the layer of a parameter; the largest number for an index that does not fit, so that it is found to be wrong.
pub fn layer_of(name: &str) -> Option<usize> {
    let index = name.strip_prefix(LAYERS)?.split('.').next()?;
    let is_number = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| index.parse().unwrap_or(usize::MAX))
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
        let expected: Vec<_> = parameters(&config).expect("parameters").collect();
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
    fn the_list_is_that_of_the_model() {
        let config = ModelConfig { layers: 3, ..Preset::TINY.config() };
        let model = Glm::unallocated(&config, Kind::Float, Device::Cpu).expect("model");
        let names: Vec<_> = model.parameters().iter().map(|parameter| parameter.name.clone()).collect();
        assert_eq!(parameters(&config).expect("parameters").map(|(name, _)| name).collect::<Vec<_>>(), names);
        // The list of a claimed number of layers takes no memory before it is read.
        let claimed = ModelConfig { layers: usize::MAX, ..config };
        assert!(parameters(&claimed).expect("parameters").nth(100).is_some_and(|(name, _)| layer_of(&name) == Some(8)));
    }

    #[test]
    fn layers_are_parsed_from_names() {
        assert_eq!(layer_of("transformer.layers.23.mlp.dense_h_to_4h.bias"), Some(23));
        assert_eq!(layer_of("transformer.layers.1000000000000000000000000000000.mlp.bias"), Some(usize::MAX));
        assert_eq!(layer_of("transformer.layers..mlp.bias"), None);
        assert_eq!(layer_of("transformer.final_layernorm.bias"), None);
    }
}
