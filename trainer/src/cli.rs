//! The command line, as typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use glm_support::command::completions::{self, CompletionsArgs};
use glm_support::command::manual::{self, ManArgs};

use crate::command::convert::ConvertArgs;
use crate::command::eval::EvalArgs;
use crate::command::fetch::FetchArgs;
use crate::command::inspect::InspectArgs;
use crate::command::launch::{Init, Request, Resume};
use crate::command::predict::PredictArgs;
use crate::command::report::ReportArgs;
use crate::command::score::ScoreArgs;
use crate::config::overrides::{Layers, is_setting};
use crate::config::{Config, SettingsError};
use crate::device::DeviceChoice;
use crate::distributed::launcher::Processes;
use crate::model::Preset;

/// The name of the program.
const PROGRAM: &str = "glm-trainer";

/// Fine-tunes GLM for multi-token cloze (ReCoRD)
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = glm_support::command::WIDTH, after_help = "\
Examples:
  glm-trainer run --data sample --preset tiny --init random --out runs/first
  glm-trainer eval --data sample --init runs/first
  glm-trainer bench --preset base --steps 3
  glm-trainer config > my.toml             # every setting, to be changed

Exit codes:
  0   done
  1   failed
  2   the command line makes no sense
  75  stopped by a signal (Ctrl-C, SIGTERM, SIGUSR1), a checkpoint is written")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Say less; twice: errors only.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub quiet: u8,
    /// Say more, down to single decisions.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train: without arguments, the published recipe on $GLM_DATA_DIR or /home/data/perf/glm
    #[command(after_help = "\
Examples:
  glm-trainer run --data sample --preset tiny --init random --out runs/first
  glm-trainer run --data DIR --init glm-large-blank.tar.bz2 --nproc gpu
  glm-trainer run --data DIR --config my.toml --set optim.lr=2e-5
  glm-trainer run --data DIR --out runs/first --resume --max-steps 9000

--nproc starts several processes on this machine; torchrun, Slurm's srun, or RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT \
do on any number. docs/distributed.md has scripts to copy.")]
    Run(Box<RunArgs>),
    /// Measure the accuracy of weights
    #[command(after_help = "\
Examples:
  glm-trainer eval --data sample --init runs/first
  glm-trainer eval --data sample --init runs/first --scores scores.jsonl")]
    Eval(Box<EvalArgs>),
    /// Write what weights answer to every question of a split, as SuperGLUE takes it for ReCoRD
    #[command(after_help = "\
Examples:
  glm-trainer predict --data DIR --init runs/first --out ReCoRD.jsonl
  glm-trainer predict --data DIR --split val --init runs/first --out val.jsonl")]
    Predict(Box<PredictArgs>),
    /// Rank the choices of a question that you write: in JSON, as arguments, or typed when asked
    #[command(after_help = "\
Examples:
  glm-trainer score --init runs/first
  glm-trainer score --init runs/first questions.jsonl --json
  glm-trainer score --init runs/first --passage 'Ann met Bo.' \\
    --query 'It was [BLANK] who came.' --choice Ann --choice Bo

A question as JSON:
  {\"context\": \"Ann met Bo. [BLANK] ran.\", \"choices\": [\"Ann\", \"Bo\"]}
or with \"passage\" and \"query\" in place of \"context\", the blank in the query.")]
    Score(Box<ScoreArgs>),
    /// Measure how fast this machine trains, or with --data-only how fast it reads shards
    #[command(after_help = "\
Examples:
  glm-trainer bench --preset base --precision fp32 --steps 3 --profile
  glm-trainer bench --data DIR --data-only")]
    Bench(Box<BenchArgs>),
    /// Download published weights; a download that was cut is continued by the same command
    #[command(after_help = "\
Examples:
  glm-trainer fetch glm-large-blank /home/data/perf/glm
  glm-trainer fetch glm-base-blank data --url https://mirror.example/b.bz2")]
    Fetch(FetchArgs),
    /// Show names, shapes, types and norms of weights, or how two files of weights differ
    #[command(after_help = "\
Examples:
  glm-trainer inspect runs/first
  glm-trainer inspect runs/first glm-large-blank.tar.bz2 --json")]
    Inspect(InspectArgs),
    /// Write weights as safetensors, or as the published Python code loads them
    #[command(after_help = "\
Examples:
  glm-trainer convert runs/first for-python --to published
  glm-trainer convert glm-large-blank.tar.bz2 large.safetensors --dtype fp32")]
    Convert(ConvertArgs),
    /// Write one HTML page about a run, to look at or to send: charts, settings, the hardest questions
    #[command(after_help = "\
Examples:
  glm-trainer report runs/first
  glm-trainer report runs/first --out first.html")]
    Report(ReportArgs),
    /// Print every setting with its default and what it does, as a file for --config
    #[command(after_help = "\
Examples:
  glm-trainer config > my.toml                     # then: run --config my.toml
  glm-trainer config --markdown > docs/configuration.md")]
    Config(ConfigArgs),
    /// Print the script that makes a shell complete commands and options
    #[command(after_help = completions::after_help(PROGRAM))]
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(after_help = manual::after_help(PROGRAM))]
    Man(ManArgs),
}

/// Settings: defaults, then the file, then flags, then each --set.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingArgs {
    /// Size of the model; weights of another size are refused
    #[arg(long)]
    pub preset: Option<Preset>,
    /// A file of settings; `glm-trainer config` prints one with all of them
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Changes one setting, for example optim.lr=2e-5; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of `config`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfigArgs {
    /// Print a page of documentation instead: a table a section
    #[arg(long)]
    pub markdown: bool,
}

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The folder that was given to `glm-prep ingest`, or its `shards` [default: $GLM_DATA_DIR, else /home/data/perf/glm]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Weights to start from: a file, folder or archive, ours, published or Hugging Face's, or `random` [default: the published ones beside the data for large, else random]
    #[arg(long, value_name = "PATH")]
    pub init: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Where checkpoints, metrics and settings go [default: a new folder under runs]
    #[arg(long, value_name = "RUNDIR")]
    pub out: Option<PathBuf>,
    /// Go on from the newest checkpoint in RUNDIR, also to a later end; the same command again does so without it
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Let a setting differ from what the run in RUNDIR began with; may be repeated
    #[arg(long, value_name = "KEY", requires = "resume")]
    pub allow: Vec<String>,
    /// Newest checkpoints that are kept, beside the best (train.keep_checkpoints)
    #[arg(long, value_name = "N")]
    pub keep: Option<u64>,
    /// Most optimizer steps (train.max_steps)
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Questions between evaluations (train.eval_every)
    #[arg(long, value_name = "N")]
    pub eval_every: Option<u64>,
    /// Seed of everything random (train.seed)
    #[arg(long)]
    pub seed: Option<u64>,
    /// Train with N processes on this machine; `gpu`: one for each GPU
    #[arg(long, value_name = "N")]
    pub nproc: Option<Processes>,
    /// After a failure start all processes again from the newest checkpoint in RUNDIR, at most K times
    #[arg(long, value_name = "K", requires_all = ["nproc", "out"])]
    pub max_restarts: Option<u32>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

/// Arguments of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// A data set; without it, questions of ReCoRD's lengths are made up
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads of operators on a CPU (train.threads)
    #[arg(long, value_name = "N")]
    pub threads: Option<u64>,
    /// fp32, bf16, fp16 or auto (train.precision)
    #[arg(long)]
    pub precision: Option<String>,
    /// Steps before the clock starts
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub warmup: usize,
    /// Steps that are timed
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub steps: usize,
    /// Tell where the time of a step goes, on a CPU
    #[arg(long)]
    pub profile: bool,
    /// Read an epoch of the data set and do nothing with it
    #[arg(long, requires = "data")]
    pub data_only: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

impl BenchArgs {
    /// The settings that the arguments ask for.
    ///
    /// # Errors
    /// [`SettingsError`] names what is wrong.
    pub fn resolve(&self) -> Result<Config, SettingsError> {
        let mut settings = self.settings.clone();
        if let Some(precision) = &self.precision {
            settings.set.insert(0, format!("train.precision={precision}"));
        }
        let epochs = self.data_only.then_some(1);
        settings.resolve(&[("train.threads", self.threads), ("train.epochs", epochs)])
    }
}

impl SettingArgs {
    /// Lays file, flags and assignments over the defaults. `flags` are keys with values from other arguments.
    ///
    /// # Errors
    /// [`SettingsError`] names what is wrong.
    pub fn resolve(&self, flags: &[(&str, Option<u64>)]) -> Result<Config, SettingsError> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers.file(path)?;
        }
        if let Some(preset) = self.preset {
            layers.set("--preset", "model.preset", preset.name().into())?;
        }
        for (key, value) in flags {
            if let Some(value) = value {
                layers.assignment(&format!("{key}={value}"))?;
            }
        }
        self.set.iter().try_for_each(|text| layers.assignment(text))?;
        layers.resolve()
    }
}

impl RunArgs {
    /// What the arguments ask for.
    ///
    /// # Errors
    /// [`SettingsError`] names what is wrong.
    pub fn resolve(self) -> Result<(Request, Config), SettingsError> {
        let config = self.config()?;
        let init = self.init.map(|path| if path.as_os_str() == "random" { Init::Random } else { Init::Path(path) });
        let Self { data, device, out, resume, allow, .. } = self;
        let resume = if resume { Resume::Yes } else { Resume::IfSame };
        Ok((Request { data, init, device, out, resume, allow }, config))
    }

    fn config(&self) -> Result<Config, SettingsError> {
        if let Some(key) = self.allow.iter().find(|key| !is_setting(key)) {
            let message = "there is no such setting; `glm-trainer config` prints all".to_owned();
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
