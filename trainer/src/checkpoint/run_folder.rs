//! Folder of a training run and its checkpoints.
//!
//! ```text
//! RUNDIR/checkpoints/latest                     name of the latest checkpoint
//! RUNDIR/checkpoints/best                       name of the best checkpoint
//! RUNDIR/checkpoints/step-00000600/model.safetensors      weights
//!                                  optimizer.safetensors  both averages of every parameter; one file per rank if ranks divide them
//!                                  state.json             state of the run
//!                                  metrics.jsonl          metrics up to this step
//!                                  SHA256SUMS             checksums of the other files
//! ```
//!
//! A checkpoint is written into a temporary folder, which is renamed when it is complete; `latest` is updated last. Whenever a run
//! is killed, `latest` names a complete checkpoint.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glm_support::files::atomic::{self, sync_dir};
use glm_support::files::lock::try_lock;

use super::CheckpointError;
use super::averages;
use super::locate::{BEST_FILE, CHECKPOINTS_FOLDER, LATEST_FILE, TEMPORARY, WEIGHTS_FILE, step_name, temporary_folder};
use super::parts::{Peers, write_part};
pub use super::run_state::RunState;
use super::seal::{SUMS_FILE, check, line, sums};
use super::snapshot::Snapshot;
use super::tensors::write_safetensors;

const STATE_FILE: &str = "state.json";
const METRICS_FILE: &str = "metrics.jsonl";
/// Files of a checkpoint that [`SUMS_FILE`] lists, beside those of the averages.
const LISTED_FILES: [&str; 3] = [WEIGHTS_FILE, STATE_FILE, METRICS_FILE];
const LOCK_FILE: &str = ".lock";

/// Folder of a run, locked by this process.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
    /// Locked until the last clone is dropped; the system releases the lock of a killed process.
    _lock: Arc<File>,
}

impl RunFolder {
    /// Creates the folder if it does not exist, locks it, and removes incomplete checkpoints and files of killed runs. The lock is held
    /// until the last clone is dropped.
    ///
    /// # Errors
    /// [`CheckpointError::InUse`] if another process holds the lock; [`CheckpointError::Io`].
    pub fn create(root: &Path) -> Result<Self, CheckpointError> {
        let checkpoints = root.join(CHECKPOINTS_FOLDER);
        fs::create_dir_all(&checkpoints).map_err(|source| io("cannot create folder", &checkpoints, source))?;
        let folder = Self { root: root.to_owned(), _lock: lock(root)? };
        for name in folder.names()? {
            if name.starts_with(TEMPORARY) {
                remove(&checkpoints.join(name))?;
            }
        }
        for place in [root, &checkpoints] {
            atomic::remove_leftovers(place).map_err(|source| io("cannot remove temporary files in", place, source))?;
        }
        Ok(folder)
    }

    /// Path of the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn checkpoints(&self) -> PathBuf {
        self.root.join(CHECKPOINTS_FOLDER)
    }

    fn names(&self) -> Result<Vec<String>, CheckpointError> {
        let path = self.checkpoints();
        let entries = fs::read_dir(&path).map_err(|source| io("cannot list", &path, source))?;
        let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Returns true if a process trains in the folder. Always false on file systems without locks.
    pub fn is_in_use(root: &Path) -> bool {
        File::open(root.join(LOCK_FILE)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Returns the steps of the latest and the best checkpoint, without creating or locking the folder.
    pub fn latest_and_best_step(root: &Path) -> [Option<u64>; 2] {
        [LATEST_FILE, BEST_FILE].map(|file| {
            let name = fs::read_to_string(root.join(CHECKPOINTS_FOLDER).join(file)).ok()?;
            name.trim().strip_prefix("step-")?.parse().ok()
        })
    }

    /// Returns the state in the latest readable checkpoint, without creating or locking the folder; `None` without checkpoints.
    ///
    /// # Errors
    /// [`CheckpointError`] if no state can be read.
    pub fn recorded(root: &Path) -> Result<Option<RunState>, CheckpointError> {
        let entries = fs::read_dir(root.join(CHECKPOINTS_FOLDER)).into_iter().flatten().flatten();
        let mut steps: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_step(path)).collect();
        steps.sort_unstable();
        let states = steps.iter().rev().map(|path| Self::state(path));
        states.reduce(|one, other| one.or(other)).transpose()
    }

    /// Returns the folder of the latest checkpoint, if any.
    pub fn latest(&self) -> Option<PathBuf> {
        self.named(LATEST_FILE)
    }

    /// Returns the latest checkpoint that is not damaged, if any. Damaged checkpoints are skipped with a warning.
    ///
    /// # Errors
    /// [`CheckpointError::AllDamaged`]; [`CheckpointError::Io`] if the folder cannot be listed.
    pub fn latest_intact(&self) -> Result<Option<PathBuf>, CheckpointError> {
        let steps = self.steps()?;
        let mut skipped = None;
        for path in steps.iter().rev() {
            match check(path, expected_files) {
                Ok(()) => {
                    if let Some(damage) = skipped {
                        tracing::warn!("a later checkpoint is damaged ({damage}); resuming from {}", path.display());
                    }
                    return Ok(Some(path.clone()));
                }
                Err(damage) => skipped = skipped.or(Some(damage)),
            }
        }
        match skipped {
            Some(damage) => Err(CheckpointError::AllDamaged { folder: self.checkpoints(), damage }),
            None => Ok(None),
        }
    }

    /// Returns the folders of all checkpoints, oldest first.
    fn steps(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let paths = self.names()?.into_iter().map(|name| self.checkpoints().join(name));
        Ok(paths.filter(|path| is_step(path)).collect())
    }

    /// Returns the folder of the best checkpoint, if any was evaluated.
    pub fn best(&self) -> Option<PathBuf> {
        self.named(BEST_FILE)
    }

    fn named(&self, file: &str) -> Option<PathBuf> {
        let name = fs::read_to_string(self.checkpoints().join(file)).ok()?;
        let folder = self.checkpoints().join(name.trim());
        folder.is_dir().then_some(folder)
    }

    /// Writes a file of the run atomically.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), CheckpointError> {
        write_atomically(&self.root.join(name), content)
    }

    /// Creates the temporary folder of a checkpoint, to which all ranks can then write.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn begin(&self, step: u64) -> Result<(), CheckpointError> {
        let temporary = temporary_folder(&self.root, step);
        remove(&temporary)?;
        fs::create_dir_all(&temporary).map_err(|source| io("cannot create folder", &temporary, source))
    }

    /// Writes a checkpoint, for which [`Self::begin`] has created a folder, and removes old ones, except the latest `keep` and the best.
    /// `peers`: the ranks that write parts of it.
    ///
    /// # Errors
    /// [`CheckpointError`]; existing checkpoints are unchanged in this case.
    pub fn save(
        &self,
        snapshot: &Snapshot,
        is_best: bool,
        keep: usize,
        peers: Option<&Peers>,
    ) -> Result<PathBuf, CheckpointError> {
        let folder = self.checkpoints();
        let name = step_name(snapshot.state.step);
        let (temporary, published) = (temporary_folder(&self.root, snapshot.state.step), folder.join(&name));
        let written = write_files(&temporary, snapshot, peers);
        if written.is_err() {
            // If the disk is full, the incomplete checkpoint takes space that everything else needs.
            remove(&temporary)?;
        }
        written?;
        // Exists if the run was resumed from an earlier step; the bytes are the same.
        remove(&published)?;
        fs::rename(&temporary, &published).map_err(|source| io("cannot rename to", &published, source))?;
        sync_dir(&folder).map_err(|source| io("cannot sync", &folder, source))?;
        write_atomically(&folder.join(LATEST_FILE), name.as_bytes())?;
        if is_best {
            write_atomically(&folder.join(BEST_FILE), name.as_bytes())?;
        }
        self.remove_old(keep)?;
        Ok(published)
    }

    fn remove_old(&self, keep: usize) -> Result<(), CheckpointError> {
        let kept = [self.latest(), self.best()];
        let mut steps = self.steps()?;
        steps.truncate(steps.len().saturating_sub(keep.max(1)));
        steps.iter().filter(|path| !kept.contains(&Some((*path).clone()))).try_for_each(|path| remove(path))
    }

    /// Reads the `metrics.jsonl` of a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn metrics(checkpoint: &Path) -> Result<Vec<u8>, CheckpointError> {
        let path = checkpoint.join(METRICS_FILE);
        fs::read(&path).map_err(|source| io("cannot read", &path, source))
    }

    /// Reads the state of a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`] if it is missing or damaged.
    pub fn state(checkpoint: &Path) -> Result<RunState, CheckpointError> {
        let path = checkpoint.join(STATE_FILE);
        let text = fs::read(&path).map_err(|source| io("cannot read", &path, source))?;
        serde_json::from_slice(&text).map_err(|source| CheckpointError::State { path, source })
    }
}

/// Returns the files that a list of checksums with these names must contain.
fn expected_files(listed: &[&str]) -> Vec<String> {
    let averages = averages::files(listed.iter().copied());
    LISTED_FILES.iter().map(|name| (*name).to_owned()).chain(averages).collect()
}

/// Returns true for the folder of a complete checkpoint.
fn is_step(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("step-")) && path.is_dir()
}

/// Writes the files of a checkpoint and their checksums, and syncs them to disk.
fn write_files(folder: &Path, snapshot: &Snapshot, peers: Option<&Peers>) -> Result<(), CheckpointError> {
    let (averages, sum) = write_part(folder, snapshot)?;
    let Snapshot { weights, sizes, state, metrics, .. } = snapshot;
    let weights = weights.iter().map(|(name, tensor)| (name.clone(), tensor));
    write_safetensors(&folder.join(WEIGHTS_FILE), weights, sizes, state.tokenizer.as_ref())?;
    let path = folder.join(STATE_FILE);
    let json = serde_json::to_vec_pretty(state).map_err(|source| CheckpointError::State { path: path.clone(), source })?;
    write_atomically(&path, &json)?;
    write_atomically(&folder.join(METRICS_FILE), metrics)?;
    let mut list = sums(folder, &LISTED_FILES).map_err(|source| io("cannot read back", folder, source))?;
    list.push_str(&line(&averages, &sum));
    for (name, sum) in peers.map(Peers::wait).transpose()?.unwrap_or_default() {
        list.push_str(&line(&name, &sum));
    }
    write_atomically(&folder.join(SUMS_FILE), list.as_bytes())?;
    sync_dir(folder).map_err(|source| io("cannot sync", folder, source))
}

fn lock(root: &Path) -> Result<Arc<File>, CheckpointError> {
    let path = root.join(LOCK_FILE);
    let file = File::create(&path).map_err(|source| io("cannot write", &path, source))?;
    match try_lock(&file).map_err(|source| io("cannot lock", &path, source))? {
        true => Ok(Arc::new(file)),
        false => Err(CheckpointError::InUse { folder: root.to_owned() }),
    }
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> CheckpointError {
    CheckpointError::Io { doing, path: path.to_owned(), source }
}

fn remove(path: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(io("cannot remove", path, source)),
        _ => Ok(()),
    }
}

fn write_atomically(path: &Path, content: &[u8]) -> Result<(), CheckpointError> {
    atomic::write(path, |file| file.write_all(content)).map_err(|source| io("cannot write", path, source))
}
