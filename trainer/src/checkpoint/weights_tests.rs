//! Tests of reading weights.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;

use super::layout::{self, FINAL_LAYERNORM, POSITION_EMBEDDINGS, WORD_EMBEDDINGS};
use super::locate::Located;
use super::stored::{self, FileBytes, Storage, StoredKind, TensorFile, TensorHeader, contiguous_strides};
use super::weights::{Weights, model_prefix};
use super::{CheckpointError, safetensors_file};
use crate::model::config::ModelConfig;
use crate::model::preset::Preset;

#[test]
fn heads_are_those_of_the_preset_with_the_same_sizes() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("model.safetensors");
    let with_layers = |layers: usize| {
        let header =
            |name: &str, shape: &[usize]| TensorHeader { name: name.to_owned(), kind: StoredKind::F16, shape: shape.to_vec() };
        let mut headers = vec![header(WORD_EMBEDDINGS, &[1, 1024]), header(POSITION_EMBEDDINGS[0], &[1, 1024])];
        headers.extend((0..layers).map(|layer| header(&format!("transformer.layers.{layer}.mlp.bias"), &[1])));
        safetensors_file::write(&path, &headers, &BTreeMap::new(), |header| {
            Ok(Cow::Owned(vec![0; header.bytes().expect("small")]))
        })
        .expect("written");
        Weights::open(&path).expect("open")
    };
    assert_eq!(with_layers(24).model_config(None).expect("GLM-large").heads, 16);
    let other = with_layers(2);
    let error = other.model_config(None).expect_err("no preset has these sizes");
    assert!(matches!(error, CheckpointError::Heads { layers: 2, hidden: 1024, .. }), "{error}");
    assert_eq!(other.model_config(Some(8)).expect("explicit").heads, 8);
}

#[test]
fn parameters_cannot_share_their_bytes() {
    let config = ModelConfig { vocab_rows: 64, ..Preset::TINY.config() };
    let open = |bytes: usize, shared: bool| {
        let (mut entries, mut storages, mut end) = (IndexMap::new(), Vec::new(), 0);
        for (name, shape) in layout::parameters(&config).expect("parameters") {
            let size = 4 * shape.iter().product::<usize>();
            storages.push(Storage::new(if shared { 0..bytes } else { end..end + size }, None));
            end += size;
            let (stride, storage) = (contiguous_strides(&shape), storages.len() - 1);
            entries.insert(name, stored::Entry { kind: StoredKind::F32, offset: 0, shape, stride, storage });
        }
        let path = Path::new("model.pt");
        let file = TensorFile::new(path, FileBytes::in_memory(vec![0; bytes]), entries, storages);
        let located = Located { path: path.to_owned(), step: None, checkpoint: None };
        Weights::from_files(located, vec![file]).expect("weights").check(&config)
    };
    let all = 4 * config.parameters();
    assert_eq!(open(all, false).expect("sound").iter().map(|header| header.bytes().expect("small")).sum::<usize>(), all);
    let error = open(all / 2, true).expect_err("shared").to_string();
    assert!(error.starts_with("model.pt: its parameters have more bytes than the file"), "{error}");
}

fn prefix(names: &[&str]) -> String {
    model_prefix(&names.iter().map(|name| (0, *name)).collect::<Vec<_>>())
}

#[test]
fn a_single_common_prefix_is_found() {
    assert_eq!(prefix(&[WORD_EMBEDDINGS, FINAL_LAYERNORM]), "");
    assert_eq!(prefix(&["glm.word_embeddings.weight", "glm.transformer.final_layernorm.weight", "dense.bias"]), "glm.");
    assert_eq!(prefix(&["model.glm.word_embeddings.weight", "model.glm.transformer.final_layernorm.weight"]), "model.glm.");
    let moments = ["first", "second"].map(|moment| [WORD_EMBEDDINGS, FINAL_LAYERNORM].map(|name| format!("{moment}.{name}")));
    let moments: Vec<&str> = moments.iter().flatten().map(String::as_str).collect();
    assert_eq!(prefix(&moments), "");
    assert_eq!(prefix(&["my_word_embeddings.weight", "my_transformer.final_layernorm.weight"]), "");
}
