//! `glm-prep report`: one page about a data set, to be sent to a colleague.
//!
//! - `counts`: what [`crate::stats`] counts, as charts.
//! - `rejects`: why records went into no shard.
//! - `rows`: a few questions with their spans marked.
//! - `page`: all of it put together.
//!
//! One batch of rows is in memory at a time, and some bytes for every distinct passage.

mod counts;
mod page;
mod rejects;
mod rows;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use glm_schemas::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::{MANIFEST_FILE, Manifest};
use glm_support::page::document::WriteError;
use thiserror::Error;

use crate::shard::publish::REPORT_FILE;
use crate::stats::{self, StatsError};
use crate::verify::find_manifest;

/// The arguments.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep report sample
  glm-prep report sample --out sample.html")]
pub struct ReportArgs {
    /// The folder of a data set: the one given to `ingest`, or its `shards`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Where the page goes [default: report.html beside the shards]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The sequence length that questions are truncated to
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH)]
    pub max_seq_len: usize,
}

/// Why there is no page.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The data set cannot be read.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// A file beside the shards cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The page cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Writes the page of a data set, and prints where it is.
///
/// # Errors
/// [`ReportError`] where the data set cannot be read, or the page cannot be written.
pub fn run(args: &ReportArgs, out: &mut dyn Write) -> Result<(), ReportError> {
    let stats = stats::count(&args.dir, args.max_seq_len)?;
    let (shards, bytes) = find_manifest(&args.dir).map_err(StatsError::Set)?;
    let path = shards.join(MANIFEST_FILE);
    let text = String::from_utf8_lossy(&bytes);
    let manifest = Manifest::from_json(&text).map_err(|source| StatsError::Manifest { path, source })?;
    let page = page::of(&stats, &manifest, &shards)?;
    let place = args.out.clone().unwrap_or_else(|| shards.join(REPORT_FILE));
    page.write(&place)?;
    writeln!(out, "{}", place.display())?;
    Ok(())
}
