//! The parameters of a GLM as published files have them: names, shapes and order.

use crate::model::ModelConfig;

/// Table of words, which is the output projection too.
pub const WORD_EMBEDDINGS: &str = "word_embeddings.weight";
/// The two tables of positions: in the context, and in the piece that is filled in.
pub const POSITION_EMBEDDINGS: [&str; 2] =
    ["transformer.position_embeddings.weight", "transformer.block_position_embeddings.weight"];
/// The last LayerNorm's weight.
pub const FINAL_LAYERNORM: &str = "transformer.final_layernorm.weight";
const LAYERS: &str = "transformer.layers.";

/// Names and shapes of all parameters, in the order of a published file.
pub fn parameters(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let h = config.hidden;
    let mut all = vec![(WORD_EMBEDDINGS.to_owned(), vec![config.vocab_rows, h])];
    all.extend(POSITION_EMBEDDINGS.map(|name| (name.to_owned(), vec![config.positions, h])));
    for layer in 0..config.layers {
        let modules = [
            ("input_layernorm", vec![h]),
            ("attention.query_key_value", vec![3 * h, h]),
            ("attention.dense", vec![h, h]),
            ("post_attention_layernorm", vec![h]),
            ("mlp.dense_h_to_4h", vec![4 * h, h]),
            ("mlp.dense_4h_to_h", vec![h, 4 * h]),
        ];
        for (module, shape) in modules {
            let name = format!("{LAYERS}{layer}.{module}");
            // A bias, and each vector of a LayerNorm, is as long as the module's output is wide.
            let width = shape[0];
            all.push((format!("{name}.weight"), shape));
            all.push((format!("{name}.bias"), vec![width]));
        }
    }
    all.push((FINAL_LAYERNORM.to_owned(), vec![h]));
    all.push(("transformer.final_layernorm.bias".to_owned(), vec![h]));
    all
}

/// The number of the layer that a parameter is in.
pub fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix(LAYERS)?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::{Device, Kind};

    use super::*;
    use crate::checkpoint::pickle::read_module;
    use crate::model::{Glm, Preset};

    #[test]
    fn the_model_and_a_published_file_agree() {
        let config = ModelConfig { layers: 2, hidden: 16, heads: 2, ..Preset::TINY.config() };
        let expected = parameters(&config);
        let model = Glm::new(&config, Kind::Float, Device::Cpu).expect("model");
        let own: Vec<_> = model
            .parameters()
            .iter()
            .map(|parameter| (parameter.name.clone(), parameter.tensor.size().into_iter().map(|size| size as usize).collect()))
            .collect();
        assert_eq!(own, expected);

        let golden = "../tests/fixtures/golden/model/full-vocab/blocklm-tiny/200000/mp_rank_00_model_states.pt";
        let file = read_module(&Path::new(env!("CARGO_MANIFEST_DIR")).join(golden)).expect("golden file");
        let published: Vec<_> = file.names().map(|name| (name.to_owned(), file.shape(name).expect("shape").to_vec())).collect();
        assert_eq!(published, expected);
    }

    #[test]
    fn layers_are_read_off_the_names() {
        assert_eq!(layer_of("transformer.layers.23.mlp.dense_h_to_4h.bias"), Some(23));
        assert_eq!(layer_of("transformer.final_layernorm.bias"), None);
    }
}
