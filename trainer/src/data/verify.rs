//! Verification of shards against the checksums of the manifest, on a background thread while training starts.
//!
//! A record of verified files is kept next to the data set, `DIR/.verified-shards.json`, or in the user's cache folder if `DIR` cannot be
//! written or the data set has another place. A file is verified again if it is another one or was modified since.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use glm_schemas::manifest::{SHARDS_FOLDER, hex};
use glm_support::files::atomic;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DataError;
use super::threads::spawn;

/// Name of the record next to a data set.
const RECORD_FILE: &str = ".verified-shards.json";
/// Folder of records in the user's cache folder.
const CACHE_FOLDER: &str = "glm-trainer/verified-shards";
const READ_BYTES: usize = 1 << 20;

/// When shards are verified against the checksums of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// When a file is used for the first time, or was modified.
    FirstUse,
    /// Whenever the data set is used.
    Always,
    /// Never.
    Never,
}

/// An open shard and its checksum in the manifest.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) path: PathBuf,
    /// The mapped file: another one may have taken its path.
    pub(super) file: File,
    pub(super) sha256: String,
}

/// Verification in progress, or its outcome. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Verification {
    state: Arc<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    fault: OnceLock<Fault>,
    cancelled: AtomicBool,
}

/// First fault that was found. Several threads report it.
#[derive(Debug, Clone)]
enum Fault {
    Changed { path: PathBuf },
    Unreadable { path: PathBuf, kind: io::ErrorKind, text: String },
}

impl From<&Fault> for DataError {
    fn from(fault: &Fault) -> Self {
        match fault.clone() {
            Fault::Changed { path } => Self::Checksum { path },
            Fault::Unreadable { path, kind, text } => Self::Io { path, source: io::Error::new(kind, text) },
        }
    }
}

impl Verification {
    /// Starts to verify shards of the data set in `folder`. Shards in the record are skipped, except with [`Verify::Always`].
    pub(super) fn start(folder: &Path, shards: Vec<Listed>, verify: Verify) -> Result<Self, DataError> {
        let state = Arc::new(State::default());
        let (shared, folder) = (Arc::clone(&state), folder.to_owned());
        let work = move || {
            let records = Records::of(&folder);
            if let Err(fault) = verify_all(&shards, &records, verify, &shared.cancelled) {
                // There is no other fault: this is the only thread.
                let _ = shared.fault.set(fault);
            }
        };
        Ok(Self { state, thread: Mutex::new(Some(spawn("verify", work)?)) })
    }

    /// Returns the error if a fault has been found so far.
    pub(super) fn check(&self) -> Result<(), DataError> {
        self.state.fault.get().map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Waits for the end of the verification.
    pub(super) fn wait(&self) -> Result<(), DataError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.join().map_err(|_| DataError::Panicked)?;
        }
        self.check()
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.state.cancelled.store(true, Ordering::Relaxed);
        // The outcome is of no interest any more.
        drop(self.wait());
    }
}

fn verify_all(shards: &[Listed], records: &Records, verify: Verify, cancelled: &AtomicBool) -> Result<(), Fault> {
    let known = records.read();
    let mut verified = BTreeMap::new();
    for shard in shards {
        let unreadable =
            |error: &io::Error| Fault::Unreadable { path: shard.path.clone(), kind: error.kind(), text: error.to_string() };
        let identity = Identity::of(shard).map_err(|error| unreadable(&error))?;
        let name = shard.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if verify == Verify::FirstUse && known.get(&name) == Some(&identity) {
            continue;
        }
        let Some(found) = sha256(&shard.file, cancelled).map_err(|error| unreadable(&error))? else { return Ok(()) };
        if found != shard.sha256 {
            return Err(Fault::Changed { path: shard.path.clone() });
        }
        verified.insert(name, identity);
    }
    tracing::debug!("{} shards match their checksums, {} verified now", shards.len(), verified.len());
    if !verified.is_empty() {
        records.add(verified);
    }
    Ok(())
}

/// Returns the checksum of a file, `None` if cancelled. Reads without the file's position and its mapping, whose pages would count as
/// memory of this process.
fn sha256(file: &File, cancelled: &AtomicBool) -> io::Result<Option<String>> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while !cancelled.load(Ordering::Relaxed) {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(Some(hex(&hash.finalize()))),
            Ok(read) => {
                hash.update(&buffer[..read]);
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A file as it was when it was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    bytes: u64,
    /// Time of the last modification: seconds since 1970, and nanoseconds.
    modified: (i64, i64),
    inode: u64,
    sha256: String,
}

impl Identity {
    fn of(shard: &Listed) -> io::Result<Self> {
        let found = shard.file.metadata()?;
        let modified = (found.mtime(), found.mtime_nsec());
        Ok(Self { bytes: found.len(), modified, inode: found.ino(), sha256: shard.sha256.clone() })
    }
}

/// Verified files of a data set by name.
type Files = BTreeMap<String, Identity>;

/// Records of a data set, the preferred one first.
struct Records(Vec<PathBuf>);

impl Records {
    fn of(folder: &Path) -> Self {
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let own = folder.file_name().is_some_and(|name| name == SHARDS_FOLDER).then(|| folder.with_file_name(RECORD_FILE));
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        let key = hex(&Sha256::digest(folder.as_os_str().as_encoded_bytes()));
        let cached = cache.map(|cache| cache.join(CACHE_FOLDER).join(format!("{key}.json")));
        Self(own.into_iter().chain(cached).collect())
    }

    /// Returns the files in all records. Damaged records are ignored.
    fn read(&self) -> Files {
        self.0.iter().rev().filter_map(|path| read(path)).flatten().collect()
    }

    /// Adds files to the first record that can be written. Without one, the files are verified again.
    fn add(&self, verified: Files) {
        // Splits are verified by several threads.
        static WRITING: Mutex<()> = Mutex::new(());
        let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        for path in &self.0 {
            let mut files = read(path).unwrap_or_default();
            files.extend(verified.clone());
            match write(path, &files) {
                Ok(()) => return,
                Err(error) => tracing::debug!("cannot write {}: {error}", path.display()),
            }
        }
    }
}

fn read(path: &Path) -> Option<Files> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write(path: &Path, files: &Files) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let json = serde_json::to_vec_pretty(files).map_err(io::Error::from)?;
    atomic::write(path, |file| file.write_all(&json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &Path, sha256: &str) -> Listed {
        Listed { path: path.to_owned(), file: File::open(path).expect("open"), sha256: sha256.to_owned() }
    }

    /// Verifies a file with the given checksum; returns the error.
    fn verified(folder: &Path, path: &Path, sha256: &str, verify: Verify) -> Result<(), String> {
        let verification = Verification::start(folder, vec![listed(path, sha256)], verify).expect("start");
        let outcome = verification.wait().map_err(|error| error.to_string());
        assert_eq!(verification.check().is_ok(), outcome.is_ok());
        outcome
    }

    #[test]
    fn a_file_is_verified_until_it_is_known() {
        let folder = tempfile::tempdir().expect("folder");
        let shards = folder.path().join(SHARDS_FOLDER);
        fs::create_dir(&shards).expect("folder");
        let path = shards.join("train-00000-of-00001.parquet");
        fs::write(&path, "abc").expect("write");
        let sum = hex(&Sha256::digest("abc"));
        let record = folder.path().join(RECORD_FILE);
        verified(&shards, &path, &sum, Verify::FirstUse).expect("intact");
        assert!(fs::read_to_string(&record).expect("record").contains("train-00000-of-00001.parquet"));

        // A record of the file as it is now is taken for its content; `always` reads it nevertheless.
        let modified = fs::metadata(&path).and_then(|found| found.modified()).expect("time");
        fs::write(&path, "abd").expect("write");
        File::options().write(true).open(&path).and_then(|file| file.set_modified(modified)).expect("time");
        verified(&shards, &path, &sum, Verify::FirstUse).expect("known");
        let error = verified(&shards, &path, &sum, Verify::Always).expect_err("changed");
        assert!(error.contains("train-00000-of-00001.parquet") && error.contains("ingest the raw data again"), "{error}");

        // Another time or another file under the same name.
        let later = modified + std::time::Duration::from_secs(1);
        File::options().write(true).open(&path).and_then(|file| file.set_modified(later)).expect("time");
        verified(&shards, &path, &sum, Verify::FirstUse).expect_err("modified");
        fs::write(&record, "not a record").expect("write");
        File::options().write(true).open(&path).and_then(|file| file.set_modified(modified)).expect("time");
        verified(&shards, &path, &sum, Verify::FirstUse).expect_err("unknown");
    }

    #[test]
    fn the_open_file_is_verified_and_not_another_one_in_its_place() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a");
        fs::write(&path, "abc").expect("write");
        let shard = listed(&path, &hex(&Sha256::digest("abc")));
        fs::rename(&path, folder.path().join("b")).expect("rename");
        fs::write(&path, "another").expect("write");
        let records = Records(Vec::new());
        assert!(verify_all(&[shard], &records, Verify::FirstUse, &AtomicBool::new(false)).is_ok());
        let other = listed(&path, &hex(&Sha256::digest("abc")));
        assert!(verify_all(&[other], &records, Verify::FirstUse, &AtomicBool::new(false)).is_err());
        // A cancelled verification is not an outcome.
        let other = listed(&path, "");
        assert!(verify_all(&[other], &records, Verify::Always, &AtomicBool::new(true)).is_ok());
    }

    #[test]
    fn records_are_next_to_the_data_set_or_in_the_cache() {
        let folder = tempfile::tempdir().expect("folder");
        let [shards, other] = [SHARDS_FOLDER, "other"].map(|name| folder.path().join(name));
        [&shards, &other].into_iter().for_each(|path| fs::create_dir(path).expect("folder"));
        assert_eq!(Records::of(&shards).0[0], fs::canonicalize(folder.path()).expect("path").join(RECORD_FILE));
        assert!(Records::of(&other).0.iter().all(|path| !path.starts_with(folder.path())));
        let identity = Identity { bytes: 1, modified: (2, 3), inode: 4, sha256: "5".into() };
        let files = |name: &str| Files::from([(name.to_owned(), identity.clone())]);
        // The first place is a folder, so it cannot be written.
        let records = Records(vec![shards.clone(), folder.path().join("new/cache/record.json")]);
        records.add(files("a"));
        records.add(files("b"));
        assert_eq!(records.read(), files("a").into_iter().chain(files("b")).collect());
    }
}
