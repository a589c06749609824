//! Publication that is all or nothing.
//!
//! A run writes into a folder of its own beside `shards`. When everything is on the disk, manifest last, the two folders swap
//! names in one step (`renameat2` with `RENAME_EXCHANGE`). A run that is killed leaves the folder behind; the next run removes it.
//! Where a file system cannot swap, the old set is moved aside first, and the next run moves it back if it finds it there alone.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{MANIFEST_FILE, SHARDS_FOLDER, Split};

use super::WriteError;

/// The file that lists rejected records.
pub const REJECTS_FILE: &str = "rejects.jsonl";
/// The page that `glm-prep report` writes about the shards; it goes with them where they are replaced.
pub const REPORT_FILE: &str = "report.html";

const STAGING_PREFIX: &str = ".shards.tmp-";
const ASIDE: &str = ".shards.old";

/// A folder for a data set in the making. Dropped without [`Staging::publish`], it is removed.
pub struct Staging {
    dir: PathBuf,
    path: PathBuf,
    published: bool,
    /// Held while the run lasts; the system lets go of it when the process ends, however it ends.
    _lock: Option<File>,
}

impl Staging {
    /// Makes the folder inside `dir`, after removing what killed runs have left.
    ///
    /// # Errors
    /// [`WriteError`] where another run is at work in `dir`, where `dir/shards` is no data set, or where nothing can be written.
    pub fn create(dir: &Path) -> Result<Self, WriteError> {
        let lock = lock(dir)?;
        recover(dir)?;
        check_replaceable(&dir.join(SHARDS_FOLDER))?;
        let path = dir.join(format!("{STAGING_PREFIX}{}", std::process::id()));
        fs::create_dir(&path).map_err(WriteError::io(&path))?;
        Ok(Self { dir: dir.to_owned(), path, published: false, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder `dir/shards`, in one step, and removes the one that was there.
    ///
    /// # Errors
    /// [`WriteError`] where that fails; `dir/shards` is then the old one.
    pub fn publish(mut self) -> Result<PathBuf, WriteError> {
        let target = self.dir.join(SHARDS_FOLDER);
        sync_folder(&self.path)?;
        if target.exists() {
            swap(&self.dir, &self.path, &target)?;
        } else {
            fs::rename(&self.path, &target).map_err(WriteError::io(&target))?;
        }
        self.published = true;
        sync_folder(&self.dir)?;
        // The new set is there; what cannot be removed of the old one now, the next run removes.
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
            // Nothing better can be done about a failure here; the next run tries again.
            let _ = remove(&self.path);
        }
    }
}

/// One run at a time. A file system without locks is used without.
fn lock(dir: &Path) -> Result<Option<File>, WriteError> {
    let folder = File::open(dir).map_err(WriteError::io(dir))?;
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Err(WriteError::Locked(dir.to_owned())),
        Err(TryLockError::Error(error)) => {
            tracing::debug!("{} cannot be locked ({error}); make sure that one run at a time writes to it", dir.display());
            Ok(None)
        }
    }
}

/// Puts back a data set that a run killed between two renames had moved aside, and removes what killed runs left.
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
            tracing::debug!("removing {}, which a run that was killed has left", path.display());
            remove(&path).map_err(WriteError::io(&path))?;
        }
    }
    Ok(())
}

/// Nothing is replaced that this program has not written.
fn check_replaceable(target: &Path) -> Result<(), WriteError> {
    let refuse = |found: &str| Err(WriteError::NotOurs { path: target.to_owned(), found: found.to_owned() });
    match fs::symlink_metadata(target) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(WriteError::io(target)(e)),
        Ok(found) if found.is_symlink() => return refuse("is a symbolic link"),
        Ok(found) if !found.is_dir() => return refuse("is a file"),
        Ok(_) => {}
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(target).map_err(WriteError::io(target))? {
        names.push(entry.map_err(WriteError::io(target))?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    if !names.is_empty() && !names.iter().any(|name| name == MANIFEST_FILE) {
        return refuse(&format!("holds files but no {MANIFEST_FILE}"));
    }
    match names.iter().find(|name| !is_ours(name)) {
        Some(other) => refuse(&format!("holds `{other}`")),
        None => Ok(()),
    }
}

fn is_ours(name: &str) -> bool {
    let is_shard = || {
        let stem = name.strip_suffix(".parquet")?;
        let numbers = Split::ALL.iter().find_map(|split| stem.strip_prefix(split.name())?.strip_prefix('-'))?;
        let (index, count) = numbers.split_once("-of-")?;
        Some([index, count].iter().all(|number| number.len() >= 5 && number.bytes().all(|b| b.is_ascii_digit())))
    };
    [MANIFEST_FILE, REJECTS_FILE, REPORT_FILE].contains(&name) || is_shard() == Some(true)
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

fn sync_folder(path: &Path) -> Result<(), WriteError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(WriteError::io(path))
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
        let mut names: Vec<_> = fs::read_dir(dir)
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names
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
    fn a_set_is_published_and_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().expect("folder");
        publish(dir.path(), "one");
        assert_eq!(manifest(dir.path()), "one");
        publish(dir.path(), "two");
        assert_eq!(manifest(dir.path()), "two");
        assert_eq!(names(dir.path()), ["shards"]);
    }

    #[test]
    fn a_run_that_fails_or_is_killed_leaves_the_old_set() {
        let dir = tempfile::tempdir().expect("folder");
        publish(dir.path(), "one");
        let staging = Staging::create(dir.path()).expect("staging");
        fs::write(staging.path().join("train-00000-of-00001.parquet"), "half").expect("write");
        drop(staging);
        assert_eq!(names(dir.path()), ["shards"]);
        // Killed while writing, after swapping, and between the two renames of the fallback.
        fs::create_dir(dir.path().join(".shards.tmp-1")).expect("folder");
        fs::rename(dir.path().join("shards"), dir.path().join(ASIDE)).expect("rename");
        drop(Staging::create(dir.path()).expect("staging"));
        assert_eq!(names(dir.path()), ["shards"]);
        assert_eq!(manifest(dir.path()), "one");
    }

    #[test]
    fn without_exchange_the_set_is_replaced_too() {
        let dir = tempfile::tempdir().expect("folder");
        publish(dir.path(), "one");
        let new = dir.path().join("new");
        fs::create_dir(&new).expect("folder");
        fs::write(new.join(MANIFEST_FILE), "two").expect("write");
        let target = dir.path().join("shards");
        let aside = dir.path().join(ASIDE);
        fs::rename(&target, &aside).expect("aside");
        fs::rename(&new, &target).expect("new");
        // As a run that was killed right here leaves it: the new set stays.
        drop(Staging::create(dir.path()).expect("staging"));
        assert_eq!((manifest(dir.path()), names(dir.path())), ("two".to_owned(), vec!["shards".to_owned()]));
    }

    #[test]
    fn what_is_not_ours_is_not_touched() {
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
        assert!(refused(&holding("notes.txt")).contains("holds `notes.txt`"));
        assert!(refused(&holding("train-1-of-2.parquet")).contains("holds `train-1-of-2.parquet`"));
        let no_manifest = refused(&|target| {
            fs::create_dir(target).expect("folder");
            fs::write(target.join("train-00000-of-00001.parquet"), "").expect("write");
        });
        assert!(no_manifest.contains("holds files but no manifest.json"), "{no_manifest}");
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = tempfile::tempdir().expect("folder");
        let first = Staging::create(dir.path()).expect("staging");
        assert!(matches!(Staging::create(dir.path()), Err(WriteError::Locked(_))));
        drop(first);
        assert!(Staging::create(dir.path()).is_ok());
    }
}
