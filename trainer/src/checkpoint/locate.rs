//! Search for the file of weights at a path. The path can be
//!
//! - a file: safetensors, PyTorch's container, an index of shards (`*.index.json`), or a published archive, which is unpacked once
//!   (see [`super::archive`]);
//! - the folder of a checkpoint, or of a run, whose latest checkpoint is used;
//! - a published folder: `latest_checkpointed_iteration.txt` and `<iteration>/mp_rank_00_model_states.pt`;
//! - a Hugging Face folder: `model.safetensors` or `pytorch_model.bin`, or shards with an index;
//! - a folder that contains one of these under its published name, as a folder or an archive.

use std::path::{Path, PathBuf};

use super::published::{PUBLISHED_FILE, PUBLISHED_LATEST};
use super::{CheckpointError, archive};

/// File of weights in a checkpoint of a run.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Folder of the published weights of GLM-large.
pub const PUBLISHED_FOLDER: &str = "blocklm-large-blank";
/// Archive of the published weights of GLM-large.
pub const PUBLISHED_ARCHIVE: &str = "glm-large-blank.tar.bz2";
/// Files of weights in a Hugging Face folder, in addition to [`WEIGHTS_FILE`].
const HUGGING_FACE_FILES: [&str; 3] = ["model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// Folder of checkpoints in the folder of a run.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";
/// File with the name of the latest checkpoint, in [`CHECKPOINTS_FOLDER`].
pub const LATEST_FILE: &str = "latest";

/// Finds the file of weights: `path` itself, or a file in the folder or archive at `path`.
///
/// # Errors
/// [`CheckpointError::NotFound`] with the files that were expected; [`CheckpointError::Archive`] if an archive cannot be unpacked.
pub fn weights_file(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.is_file() {
        return match archive::is_bzip2(path)? {
            true => in_folder_or(&archive::unpacked(path)?),
            false => Ok(path.to_owned()),
        };
    }
    if !path.is_dir() {
        return Err(CheckpointError::NotFound { path: path.to_owned(), reason: "no such file or folder".into() });
    }
    let archive = path.join(PUBLISHED_ARCHIVE);
    match in_folder(path, 3) {
        Some(file) => Ok(file),
        None if archive.is_file() => in_folder_or(&archive::unpacked(&archive)?),
        None => in_folder_or(path),
    }
}

/// Returns the file in a folder, or an error that lists the expected files.
fn in_folder_or(folder: &Path) -> Result<PathBuf, CheckpointError> {
    in_folder(folder, 3).ok_or_else(|| CheckpointError::NotFound {
        path: folder.to_owned(),
        reason: format!(
            "expected {WEIGHTS_FILE} or pytorch_model.bin (or shards with an index), \
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
        latest_iteration(folder),
        only_folder(folder),
    ];
    named.into_iter().flatten().filter(|inner| inner.is_dir()).find_map(|inner| in_folder(&inner, depth - 1))
}

/// Returns the folder named in `file`, next to the file.
fn named_in(folder: &Path, file: &str) -> Option<PathBuf> {
    let name = std::fs::read_to_string(folder.join(file)).ok()?;
    let name = name.trim();
    // The text is not trusted: it must not lead out of the folder.
    let plain = !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
    plain.then(|| folder.join(name))
}

/// Lists the folders in a folder. Hidden ones are skipped, as archives are unpacked there.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let shown = entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    shown.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Returns the folder with the largest number, for published folders without the file that names the iteration.
fn latest_iteration(folder: &Path) -> Option<PathBuf> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
    folders(folder).into_iter().filter_map(|path| Some((number(&path)?, path))).max().map(|(_, path)| path)
}

/// Returns the only folder in a folder, as archives unpacked into an empty folder have one.
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
    fn weights_are_found_in_every_kind_of_folder() {
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
    fn names_outside_the_folder_are_ignored() {
        let folder = folder_with(&[("x/checkpoints/latest", "../.."), ("model.safetensors", "")]);
        assert!(matches!(weights_file(&folder.path().join("x")), Err(CheckpointError::NotFound { .. })));
    }

    #[test]
    fn an_empty_folder_is_an_error_with_the_expected_files() {
        let folder = folder_with(&[]);
        let message = weights_file(folder.path()).expect_err("empty").to_string();
        assert!(message.contains("expected model.safetensors"), "{message}");
    }
}
