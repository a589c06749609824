//! Command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use glm_support::command::completions::{self, CompletionsArgs};
use glm_support::command::manual::{self, ManArgs};

use crate::command::bench::simulate::Plan;
use crate::command::bench::simulate::assumptions::{ComputeSpeed, Given};
use crate::command::convert::ConvertArgs;
use crate::command::eval::EvalArgs;
use crate::command::fetch::FetchArgs;
use crate::command::inspect::InspectArgs;
use crate::command::launch::RunArgs;
use crate::command::predict::PredictArgs;
use crate::command::report::ReportArgs;
use crate::command::score::ScoreArgs;
use crate::config::args::{ConfigArgs, SettingArgs};
use crate::config::{Config, SettingsError};
use crate::device::DeviceChoice;

/// Name of the program.
const PROGRAM: &str = "glm-trainer";

/// Fine-tunes GLM for multi-token cloze (ReCoRD)
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = glm_support::command::WIDTH, after_help = "\
Examples:
  glm-trainer run --data sample --preset tiny --init random --out runs/first
  glm-trainer eval --data sample --init runs/first
  glm-trainer bench --preset base --steps 3
  glm-trainer config > my.toml             # all settings, to be edited

Exit codes:
  0   success
  1   failure
  2   invalid usage
  75  stopped by a signal (Ctrl-C, SIGTERM, SIGUSR1) after writing a checkpoint")]
pub struct Cli {
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
    /// Print warnings and errors only; twice: errors only.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub quiet: u8,
    /// Print debug messages.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model; by default the published recipe on the data in $GLM_DATA_DIR or /home/data/perf/glm
    #[command(after_help = "\
Examples:
  glm-trainer run --data sample --preset tiny --init random --out runs/first
  glm-trainer run --data DIR --init glm-large-blank.tar.bz2 --nproc gpu
  glm-trainer run --data DIR --config my.toml --set optim.lr=2e-5
  glm-trainer run --data DIR --out runs/first --resume --max-steps 9000

--nproc starts several processes on this machine. For several machines use torchrun, Slurm's srun, or set RANK, WORLD_SIZE, \
MASTER_ADDR and MASTER_PORT; docs/distributed.md has example scripts.")]
    Run(Box<RunArgs>),
    /// Evaluate the accuracy of weights
    #[command(after_help = "\
Examples:
  glm-trainer eval --data sample --init runs/first
  glm-trainer eval --data sample --init runs/first --scores scores.jsonl")]
    Eval(Box<EvalArgs>),
    /// Predict the answers of a split and write them in SuperGLUE's format for ReCoRD
    #[command(after_help = "\
Examples:
  glm-trainer predict --data DIR --init runs/first --out ReCoRD.jsonl
  glm-trainer predict --data DIR --split val --init runs/first --out val.jsonl")]
    Predict(Box<PredictArgs>),
    /// Rank the choices of your own questions, given as JSON, as arguments, or interactively
    #[command(after_help = "\
Examples:
  glm-trainer score --init runs/first
  glm-trainer score --init runs/first questions.jsonl --json
  glm-trainer score --init runs/first --passage 'Ann met Bo.' \\
    --query 'It was [BLANK] who came.' --choice Ann --choice Bo

A question as JSON:
  {\"context\": \"Ann met Bo. [BLANK] ran.\", \"choices\": [\"Ann\", \"Bo\"]}
or with \"passage\" and \"query\" instead of \"context\", and the blank in the query.")]
    Score(Box<ScoreArgs>),
    /// Measure the speed of training, or with --data-only of data loading
    #[command(after_help = "\
Examples:
  glm-trainer bench --preset base --precision fp32 --steps 3 --profile
  glm-trainer bench --data DIR --data-only
  glm-trainer bench --data DIR --simulate-ranks 8,64 --tflops 200")]
    Bench(Box<BenchArgs>),
    /// Download published weights; interrupted downloads resume
    #[command(after_help = "\
Examples:
  glm-trainer fetch glm-large-blank /home/data/perf/glm
  glm-trainer fetch glm-base-blank data --url https://mirror.example/b.bz2")]
    Fetch(FetchArgs),
    /// Print names, shapes, data types and norms of weights, or compare two weights files
    #[command(after_help = "\
Examples:
  glm-trainer inspect runs/first
  glm-trainer inspect runs/first glm-large-blank.tar.bz2 --json")]
    Inspect(InspectArgs),
    /// Convert weights to safetensors, or to the format of the published Python code
    #[command(after_help = "\
Examples:
  glm-trainer convert runs/first for-python --to published
  glm-trainer convert glm-large-blank.tar.bz2 large.safetensors --dtype fp32")]
    Convert(ConvertArgs),
    /// Write an HTML page about a run with charts, settings and the hardest questions
    #[command(after_help = "\
Examples:
  glm-trainer report runs/first
  glm-trainer report runs/first --out first.html")]
    Report(ReportArgs),
    /// Print all settings with defaults and descriptions, as a file for --config
    #[command(after_help = "\
Examples:
  glm-trainer config > my.toml                     # for run --config my.toml
  glm-trainer config --markdown > docs/configuration.md")]
    Config(ConfigArgs),
    /// Print a script for shell completion
    #[command(after_help = completions::after_help(PROGRAM))]
    Completions(CompletionsArgs),
    /// Write manual pages
    #[command(after_help = manual::after_help(PROGRAM))]
    Man(ManArgs),
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
    pub simulate: SimulateArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

/// Arguments of `bench` that derive what training by many ranks would take.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Training by many ranks, derived")]
pub struct SimulateArgs {
    /// Compute nothing; derive what training by so many ranks would take, see docs/scaling.md
    #[arg(long = "simulate-ranks", value_name = "N,…", value_delimiter = ',', conflicts_with_all = ["data_only", "profile"],
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65536))]
    pub ranks: Vec<usize>,
    /// Speed of a rank's passes, or `measured`: that of this machine's matrix products
    #[arg(long, value_name = "N", requires = "ranks", value_parser = compute_speed)]
    pub tflops: Option<ComputeSpeed>,
    /// Gigabytes a second of a rank's memory
    #[arg(long, value_name = "N", requires = "ranks", value_parser = positive)]
    pub memory_gigabytes: Option<f64>,
    /// Microseconds that a block takes at least, forward and backward
    #[arg(long, value_name = "N", requires = "ranks", value_parser = not_negative)]
    pub launch_us: Option<f64>,
    /// Gigabits a second that a rank sends to another of its machine
    #[arg(long, value_name = "N", requires = "ranks", value_parser = positive)]
    pub link_gbps: Option<f64>,
    /// Gigabits a second that a machine sends to others
    #[arg(long, value_name = "N", requires = "ranks", value_parser = positive)]
    pub network_gbps: Option<f64>,
    /// Microseconds that a message takes however small it is
    #[arg(long, value_name = "N", requires = "ranks", value_parser = not_negative)]
    pub latency_us: Option<f64>,
    /// Ranks of a machine
    #[arg(long, value_name = "N", requires = "ranks",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65536))]
    pub ranks_per_node: Option<usize>,
    /// MiB of gradients that are sent together
    #[arg(long, value_name = "N", requires = "ranks", value_parser = positive)]
    pub bucket_mib: Option<f64>,
}

impl SimulateArgs {
    /// What they ask for; `None` where nothing is to be simulated.
    pub fn plan(&self, steps: usize) -> Option<Plan> {
        let given = Given {
            compute: self.tflops,
            memory_gigabytes: self.memory_gigabytes,
            launch_us: self.launch_us,
            link_gbps: self.link_gbps,
            network_gbps: self.network_gbps,
            latency_us: self.latency_us,
            ranks_per_node: self.ranks_per_node,
            bucket_mib: self.bucket_mib,
        };
        (!self.ranks.is_empty()).then(|| Plan { ranks: self.ranks.clone(), steps, given })
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err("it must be more than 0".to_owned()) }
}

fn not_negative(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) { Ok(0.0) } else { positive(text) }
}

fn compute_speed(text: &str) -> Result<ComputeSpeed, String> {
    if text == "measured" { Ok(ComputeSpeed::Measured) } else { positive(text).map(ComputeSpeed::Teraflops) }
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
