//! `glm-prep report`: HTML report about a data set.
//!
//! - `documents`: the page of a data set of documents.
//! - `pairs`: the page of a data set of pairs.
//! - `counts`: the statistics of [`crate::stats`] as charts.
//! - `rejects`: rejected records, by reason.
//! - `rows`: sample questions with marked spans.
//! - `page`: the page of a data set of questions.
//! - `error`: errors of the command.
//!
//! Memory holds one batch of rows and some bytes per distinct passage.

mod counts;
mod documents;
mod error;
mod page;
mod pairs;
mod rejects;
mod rows;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use glm_remote::is_url;
use glm_schemas::manifest::{SHARDS_FOLDER, Split, SplitManifest, TaskName};
use glm_support::files::output;
use glm_support::page::document::folder_name;
use serde::Serialize;

use crate::shard::publish::REPORT_FILE;
use crate::shard::published;
use crate::stats::{self, Counts, Extent};
pub use error::ReportError;

/// Sequence lengths whose truncation is shown, in addition to `--max-seq-len`.
const LENGTHS: [usize; 4] = [128, 256, 384, 512];
/// Maximum number of sources on the page.
const MAX_SOURCES: usize = 1000;

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep report sample
  glm-prep report sample --out sample.html")]
pub struct ReportArgs {
    /// Folder or URL of a data set: the one given to `ingest`, or its `shards`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Output file, or - for standard output [default: report.html next to the shards, or in the current folder for a URL]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Sequence length that questions are truncated to [default: the one given to `ingest`]; documents are not truncated
    #[arg(long, value_name = "N")]
    pub max_seq_len: Option<usize>,
    /// Print the path of the page and the size of the splits as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Result of `report --json`, with the names of `stats --json`.
#[derive(Debug, Serialize)]
struct Reported<'a> {
    page: &'a Path,
    shards: &'a Path,
    fingerprint: &'a str,
    splits: Vec<SplitSize>,
}

#[derive(Debug, Default, Serialize)]
struct SplitSize {
    split: Option<Split>,
    #[serde(skip_serializing_if = "Option::is_none")]
    questions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<usize>,
}

/// Writes the page of a data set and prints its path, unless the page goes to standard output.
///
/// # Errors
/// [`ReportError`] if the data set cannot be read, or the page cannot be written.
pub fn run(args: &ReportArgs, out: &mut dyn Write) -> Result<(), ReportError> {
    let extent = Extent {
        max_seq_len: args.max_seq_len,
        max_target_len: stats::MAX_TARGET_LEN,
        other_lengths: &LENGTHS,
        max_sources: MAX_SOURCES,
    };
    // The folder of a data set in an object store is one of the cache.
    let is_remote = is_url(&args.dir);
    let (page, manifest, shards) = published::read(&args.dir, |set| {
        let shown = if is_remote { &args.dir } else { &set.folder };
        let name = name(shown);
        let (counts, manifest) = (stats::counts_of(set, &extent)?, set.parse()?);
        let page = match &counts {
            Counts::Questions(stats) => page::of(stats, &manifest, &set.folder, &name)?,
            Counts::Documents(stats) => documents::of(stats, &manifest, &set.folder, &name)?,
            Counts::Pairs(stats) => pairs::of(stats, &manifest, &set.folder, &name)?,
        };
        Ok::<_, ReportError>((page, manifest, shown.clone()))
    })?;
    let beside = || if is_remote { PathBuf::from(REPORT_FILE) } else { shards.join(REPORT_FILE) };
    let path = args.out.clone().unwrap_or_else(beside);
    page.write(&path)?;
    let to_stdout = output::is_stdout(&path);
    if args.json {
        let split = |(&split, content): (&Split, &SplitManifest)| {
            let size = SplitSize { split: Some(split), ..SplitSize::default() };
            match manifest.task {
                TaskName::Cloze => SplitSize { questions: Some(content.rows), ..size },
                TaskName::Text => SplitSize { documents: Some(content.rows), ..size },
                TaskName::Seq2seq => SplitSize { pairs: Some(content.rows), ..size },
            }
        };
        let splits = manifest.splits.iter().map(split).collect();
        let result = Reported { page: &path, shards: &shards, fingerprint: &manifest.fingerprint, splits };
        let line = serde_json::to_string(&result).map_err(io::Error::from)? + "\n";
        // Nothing else may follow the page.
        if to_stdout { io::stderr().write_all(line.as_bytes())? } else { out.write_all(line.as_bytes())? }
    } else if !to_stdout {
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}

/// Returns the name of the ingested folder, or the URL of one.
fn name(shards: &Path) -> String {
    if is_url(shards) {
        return shards.display().to_string();
    }
    let path = shards.canonicalize().unwrap_or_else(|_| shards.to_owned());
    match path.parent() {
        Some(ingested) if path.file_name().is_some_and(|name| name == SHARDS_FOLDER) => folder_name(ingested),
        _ => folder_name(&path),
    }
}
