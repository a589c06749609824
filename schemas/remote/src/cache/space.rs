//! Sizes of entries, and removal of those that were not used for the longest time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::RemoteError;
use super::{Cache, KEY_LENGTH, LOCK_FILE};

/// File with the number of bytes that an entry will have when it is filled.
const RESERVED_FILE: &str = ".reserved";
/// Prefix of the name of an entry that is being removed.
const REMOVED_PREFIX: &str = ".removed-";
const MEGABYTE: u64 = 1_000_000;

/// An entry on disk.
struct Found {
    folder: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Cache {
    /// Removes entries until `needed` more bytes fit, and reserves them for the entry in `folder`.
    pub(super) fn make_space(&self, url: &str, folder: &Path, needed: u64) -> Result<(), RemoteError> {
        let _lock = self.lock()?;
        let mut others = self.entries().map_err(RemoteError::file("read", &self.folder))?;
        let own = others.iter().position(|entry| entry.folder == folder).map_or(0, |own| others.swap_remove(own).bytes);
        let mut total = others.iter().map(|entry| entry.bytes).sum::<u64>();
        others.sort_by_key(|entry| entry.used);
        for entry in others {
            if total + own + needed <= self.limit {
                break;
            }
            if remove(&entry.folder).map_err(RemoteError::file("remove", &entry.folder))? {
                tracing::debug!("removed {} from the cache", entry.folder.display());
                total -= entry.bytes;
            }
        }
        if total + own + needed > self.limit {
            let (cache, needed) = (self.folder.clone(), (own + needed).div_ceil(MEGABYTE));
            let (limit, in_use) = (self.limit / MEGABYTE, total.div_ceil(MEGABYTE));
            return Err(RemoteError::CacheFull { url: url.to_owned(), cache, needed, limit, in_use });
        }
        let path = folder.join(RESERVED_FILE);
        fs::write(&path, (own + needed).to_string()).map_err(RemoteError::file("write", &path))
    }

    /// Ends a reservation: from now on, the files of the entry count.
    pub(super) fn release_space(&self, folder: &Path) {
        // Without this file there is nothing to release.
        let _ = fs::remove_file(folder.join(RESERVED_FILE));
    }

    fn entries(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let folder = entry.path();
            if name.starts_with(REMOVED_PREFIX) {
                // Left by a process that was killed.
                fs::remove_dir_all(&folder)?;
            } else if name.len() == KEY_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && folder.is_dir() {
                let used = fs::metadata(folder.join(LOCK_FILE)).and_then(|found| found.modified());
                let bytes = size(&folder)?.max(reserved(&folder));
                found.push(Found { bytes, used: used.unwrap_or(SystemTime::UNIX_EPOCH), folder });
            }
        }
        Ok(found)
    }
}

/// Number of bytes that are reserved for an entry by a process that still fills it.
fn reserved(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join(RESERVED_FILE)).ok().filter(|_| is_used(folder));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn is_used(folder: &Path) -> bool {
    File::open(folder.join(LOCK_FILE)).is_ok_and(|lock| lock.try_lock().is_err())
}

/// Removes an entry unless a process uses it. Returns true if it was removed.
fn remove(folder: &Path) -> io::Result<bool> {
    let lock = match File::open(folder.join(LOCK_FILE)) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if lock.as_ref().is_some_and(|lock| lock.try_lock().is_err()) {
        return Ok(false);
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = folder.with_file_name(format!("{REMOVED_PREFIX}{name}"));
    fs::rename(folder, &aside)?;
    fs::remove_dir_all(&aside)?;
    Ok(true)
}

fn size(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = match entry.metadata() {
            // A draft that was renamed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        total += if found.is_dir() { size(&entry.path())? } else { found.len() };
    }
    Ok(total)
}
