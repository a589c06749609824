//! `glm-prep inspect`: its arguments. The program `glm-prep-inspect` next to this one runs the command, because it contains Polars.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};
use glm_schemas::cloze::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::Split;
use glm_support::command::paint::ColourWhen;
use thiserror::Error;

/// File name of the program that runs the command.
const PROGRAM: &str = "glm-prep-inspect";

/// Arguments of `inspect`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep inspect data/record
  glm-prep inspect data/record --split val --where 'num_choices > 20' --rows 2
  glm-prep inspect data/record --sample 3 --json
  glm-prep inspect data/record --split val --rows all --format csv
  glm-prep inspect data/record --schema
  glm-prep inspect data/record --id train-p0-q0-a0
  glm-prep inspect data/record --sql 'select count(*) from shards'
  glm-prep inspect data/record --split val --rows 1 --model-input")]
pub struct InspectArgs {
    /// A shard, or the folder of a data set: the one given to `ingest`, or its `shards`; or the URL of one
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Show only one split: train, val or test
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<Split>,
    /// Number of rows (questions or documents) to show, or all [default: 5; with --model-input: all]
    #[arg(long, value_name = "N", value_parser = parse_rows, conflicts_with = "sql")]
    pub rows: Option<usize>,
    /// Show only rows that match this SQL condition, such as "num_choices > 9 and source = 'CNN'"
    #[arg(long = "where", value_name = "EXPR", conflicts_with_all = ["sql", "model_input"])]
    pub condition: Option<String>,
    /// Show a random sample of N rows
    #[arg(long, value_name = "N", conflicts_with_all = ["rows", "sql", "model_input"])]
    pub sample: Option<usize>,
    /// Seed of --sample
    #[arg(long, value_name = "S", default_value_t = 0, requires = "sample")]
    pub seed: u64,
    /// Show one row in full: a question with marked mentions, choices and tokens, or a document with its tokens
    #[arg(long, value_name = "EXAMPLE_ID", conflicts_with_all = ["rows", "condition", "sample", "sql", "model_input"])]
    pub id: Option<String>,
    /// Vocabulary of the data set if it is not the built-in one: the file given to `ingest --tokenizer`
    #[arg(long, value_name = "PATH", requires = "id")]
    pub tokenizer: Option<PathBuf>,
    /// Colour the output of --id; without colour, marks are shown as brackets
    #[arg(long, alias = "colour", value_name = "WHEN", value_enum, default_value_t = ColourWhen::Auto)]
    pub color: ColourWhen,
    /// Run a SQL query on the table `shards`: the columns of the shards (see --schema)
    #[arg(long, value_name = "QUERY", conflicts_with = "model_input")]
    pub sql: Option<String>,
    /// Format of rows, or of the result of --sql [default: readable text; with --sql: table]
    #[arg(long, value_name = "FORMAT", value_enum, conflicts_with_all = ["json", "model_input"])]
    pub format: Option<Format>,
    /// Short for --format json: one object per line
    #[arg(long)]
    pub json: bool,
    /// Show the manifest and the columns instead of rows
    #[arg(long, conflicts_with_all = ["rows", "condition", "sample", "id", "sql", "json", "format", "model_input"])]
    pub schema: bool,
    /// Print the model input of every choice of questions: one JSON object per line, in published order, not padded
    #[arg(long)]
    pub model_input: bool,
    /// Sequence length that passages are truncated to in the model input
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH, requires = "model_input")]
    pub max_seq_len: usize,
}

impl InspectArgs {
    /// The arguments of `glm-prep inspect PATH`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            split: None,
            rows: None,
            condition: None,
            sample: None,
            seed: 0,
            id: None,
            tokenizer: None,
            color: ColourWhen::Auto,
            sql: None,
            format: None,
            json: false,
            schema: false,
            model_input: false,
            max_seq_len: PUBLISHED_SEQUENCE_LENGTH,
        }
    }
}

/// Output format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns; long texts are shortened.
    Table,
    /// Comma-separated values with a header; lists are JSON.
    Csv,
    /// One JSON object per line.
    Json,
}

/// The program that runs the command cannot be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// It is not where it belongs.
    #[error(
        "{} is missing, which shows rows; install it with glm-prep, or build it: cargo build --release --workspace --bins",
        .0.display()
    )]
    Missing(PathBuf),
    /// The operating system does not start it.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Replaces this process by the program that runs the command, with the same command line. Returns only if that fails.
pub fn start() -> StartError {
    let program = std::env::current_exe().map(|this| this.with_file_name(PROGRAM)).unwrap_or_else(|_| PROGRAM.into());
    let source = Command::new(&program).args(std::env::args_os().skip(1)).exec();
    match source.kind() {
        io::ErrorKind::NotFound => StartError::Missing(program),
        _ => StartError::Start { program, source },
    }
}

/// Parses a number of rows.
fn parse_rows(text: &str) -> Result<usize, String> {
    match text {
        "all" => Ok(usize::MAX),
        _ => text.parse().map_err(|_| "expected a number of rows, or all".to_owned()),
    }
}
