//! What was typed, and what that means.

mod progress;

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand};
use glm_schemas::encoding::PUBLISHED_SEQUENCE_LENGTH;
use thiserror::Error;
use tracing::level_filters::LevelFilter;

use crate::ingest::{self, DEFAULT_ROWS_PER_SHARD, IngestError, IngestOptions, Progress, RejectLimit, Silent};
use crate::inspect::{self, InspectArgs, InspectError};
use crate::sample::{self, SampleArgs, SampleError};

/// Exit code of an ingest that left some records out, within `--max-rejects`.
const SOME_REJECTED: u8 = 3;

/// The command line of `glm-prep`.
#[derive(Debug, Parser)]
#[command(name = "glm-prep", version, about = "Turns raw cloze data into tokenized, span-annotated Parquet shards")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say nothing but errors and what was asked for
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more; twice for still more
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read ReCoRD from DIR and write its shards to DIR/shards
    Ingest(IngestArgs),
    /// Look into a shard or a data set
    Inspect(InspectArgs),
    /// Write a sample corpus in ReCoRD's format
    Sample(SampleArgs),
}

/// The arguments of `glm-prep ingest`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 if every record was taken, 3 if some were rejected but no more than --max-rejects \
    (the data set is written, shards/rejects.jsonl lists them), 1 if the run failed and nothing was published.")]
struct IngestArgs {
    /// The folder of the raw data: {train,val,test}.jsonl in DIR/ReCoRD or in DIR, or DIR/ReCoRD.zip
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// A vocab.txt or tokenizer.json [default: the built-in BERT-large-uncased vocabulary]
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Threads that parse and tokenize; the output does not depend on it [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Reject a question whose query and longest choice do not fit this many tokens; passages are never cut
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH)]
    max_seq_len: usize,
    /// Questions in one Parquet file
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(DEFAULT_ROWS_PER_SHARD).unwrap_or(NonZeroUsize::MIN))]
    rows_per_shard: NonZeroUsize,
    /// Fail if more records than this are rejected: a number, or a share such as 0.5% [default: 100 or 1%, whichever is more]
    #[arg(long, value_name = "N|P%")]
    max_rejects: Option<RejectLimit>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

impl IngestArgs {
    fn options(&self) -> IngestOptions {
        let defaults = IngestOptions::new(&self.dir);
        IngestOptions {
            tokenizer: self.tokenizer.clone(),
            threads: self.threads.unwrap_or(defaults.threads),
            max_seq_len: self.max_seq_len,
            rows_per_shard: self.rows_per_shard,
            max_rejects: self.max_rejects.unwrap_or_default(),
            ..defaults
        }
    }
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
    /// `sample` failed.
    #[error(transparent)]
    Sample(#[from] SampleError),
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
        let colour = io::stderr().is_terminal();
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(colour)
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
            Command::Ingest(args) => return self.ingest(args, out),
            Command::Inspect(args) => inspect::run(args, out)?,
            Command::Sample(args) => sample::run(args, out)?,
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn ingest(&self, args: &IngestArgs, out: &mut dyn Write) -> Result<ExitCode, CliError> {
        let progress: Box<dyn Progress> = match (self.quiet, io::stderr().is_terminal()) {
            (true, _) => Box::new(Silent),
            (false, true) => Box::new(progress::Bar::default()),
            (false, false) => Box::new(progress::Lines::default()),
        };
        let summary = ingest::run(&args.options(), progress.as_ref())?;
        let code = if summary.rejected_records() > 0 { ExitCode::from(SOME_REJECTED) } else { ExitCode::SUCCESS };
        if args.json {
            serde_json::to_writer(&mut *out, &summary).map_err(io::Error::from)?;
            writeln!(out)?;
        } else if !self.quiet {
            write!(out, "{summary}")?;
        }
        out.flush()?;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ingest_defaults_are_those_of_the_library() {
        let cli = Cli::try_parse_from(["glm-prep", "ingest", "there"]).expect("parsed");
        let Command::Ingest(args) = &cli.command else { panic!("not ingest") };
        let (typed, library) = (args.options(), IngestOptions::new("there"));
        assert_eq!(format!("{typed:?}"), format!("{library:?}"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [&["--threads", "0"][..], &["--rows-per-shard", "0"], &["--max-rejects", "x"], &["--max-rejects", "101%"]]
        {
            let words = ["glm-prep", "ingest", "there"].iter().chain(wrong);
            assert!(Cli::try_parse_from(words).is_err(), "{wrong:?}");
        }
    }
}
