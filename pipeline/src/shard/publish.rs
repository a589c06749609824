//! Atomic publication of a data set.
//!
//! A run writes to a staging folder next to `shards`, with the Parquet files in its subfolder `data`. When everything is on disk, the manifest last, the two folders are exchanged
//! in one step (`renameat2` with `RENAME_EXCHANGE`). The staging folder of a killed run is removed by the next run. On file systems
//! without exchange, the old data set is moved aside first; the next run restores it if the new one did not take its place.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{DATA_FOLDER, MANIFEST_FILE, SHARDS_FOLDER, Split};
use glm_support::files::{atomic, lock};

use super::error::WriteError;

/// Name of the list of rejected records.
pub const REJECTS_FILE: &str = "rejects.jsonl";
/// Name of the file about program, command line and machine of the ingest.
pub const PROVENANCE_FILE: &str = "provenance.json";
/// Name of the page that `glm-prep report` writes next to the shards; it is removed when they are replaced.
pub const REPORT_FILE: &str = "report.html";

const STAGING_PREFIX: &str = ".shards.tmp-";
const ASIDE: &str = ".shards.old";

/// Staging folder of a data set. It is removed if it is dropped without [`Staging::publish`].
pub struct Staging {
    dir: PathBuf,
    path: PathBuf,
    published: bool,
    /// Held during the run; the operating system releases it when the process ends.
    _lock: File,
}

impl Staging {
    /// Creates the folder in `dir`, after removing the remains of killed runs.
    ///
    /// # Errors
    /// [`WriteError`] if another run is writing to `dir`, `dir/shards` is not a data set, or `dir` is not writable.
    pub fn create(dir: &Path) -> Result<Self, WriteError> {
        let folder = File::open(dir).map_err(WriteError::io(dir))?;
        if !lock::try_lock(&folder).map_err(WriteError::io(dir))? {
            return Err(WriteError::Locked(dir.to_owned()));
        }
        recover(dir)?;
        check_replaceable(&dir.join(SHARDS_FOLDER))?;
        let path = dir.join(format!("{STAGING_PREFIX}{}", std::process::id()));
        fs::create_dir(&path).map_err(WriteError::io(&path))?;
        let staging = Self { dir: dir.to_owned(), path, published: false, _lock: folder };
        fs::create_dir(staging.data()).map_err(WriteError::io(&staging.data()))?;
        Ok(staging)
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the folder of the Parquet files.
    pub fn data(&self) -> PathBuf {
        self.path.join(DATA_FOLDER)
    }

    /// Renames the folder to `dir/shards` in one step and removes the previous data set.
    ///
    /// # Errors
    /// [`WriteError`] if that fails; `dir/shards` is then unchanged.
    pub fn publish(mut self) -> Result<PathBuf, WriteError> {
        let target = self.dir.join(SHARDS_FOLDER);
        for folder in [&self.data(), &self.path] {
            atomic::sync_dir(folder).map_err(WriteError::io(folder))?;
        }
        if target.exists() {
            swap(&self.dir, &self.path, &target)?;
        } else {
            fs::rename(&self.path, &target).map_err(WriteError::io(&target))?;
        }
        self.published = true;
        atomic::sync_dir(&self.dir).map_err(WriteError::io(&self.dir))?;
        // The data set is published. Remains of the previous one are not an error: the next run removes them.
        for old in [&self.path, &self.dir.join(ASIDE)] {
            if let Err(error) = remove(old) {
                tracing::warn!("cannot remove the replaced data set {}: {error}", old.display());
            }
        }
        Ok(target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // A failure here is ignored: the next run removes the folder.
            let _ = remove(&self.path);
        }
    }
}

/// Removes the remains of killed runs in `dir`, unless another run is writing to it.
///
/// # Errors
/// [`WriteError`] if they cannot be removed.
pub fn clean(dir: &Path) -> Result<(), WriteError> {
    let folder = File::open(dir).map_err(WriteError::io(dir))?;
    if lock::try_lock(&folder).map_err(WriteError::io(dir))? { recover(dir) } else { Ok(()) }
}

/// Removes `folder`, which is in `dir`. A run that is killed leaves it complete, or as remains.
///
/// # Errors
/// Errors of the file system.
pub fn discard(dir: &Path, folder: &Path) -> io::Result<()> {
    let aside = dir.join(format!("{STAGING_PREFIX}{}.old", std::process::id()));
    fs::rename(folder, &aside)?;
    remove(&aside)
}

/// Restores a data set that a run moved aside before it was killed, and removes the remains of killed runs.
fn recover(dir: &Path) -> Result<(), WriteError> {
    let aside = dir.join(ASIDE);
    let target = dir.join(SHARDS_FOLDER);
    if aside.join(MANIFEST_FILE).exists() && !target.exists() {
        fs::rename(&aside, &target).map_err(WriteError::io(&target))?;
    }
    for entry in fs::read_dir(dir).map_err(WriteError::io(dir))? {
        let entry = entry.map_err(WriteError::io(dir))?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(STAGING_PREFIX) || name == ASIDE {
            let path = entry.path();
            tracing::debug!("removing {}, left by a run that was killed", path.display());
            remove(&path).map_err(WriteError::io(&path))?;
        }
    }
    Ok(())
}

/// Refuses to replace anything that this program has not written.
fn check_replaceable(target: &Path) -> Result<(), WriteError> {
    let refuse = |found: &str| Err(WriteError::NotOurs { path: target.to_owned(), found: found.to_owned() });
    match fs::symlink_metadata(target) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(WriteError::io(target)(e)),
        Ok(found) if found.is_symlink() => return refuse("is a symbolic link"),
        Ok(found) if !found.is_dir() => return refuse("is a file"),
        Ok(_) => {}
    }
    let names = names(target)?;
    if !names.is_empty() && !names.iter().any(|name| name == MANIFEST_FILE) {
        return refuse(&format!("contains files but no {MANIFEST_FILE}"));
    }
    let data = target.join(DATA_FOLDER);
    let shards = if data.is_dir() { self::names(&data)? } else { Vec::new() };
    let shards = shards.into_iter().map(|name| format!("{DATA_FOLDER}/{name}"));
    match names.into_iter().filter(|name| name != DATA_FOLDER).chain(shards).find(|name| !is_ours(name)) {
        Some(other) => refuse(&format!("contains `{other}`")),
        None => Ok(()),
    }
}

/// Returns true if a file of this name, relative to the folder of the manifest, was written by this program.
pub(super) fn is_ours(name: &str) -> bool {
    // Version 1 of the data contract had the Parquet files next to the manifest.
    let shard = name.strip_prefix(DATA_FOLDER).and_then(|name| name.strip_prefix('/')).unwrap_or(name);
    [MANIFEST_FILE, PROVENANCE_FILE, REJECTS_FILE, REPORT_FILE].contains(&name) || is_shard(shard)
}

/// Lists the names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, WriteError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(WriteError::io(folder))? {
        names.push(entry.map_err(WriteError::io(folder))?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns true for names in the style of [`file_name`](super::file_name).
fn is_shard(name: &str) -> bool {
    let numbers = || {
        let stem = name.strip_suffix(".parquet")?;
        Split::ALL.iter().find_map(|split| stem.strip_prefix(split.name())?.strip_prefix('-'))?.split_once("-of-")
    };
    let is_number = |number: &str| number.len() >= 5 && number.bytes().all(|b| b.is_ascii_digit());
    numbers().is_some_and(|(index, count)| is_number(index) && is_number(count))
}

fn swap(dir: &Path, new: &Path, target: &Path) -> Result<(), WriteError> {
    if exchange(new, target).is_ok() {
        return Ok(());
    }
    let aside = dir.join(ASIDE);
    fs::rename(target, &aside).map_err(WriteError::io(target))?;
    if let Err(error) = fs::rename(new, target) {
        fs::rename(&aside, target).map_err(WriteError::io(target))?;
        return Err(WriteError::io(target)(error));
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        super::names(dir).expect("list")
    }

    fn publish(dir: &Path, manifest: &str) {
        let staging = Staging::create(dir).expect("staging");
        fs::write(staging.path().join(MANIFEST_FILE), manifest).expect("write");
        staging.publish().expect("publish");
    }

    fn manifest(dir: &Path) -> String {
        fs::read_to_string(dir.join("shards/manifest.json")).expect("manifest")
    }

    #[test]
    fn publishing_replaces_the_data_set_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().expect("folder");
        publish(dir.path(), "one");
        assert_eq!(manifest(dir.path()), "one");
        publish(dir.path(), "two");
        assert_eq!(manifest(dir.path()), "two");
        assert_eq!(names(dir.path()), ["shards"]);
    }

    #[test]
    fn the_data_set_survives_failed_and_killed_runs() {
        let dir = tempfile::tempdir().expect("folder");
        publish(dir.path(), "one");
        let staging = Staging::create(dir.path()).expect("staging");
        fs::write(staging.data().join("train-00000-of-00001.parquet"), "half").expect("write");
        drop(staging);
        assert_eq!(names(dir.path()), ["shards"]);
        // Killed while writing, and between the two renames of the fallback.
        fs::create_dir(dir.path().join(".shards.tmp-1")).expect("folder");
        fs::rename(dir.path().join("shards"), dir.path().join(ASIDE)).expect("rename");
        drop(Staging::create(dir.path()).expect("staging"));
        assert_eq!(names(dir.path()), ["shards"]);
        assert_eq!(manifest(dir.path()), "one");
    }

    #[test]
    fn the_fallback_without_exchange_replaces_the_data_set() {
        let dir = tempfile::tempdir().expect("folder");
        publish(dir.path(), "one");
        let new = dir.path().join("new");
        fs::create_dir(&new).expect("folder");
        fs::write(new.join(MANIFEST_FILE), "two").expect("write");
        let target = dir.path().join("shards");
        let aside = dir.path().join(ASIDE);
        fs::rename(&target, &aside).expect("aside");
        fs::rename(&new, &target).expect("new");
        // A run killed at this point has published: the new data set stays.
        drop(Staging::create(dir.path()).expect("staging"));
        assert_eq!((manifest(dir.path()), names(dir.path())), ("two".to_owned(), vec!["shards".to_owned()]));
    }

    #[test]
    fn foreign_files_are_not_replaced() {
        let refused = |prepare: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().expect("folder");
            prepare(&dir.path().join("shards"));
            let before = names(dir.path());
            let error = Staging::create(dir.path()).err().expect("refused").to_string();
            assert_eq!(names(dir.path()), before);
            error
        };
        let holding = |name: &'static str| {
            move |target: &Path| {
                fs::create_dir(target).expect("folder");
                fs::write(target.join(MANIFEST_FILE), "").expect("write");
                fs::write(target.join(name), "").expect("write");
            }
        };
        assert!(refused(&|target| fs::write(target, "x").expect("write")).contains("is a file"));
        assert!(refused(&holding("notes.txt")).contains("contains `notes.txt`"));
        assert!(refused(&holding("train-1-of-2.parquet")).contains("contains `train-1-of-2.parquet`"));
        let in_data = refused(&|target| {
            fs::create_dir_all(target.join(DATA_FOLDER)).expect("folder");
            fs::write(target.join(MANIFEST_FILE), "").expect("write");
            fs::write(target.join("data/train-00000-of-00001.parquet"), "").expect("write");
            fs::write(target.join("data/notes.txt"), "").expect("write");
        });
        assert!(in_data.contains("contains `data/notes.txt`"), "{in_data}");
        let no_manifest = refused(&|target| {
            fs::create_dir(target).expect("folder");
            fs::write(target.join("train-00000-of-00001.parquet"), "").expect("write");
        });
        assert!(no_manifest.contains("contains files but no manifest.json"), "{no_manifest}");
    }

    #[test]
    fn a_data_set_of_version_1_is_replaced() {
        let dir = tempfile::tempdir().expect("folder");
        fs::create_dir(dir.path().join("shards")).expect("folder");
        for name in [MANIFEST_FILE, REJECTS_FILE, REPORT_FILE, "train-00000-of-00001.parquet"] {
            fs::write(dir.path().join("shards").join(name), "old").expect("write");
        }
        publish(dir.path(), "new");
        assert_eq!(names(&dir.path().join("shards")), [DATA_FOLDER, MANIFEST_FILE]);
    }

    #[test]
    fn concurrent_runs_are_refused() {
        let dir = tempfile::tempdir().expect("folder");
        let first = Staging::create(dir.path()).expect("staging");
        assert!(matches!(Staging::create(dir.path()), Err(WriteError::Locked(_))));
        drop(first);
        assert!(Staging::create(dir.path()).is_ok());
    }
}
