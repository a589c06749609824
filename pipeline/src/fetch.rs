//! `glm-prep fetch`: downloads raw data, see [`glm_support::files::fetch`].

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use glm_support::command::download::DownloadArgs;
use glm_support::files::fetch::{Archive, ContentFault};
pub use glm_support::files::fetch::{FetchError, FetchOptions, Fetched};
use thiserror::Error;
use zip::ZipArchive;

use crate::ingest::Progress;

/// Where SuperGLUE publishes ReCoRD.
const RECORD_URL: &str = "https://dl.fbaipublicfiles.com/glue/superglue/data/v2/ReCoRD.zip";

/// A data set that can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataSet {
    /// SuperGLUE's ReCoRD
    Record,
}

impl DataSet {
    /// The published file into `dir`, with the usual patience.
    pub fn options(self, dir: impl Into<PathBuf>) -> FetchOptions {
        match self {
            Self::Record => FetchOptions::new("ReCoRD.zip", Archive::Zip, RECORD_URL, dir),
        }
    }

    /// What the archive must hold.
    fn member(self) -> &'static str {
        match self {
            Self::Record => "ReCoRD/train.jsonl",
        }
    }
}

/// The arguments.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A download that was cut or stopped is continued by the same command. The checksum is recorded beside the file at the first \
download, and compared from then on.

Examples:
  glm-prep fetch record data
  glm-prep fetch record data --url https://mirror.example/ReCoRD.zip")]
pub struct FetchArgs {
    /// What to download
    #[arg(value_name = "NAME", value_enum)]
    pub data_set: DataSet,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub download: DownloadArgs,
}

/// Why the command failed.
#[derive(Debug, Error)]
pub enum FetchCommandError {
    /// The file cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Downloads what was asked for and says what was done.
///
/// # Errors
/// [`FetchCommandError`] where the file cannot be had, is not what it should be, or cannot be written.
pub fn run(args: &FetchArgs, quiet: bool, progress: &dyn Progress, out: &mut dyn Write) -> Result<(), FetchCommandError> {
    let options = args.download.options(args.data_set.options(&args.download.dir));
    let fetched = fetch(args.data_set, &options, progress)?;
    if quiet {
        return Ok(());
    }
    let (path, dir) = (fetched.path.display(), args.download.dir.display());
    if fetched.already_there {
        writeln!(out, "{path} is already there and its checksum is right; nothing was downloaded")?;
    } else {
        writeln!(out, "{path}: {} bytes, sha256 {}", fetched.bytes, fetched.sha256)?;
    }
    writeln!(out, "`glm-prep ingest {dir}` makes a data set of it")?;
    Ok(())
}

/// Downloads a data set, unless it is there.
///
/// # Errors
/// [`FetchError`] where the file cannot be had, is not what it should be, or cannot be written.
pub fn fetch(data_set: DataSet, options: &FetchOptions, progress: &dyn Progress) -> Result<Fetched, FetchError> {
    glm_support::files::fetch::fetch(options, |path| check_archive(path, data_set.member()), progress)
}

/// Checks that the archive can be read, every member to its end, and holds `member`.
fn check_archive(path: &Path, member: &'static str) -> Result<(), ContentFault> {
    let file = File::open(path).map_err(ContentFault::Read)?;
    let damaged = |error: &dyn std::error::Error| ContentFault::Damaged(error.to_string());
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(&error))?;
    if archive.index_for_name(member).is_none() {
        return Err(ContentFault::Missing(member));
    }
    for index in 0..archive.len() {
        let name = archive
            .name_for_index(index)
            .and_then(Result::ok)
            .map_or_else(|| format!("member {index}"), |name| name.to_string());
        let mut content = archive.by_index(index).map_err(|error| damaged(&error))?;
        // Reading to the end compares the member's CRC.
        io::copy(&mut content, &mut io::sink()).map_err(|error| ContentFault::Damaged(format!("{name}: {error}")))?;
    }
    Ok(())
}
