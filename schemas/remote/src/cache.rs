//! Files of stores on disk, up to a limit.
//!
//! ```text
//! CACHE/.lock                    held while entries are added or removed
//! CACHE/KEY/.lock                held by the processes that use the entry
//! CACHE/KEY/.filling             held by the process that downloads its files
//! CACHE/KEY/.files.json          files of the entry as they were downloaded and verified
//! CACHE/KEY/…                    the files
//! ```
//!
//! A key stands for a URL and for the version of what it holds, so an entry never changes: a replaced data set is another entry. A file
//! is verified while it is downloaded, and downloaded again if it was modified since. If there is no space for new files, the entries
//! that were not used for the longest time are removed; entries in use are kept.

mod entry;
mod space;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use glm_schemas::manifest::hex;
use glm_support::files::lock;
use sha2::{Digest, Sha256};

pub use self::entry::{Entry, Wanted};
use super::RemoteError;
use super::environment::variable;

/// Environment variable with the folder of the cache.
const FOLDER_VARIABLE: &str = "GLM_CACHE";
/// Environment variable with the maximum size of the cache.
const LIMIT_VARIABLE: &str = "GLM_CACHE_LIMIT";
/// Maximum size of the cache in bytes, if the variable is not set.
const DEFAULT_LIMIT: u64 = 100_000_000_000;
/// Number of characters of a key.
const KEY_LENGTH: usize = 32;
const LOCK_FILE: &str = ".lock";

/// Folder given on the command line.
static GIVEN: OnceLock<PathBuf> = OnceLock::new();

/// Sets the folder of the cache for this process, before `GLM_CACHE`. Only the first call has an effect.
pub fn set_folder(folder: &Path) {
    // A second value can only come from a second call.
    let _ = GIVEN.set(folder.to_owned());
}

/// A cache.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    /// Maximum size in bytes.
    limit: u64,
}

impl Cache {
    /// Opens the cache of the command line, of `GLM_CACHE`, or in the user's cache folder, with the limit `GLM_CACHE_LIMIT`.
    ///
    /// # Errors
    /// [`RemoteError`] if the folder cannot be created, or the limit is not a size.
    pub fn of_user() -> Result<Self, RemoteError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let users = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).map(|cache| cache.join("glm"));
        let folder = GIVEN.get().cloned().or_else(|| set(FOLDER_VARIABLE)).or_else(users).ok_or_else(|| {
            RemoteError::CacheSetting(format!("there is no folder for the cache: set --cache DIR, {FOLDER_VARIABLE} or HOME"))
        })?;
        let limit = match variable(LIMIT_VARIABLE) {
            Some(text) => parse_size(&text).ok_or_else(|| {
                RemoteError::CacheSetting(format!("{LIMIT_VARIABLE} is {text}; expected a size such as 500MB or 200GB"))
            })?,
            None => DEFAULT_LIMIT,
        };
        Self::open(folder, limit)
    }

    /// Opens the cache in `folder`, with a maximum size in bytes.
    ///
    /// # Errors
    /// [`RemoteError::File`] if the folder cannot be created.
    pub fn open(folder: PathBuf, limit: u64) -> Result<Self, RemoteError> {
        fs::create_dir_all(&folder).map_err(RemoteError::file("create", &folder))?;
        Ok(Self { folder, limit })
    }

    /// Opens the entry of a version of what is at a URL, and keeps it from being removed as long as this process runs.
    ///
    /// # Errors
    /// [`RemoteError::File`] if the entry cannot be created.
    pub fn entry(&self, url: &str, version: &str) -> Result<Entry, RemoteError> {
        let _lock = self.lock()?;
        let folder = self.folder.join(key(&[url, version]));
        fs::create_dir_all(&folder).map_err(RemoteError::file("create", &folder))?;
        Entry::open(self.clone(), folder, url.to_owned())
    }

    /// Folder for files of a URL that are not limited and never removed, such as runs.
    pub fn folder_of(&self, kind: &str, url: &str) -> PathBuf {
        self.folder.join(kind).join(key(&[url]))
    }

    /// Folder of the cache.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Creates a file that has no name and is gone when it is closed.
    pub(crate) fn unnamed_file(&self) -> Result<File, RemoteError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!(".unnamed-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = self.folder.join(name);
        let failed = RemoteError::file("write", &path);
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).map_err(&failed)?;
        fs::remove_file(&path).map_err(&failed)?;
        Ok(file)
    }

    /// Waits for the lock of the cache.
    fn lock(&self) -> Result<File, RemoteError> {
        lock_file(&self.folder.join(LOCK_FILE), false)
    }
}

/// Opens and locks a file, which is created if it does not exist.
fn lock_file(path: &Path, shared: bool) -> Result<File, RemoteError> {
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
    let file = file.map_err(RemoteError::file("write", path))?;
    // Without locks, two processes may download the same file, each to a name of its own.
    lock::wait_for_lock(&file, shared).map_err(RemoteError::file("lock", path))?;
    Ok(file)
}

fn key(parts: &[&str]) -> String {
    let mut key = hex(&Sha256::digest(parts.join("\n")));
    key.truncate(KEY_LENGTH);
    key
}

/// Parses a size: a number, with MB, GB or TB, or GiB and so on.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    Some((number * unit) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        for (text, bytes) in [("12", 12), ("1.5 MB", 1_500_000), ("2GiB", 2 << 30), ("1t", 1_000_000_000_000)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "GB", "1 XB", "-1"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn keys_depend_on_all_parts() {
        assert_eq!(key(&["a", "b"]).len(), KEY_LENGTH);
        assert_ne!(key(&["a", "b"]), key(&["a", "c"]));
    }
}
