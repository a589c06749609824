//! Download of a run from an object store, to resume it or to report on it.

use std::fs::{self, File};
use std::path::Path;

use glm_remote::{Expected, Location, Object, RemoteError, Store, checksums};
use glm_support::files::atomic;
use glm_support::files::lock::wait_for_lock;
use glm_support::files::progress::{Progress, Unit};

use super::super::CheckpointError;
use super::super::locate::{BEST_FILE, CHECKPOINTS_FOLDER, LATEST_FILE, STEP_PREFIX, TEMPORARY};
use super::super::seal::SUMS_FILE;

/// File that is locked while a run is downloaded.
const LOCK_FILE: &str = ".fetching";

/// Brings the run at a URL to the folder `root`, unless the folder has as late a checkpoint: the latest and the best checkpoint, and the
/// records. Does nothing if there is no run at the URL. Several processes can do it at the same time.
///
/// # Errors
/// [`CheckpointError`] if the run cannot be read or written.
pub fn fetch_run(url: &Location, root: &Path, progress: &dyn Progress) -> Result<(), CheckpointError> {
    let _lock = lock(root)?;
    let store = Store::open(url)?;
    let remote = pointers(&store)?;
    let Some(latest) = remote.iter().find(|(file, _)| *file == LATEST_FILE).map(|(_, step)| step) else { return Ok(()) };
    let checkpoints = root.join(CHECKPOINTS_FOLDER);
    let here = fs::read_to_string(checkpoints.join(LATEST_FILE)).unwrap_or_default();
    // Names have numbers of a fixed length.
    if here.trim() >= latest.as_str() {
        return Ok(());
    }
    let files = store.list()?;
    let of_step = |file: &Object, step: &str| {
        file.name
            .strip_prefix(CHECKPOINTS_FOLDER)
            .and_then(|name| name.strip_prefix('/')?.strip_prefix(step)?.strip_prefix('/'))
            .is_some()
    };
    for (_, step) in &remote {
        let files: Vec<Object> = files.iter().filter(|file| of_step(file, step)).cloned().collect();
        step_files(&store, &files, step, &checkpoints, progress)?;
    }
    records(&store, &files, root)?;
    write_pointers(&checkpoints, &remote)
}

/// Brings the records of the run at a URL to the folder `root`: everything but checkpoints.
///
/// # Errors
/// [`CheckpointError`] if there is no run, or it cannot be read or written.
pub fn fetch_records(url: &Location, root: &Path) -> Result<(), CheckpointError> {
    let _lock = lock(root)?;
    let store = Store::open(url)?;
    let files = store.list()?;
    if files.is_empty() {
        let (url, reason) = (url.to_string(), "is not the folder of a run: there are no files; check the URL".to_owned());
        return Err(RemoteError::Content { url, reason }.into());
    }
    records(&store, &files, root)?;
    write_pointers(&root.join(CHECKPOINTS_FOLDER), &pointers(&store)?)
}

fn lock(root: &Path) -> Result<File, CheckpointError> {
    let path = root.join(LOCK_FILE);
    let locked = fs::create_dir_all(root).and_then(|()| File::create(&path)).and_then(|file| {
        wait_for_lock(&file, false)?;
        Ok(file)
    });
    locked.map_err(|source| CheckpointError::Io { doing: "cannot lock", path, source })
}

/// Returns the names of checkpoints in the files that name one, `latest` last.
fn pointers(store: &Store) -> Result<Vec<(&'static str, String)>, CheckpointError> {
    let mut found = Vec::new();
    for file in [BEST_FILE, LATEST_FILE] {
        let text = store.text(&format!("{CHECKPOINTS_FOLDER}/{file}"))?;
        let name = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
        // The text is not trusted: it must not lead out of the folder.
        found.extend(name.filter(|name| name.starts_with(STEP_PREFIX) && !name.contains(['/', '\\'])).map(|name| (file, name)));
    }
    Ok(found)
}

fn write_pointers(checkpoints: &Path, pointers: &[(&str, String)]) -> Result<(), CheckpointError> {
    for (file, step) in pointers {
        let path = checkpoints.join(file);
        let written = fs::create_dir_all(checkpoints)
            .and_then(|()| atomic::write(&path, |file| std::io::Write::write_all(file, step.as_bytes())));
        written.map_err(|source| CheckpointError::Io { doing: "cannot write", path, source })?;
    }
    Ok(())
}

/// Downloads the files of a checkpoint, which gets its name when it is complete.
fn step_files(
    store: &Store,
    files: &[Object],
    step: &str,
    checkpoints: &Path,
    progress: &dyn Progress,
) -> Result<(), CheckpointError> {
    let folder = checkpoints.join(step);
    if folder.is_dir() {
        return Ok(());
    }
    let failed = |source| CheckpointError::Io { doing: "cannot write", path: folder.clone(), source };
    let sums = checksums(store, files)?;
    let temporary = checkpoints.join(format!("{TEMPORARY}{step}"));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(failed)?;
    }
    let total = files.iter().filter_map(|file| file.bytes).sum();
    progress.begin(&format!("downloading {step} of {}", store.location()), total, Unit::Bytes);
    for file in files {
        let name = file.name.rsplit('/').next().unwrap_or_default();
        let expected = Expected { bytes: file.bytes, sha256: sums.get(&file.name).map(String::as_str), list: SUMS_FILE };
        store.download(&file.name, &temporary.join(name), expected, &|bytes| progress.advance(bytes))?;
    }
    progress.end();
    fs::rename(&temporary, &folder).map_err(failed)
}

/// Downloads the files that do not belong to checkpoints.
fn records(store: &Store, files: &[Object], root: &Path) -> Result<(), CheckpointError> {
    let is_record = |file: &&Object| file.name.split('/').next() != Some(CHECKPOINTS_FOLDER);
    for file in files.iter().filter(is_record) {
        store.download(&file.name, &root.join(&file.name), Expected { bytes: file.bytes, ..Expected::default() }, &|_| ())?;
    }
    Ok(())
}
