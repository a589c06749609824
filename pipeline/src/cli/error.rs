//! Errors of the commands.

use std::io;

use glm_remote::RemoteError;
use glm_support::command::manual::ManualError;
use thiserror::Error;

use crate::fetch::FetchCommandError;
use crate::ingest::IngestError;
use crate::inspect::StartError;
use crate::pattern::command::PatternsCommandError;
use crate::report::ReportError;
use crate::sample::SampleError;
use crate::stats::StatsError;
use crate::verify::VerifyError;

/// Error of a command.
#[derive(Debug, Error)]
pub enum CliError {
    /// `ingest` failed.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// An option needs the task of a pattern.
    #[error(
        "{option} has no effect without a task of patterns: give --task NAME, which `glm-prep patterns` lists, or --pattern FILE.toml"
    )]
    NoPatternTask {
        /// The option.
        option: &'static str,
    },
    /// The URL or the cache cannot be used.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The raw data is at a URL, and there is no place for the shards.
    #[error(
        "the raw data is at {url}, so the shards need a place: give --out DIR, or --out with a URL such as s3://bucket/name"
    )]
    NoOut {
        /// The URL.
        url: String,
    },
    /// Parts are written to an object store.
    #[error(
        "--partition {part} needs a folder that all machines share, not {url}; give --out DIR, then merge DIR and copy its shards"
    )]
    PartOfUrl {
        /// The part.
        part: String,
        /// The URL.
        url: String,
    },
    /// Two pattern files are given.
    #[error("both {task} and {file} are pattern files; give one of them")]
    TwoPatterns {
        /// That of `--task`.
        task: String,
        /// That of `--pattern`.
        file: String,
    },
    /// `patterns` failed.
    #[error(transparent)]
    Patterns(#[from] PatternsCommandError),
    /// `inspect` cannot be started.
    #[error(transparent)]
    Inspect(#[from] StartError),
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
