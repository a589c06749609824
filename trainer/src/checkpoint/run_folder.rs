//! The checkpoints of a run.
//!
//! ```text
//! RUNDIR/checkpoints/latest                     name of the newest
//! RUNDIR/checkpoints/best                       name of the one with the best accuracy
//! RUNDIR/checkpoints/step-00000600/model.safetensors      weights
//!                                  optimizer.safetensors  both averages of every parameter
//!                                  state.json             where the run stands
//!                                  metrics.jsonl          what it had said until then
//!                                  SHA256SUMS             checksums of all these
//! ```
//!
//! A checkpoint is written into a temporary folder and renamed when it is whole, and `latest` follows last: whenever a run
//! is killed, `latest` names a whole checkpoint.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glm_support::files::atomic;
use serde::{Deserialize, Serialize};
use tch::no_grad;

use super::CheckpointError;
use super::locate::{CHECKPOINTS_FOLDER, LATEST_FILE, WEIGHTS_FILE};
use super::seal::{SUMS_FILE, check, sums};
use super::snapshot::Snapshot;
use super::tensors::write_safetensors;
use super::weights::Weights;
use crate::config::{Config, overrides};
use crate::data::sampler::Position;
use crate::model::Glm;
use crate::optim::adamw::AdamW;
use crate::optim::loss_scale::LossScale;
use crate::optim::spikes::SpikeStatistics;
use crate::task::metrics::Measured;

const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "state.json";
const METRICS_FILE: &str = "metrics.jsonl";
const BEST_FILE: &str = "best";
const LOCK_FILE: &str = ".lock";
const TEMPORARY: &str = ".writing-";

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Completed optimizer steps: what the schedule counts.
    pub step: u64,
    /// Steps that were skipped, see [`crate::train::anomaly`].
    pub skipped: u64,
    /// Of these, those since the last one that was not skipped, normal overflows left out.
    #[serde(default)]
    pub skipped_in_a_row: u64,
    /// What losses and gradients have been like.
    #[serde(default)]
    pub spikes: SpikeStatistics,
    /// Questions used in all.
    pub samples: u64,
    /// Place in the order of samples.
    pub position: Position,
    /// Steps that the optimizer's bias correction counts.
    pub optimizer_steps: u64,
    /// The loss scale.
    pub loss_scale: LossScale,
    /// What the run began with: `random`, or where its weights came from.
    #[serde(default)]
    pub init: Option<String>,
    /// Questions used when it was evaluated last.
    #[serde(default)]
    pub evaluated_at: Option<u64>,
    /// Metric that selects the best checkpoint, at the latest evaluation.
    pub latest: Option<Measured>,
    /// Best value of that metric over all evaluations.
    pub best: Option<Measured>,
    /// Fingerprint of the data set.
    pub fingerprint: String,
    /// The settings.
    #[serde(deserialize_with = "overrides::stored")]
    pub config: Config,
}

impl RunState {
    /// That of a run which begins, with `init` what its weights come from.
    pub fn new(config: Config, loss_scale: LossScale, fingerprint: String, init: Option<String>) -> Self {
        Self {
            step: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            spikes: SpikeStatistics::default(),
            samples: 0,
            position: Position::default(),
            optimizer_steps: 0,
            loss_scale,
            init,
            evaluated_at: None,
            latest: None,
            best: None,
            fingerprint,
            config,
        }
    }
}

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
    /// Held as long as any copy of this lives; the system lets go of it when a process is killed.
    _lock: Option<Arc<File>>,
}

impl RunFolder {
    /// Makes the folder, or takes one that is there, and clears away checkpoints that a killed run left unfinished. Until this
    /// and its copies are dropped, no other process can have it.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] where it cannot be made; [`CheckpointError::InUse`].
    pub fn create(root: &Path) -> Result<Self, CheckpointError> {
        let checkpoints = root.join(CHECKPOINTS_FOLDER);
        fs::create_dir_all(&checkpoints).map_err(|source| io("cannot make folder", &checkpoints, source))?;
        let folder = Self { root: root.to_owned(), _lock: lock(root)? };
        for name in folder.names()? {
            if name.starts_with(TEMPORARY) {
                remove(&checkpoints.join(name))?;
            }
        }
        Ok(folder)
    }

    /// The folder itself.
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

    /// Whether a process trains in the folder now. Of a file system that has no locks this is not known.
    pub fn is_in_use(root: &Path) -> bool {
        File::open(root.join(LOCK_FILE)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The steps of the newest and of the best checkpoint in a folder, by their names; nothing is made or locked.
    pub fn newest_and_best_step(root: &Path) -> [Option<u64>; 2] {
        [LATEST_FILE, BEST_FILE].map(|file| {
            let name = fs::read_to_string(root.join(CHECKPOINTS_FOLDER).join(file)).ok()?;
            name.trim().strip_prefix("step-")?.parse().ok()
        })
    }

    /// The newest checkpoint's folder, if there is one.
    pub fn latest(&self) -> Option<PathBuf> {
        self.named(LATEST_FILE)
    }

    /// The newest checkpoint that is whole. Damaged ones are passed over with a warning.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] where the folder cannot be listed; [`CheckpointError::AllDamaged`].
    pub fn newest_whole(&self) -> Result<Option<PathBuf>, CheckpointError> {
        let steps = self.steps()?;
        let mut passed_over = None;
        for path in steps.iter().rev() {
            match check(path) {
                Ok(()) => {
                    if let Some(damage) = passed_over {
                        tracing::warn!("a newer checkpoint is damaged ({damage}): going on from {}", path.display());
                    }
                    return Ok(Some(path.clone()));
                }
                Err(damage) => passed_over = passed_over.or(Some(damage)),
            }
        }
        match passed_over {
            Some(damage) => Err(CheckpointError::AllDamaged { folder: self.checkpoints(), damage }),
            None => Ok(None),
        }
    }

    /// The folders of all checkpoints, the oldest first.
    fn steps(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let names = self.names()?.into_iter().filter(|name| name.starts_with("step-"));
        Ok(names.map(|name| self.checkpoints().join(name)).filter(|path| path.is_dir()).collect())
    }

    /// The folder of the checkpoint with the best accuracy, if one was evaluated.
    pub fn best(&self) -> Option<PathBuf> {
        self.named(BEST_FILE)
    }

    fn named(&self, file: &str) -> Option<PathBuf> {
        let name = fs::read_to_string(self.checkpoints().join(file)).ok()?;
        let folder = self.checkpoints().join(name.trim());
        folder.is_dir().then_some(folder)
    }

    /// Writes a file of the run whole or not at all.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), CheckpointError> {
        write_whole(&self.root.join(name), content)
    }

    /// Writes a checkpoint and forgets old ones: the newest `keep` and the best stay.
    ///
    /// # Errors
    /// [`CheckpointError`]; the checkpoints that were there are untouched then.
    pub fn save(&self, snapshot: &Snapshot, is_best: bool, keep: usize) -> Result<PathBuf, CheckpointError> {
        let name = format!("step-{:08}", snapshot.state.step);
        let folder = self.checkpoints();
        let (temporary, published) = (folder.join(format!("{TEMPORARY}{name}")), folder.join(&name));
        remove(&temporary)?;
        fs::create_dir_all(&temporary).map_err(|source| io("cannot make folder", &temporary, source))?;
        let written = write_files(&temporary, snapshot);
        if written.is_err() {
            // Where the disk is full, what there is of it is in the way of everything else.
            remove(&temporary)?;
        }
        written?;
        // A step that was saved before, by a run that was resumed from an earlier one, holds the same bytes.
        remove(&published)?;
        fs::rename(&temporary, &published).map_err(|source| io("cannot rename to", &published, source))?;
        sync(&folder)?;
        write_whole(&folder.join(LATEST_FILE), name.as_bytes())?;
        if is_best {
            write_whole(&folder.join(BEST_FILE), name.as_bytes())?;
        }
        self.forget(keep)?;
        Ok(published)
    }

    fn forget(&self, keep: usize) -> Result<(), CheckpointError> {
        let kept = [self.latest(), self.best()];
        let mut steps = self.steps()?;
        steps.truncate(steps.len().saturating_sub(keep.max(1)));
        steps.iter().filter(|path| !kept.contains(&Some((*path).clone()))).try_for_each(|path| remove(path))
    }

    /// The lines of `metrics.jsonl` when a checkpoint was written.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] where they are missing.
    pub fn metrics(checkpoint: &Path) -> Result<Vec<u8>, CheckpointError> {
        let path = checkpoint.join(METRICS_FILE);
        fs::read(&path).map_err(|source| io("cannot read", &path, source))
    }

    /// The state in a checkpoint's folder.
    ///
    /// # Errors
    /// [`CheckpointError`] where it is missing or damaged.
    pub fn state(checkpoint: &Path) -> Result<RunState, CheckpointError> {
        let path = checkpoint.join(STATE_FILE);
        let text = fs::read(&path).map_err(|source| io("cannot read", &path, source))?;
        serde_json::from_slice(&text).map_err(|source| CheckpointError::State { path, source })
    }

    /// Puts a checkpoint's averages into `optimizer`.
    ///
    /// # Errors
    /// [`CheckpointError`] where the file is damaged or belongs to another model.
    pub fn load_optimizer(
        checkpoint: &Path,
        model: &Glm,
        optimizer: &mut AdamW,
        state: &RunState,
    ) -> Result<(), CheckpointError> {
        let file = Weights::open(&checkpoint.join(OPTIMIZER_FILE))?;
        no_grad(|| {
            for (parameter, moments) in model.parameters().iter().zip(optimizer.moments()) {
                for (prefix, target) in [("first", &moments.first), ("second", &moments.second)] {
                    let name = format!("{prefix}.{}", parameter.name);
                    let stored = file.tensor(&name)?;
                    if stored.size() != target.size() {
                        let (found, expected, path) = (stored.size(), target.size(), file.path().to_owned());
                        return Err(CheckpointError::Shape { path, name, found, expected });
                    }
                    target.shallow_clone().f_copy_(&stored)?;
                }
            }
            Ok::<_, CheckpointError>(())
        })?;
        optimizer.set_steps(state.optimizer_steps)?;
        Ok(())
    }
}

/// Writes a checkpoint's files, seals them, and has all on the disk when it returns.
fn write_files(folder: &Path, snapshot: &Snapshot) -> Result<(), CheckpointError> {
    let Snapshot { weights, moments, sizes, state, metrics } = snapshot;
    for (file, tensors) in [(WEIGHTS_FILE, weights), (OPTIMIZER_FILE, moments)] {
        write_safetensors(&folder.join(file), tensors.iter().map(|(name, tensor)| (name.clone(), tensor)), sizes)?;
    }
    let path = folder.join(STATE_FILE);
    let json = serde_json::to_vec_pretty(state).map_err(|source| CheckpointError::State { path: path.clone(), source })?;
    write_whole(&path, &json)?;
    write_whole(&folder.join(METRICS_FILE), metrics)?;
    let names = [WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE, METRICS_FILE];
    let sums = sums(folder, &names).map_err(|source| io("cannot read back", folder, source))?;
    write_whole(&folder.join(SUMS_FILE), sums.as_bytes())?;
    sync(folder)
}

/// Takes the lock of a run's folder; `None` on a file system that has no locks.
fn lock(root: &Path) -> Result<Option<Arc<File>>, CheckpointError> {
    let path = root.join(LOCK_FILE);
    let file = File::create(&path).map_err(|source| io("cannot write", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Arc::new(file))),
        Err(TryLockError::WouldBlock) => Err(CheckpointError::InUse { folder: root.to_owned() }),
        Err(TryLockError::Error(error)) => {
            tracing::debug!("{} cannot be locked: {error}", path.display());
            Ok(None)
        }
    }
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> CheckpointError {
    CheckpointError::Io { doing, path: path.to_owned(), source }
}

fn sync(path: &Path) -> Result<(), CheckpointError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| io("cannot sync", path, source))
}

fn remove(path: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(io("cannot remove", path, source)),
        _ => Ok(()),
    }
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), CheckpointError> {
    atomic::write(path, |file| file.write_all(content)).map_err(|source| io("cannot write", path, source))
}
