//! Arguments of `glm-trainer run`.

use std::path::PathBuf;

use clap::Args;

use super::{Init, Request, Resume};
use crate::checkpoint::locate::CheckpointChoice;
use crate::config::args::SettingArgs;
use crate::config::overrides::is_setting;
use crate::config::{Config, SettingsError};
use crate::device::DeviceChoice;
use crate::distributed::launcher::Processes;

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Data set: the folder given to `glm-prep ingest`, or its `shards` [default: $GLM_DATA_DIR, else /home/data/perf/glm]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Initial weights: `random`, or a file, folder or archive of glm-trainer, the GLM authors or Hugging Face [default: the published weights next to the data for large, else random]
    #[arg(long, value_name = "PATH")]
    pub init: Option<PathBuf>,
    /// Checkpoint, if --init is the folder of a run: best, latest or the number of its step [default: best, or latest if none was evaluated]
    #[arg(long, value_name = "WHICH", requires = "init")]
    pub checkpoint: Option<CheckpointChoice>,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Folder for checkpoints, metrics and settings [default: a new folder in runs]
    #[arg(long, value_name = "RUNDIR")]
    pub out: Option<PathBuf>,
    /// Resume from the latest checkpoint in RUNDIR; other limits are allowed. Not needed to repeat the same command
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Allow this setting to differ from the original run; can be repeated
    #[arg(long, value_name = "KEY", requires = "resume")]
    pub allow: Vec<String>,
    /// Number of latest checkpoints to keep, in addition to the best one (train.keep_checkpoints)
    #[arg(long, value_name = "N")]
    pub keep: Option<u64>,
    /// Maximum number of optimizer steps (train.max_steps)
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Questions between evaluations (train.eval_every)
    #[arg(long, value_name = "N")]
    pub eval_every: Option<u64>,
    /// Random seed (train.seed)
    #[arg(long)]
    pub seed: Option<u64>,
    /// Number of processes to start on this machine; `gpu`: one per GPU
    #[arg(long, value_name = "N")]
    pub nproc: Option<Processes>,
    /// Maximum number of restarts of all processes from the latest checkpoint in RUNDIR after a failure
    #[arg(long, value_name = "K", requires_all = ["nproc", "out"])]
    pub max_restarts: Option<u32>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

impl RunArgs {
    /// Validates the arguments and splits them into a request and settings.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn resolve(self) -> Result<(Request, Config), SettingsError> {
        let config = self.config()?;
        let init = self.init.map(|path| if path.as_os_str() == "random" { Init::Random } else { Init::Path(path) });
        let Self { data, checkpoint, device, out, resume, allow, .. } = self;
        let resume = if resume { Resume::Yes } else { Resume::IfSame };
        Ok((Request { data, init, checkpoint, device, out, resume, allow }, config))
    }

    fn config(&self) -> Result<Config, SettingsError> {
        if let Some(key) = self.allow.iter().find(|key| !is_setting(key)) {
            let message = "unknown setting; `glm-trainer config` prints all settings".to_owned();
            return Err(SettingsError::Syntax { origin: format!("--allow {key}"), message });
        }
        self.settings.resolve(&[
            ("train.max_steps", self.max_steps),
            ("train.eval_every", self.eval_every),
            ("train.seed", self.seed),
            ("train.keep_checkpoints", self.keep),
        ])
    }
}
