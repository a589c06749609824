//! One entry of the cache.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use glm_support::files::atomic;
use glm_support::files::progress::{Progress, Unit};
use serde::{Deserialize, Serialize};

use super::super::{Expected, RemoteError, Store};
use super::{Cache, LOCK_FILE, lock_file};

/// File with the files of an entry.
const FILES_FILE: &str = ".files.json";
/// File that is locked while an entry is filled.
const FILLING_FILE: &str = ".filling";
/// Number of files that are downloaded at the same time.
const PARALLEL: usize = 4;

/// A file that an entry shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Path in the store.
    pub from: String,
    /// Path in the entry.
    pub to: String,
    /// Size in bytes, if it is known.
    pub bytes: Option<u64>,
    /// Required checksum, if it is known.
    pub sha256: Option<String>,
}

/// One entry of the cache, which stays as long as this process runs.
#[derive(Debug)]
pub struct Entry {
    cache: Cache,
    folder: PathBuf,
    url: String,
}

/// Locks of entries that this process uses. They are released when it ends, because mapped files are used until then.
static IN_USE: Mutex<Vec<File>> = Mutex::new(Vec::new());

impl Entry {
    /// Opens the entry in `folder`. The caller holds the lock of the cache.
    pub(super) fn open(cache: Cache, folder: PathBuf, url: String) -> Result<Self, RemoteError> {
        let lock = lock_file(&folder.join(LOCK_FILE), true)?;
        // The time of the last use decides which entries are removed first; without it, the time of creation does.
        let _ = lock.set_modified(SystemTime::now());
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
        Ok(Self { cache, folder, url })
    }

    /// Folder of the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a small file of the entry.
    ///
    /// # Errors
    /// [`RemoteError::File`].
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), RemoteError> {
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(RemoteError::file("create", folder))?;
        if fs::read(&path).is_ok_and(|found| found == content) {
            return Ok(());
        }
        atomic::write(&path, |file| file.write_all(content)).map_err(RemoteError::file("write", &path))
    }

    /// Downloads the files that the entry does not have, several at a time, and verifies them. `list` names what their checksums come
    /// from, for messages.
    ///
    /// # Errors
    /// [`RemoteError`]; the entry then has some of the files, all of which are complete.
    pub fn fill(&self, store: &Store, wanted: &[Wanted], list: &str, progress: &dyn Progress) -> Result<(), RemoteError> {
        let lock = self.folder.join(FILLING_FILE);
        let _filling = lock_file(&lock, false)?;
        let mut files = Files::read(&self.folder);
        let missing: Vec<&Wanted> = wanted.iter().filter(|file| !files.holds(&self.folder, file)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let needed = missing.iter().filter_map(|file| file.bytes).sum();
        self.cache.make_space(&self.url, &self.folder, needed)?;
        let what = format!("downloading {} files of {}", missing.len(), self.url);
        progress.begin(&what, if missing.iter().all(|file| file.bytes.is_some()) { needed } else { 0 }, Unit::Bytes);
        let outcome = self.download(store, &missing, list, progress, &mut files);
        progress.end();
        self.cache.release_space(&self.folder);
        outcome
    }

    fn download(
        &self,
        store: &Store,
        missing: &[&Wanted],
        list: &str,
        progress: &dyn Progress,
        files: &mut Files,
    ) -> Result<(), RemoteError> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let results = Mutex::new(Vec::new());
        let work = || {
            while !failed.load(Ordering::Relaxed)
                && let Some(file) = missing.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let result = self.download_file(store, file, list, progress);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                results.lock().unwrap_or_else(PoisonError::into_inner).push((file.to.clone(), result));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(missing.len()) {
                scope.spawn(work);
            }
        });
        let mut outcome = Ok(());
        for (name, result) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match result {
                Ok(file) => drop(files.0.insert(name, file)),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        files.write(&self.folder)?;
        outcome
    }

    fn download_file(
        &self,
        store: &Store,
        wanted: &Wanted,
        list: &str,
        progress: &dyn Progress,
    ) -> Result<Downloaded, RemoteError> {
        let path = self.folder.join(&wanted.to);
        let expected = Expected { bytes: wanted.bytes, sha256: wanted.sha256.as_deref(), list };
        let (file, sha256) = store.download(&wanted.from, &path, expected, &|bytes| progress.advance(bytes))?;
        Downloaded::of(&file, sha256).map_err(RemoteError::file("read", &path))
    }
}

/// A file as it was when it was downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Downloaded {
    bytes: u64,
    /// Time of the last modification: seconds since 1970, and nanoseconds.
    modified: (i64, i64),
    sha256: String,
}

impl Downloaded {
    fn of(file: &File, sha256: String) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { bytes: found.len(), modified: (found.mtime(), found.mtime_nsec()), sha256 })
    }
}

/// Files of an entry by name.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Files(BTreeMap<String, Downloaded>);

impl Files {
    /// Reads the list of an entry. Without it, or if it is damaged, all files are downloaded again.
    fn read(folder: &Path) -> Self {
        let text = fs::read(folder.join(FILES_FILE)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn write(&self, folder: &Path) -> Result<(), RemoteError> {
        let path = folder.join(FILES_FILE);
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::from).map_err(RemoteError::file("write", &path))?;
        atomic::write(&path, |file| file.write_all(&json)).map_err(RemoteError::file("write", &path))
    }

    /// Returns true if a file is there with the checksum that is wanted, and was not modified since it was downloaded.
    fn holds(&self, folder: &Path, wanted: &Wanted) -> bool {
        let Some(known) = self.0.get(&wanted.to) else { return false };
        let found = File::open(folder.join(&wanted.to)).and_then(|file| Downloaded::of(&file, known.sha256.clone()));
        found.is_ok_and(|found| found == *known)
            && wanted.bytes.is_none_or(|bytes| bytes == known.bytes)
            && wanted.sha256.as_ref().is_none_or(|sha256| *sha256 == known.sha256)
    }
}
