//! Command line of `glm-prep`.

mod error;
mod ingest;
mod interrupt;
mod task;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};
use glm_schemas::SCHEMA_VERSION;
use glm_support::command::completions::{self, CompletionsArgs};
use glm_support::command::log::{Log, LogArgs, Times};
use glm_support::command::manual::{self, ManArgs};
use glm_support::files::progress;
use tracing::Level;

pub use self::error::CliError;
use self::ingest::{IngestArgs, MergeArgs};
use crate::fetch::{self, FetchArgs};
use crate::inspect::{self, InspectArgs};
use crate::pattern::command::{self, PatternsArgs};
use crate::report::{self, ReportArgs};
use crate::sample::{self, SampleArgs};
use crate::stats::{self, StatsArgs};
use crate::verify::{self, VerifyArgs};

/// Name of the program.
const PROGRAM: &str = "glm-prep";

/// Text of `--version` after the name of the program.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| format!("{}\nschema version {SCHEMA_VERSION}", glm_build_info::SHORT));

/// Command line of `glm-prep`.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version = glm_build_info::SHORT, long_version = LONG_VERSION.as_str(), about = "Turns raw data, cloze questions or documents, into tokenized Parquet shards")]
#[command(max_term_width = glm_support::command::WIDTH, after_help = "\
Examples:
  glm-prep fetch record data               # download ReCoRD
  glm-prep ingest data                     # raw data -> data/shards
  glm-prep inspect data --rows 1           # show one question
  glm-prep verify data                     # check every byte and row
  glm-prep sample --out s --passages 3000  # write a sample corpus

Exit codes:
  0  success
  1  failure; nothing was published
  2  invalid usage
  3  success, but some records were rejected: see shards/rejects.jsonl
  4  `verify` found a fault
  130  an ingest was stopped by a signal")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Folder of the cache for files of object stores, s3://... and others [default: $GLM_CACHE, else glm in the user's cache folder]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read raw data, questions or documents, from DIR and write its shards to DIR/shards
    Ingest(IngestArgs),
    /// Combine the parts written by `ingest --partition` into one data set
    Merge(MergeArgs),
    /// Download raw data
    Fetch(FetchArgs),
    /// List the tasks with patterns, such as those of SuperGLUE, or print the patterns of one
    Patterns(PatternsArgs),
    /// Show rows of a shard or a data set
    Inspect(InspectArgs),
    /// Check every byte and every row of a data set
    Verify(VerifyArgs),
    /// Print statistics of a data set: lengths, unknown tokens, copies, rows shared by splits
    Stats(StatsArgs),
    /// Write an HTML report of a data set: statistics, rejected records, sample rows
    Report(ReportArgs),
    /// Write a sample corpus in ReCoRD's format
    Sample(SampleArgs),
    /// Print a shell completion script
    #[command(after_help = completions::after_help(PROGRAM))]
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(after_help = manual::after_help(PROGRAM))]
    Man(ManArgs),
}

impl Cli {
    /// Starts the log on standard error.
    pub fn start_log(&self) -> Log {
        self.log.start(Level::WARN, Times::None)
    }

    /// The arguments of `inspect`, if that is the command.
    pub fn inspect(&self) -> Option<&InspectArgs> {
        match &self.command {
            Command::Inspect(args) => Some(args),
            _ => None,
        }
    }

    /// True if messages that are not errors are left out.
    pub fn is_quiet(&self) -> bool {
        self.log.quiet > 0
    }

    /// Uses the cache of the command line for files of object stores.
    pub fn set_cache(&self) {
        if let Some(folder) = &self.cache {
            glm_remote::cache::set_folder(folder);
        }
    }

    /// Runs the command and writes its output to `out`.
    ///
    /// # Errors
    /// [`CliError`], whose message is one sentence.
    pub fn run(&self, out: &mut dyn Write) -> Result<ExitCode, CliError> {
        let quiet = self.is_quiet();
        self.set_cache();
        match &self.command {
            Command::Ingest(args) => return args.run(quiet, out),
            Command::Merge(args) => return args.run(quiet, out),
            Command::Fetch(args) => fetch::run(args, quiet, progress::of(quiet).as_ref(), out)?,
            Command::Patterns(args) => command::run(args, out)?,
            Command::Inspect(_) => return Err(inspect::start().into()),
            Command::Verify(args) => {
                // The Parquet library panics on some damaged files; `verify` catches the panic and reports the damage.
                std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
                return Ok(verify::run(args, out)?);
            }
            Command::Stats(args) => stats::run(args, out)?,
            Command::Report(args) => report::run(args, out)?,
            Command::Sample(args) => sample::run(args, out)?,
            Command::Completions(args) => out.write_all(&completions::script(Self::command(), args.shell))?,
            Command::Man(args) => write!(out, "{}", manual::write(Self::command(), &args.dir)?)?,
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }
}
