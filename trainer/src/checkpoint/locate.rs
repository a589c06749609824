//! Which file of weights a path means.
//!
//! - a file: safetensors or PyTorch's; an index of shards, `*.index.json`; a packed archive as published, which is unpacked beside
//!   itself once (see [`super::archive`]);
//! - a checkpoint's folder of ours, or a run's, which leads to its newest checkpoint;
//! - a published folder, `latest_checkpointed_iteration.txt` and `<iteration>/mp_rank_00_model_states.pt`;
//! - a Hugging Face folder: `model.safetensors` or `pytorch_model.bin`, or their shards with an index;
//! - a folder that has one of these in it under its published name, packed or not.

use std::path::{Path, PathBuf};

use super::{CheckpointError, archive};

/// File of weights in a checkpoint of ours.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// File of weights in a published checkpoint.
pub const PUBLISHED_FILE: &str = "mp_rank_00_model_states.pt";
/// The folder of the published weights of GLM-large.
pub const PUBLISHED_FOLDER: &str = "blocklm-large-blank";
/// The archive that the published weights of GLM-large come in.
pub const PUBLISHED_ARCHIVE: &str = "glm-large-blank.tar.bz2";
/// Files of weights in a Hugging Face folder, beside [`WEIGHTS_FILE`].
const HUGGING_FACE_FILES: [&str; 3] = ["model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// Names the newest iteration in a published checkpoint's folder.
pub const PUBLISHED_LATEST: &str = "latest_checkpointed_iteration.txt";
/// Folder of checkpoints inside a run's folder.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";
/// Names the newest checkpoint inside [`CHECKPOINTS_FOLDER`].
pub const LATEST_FILE: &str = "latest";

/// Finds the file: `path` itself, or what a folder or an archive leads to.
///
/// # Errors
/// [`CheckpointError::NotFound`] says what was expected; [`CheckpointError::Archive`] where an archive cannot be unpacked.
pub fn weights_file(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.is_file() {
        return match archive::is_packed(path)? {
            true => in_folder_or(&archive::unpacked(path)?),
            false => Ok(path.to_owned()),
        };
    }
    if !path.is_dir() {
        return Err(CheckpointError::NotFound { path: path.to_owned(), reason: "there is no such file or folder".into() });
    }
    let packed = path.join(PUBLISHED_ARCHIVE);
    match in_folder(path, 3) {
        Some(file) => Ok(file),
        None if packed.is_file() => in_folder_or(&archive::unpacked(&packed)?),
        None => in_folder_or(path),
    }
}

/// The file in a folder, or an error that says what was expected there.
fn in_folder_or(folder: &Path) -> Result<PathBuf, CheckpointError> {
    in_folder(folder, 3).ok_or_else(|| CheckpointError::NotFound {
        path: folder.to_owned(),
        reason: format!(
            "expected {WEIGHTS_FILE} or pytorch_model.bin (Hugging Face's may come in shards with an index), \
             {CHECKPOINTS_FOLDER}/{LATEST_FILE} (a run), {PUBLISHED_LATEST} with <iteration>/{PUBLISHED_FILE} (published weights), \
             or {PUBLISHED_ARCHIVE}"
        ),
    })
}

fn in_folder(folder: &Path, depth: usize) -> Option<PathBuf> {
    let direct = [WEIGHTS_FILE, PUBLISHED_FILE].into_iter().chain(HUGGING_FACE_FILES).map(|name| folder.join(name));
    if let Some(file) = direct.into_iter().find(|file| file.is_file()) {
        return Some(file);
    }
    if depth == 0 {
        return None;
    }
    let named = [
        named_in(folder, PUBLISHED_LATEST),
        named_in(folder, LATEST_FILE),
        Some(folder.join(CHECKPOINTS_FOLDER)),
        Some(folder.join(PUBLISHED_FOLDER)),
        newest_iteration(folder),
        only_folder(folder),
    ];
    named.into_iter().flatten().filter(|inner| inner.is_dir()).find_map(|inner| in_folder(&inner, depth - 1))
}

/// The folder beside `file` that the file's text names.
fn named_in(folder: &Path, file: &str) -> Option<PathBuf> {
    let name = std::fs::read_to_string(folder.join(file)).ok()?;
    let name = name.trim();
    // The text comes from a file: it must not lead elsewhere.
    let plain = !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
    plain.then(|| folder.join(name))
}

/// Folders in a folder, without hidden ones: what is being unpacked is not whole.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let shown = entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    shown.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Published folders may come without the file that names the iteration.
fn newest_iteration(folder: &Path) -> Option<PathBuf> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
    folders(folder).into_iter().filter_map(|path| Some((number(&path)?, path))).max().map(|(_, path)| path)
}

/// An archive unpacked into a folder of its own leaves one folder inside it.
fn only_folder(folder: &Path) -> Option<PathBuf> {
    match folders(folder).as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("folders");
            std::fs::write(path, text).expect("file");
        }
        folder
    }

    #[test]
    fn every_kind_of_folder_leads_to_its_file() {
        let cases: [(&[(&str, &str)], &str); 10] = [
            (&[("model.safetensors", "")], "model.safetensors"),
            (
                &[("200000/mp_rank_00_model_states.pt", ""), ("latest_checkpointed_iteration.txt", "200000\n")],
                "200000/mp_rank_00_model_states.pt",
            ),
            (&[("9/mp_rank_00_model_states.pt", ""), ("10/mp_rank_00_model_states.pt", "")], "10/mp_rank_00_model_states.pt"),
            (&[("blank/7/mp_rank_00_model_states.pt", "")], "blank/7/mp_rank_00_model_states.pt"),
            (
                &[
                    ("checkpoints/latest", "b"),
                    ("checkpoints/a/model.safetensors", ""),
                    ("checkpoints/b/model.safetensors", ""),
                ],
                "checkpoints/b/model.safetensors",
            ),
            (
                &[("blocklm-large-blank/7/mp_rank_00_model_states.pt", ""), ("shards/manifest.json", ""), ("other/x", "")],
                "blocklm-large-blank/7/mp_rank_00_model_states.pt",
            ),
            (&[("pytorch_model.bin", ""), ("config.json", "")], "pytorch_model.bin"),
            (&[("model.safetensors.index.json", ""), ("pytorch_model.bin", "")], "model.safetensors.index.json"),
            (&[("pytorch_model.bin.index.json", ""), ("config.json", "")], "pytorch_model.bin.index.json"),
            (&[("latest", "b"), ("a/model.safetensors", ""), ("b/model.safetensors", "")], "b/model.safetensors"),
        ];
        for (files, expected) in cases {
            let folder = folder_with(files);
            assert_eq!(weights_file(folder.path()).expect("found"), folder.path().join(expected));
        }
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_not_followed() {
        let folder = folder_with(&[("x/checkpoints/latest", "../.."), ("model.safetensors", "")]);
        assert!(matches!(weights_file(&folder.path().join("x")), Err(CheckpointError::NotFound { .. })));
    }

    #[test]
    fn an_empty_folder_says_what_was_expected() {
        let folder = folder_with(&[]);
        let message = weights_file(folder.path()).expect_err("empty").to_string();
        assert!(message.contains("expected model.safetensors"), "{message}");
    }
}
