//! `glm-prep fetch`: downloads raw data with [`glm_support::files::fetch`].

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use glm_support::command::download::DownloadArgs;
use glm_support::files::fetch::{Archive, ContentFault};
pub use glm_support::files::fetch::{FetchError, FetchOptions, Fetched};
use glm_support::files::progress::Progress;
use thiserror::Error;
use zip::ZipArchive;

/// File name of an archive of SuperGLUE or GLUE, its URL, and a member that it must have.
macro_rules! archive {
    ($folder:literal) => {
        (
            concat!($folder, ".zip"),
            concat!("https://dl.fbaipublicfiles.com/glue/superglue/data/v2/", $folder, ".zip"),
            concat!($folder, "/train.jsonl"),
        )
    };
    ($file:literal, $folder:literal) => {
        (
            concat!($file, ".zip"),
            concat!("https://dl.fbaipublicfiles.com/glue/data/", $file, ".zip"),
            concat!($folder, "/train.tsv"),
        )
    };
}

/// Data set to download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataSet {
    /// SuperGLUE's ReCoRD
    Record,
    /// SuperGLUE's BoolQ
    #[value(name = "superglue/boolq")]
    BoolQ,
    /// SuperGLUE's CommitmentBank
    #[value(name = "superglue/cb")]
    Cb,
    /// SuperGLUE's COPA
    #[value(name = "superglue/copa")]
    Copa,
    /// SuperGLUE's MultiRC
    #[value(name = "superglue/multirc")]
    MultiRc,
    /// SuperGLUE's RTE
    #[value(name = "superglue/rte")]
    Rte,
    /// SuperGLUE's WiC
    #[value(name = "superglue/wic")]
    WiC,
    /// SuperGLUE's WSC
    #[value(name = "superglue/wsc")]
    Wsc,
    /// GLUE's CoLA
    #[value(name = "glue/cola")]
    Cola,
    /// GLUE's MNLI, for glue/mnli-mm too
    #[value(name = "glue/mnli")]
    Mnli,
    /// GLUE's QNLI
    #[value(name = "glue/qnli")]
    Qnli,
    /// GLUE's QQP
    #[value(name = "glue/qqp")]
    Qqp,
    /// GLUE's SST-2
    #[value(name = "glue/sst-2")]
    Sst2,
}

impl DataSet {
    /// Options to download the published file into `dir`.
    pub fn options(self, dir: impl Into<PathBuf>) -> FetchOptions {
        let (file, url, _) = self.archive();
        FetchOptions::new(file, Archive::Zip, url, dir)
    }

    /// Required member of the archive.
    fn member(self) -> &'static str {
        self.archive().2
    }

    fn archive(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Record => archive!("ReCoRD"),
            Self::BoolQ => archive!("BoolQ"),
            Self::Cb => archive!("CB"),
            Self::Copa => archive!("COPA"),
            Self::MultiRc => archive!("MultiRC"),
            Self::Rte => archive!("RTE"),
            Self::WiC => archive!("WiC"),
            Self::Wsc => archive!("WSC"),
            Self::Cola => archive!("CoLA", "CoLA"),
            Self::Mnli => archive!("MNLI", "MNLI"),
            Self::Qnli => archive!("QNLIv2", "QNLI"),
            Self::Qqp => archive!("QQP-clean", "QQP"),
            Self::Sst2 => archive!("SST-2", "SST-2"),
        }
    }

    /// Option of `ingest` that reads the data; empty for the default.
    fn ingest_option(self) -> String {
        let name = self.to_possible_value().map(|value| value.get_name().to_owned());
        name.filter(|_| self != Self::Record).map_or_else(String::new, |name| format!(" --task {name}"))
    }
}

/// Arguments of `fetch`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Interrupted downloads resume. The first download records the checksum next to the file; later ones \
are compared with it.

Examples:
  glm-prep fetch record data
  glm-prep fetch superglue/boolq data/boolq
  glm-prep fetch record data --url https://mirror.example/ReCoRD.zip")]
pub struct FetchArgs {
    /// Data set to download
    #[arg(value_name = "NAME", value_enum)]
    pub data_set: DataSet,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print it")]
    pub download: DownloadArgs,
}

/// Error of `fetch`.
#[derive(Debug, Error)]
pub enum FetchCommandError {
    /// The download failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command and prints to `out`.
///
/// # Errors
/// [`FetchCommandError`] if the file cannot be downloaded, verified or written, or `out` cannot be written to.
pub fn run(args: &FetchArgs, quiet: bool, progress: &dyn Progress, out: &mut dyn Write) -> Result<(), FetchCommandError> {
    let options = args.download.options(args.data_set.options(&args.download.dir));
    let fetched = fetch(args.data_set, &options, progress)?;
    if quiet {
        return Ok(());
    }
    let (path, dir) = (fetched.path.display(), args.download.dir.display());
    if fetched.already_there {
        writeln!(out, "{path} already exists and its checksum matches; nothing was downloaded")?;
    } else {
        writeln!(out, "{path}: {} bytes, sha256 {}", fetched.bytes, fetched.sha256)?;
    }
    writeln!(out, "next: `glm-prep ingest {dir}{}`", args.data_set.ingest_option())?;
    Ok(())
}

/// Downloads a data set unless it already exists.
///
/// # Errors
/// [`FetchError`] if the file cannot be downloaded, verified or written.
pub fn fetch(data_set: DataSet, options: &FetchOptions, progress: &dyn Progress) -> Result<Fetched, FetchError> {
    glm_support::files::fetch::fetch(options, |path| check_archive(path, data_set.member()), progress)
}

/// Checks that the archive contains `member` and that all members can be read.
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
        // Reading to the end verifies the CRC of the member.
        io::copy(&mut content, &mut io::sink()).map_err(|error| ContentFault::Damaged(format!("{name}: {error}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::PatternTask;

    #[test]
    fn archives_are_those_in_which_patterns_look() {
        for set in DataSet::value_variants() {
            let option = set.ingest_option();
            let Some(task) = option.strip_prefix(" --task ") else { continue };
            let pattern = PatternTask::open(task, None, false).expect("a pattern");
            let folder = pattern.file().folder.clone().expect("a folder");
            let train = pattern.file().files.train.as_ref().map_or("train.jsonl", |file| file.name());
            assert_eq!(set.member(), format!("{folder}/{train}"));
            if task.starts_with("superglue/") {
                assert_eq!(set.options("x").url, format!("https://dl.fbaipublicfiles.com/glue/superglue/data/v2/{folder}.zip"));
            }
        }
        assert_eq!(DataSet::Record.ingest_option(), "");
    }
}
