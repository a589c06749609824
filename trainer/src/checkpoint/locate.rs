//! Which file of weights a path means.

use std::path::{Path, PathBuf};

use super::CheckpointError;

/// File of weights in a checkpoint of ours.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// File of weights in a published checkpoint.
pub const PUBLISHED_FILE: &str = "mp_rank_00_model_states.pt";
/// Names the newest iteration in a published checkpoint's folder.
const PUBLISHED_LATEST: &str = "latest_checkpointed_iteration.txt";
/// Folder of checkpoints inside a run's folder.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";
/// Names the newest checkpoint inside [`CHECKPOINTS_FOLDER`].
pub const LATEST_FILE: &str = "latest";

/// Finds the file: `path` itself, or what a run's folder, a checkpoint's folder or a published folder leads to.
///
/// # Errors
/// [`CheckpointError::NotFound`] says what was expected.
pub fn weights_file(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    if !path.is_dir() {
        return Err(CheckpointError::NotFound { path: path.to_owned(), reason: "there is no such file or folder".into() });
    }
    in_folder(path, 3).ok_or_else(|| CheckpointError::NotFound {
        path: path.to_owned(),
        reason: format!(
            "expected {WEIGHTS_FILE}, {CHECKPOINTS_FOLDER}/{LATEST_FILE} (a run), or {PUBLISHED_LATEST} with <iteration>/{PUBLISHED_FILE} (published weights)"
        ),
    })
}

fn in_folder(folder: &Path, depth: usize) -> Option<PathBuf> {
    let direct = [WEIGHTS_FILE, PUBLISHED_FILE].map(|name| folder.join(name));
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

fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
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
        let cases: [(&[(&str, &str)], &str); 6] = [
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
