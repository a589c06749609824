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
use crate::model::config::{PRESETS, PublishedWeights};

/// File of weights in a checkpoint of a run.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Files of weights in a Hugging Face folder, in addition to [`WEIGHTS_FILE`].
const HUGGING_FACE_FILES: [&str; 3] = ["model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// Name of random weights, for `run --init` only.
const RANDOM: &str = "random";
/// Maximum number of folders in a message.
const SHOWN_FOLDERS: usize = 5;
/// Folder of checkpoints in the folder of a run.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";
/// File with the name of the latest checkpoint, in [`CHECKPOINTS_FOLDER`].
pub const LATEST_FILE: &str = "latest";

/// Published weights that a folder may contain.
fn published() -> impl Iterator<Item = PublishedWeights> {
    PRESETS.into_iter().filter_map(|preset| preset.weights)
}

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
        let reason = match path == Path::new(RANDOM) {
            true => "random weights are for `run` only; specify a file of weights, the folder of a run, or a published archive",
            false => "no such file or folder",
        };
        return Err(CheckpointError::NotFound { path: path.to_owned(), reason: reason.into() });
    }
    if let Some(file) = in_folder(path, 3) {
        return Ok(file);
    }
    match published().map(|weights| path.join(weights.archive())).find(|archive| archive.is_file()) {
        Some(archive) => in_folder_or(&archive::unpacked(&archive)?),
        None => in_folder_or(path),
    }
}

/// Returns the file in a folder, or an error that lists the expected files.
fn in_folder_or(folder: &Path) -> Result<PathBuf, CheckpointError> {
    if let Some(file) = in_folder(folder, 3) {
        return Ok(file);
    }
    let mut inner: Vec<_> = folders(folder).into_iter().filter(|inner| in_folder(inner, 2).is_some()).collect();
    inner.sort();
    let reason = match inner.len() {
        0 => format!(
            "expected {WEIGHTS_FILE} or pytorch_model.bin (or shards with an index), \
             {CHECKPOINTS_FOLDER}/{LATEST_FILE} (a run), {PUBLISHED_LATEST} with <iteration>/{PUBLISHED_FILE} (published weights), \
             or {}",
            published().map(|weights| weights.archive()).collect::<Vec<_>>().join(" or ")
        ),
        _ => {
            let more = if inner.len() > SHOWN_FOLDERS { ", …" } else { "" };
            let shown: Vec<_> = inner.iter().take(SHOWN_FOLDERS).map(|inner| inner.display().to_string()).collect();
            format!("several folders in it have weights; specify one of {}{more}", shown.join(", "))
        }
    };
    Err(CheckpointError::NotFound { path: folder.to_owned(), reason })
}

fn in_folder(folder: &Path, depth: usize) -> Option<PathBuf> {
    let direct = [WEIGHTS_FILE, PUBLISHED_FILE].into_iter().chain(HUGGING_FACE_FILES).map(|name| folder.join(name));
    if let Some(file) = direct.into_iter().find(|file| file.is_file()) {
        return Some(file);
    }
    if depth == 0 {
        return None;
    }
    let named = [named_in(folder, PUBLISHED_LATEST), named_in(folder, LATEST_FILE), Some(folder.join(CHECKPOINTS_FOLDER))];
    let published = published().map(|weights| folder.join(weights.folder));
    let inner = named.into_iter().flatten().chain(published).chain(latest_iteration(folder)).chain(only_folder(folder));
    inner.filter(|inner| inner.is_dir()).find_map(|inner| in_folder(&inner, depth - 1))
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

/// Returns the optimizer step of a file of weights according to the name of its folder: `step-00000600` in a run, `200000` in
/// published weights.
pub fn step_of(weights: &Path) -> Option<u64> {
    let folder = weights.parent()?.file_name()?.to_str()?;
    folder.strip_prefix("step-").unwrap_or(folder).parse().ok()
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
    fn the_step_is_parsed_from_the_folder() {
        let of = |path: &str| step_of(Path::new(path));
        assert_eq!(of("runs/x/checkpoints/step-00000600/model.safetensors"), Some(600));
        assert_eq!(of("blocklm-large-blank/200000/mp_rank_00_model_states.pt"), Some(200_000));
        assert_eq!((of("best/model.safetensors"), of("model.safetensors")), (None, None));
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

    #[test]
    fn a_folder_of_runs_is_an_error_with_the_runs() {
        let files =
            ["one", "two"].map(|run| [format!("{run}/checkpoints/latest"), format!("{run}/checkpoints/a/model.safetensors")]);
        let files: Vec<_> = files.iter().flat_map(|[latest, file]| [(latest.as_str(), "a"), (file.as_str(), "")]).collect();
        let folder = folder_with(&files);
        let message = weights_file(folder.path()).expect_err("several").to_string();
        let shown = folder.path().display();
        assert!(message.ends_with(&format!("specify one of {shown}/one, {shown}/two")), "{message}");
        let random = weights_file(Path::new("random")).expect_err("no weights").to_string();
        assert!(random.contains("random weights are for `run` only; specify a file of weights"), "{random}");
    }
}
