//! Files next to the weights in a folder of Hugging Face's `transformers`: the index of shards and the settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::CheckpointError;

/// Suffix of the name of an index of shards.
pub(super) const INDEX_SUFFIX: &str = ".index.json";
/// Settings of the model.
const CONFIG_FILE: &str = "config.json";

/// `model.safetensors.index.json` or `pytorch_model.bin.index.json`.
#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Used fields of `config.json`.
#[derive(Debug, Deserialize)]
struct Config {
    hidden_size: usize,
    num_attention_heads: usize,
}

/// Returns the shards listed in an index, in the order of their names.
///
/// # Errors
/// [`CheckpointError`] if the index is invalid or lists a file that is missing or outside its folder.
pub(super) fn shards(index: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let not_an_index = |reason: String| CheckpointError::Index { path: index.to_owned(), reason };
    let text =
        std::fs::read(index).map_err(|source| CheckpointError::Io { doing: "cannot read", path: index.to_owned(), source })?;
    let Index { weight_map } = serde_json::from_slice(&text).map_err(|error| not_an_index(error.to_string()))?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    if names.is_empty() {
        return Err(not_an_index("lists no files".to_owned()));
    }
    let path_of = |name: &String| {
        // The name is not trusted: it must not lead out of the folder.
        if name.is_empty() || name.contains(['/', '\\']) || name == ".." {
            return Err(not_an_index(format!("lists '{}', which is not a file in this folder", name.escape_debug())));
        }
        let path = index.with_file_name(name);
        match path.is_file() {
            true => Ok(path),
            false => Err(not_an_index(format!("{name} is missing, one of {} files; download it too", names.len()))),
        }
    };
    names.iter().map(path_of).collect()
}

/// Returns the number of heads in the `config.json` next to `weights`, if it describes a model of this width.
pub(super) fn heads(weights: &Path, hidden: usize) -> Option<usize> {
    let text = std::fs::read(weights.with_file_name(CONFIG_FILE)).ok()?;
    let config: Config = serde_json::from_slice(&text).ok()?;
    (config.hidden_size == hidden).then_some(config.num_attention_heads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_lists_files_in_its_folder() {
        let folder = tempfile::tempdir().expect("folder");
        let index = folder.path().join("model.safetensors.index.json");
        let shards_of = |text: &str| {
            std::fs::write(&index, text).expect("write");
            shards(&index)
        };
        std::fs::write(folder.path().join("a"), "").expect("write");
        std::fs::write(folder.path().join("b"), "").expect("write");
        let found = shards_of(r#"{"metadata": {"total_size": 1}, "weight_map": {"x": "b", "y": "a", "z": "b"}}"#);
        assert_eq!(found.expect("two"), [folder.path().join("a"), folder.path().join("b")]);
        for (text, reason) in [
            (r#"{"weight_map": {"x": "c"}}"#, "c is missing, one of 1 files"),
            (r#"{"weight_map": {"x": "../a"}}"#, "'../a', which is not a file in this folder"),
            (r#"{"weight_map": {}}"#, "lists no files"),
            ("{}", "weight_map"),
        ] {
            let error = shards_of(text).expect_err("rejected").to_string();
            assert!(error.contains("model.safetensors.index.json") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn heads_are_those_of_a_model_of_the_same_width() {
        let folder = tempfile::tempdir().expect("folder");
        let weights = folder.path().join("pytorch_model.bin");
        assert_eq!(heads(&weights, 1024), None);
        let config = r#"{"model_type": "glm", "hidden_size": 1024, "num_attention_heads": 16}"#;
        std::fs::write(folder.path().join("config.json"), config).expect("write");
        assert_eq!((heads(&weights, 1024), heads(&weights, 768)), (Some(16), None));
    }
}
