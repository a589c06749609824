//! Default places of a run: published weights next to the data, and a new run folder.

use std::path::{Path, PathBuf};

use crate::command::setup::SetupError;
use crate::model::Preset;
use crate::model::config::PublishedWeights;

/// Finds published weights next to the data or its `shards`: their folder, or the archive that contains it.
pub(super) fn published_weights(data: &Path, weights: PublishedWeights) -> Result<PathBuf, SetupError> {
    let (folder, archive) = (weights.folder, weights.archive());
    let parents = || [Some(data), data.parent()].into_iter().flatten();
    let mut places = [folder, archive.as_str()].into_iter().flat_map(|name| parents().map(move |parent| parent.join(name)));
    places.find(|path| path.exists()).ok_or_else(|| {
        SetupError::Invalid(format!(
            "no initial weights: neither {folder} nor {archive} in {dir}; \
             download them with `glm-trainer fetch {name} {dir}`, use other weights with --init PATH, \
             or start from random weights with --init random",
            name = weights.name,
            dir = data.display()
        ))
    })
}

/// Returns `runs/large-001` or the next unused number.
pub(super) fn new_run_folder(preset: Preset) -> Result<PathBuf, SetupError> {
    (1..=9999)
        .map(|number| PathBuf::from(format!("runs/{}-{number:03}", preset.name)))
        .find(|path| !path.exists())
        .ok_or_else(|| SetupError::Invalid("runs/ contains 9,999 runs; choose a folder with --out".to_owned()))
}
