//! The checkpoints of a run.
//!
//! ```text
//! RUNDIR/checkpoints/latest                     name of the newest
//! RUNDIR/checkpoints/best                       name of the one with the best accuracy
//! RUNDIR/checkpoints/step-00000600/model.safetensors      weights
//!                                  optimizer.safetensors  both averages of every parameter
//!                                  state.json             where the run stands
//! ```
//!
//! A checkpoint is written into a temporary folder and renamed when it is whole, and `latest` follows last: whenever a run
//! is killed, `latest` names a whole checkpoint.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::no_grad;

use super::CheckpointError;
use super::locate::{CHECKPOINTS_FOLDER, LATEST_FILE, WEIGHTS_FILE};
use super::weights::{Weights, write_safetensors};
use crate::config::{Config, overrides};
use crate::data::loader::Position;
use crate::model::Glm;
use crate::optim::adamw::AdamW;
use crate::optim::loss_scale::LossScale;
use crate::optim::spikes::SpikeStatistics;

const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "state.json";
const BEST_FILE: &str = "best";
const TEMPORARY: &str = ".writing-";

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Completed optimizer steps: what the schedule counts.
    pub step: u64,
    /// Steps that were skipped, see [`crate::guard`].
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
    /// Accuracy of the newest evaluation.
    pub accuracy: Option<f64>,
    /// Best accuracy of all evaluations.
    pub best_accuracy: Option<f64>,
    /// Fingerprint of the data set.
    pub fingerprint: String,
    /// The settings.
    #[serde(deserialize_with = "overrides::stored")]
    pub config: Config,
}

/// A run's folder.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Makes the folder, or takes one that is there, and clears away checkpoints that a killed run left unfinished.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] where it cannot be made.
    pub fn create(root: &Path) -> Result<Self, CheckpointError> {
        let folder = Self { root: root.to_owned() };
        let checkpoints = folder.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(|source| io("cannot make folder", &checkpoints, source))?;
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

    /// The newest checkpoint's folder, if there is one.
    pub fn latest(&self) -> Option<PathBuf> {
        self.named(LATEST_FILE)
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
    pub fn save(
        &self,
        model: &Glm,
        optimizer: &AdamW,
        state: &RunState,
        is_best: bool,
        keep: usize,
    ) -> Result<PathBuf, CheckpointError> {
        let name = format!("step-{:08}", state.step);
        let folder = self.checkpoints();
        let (temporary, published) = (folder.join(format!("{TEMPORARY}{name}")), folder.join(&name));
        remove(&temporary)?;
        fs::create_dir_all(&temporary).map_err(|source| io("cannot make folder", &temporary, source))?;
        let weights = model.parameters().iter().map(|parameter| (parameter.name.clone(), &parameter.tensor));
        write_safetensors(&temporary.join(WEIGHTS_FILE), weights, model.config())?;
        let moments = model.parameters().iter().zip(optimizer.moments()).flat_map(|(parameter, moments)| {
            [(format!("first.{}", parameter.name), &moments.first), (format!("second.{}", parameter.name), &moments.second)]
        });
        write_safetensors(&temporary.join(OPTIMIZER_FILE), moments, model.config())?;
        let path = temporary.join(STATE_FILE);
        let json = serde_json::to_vec_pretty(state).map_err(|source| CheckpointError::State { path: path.clone(), source })?;
        write_whole(&path, &json)?;
        for file in [WEIGHTS_FILE, OPTIMIZER_FILE] {
            sync(&temporary.join(file))?;
        }
        sync(&temporary)?;
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
        let mut steps: Vec<PathBuf> = self
            .names()?
            .into_iter()
            .filter(|name| name.starts_with("step-"))
            .map(|name| self.checkpoints().join(name))
            .collect();
        steps.truncate(steps.len().saturating_sub(keep.max(1)));
        steps.iter().filter(|path| !kept.contains(&Some((*path).clone()))).try_for_each(|path| remove(path))
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
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| io("cannot write", path, source))
}
