//! Folders of Hugging Face's `transformers`: weights, one file or shards with an index, and the settings next to them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use glm_support::files::atomic;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::stored::TensorHeader;
use super::{CheckpointError, safetensors_file};
use crate::model::ModelConfig;

/// Prefix of the names of the parameters in files that `transformers` writes.
const PREFIX: &str = "glm.";
/// Start of the names of all files of weights.
const WEIGHTS: [&str; 2] = ["model", "pytorch_model"];

/// Suffix of the name of an index of shards.
pub(super) const INDEX_SUFFIX: &str = ".index.json";
/// Settings of the model.
pub const CONFIG_FILE: &str = "config.json";

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

/// Returns the files of weights in a folder.
pub fn weights_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_weights = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ends = [".safetensors", ".bin", INDEX_SUFFIX];
        WEIGHTS.iter().any(|start| name.starts_with(start)) && ends.iter().any(|end| name.ends_with(end))
    };
    entries.map(|entry| entry.path()).filter(is_weights).collect()
}

/// Writes a folder: `config.json`, and `model.safetensors` or, above `limit` bytes, shards with `model.safetensors.index.json`. Returns
/// the files of weights. For `data` see [`super::safetensors_file::write`].
///
/// # Errors
/// [`CheckpointError`] if a file cannot be written, or the error of `data`.
pub fn write<'d>(
    folder: &Path,
    config: &ModelConfig,
    metadata: &BTreeMap<&str, String>,
    limit: usize,
    headers: &[TensorHeader],
    data: impl Fn(&TensorHeader) -> Result<Cow<'d, [u8]>, CheckpointError>,
) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut metadata = metadata.clone();
    metadata.insert("format", "pt".to_owned());
    let mut shards: Vec<(usize, Vec<&TensorHeader>)> = vec![(0, Vec::new())];
    for header in headers {
        let bytes = header.bytes().unwrap_or(usize::MAX);
        match shards.last_mut() {
            Some((size, shard)) if shard.is_empty() || size.saturating_add(bytes) <= limit => {
                *size = size.saturating_add(bytes);
                shard.push(header);
            }
            _ => shards.push((bytes, vec![header])),
        }
    }
    let (count, mut map, mut written) = (shards.len(), BTreeMap::new(), Vec::new());
    for ((_, shard), number) in shards.iter().zip(1..) {
        let name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        let prefixed = |header: &&TensorHeader| TensorHeader { name: format!("{PREFIX}{}", header.name), ..(*header).clone() };
        let named: Vec<TensorHeader> = shard.iter().map(prefixed).collect();
        let mut remaining = shard.iter();
        let path = folder.join(&name);
        safetensors_file::write(&path, &named, &metadata, |_| {
            remaining.next().map_or(Ok(Cow::Borrowed(&[])), |header| data(header))
        })?;
        map.extend(named.into_iter().map(|header| (header.name, name.clone())));
        written.push(path);
    }
    write_json(&folder.join(CONFIG_FILE), &settings(config))?;
    if count > 1 {
        let path = folder.join(format!("model.safetensors{INDEX_SUFFIX}"));
        let size: usize = shards.iter().map(|(size, _)| size).sum();
        write_json(&path, &json!({"metadata": {"total_size": size}, "weight_map": map}))?;
        written.push(path);
    }
    Ok(written)
}

/// Returns the settings of a model as published ones have them.
fn settings(config: &ModelConfig) -> serde_json::Value {
    let ModelConfig { layers, hidden, heads, vocab_rows, positions, dropout, attention_dropout, layernorm_eps, init_std } =
        config;
    json!({
        "architectures": ["GLMModel"],
        "model_type": "glm",
        "num_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "vocab_size": vocab_rows,
        "max_sequence_length": positions.saturating_sub(1),
        "block_position_encoding": true,
        "embedding_dropout_prob": dropout,
        "output_dropout_prob": dropout,
        "attention_dropout_prob": attention_dropout,
        "layernorm_epsilon": layernorm_eps,
        "initializer_range": init_std,
    })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CheckpointError> {
    let text = serde_json::to_vec_pretty(value).map_err(|source| CheckpointError::State { path: path.to_owned(), source })?;
    let written = atomic::write(path, |file: &mut dyn atomic::Sink| file.write_all(&text));
    written.map_err(|source: std::io::Error| CheckpointError::Io { doing: "cannot write", path: path.to_owned(), source })
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
