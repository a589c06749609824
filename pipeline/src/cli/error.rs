//! Errors of the commands.

use std::io;

use glm_support::command::manual::ManualError;
use thiserror::Error;

use crate::fetch::FetchCommandError;
use crate::ingest::IngestError;
use crate::inspect::InspectError;
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
