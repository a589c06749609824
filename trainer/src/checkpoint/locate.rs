//! Search for the file of weights at a path. The path can be
//!
//! - a file: safetensors, PyTorch's container, an index of shards (`*.index.json`), or a published archive, which is unpacked once
//!   (see [`super::archive`]);
//! - the folder of a checkpoint, or of a run, whose best checkpoint is used unless another is chosen, or the latest if none is evaluated;
//! - a published folder: `latest_checkpointed_iteration.txt` and `<iteration>/mp_rank_00_model_states.pt`, or all model-parallel parts;
//! - a Hugging Face folder: `model.safetensors` or `pytorch_model.bin`, or shards with an index;
//! - the URL of one of these in an object store, from which it is brought into the cache;
//! - a folder that contains one of these under its published name, as a folder or an archive.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glm_remote::{Location, Step, local_weights};
use glm_support::files::progress;
use serde::{Serialize, Serializer};

use super::model_parallel::parts_in;
use super::published::{PUBLISHED_FILE, PUBLISHED_LATEST};
use super::{CheckpointError, archive};
use crate::model::preset::{PRESETS, PublishedWeights};

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

/// File with the name of the best checkpoint, in [`CHECKPOINTS_FOLDER`].
pub const BEST_FILE: &str = "best";
/// Prefix of the name of a checkpoint's folder, before its optimizer step.
pub(super) const STEP_PREFIX: &str = "step-";
/// Beginning of the name of a folder that is not complete; such folders are removed when a run begins.
pub(super) const TEMPORARY: &str = ".writing-";
/// Suffix of published archives.
const ARCHIVE_SUFFIX: &str = ".bz2";

/// Name of the folder of a checkpoint.
pub(super) fn step_name(step: u64) -> String {
    format!("{STEP_PREFIX}{step:08}")
}

/// Folder in which a checkpoint of the run in `root` is written.
pub(super) fn temporary_folder(root: &Path, step: u64) -> PathBuf {
    root.join(CHECKPOINTS_FOLDER).join(format!("{TEMPORARY}{}", step_name(step)))
}

/// Checkpoint of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointChoice {
    /// The checkpoint with the best evaluation.
    Best,
    /// The newest checkpoint.
    Latest,
    /// The checkpoint after this optimizer step.
    Step(u64),
}

impl fmt::Display for CheckpointChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Latest => f.write_str("latest"),
            Self::Step(step) => write!(f, "{step}"),
        }
    }
}

impl FromStr for CheckpointChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "best" => Ok(Self::Best),
            "latest" => Ok(Self::Latest),
            _ => text.parse().map(Self::Step).map_err(|_| {
                format!(
                    "invalid checkpoint `{text}`: expected best, latest or the number of an optimizer step, for example 600"
                )
            }),
        }
    }
}

impl Serialize for CheckpointChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// File of weights, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Located {
    /// Path or URL of the file, or of the index of its shards.
    pub path: PathBuf,
    /// Optimizer step of the weights, if the folder of the file has it in its name.
    pub step: Option<u64>,
    /// The checkpoint that was chosen in the folder of a run; `None` for other paths.
    pub checkpoint: Option<CheckpointChoice>,
}

/// Returns the local path for a path of weights, which are downloaded if it is a URL.
///
/// # Errors
/// [`CheckpointError::Remote`].
pub fn local(path: &Path, choice: Option<CheckpointChoice>) -> Result<Cow<'_, Path>, CheckpointError> {
    let Some(location) = Location::of_path(path)? else { return Ok(Cow::Borrowed(path)) };
    let step = choice.map(|choice| match choice {
        CheckpointChoice::Best => Step::Best,
        CheckpointChoice::Latest => Step::Latest,
        CheckpointChoice::Step(step) => Step::Number(step),
    });
    let progress = progress::of(!tracing::enabled!(tracing::Level::INFO));
    Ok(Cow::Owned(local_weights(&location, step, progress.as_ref())?))
}

/// Returns the path of a file of weights as the user would give it: its URL if `path` is one, of which `local` is the copy.
pub(super) fn origin(path: &Path, local: &Path, file: &Path) -> Result<PathBuf, CheckpointError> {
    let inside = file.strip_prefix(local).unwrap_or(Path::new("")).to_str().unwrap_or_default();
    let location = Location::of_path(path)?;
    Ok(location.map_or_else(|| file.to_owned(), |location| location.join(inside).to_string().into()))
}

/// Finds the file of weights for `path`. In the folder of a run, it is that of `choice`; without one, of the best checkpoint, or of the
/// latest if none is evaluated.
///
/// # Errors
/// [`CheckpointError::NotFound`] with the files that were expected; [`CheckpointError::Archive`] if an archive cannot be unpacked.
pub fn locate(path: &Path, choice: Option<CheckpointChoice>) -> Result<Located, CheckpointError> {
    let (file, checkpoint) = match choice {
        Some(choice) => (chosen(path, choice)?, Some(choice)),
        None => {
            let file = weights_file(path)?;
            let checkpoint = found_choice(path, &file);
            (file, checkpoint)
        }
    };
    let step = file.parent().and_then(Path::file_name).and_then(|name| name.to_str()).and_then(step_of);
    Ok(Located { path: file, step, checkpoint })
}

/// Returns the optimizer step in the name of a folder: `step-00000600` in a run, `200000` in published weights.
fn step_of(folder: &str) -> Option<u64> {
    folder.strip_prefix(STEP_PREFIX).unwrap_or(folder).parse().ok()
}

/// Finds the weights of one checkpoint of a run.
fn chosen(path: &Path, choice: CheckpointChoice) -> Result<PathBuf, CheckpointError> {
    let not_found = |reason: String| CheckpointError::NotFound { path: path.to_owned(), reason };
    let is_checkpoints = |folder: &PathBuf| folder.join(LATEST_FILE).is_file();
    let Some(folder) = [path.join(CHECKPOINTS_FOLDER), path.to_owned()].into_iter().find(is_checkpoints) else {
        return Err(not_found(format!(
            "--checkpoint {choice} needs the folder of a run, with {CHECKPOINTS_FOLDER}/{LATEST_FILE}"
        )));
    };
    let checkpoint = match choice {
        CheckpointChoice::Best => named_in(&folder, BEST_FILE),
        CheckpointChoice::Latest => named_in(&folder, LATEST_FILE),
        CheckpointChoice::Step(step) => Some(folder.join(format!("{STEP_PREFIX}{step:08}"))),
    };
    let file = checkpoint.map(|checkpoint| checkpoint.join(WEIGHTS_FILE)).filter(|file| file.is_file());
    file.ok_or_else(|| {
        let mut steps: Vec<u64> = folders(&folder).iter().filter_map(|path| step_of(path.file_name()?.to_str()?)).collect();
        steps.sort_unstable();
        let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
        not_found(match choice {
            CheckpointChoice::Best => "no checkpoint of the run was evaluated; use --checkpoint latest".to_owned(),
            _ => format!("there is no checkpoint {choice}; the run has those of the steps {}", steps.join(", ")),
        })
    })
}

/// Returns whether `file`, found for the folder of a run, belongs to its best or latest checkpoint. `None` if `path` is that checkpoint.
fn found_choice(path: &Path, file: &Path) -> Option<CheckpointChoice> {
    let checkpoint = file.parent()?;
    let checkpoints = checkpoint.parent()?;
    if path == file || path == checkpoint {
        return None;
    }
    let is_named = |name: &str| named_in(checkpoints, name).is_some_and(|named| named == checkpoint);
    let choices = [(BEST_FILE, CheckpointChoice::Best), (LATEST_FILE, CheckpointChoice::Latest)];
    choices.into_iter().find(|(file, _)| is_named(file)).map(|(_, choice)| choice)
}

/// Published weights that a folder may contain.
fn published() -> impl Iterator<Item = PublishedWeights> {
    PRESETS.into_iter().filter_map(|preset| preset.weights)
}

/// Finds the file of weights, without a choice of the checkpoint: `path` itself, or a file in the folder or archive at `path`.
///
/// # Errors
/// [`CheckpointError::NotFound`] with the files that were expected; [`CheckpointError::Archive`] if an archive cannot be unpacked.
pub(super) fn weights_file(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.is_file() {
        let is_archive = path.to_str().is_some_and(|name| name.ends_with(ARCHIVE_SUFFIX));
        return match archive::is_bzip2(path)? {
            true => in_folder_or(&archive::unpacked(path)?),
            false if is_archive => {
                let reason = format!("is not a bzip2 archive, though its name ends in {ARCHIVE_SUFFIX}; download it again");
                Err(CheckpointError::Archive { path: path.to_owned(), reason })
            }
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
    match published().map(|weights| path.join(weights.archive)).find(|archive| archive.is_file()) {
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
             or a published archive such as {}",
            published().next().map(|weights| weights.archive).unwrap_or_default()
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
    // Without the first, so that the missing one is named.
    if let Some((_, part)) = parts_in(folder).into_iter().next() {
        return Some(part);
    }
    if depth == 0 {
        return None;
    }
    let named = [
        named_in(folder, PUBLISHED_LATEST),
        named_in(folder, BEST_FILE),
        named_in(folder, LATEST_FILE),
        Some(folder.join(CHECKPOINTS_FOLDER)),
    ];
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
#[path = "locate_tests.rs"]
mod tests;
