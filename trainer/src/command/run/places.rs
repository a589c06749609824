//! Default places of a run: published weights next to the data, and a new run folder.

use std::path::{Path, PathBuf};

use glm_remote::cache::Cache;
use glm_remote::{Location, is_url};
use glm_support::files::progress;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::copy::fetch_run;
use crate::command::setup::SetupError;
use crate::model::Preset;
use crate::model::preset::PublishedWeights;

/// Finds published weights next to the data or its `shards`: their folder, or the archive that contains it.
pub(super) fn published_weights(data: &Path, weights: PublishedWeights) -> Result<PathBuf, SetupError> {
    if is_url(data) {
        return Err(SetupError::Invalid(format!(
            "no initial weights: with the data set at {}, specify them with --init PATH or a URL, or start from random weights with \
             --init random",
            data.display()
        )));
    }
    let (folder, archive) = (weights.folder, weights.archive);
    let parents = || [Some(data), data.parent()].into_iter().flatten();
    let mut places = [folder, archive].into_iter().flat_map(|name| parents().map(move |parent| parent.join(name)));
    places.find(|path| path.exists()).ok_or_else(|| {
        SetupError::Invalid(format!(
            "no initial weights: neither {folder} nor {archive} in {dir}; \
             download them with `glm-trainer fetch {name} {dir}`, use other weights with --init PATH, \
             or start from random weights with --init random",
            name = weights.name(),
            dir = data.display()
        ))
    })
}

/// Returns the local folder for `--out`: the folder itself, or one in the cache for a URL, to which the run at the URL is brought if it
/// is not there yet.
pub(super) fn local_folder(out: PathBuf) -> Result<(PathBuf, Option<Location>), SetupError> {
    let Some(url) = Location::of_path(&out).map_err(CheckpointError::from)? else { return Ok((out, None)) };
    url.check_writable().map_err(CheckpointError::from)?;
    let folder = Cache::of_user().map_err(CheckpointError::from)?.folder_of("runs", &url.to_string());
    let progress = progress::of(!tracing::enabled!(tracing::Level::INFO));
    fetch_run(&url, &folder, progress.as_ref())?;
    Ok((folder, Some(url)))
}

/// Returns `runs/large-001` or the next unused number.
pub(super) fn new_run_folder(preset: Preset) -> Result<PathBuf, SetupError> {
    (1..=9999)
        .map(|number| PathBuf::from(format!("runs/{}-{number:03}", preset.name)))
        .find(|path| !path.exists())
        .ok_or_else(|| SetupError::Invalid("runs/ contains 9,999 runs; choose a folder with --out".to_owned()))
}
