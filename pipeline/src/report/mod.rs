//! `glm-prep report`: HTML report about a data set.
//!
//! - `counts`: the statistics of [`crate::stats`] as charts.
//! - `rejects`: rejected records, by reason.
//! - `rows`: sample questions with marked spans.
//! - `page`: the whole page.
//! - `error`: errors of the command.
//!
//! Memory holds one batch of rows and some bytes per distinct passage.

mod counts;
mod error;
mod page;
mod rejects;
mod rows;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use glm_schemas::cloze::encoding::PUBLISHED_SEQUENCE_LENGTH;

use crate::shard::publish::REPORT_FILE;
use crate::shard::published;
use crate::stats;
pub use error::ReportError;

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep report sample
  glm-prep report sample --out sample.html")]
pub struct ReportArgs {
    /// Folder of a data set: the one given to `ingest`, or its `shards`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Output file [default: report.html next to the shards]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Sequence length that questions are truncated to
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH)]
    pub max_seq_len: usize,
}

/// Writes the page of a data set and prints its path.
///
/// # Errors
/// [`ReportError`] if the data set cannot be read, or the page cannot be written.
pub fn run(args: &ReportArgs, out: &mut dyn Write) -> Result<(), ReportError> {
    let (page, shards) = published::read(&args.dir, |set| {
        let stats = stats::count_published(set, args.max_seq_len)?;
        Ok::<_, ReportError>((page::of(&stats, &set.parse()?, &set.folder)?, set.folder.clone()))
    })?;
    let path = args.out.clone().unwrap_or_else(|| shards.join(REPORT_FILE));
    page.write(&path)?;
    writeln!(out, "{}", path.display())?;
    Ok(())
}
