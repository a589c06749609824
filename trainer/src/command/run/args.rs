//! Arguments of `glm-trainer run`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use glm_support::command::positive::positive;

use super::places::local_folder;
use super::plan::Bytes;
use super::recipe::suitable_recipe;
use super::resume::RecordedRun;
use super::{Init, Request, Resume};
use crate::checkpoint::locate::CheckpointChoice;
use crate::command::setup::{SetupError, data_folder};
use crate::config::args::{KeyParser, SettingArgs};
use crate::config::overrides::{Layers, is_setting};
use crate::config::recipe::Recipe;
use crate::config::{Config, SettingsError};
use crate::device::{DeviceChoice, Precision};
use crate::distributed::launcher::Processes;
use crate::task::Objective;
use crate::task::seq2seq::Metric;

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Data set: the folder or URL given to `glm-prep ingest`, or its `shards` [default: $GLM_DATA_DIR, else /home/data/perf/glm]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Initial weights: `random`, or a file, folder, archive or URL of glm-trainer, the GLM authors or Hugging Face [default: the published weights next to the data for large, else random]
    #[arg(long, value_name = "PATH")]
    pub init: Option<PathBuf>,
    /// Checkpoint, if --init is the folder of a run: best, latest or the number of its step [default: best, or latest if none was evaluated]
    #[arg(long, value_name = "WHICH", requires = "init")]
    pub checkpoint: Option<CheckpointChoice>,
    /// Task to train; an error if it is not that of the data set [default: that of the data set]
    #[arg(long, value_name = "NAME")]
    pub task: Option<Objective>,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Folder for checkpoints, metrics and settings; with a URL such as s3://bucket/run, a folder in the cache that is copied there [default: a new folder in runs]
    #[arg(long, value_name = "RUNDIR")]
    pub out: Option<PathBuf>,
    /// Resume from the latest checkpoint in RUNDIR, with the data and settings of the run; limits such as --epochs may change. Not needed to repeat the same command
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Allow this setting to differ from the original run; can be repeated
    #[arg(long, value_name = "KEY", requires = "resume", value_parser = KeyParser::keys(), hide_possible_values = true)]
    pub allow: Vec<String>,
    /// Settings for a kind of run [default: for published weights that of the data set's task, such as record or superglue/rte; for random weights scratch, or pretrain on documents; else finetune]
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<Recipe>,
    /// Number of latest checkpoints to keep, in addition to the best one (train.keep_checkpoints)
    #[arg(long, value_name = "N")]
    pub keep: Option<u64>,
    /// Peak learning rate (optim.lr)
    #[arg(long, visible_alias = "learning-rate", value_name = "RATE")]
    pub lr: Option<f64>,
    /// Batch size: questions or samples per optimizer step (data.batch_size)
    #[arg(long, value_name = "N")]
    pub batch_size: Option<u64>,
    /// Passes over the training data (train.epochs)
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Maximum number of optimizer steps (train.max_steps)
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Precision (train.precision)
    #[arg(long)]
    pub precision: Option<Precision>,
    /// Training questions or samples between evaluations (train.eval_every)
    #[arg(long, value_name = "N")]
    pub eval_every: Option<u64>,
    /// Metric of generated texts (seq2seq.metric)
    #[arg(long, value_name = "NAME", value_enum)]
    pub metric: Option<Metric>,
    /// Random seed (train.seed)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Random seeds of several runs, separated by commas: one after the other, each in a folder RUNDIR/seed-N, with a summary. The same command resumes them
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', requires = "out", conflicts_with_all = ["seed", "resume"])]
    pub seeds: Vec<u64>,
    /// Number of processes to start on this machine; `gpu`: one per GPU
    #[arg(long, value_name = "N")]
    pub nproc: Option<Processes>,
    /// Maximum number of restarts of all processes from the latest checkpoint in RUNDIR after a failure
    #[arg(long, value_name = "K", requires_all = ["nproc", "out"])]
    pub max_restarts: Option<u32>,
    /// Print the memory that each rank needs, by kind, and start nothing
    #[arg(long)]
    pub plan: bool,
    /// Number of ranks of the plan [default: --nproc, else 1]
    #[arg(long, value_name = "N", value_parser = positive, requires = "plan")]
    pub ranks: Option<NonZeroUsize>,
    /// Memory of each rank's GPU for the plan, for another machine: 80GB [default: that of this machine]
    #[arg(long, value_name = "SIZE", requires = "plan")]
    pub device_memory: Option<Bytes>,
    /// Print the plan as JSON
    #[arg(long, requires = "plan")]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

impl RunArgs {
    /// Validates the arguments and splits them into a request and settings. A resumed run has the settings and the data set with
    /// which it was started, unless arguments replace them.
    ///
    /// # Errors
    /// [`SetupError`] if a setting is invalid, or there is no run to resume.
    pub fn resolve(mut self) -> Result<(Request, Config), SetupError> {
        if let Some(key) = self.allow.iter().find(|key| !is_setting(key)) {
            let message = "unknown setting; `glm-trainer config` prints all settings".to_owned();
            return Err(SettingsError::Syntax { origin: format!("--allow {key}"), message }.into());
        }
        let (mut data, mut recipe) = (self.data.clone(), self.recipe);
        let init = self.init.clone();
        let init = init.map(|path| if path.as_os_str() == "random" { Init::Random } else { Init::Path(path) });
        let mut copy = None;
        if let Some(out) = self.out.take() {
            let (folder, url) = local_folder(out)?;
            (self.out, copy) = (Some(folder), url);
        }
        let recorded = match &self.out {
            Some(out) if self.resume => RecordedRun::read(out)?,
            _ => None,
        };
        let mut layers = Layers::default();
        match recorded {
            Some(recorded) => {
                layers = Layers::over(&recorded.config);
                data = data.or(recorded.data);
            }
            // None of the recipe's settings defines the model.
            None if recipe.is_none() => {
                let preset = self.config(Layers::default())?.model.preset;
                recipe = Some(suitable_recipe(&data_folder(data.clone()), init.as_ref(), preset));
            }
            None => {}
        }
        if let Some(recipe) = recipe {
            layers.recipe(recipe)?;
        }
        let config = self.config(layers)?;
        let Self { task, checkpoint, device, out, resume, allow, .. } = self;
        let resume = if resume { Resume::Yes } else { Resume::IfSame };
        Ok((Request { data, task, init, checkpoint, device, out, copy, resume, allow, recipe }, config))
    }

    fn config(&self, layers: Layers) -> Result<Config, SettingsError> {
        let text = |value: Option<u64>| value.map(|value| value.to_string());
        let flags = [
            ("--lr", "optim.lr", self.lr.map(|rate| format!("{rate:?}"))),
            ("--batch-size", "data.batch_size", text(self.batch_size)),
            ("--epochs", "train.epochs", text(self.epochs)),
            ("--max-steps", "train.max_steps", text(self.max_steps)),
            ("--precision", "train.precision", self.precision.map(|precision| precision.to_string())),
            ("--eval-every", "train.eval_every", text(self.eval_every)),
            ("--metric", "seq2seq.metric", self.metric.map(|metric| metric.name().to_owned())),
            ("--seed", "train.seed", text(self.seed)),
            ("--keep", "train.keep_checkpoints", text(self.keep)),
        ];
        self.settings.resolve_over(layers, &flags)
    }
}
