//! What was typed, and what that means.

mod ingest;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use glm_support::command::completions::{self, CompletionsArgs};
use glm_support::command::manual::{self, ManArgs, ManualError};
use glm_support::command::paint::log_has_colour;
use glm_support::files::progress;
use thiserror::Error;
use tracing::level_filters::LevelFilter;

use self::ingest::{IngestArgs, MergeArgs};
use crate::fetch::{self, FetchArgs, FetchCommandError};
use crate::ingest::IngestError;
use crate::inspect::{self, InspectArgs, InspectError};
use crate::report::{self, ReportArgs, ReportError};
use crate::sample::{self, SampleArgs, SampleError};
use crate::stats::{self, StatsArgs, StatsError};
use crate::verify::{self, VerifyArgs, VerifyError};

/// The name of the program.
const PROGRAM: &str = "glm-prep";

/// The command line of `glm-prep`.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, about = "Turns raw cloze data into tokenized, span-annotated Parquet shards")]
#[command(max_term_width = glm_support::command::WIDTH, after_help = "\
Examples:
  glm-prep fetch record data               # download ReCoRD
  glm-prep ingest data                     # raw data -> data/shards
  glm-prep inspect data --rows 1           # look at one question
  glm-prep verify data                     # check every byte and row
  glm-prep sample --out s --passages 3000  # no data? a sample corpus

Exit codes:
  0  done
  1  failed; nothing was published
  2  the command line makes no sense
  3  done, but some records were rejected: shards/rejects.jsonl
  4  `verify` found a fault")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say nothing but errors and what was asked for
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
    /// Say more; twice for still more
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet", help_heading = "Global options")]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read raw cloze data from DIR and write its shards to DIR/shards
    Ingest(IngestArgs),
    /// Make one data set of the parts that `ingest --partition` has left in DIR
    Merge(MergeArgs),
    /// Download raw data
    Fetch(FetchArgs),
    /// Look into a shard or a data set
    Inspect(InspectArgs),
    /// Check every byte and every row of a data set
    Verify(VerifyArgs),
    /// Count a data set: lengths, choices, unknown tokens, passages that two splits share
    Stats(StatsArgs),
    /// Write one HTML page about a data set, to look at or to send: what stats counts, rejects, sample questions
    Report(ReportArgs),
    /// Write a sample corpus in ReCoRD's format
    Sample(SampleArgs),
    /// Print the script that makes a shell complete commands and options
    #[command(after_help = completions::after_help(PROGRAM))]
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(after_help = manual::after_help(PROGRAM))]
    Man(ManArgs),
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// `ingest` failed.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// `inspect` failed.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// `fetch` failed.
    #[error(transparent)]
    Fetch(#[from] FetchCommandError),
    /// `verify` failed.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// `stats` failed.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// `report` failed.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// `sample` failed.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// `man` failed.
    #[error(transparent)]
    Man(#[from] ManualError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Cli {
    /// Sets up what is logged, to standard error.
    pub fn start_logging(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::ERROR,
            (false, 0) => LevelFilter::WARN,
            (false, 1) => LevelFilter::DEBUG,
            (false, _) => LevelFilter::TRACE,
        };
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(log_has_colour())
            .with_writer(io::stderr)
            .without_time()
            .with_target(false)
            .init();
    }

    /// Does what was typed; what was asked for goes to `out`.
    ///
    /// # Errors
    /// [`CliError`] is one clear sentence.
    pub fn run(&self, out: &mut dyn Write) -> Result<ExitCode, CliError> {
        match &self.command {
            Command::Ingest(args) => return args.run(self.quiet, out),
            Command::Merge(args) => return args.run(self.quiet, out),
            Command::Fetch(args) => fetch::run(args, self.quiet, progress::of(self.quiet).as_ref(), out)?,
            Command::Inspect(args) => inspect::run(args, out)?,
            Command::Verify(args) => {
                // The Parquet library panics on some damaged bytes; `verify` catches that and says it in its own words.
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
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
