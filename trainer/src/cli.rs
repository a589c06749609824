//! Command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use glm_support::command::completions::{self, CompletionsArgs};
use glm_support::command::log::LogArgs;
use glm_support::command::manual::{self, ManArgs};

use crate::command::bench::BenchArgs;
use crate::command::convert::ConvertArgs;
use crate::command::eval::EvalArgs;
use crate::command::fetch::FetchArgs;
use crate::command::generate::GenerateArgs;
use crate::command::inspect::InspectArgs;
use crate::command::predict::PredictArgs;
use crate::command::presets::PresetsArgs;
use crate::command::report::ReportArgs;
use crate::command::run::RunArgs;
use crate::command::score::ScoreArgs;
use crate::config::args::ConfigArgs;
use crate::version;

/// Name of the program.
const PROGRAM: &str = "glm-trainer";

/// Trains GLM by blank infilling, on cloze questions and on pairs of texts; evaluates it, and generates text
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version = glm_build_info::SHORT, long_version = version::LONG.as_str(), max_term_width = glm_support::command::WIDTH, after_help = "\
Examples:
  glm-trainer run --data sample --preset tiny --init random --out runs/first
  glm-trainer eval --data sample --init runs/first
  glm-trainer bench --preset base --steps 3
  glm-trainer config > my.toml             # all settings, to be edited

Exit codes:
  0   success
  1   failure
  2   invalid usage
  75  stopped by a signal (Ctrl-C, SIGTERM, SIGUSR1) after writing a checkpoint
  130 stopped at once by a second Ctrl-C")]
pub struct Cli {
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
    /// Folder of the cache for files of object stores, s3://... and others [default: $GLM_CACHE, else glm in the user's cache folder]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub log: LogArgs,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model; by default the published recipe on the data in $GLM_DATA_DIR or /home/data/perf/glm
    #[command(
        alias = "train",
        after_help = "\
Examples:
  glm-trainer run --data sample --preset tiny --init random --out runs/first
  glm-trainer run --resume --out runs/first --epochs 20
  glm-trainer run --data DIR --init glm-large-blank.tar.bz2 --nproc gpu
  glm-trainer run --data DIR --config my.toml --lr 2e-5
  glm-trainer run --data rte --init glm-large-blank.tar.bz2 --seeds 1,2,3 \\
    --out runs/rte

--nproc starts several processes on this machine. For several machines use torchrun, or set MASTER_ADDR and \
GLM_STORE_SECRET for Slurm's srun, or also RANK, WORLD_SIZE and MASTER_PORT; docs/distributed.md has example scripts."
    )]
    Run(Box<RunArgs>),
    /// Evaluate the accuracy of weights, or how well they predict text
    #[command(after_help = "\
Examples:
  glm-trainer eval --data sample --init runs/first
  glm-trainer eval --data sample --init runs/first --scores scores.jsonl
  glm-trainer eval --task lm --data text.txt --init runs/first
  glm-trainer eval --task lm --metric lambada --data lambada.jsonl --init run

--task lm scores texts instead of questions: docs/language-model.md.")]
    Eval(Box<EvalArgs>),
    /// Predict the answers of a split and write them, for its tasks in SuperGLUE's format
    #[command(after_help = "\
Examples:
  glm-trainer predict --data DIR --init runs/first --out ReCoRD.jsonl
  glm-trainer predict --data DIR --split val --init runs/first --out val.jsonl
  glm-trainer predict --data own --init runs/own --out - | head
  glm-trainer predict --all runs/rte runs/boolq --out submission.zip")]
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
    /// Fill the blanks of texts with generated text
    #[command(after_help = "\
Examples:
  glm-trainer generate --init runs/first 'It was [MASK] who came.'
  glm-trainer generate --init runs/first 'Once upon' --top-p 0.9 --num-return 3
  glm-trainer generate --init runs/first --file texts.jsonl --beams 4 --json
  glm-trainer generate --init runs/first

A text as JSON:
  {\"text\": \"It was [MASK] who came.\", \"id\": 7}
Without options, tokens are sampled with --temperature 0.9 --top-k 40.")]
    Generate(Box<GenerateArgs>),
    /// Measure the speed of training, or with --data-only of data loading
    #[command(after_help = "\
Examples:
  glm-trainer bench --preset base --precision fp32 --steps 3 --profile
  glm-trainer bench --batch-sizes 8,16,32,64 --set data.micro_batch_tokens=20000
  glm-trainer bench --preset large --precision fp16 --baseline
  glm-trainer bench --data DIR --data-only")]
    Bench(Box<BenchArgs>),
    /// Download published weights; interrupted downloads resume
    #[command(after_help = "\
Examples:
  glm-trainer fetch glm-large-blank /home/data/perf/glm
  glm-trainer fetch 2b data                        # a preset: glm-2b
  glm-trainer fetch glm-base-blank data --url https://mirror.example/b.bz2")]
    Fetch(FetchArgs),
    /// Print names, shapes, data types and norms of weights, or compare two weights files
    #[command(after_help = "\
Examples:
  glm-trainer inspect runs/first
  glm-trainer inspect runs/first glm-large-blank.tar.bz2 --json")]
    Inspect(InspectArgs),
    /// Convert weights to safetensors, to the format of the published Python code, or to a Hugging Face folder
    #[command(after_help = "\
Examples:
  glm-trainer convert runs/first for-python --to published
  glm-trainer convert glm-2b.tar.bz2 glm-2b-mp4 --to published --parts 4
  glm-trainer convert runs/first for-transformers --to hugging-face
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
  glm-trainer config --recipe scratch              # settings for random weights
  glm-trainer config --markdown > docs/configuration.md")]
    Config(ConfigArgs),
    /// Print the published models: sizes, vocabulary and names
    #[command(after_help = "\
Examples:
  glm-trainer presets
  glm-trainer presets --json
  glm-trainer fetch 2b data                        # the weights of a preset
  glm-trainer run --preset 2b --data data")]
    Presets(PresetsArgs),
    /// Print a script for shell completion
    #[command(after_help = completions::after_help(PROGRAM))]
    Completions(CompletionsArgs),
    /// Write manual pages
    #[command(after_help = manual::after_help(PROGRAM))]
    Man(ManArgs),
}
