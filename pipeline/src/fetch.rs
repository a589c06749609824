//! `glm-prep fetch`: downloads raw data.
//!
//! - `transfer`: one file over HTTP into a part file, continued where it was cut.
//! - `files`: the part file, what is known about it, checksums, and what the archive must hold.
//!
//! What arrives is `NAME.part`, with what the server said about it in `NAME.part.json`. It gets its name only when it is whole,
//! on the disk, and what it should be.

mod error;
mod files;
mod transfer;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::ingest::Progress;
pub use error::FetchError;
use error::{read_error, write_error};
use files::Files;

/// Where SuperGLUE publishes ReCoRD.
const RECORD_URL: &str = "https://dl.fbaipublicfiles.com/glue/superglue/data/v2/ReCoRD.zip";

/// A data set that can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataSet {
    /// SuperGLUE's ReCoRD
    Record,
}

impl DataSet {
    fn url(self) -> &'static str {
        match self {
            Self::Record => RECORD_URL,
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Record => "ReCoRD.zip",
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
#[command(
    after_help = "A download that was cut or stopped is continued by the same command. The checksum is recorded beside the \
    file at the first download, and compared from then on."
)]
pub struct FetchArgs {
    /// What to download
    #[arg(value_name = "NAME", value_enum)]
    pub data_set: DataSet,
    /// The folder to put it in, as `ingest` takes it
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Download from another place [default: where the data set is published]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The checksum that the file must have; it counts more than a recorded one
    #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
    pub sha256: Option<String>,
}

fn parse_sha256(text: &str) -> Result<String, String> {
    files::sha256_digits(text).ok_or_else(|| "a sha256 has 64 hexadecimal digits".to_owned())
}

/// What to download, and how patiently.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// What.
    pub data_set: DataSet,
    /// The folder to put it in; it is made if it is not there.
    pub dir: PathBuf,
    /// From where.
    pub url: String,
    /// The checksum that it must have.
    pub sha256: Option<String>,
    /// Tries in a row that bring next to nothing before it is given up.
    pub tries: u32,
    /// Pause before the second try; it doubles with every one.
    pub pause: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the server may say nothing.
    pub stall_timeout: Duration,
}

impl FetchOptions {
    /// The published file into `dir`, with the usual patience.
    pub fn new(data_set: DataSet, dir: impl Into<PathBuf>) -> Self {
        Self {
            data_set,
            dir: dir.into(),
            url: data_set.url().to_owned(),
            sha256: None,
            tries: 5,
            pause: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: String,
    /// How much of it was downloaded now: nothing where it was there already.
    pub downloaded: u64,
    /// Whether it was there already.
    pub already_there: bool,
}

/// Downloads what was asked for and says what was done.
///
/// # Errors
/// [`FetchError`] where the file cannot be had, is not what it should be, or cannot be written.
pub fn run(args: &FetchArgs, quiet: bool, progress: &dyn Progress, out: &mut dyn Write) -> Result<(), FetchError> {
    let defaults = FetchOptions::new(args.data_set, &args.dir);
    let url = args.url.clone().unwrap_or_else(|| defaults.url.clone());
    let fetched = fetch(&FetchOptions { url, sha256: args.sha256.clone(), ..defaults }, progress)?;
    if quiet {
        return Ok(());
    }
    let (path, dir) = (fetched.path.display(), args.dir.display());
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
pub fn fetch(options: &FetchOptions, progress: &dyn Progress) -> Result<Fetched, FetchError> {
    fs::create_dir_all(&options.dir).map_err(write_error(&options.dir))?;
    let files = Files::new(&options.dir, options.data_set.file());
    let recorded = files.recorded()?;
    if files.target.try_exists().map_err(read_error(&files.target))? {
        return already_there(options, &files, recorded.as_deref());
    }

    let (part, downloaded) = transfer::download(options, &files, progress)?;
    part.sync_all().map_err(write_error(&files.part))?;
    let (bytes, sha256) = files::sha256(&files.part)?;
    let checked = check_sha256(options, &files, recorded.as_deref(), &sha256)
        .and_then(|()| files::check_archive(&files.part, &options.url, options.data_set.member()));
    if let Err(error) = checked {
        // All of it is there and it is wrong: to continue would not make it right.
        files.remove_part()?;
        return Err(error);
    }
    fs::rename(&files.part, &files.target).map_err(write_error(&files.target))?;
    files.remove_part()?;
    files.record(&sha256)?;
    Ok(Fetched { path: files.target, bytes, sha256, downloaded, already_there: false })
}

fn already_there(options: &FetchOptions, files: &Files, recorded: Option<&str>) -> Result<Fetched, FetchError> {
    let (bytes, sha256) = files::sha256(&files.target)?;
    let expected = options.sha256.as_deref().or(recorded);
    if let Some(expected) = expected.filter(|expected| *expected != sha256) {
        let (path, expected) = (files.target.clone(), expected.to_owned());
        return Err(FetchError::Changed { path, found: sha256, expected });
    }
    if expected.is_none() {
        // Put here by hand, or by a run that was killed just before it could record the checksum.
        files::check_archive(&files.target, &files.target.display().to_string(), options.data_set.member())?;
    }
    if recorded != Some(sha256.as_str()) {
        files.record(&sha256)?;
    }
    Ok(Fetched { path: files.target.clone(), bytes, sha256, downloaded: 0, already_there: true })
}

fn check_sha256(options: &FetchOptions, files: &Files, recorded: Option<&str>, found: &str) -> Result<(), FetchError> {
    let url = options.url.clone();
    match (options.sha256.as_deref(), recorded) {
        (Some(expected), _) if expected != found => {
            Err(FetchError::Checksum { url, found: found.to_owned(), expected: expected.to_owned() })
        }
        (None, Some(expected)) if expected != found => Err(FetchError::RecordedChecksum {
            url,
            found: found.to_owned(),
            expected: expected.to_owned(),
            record: files.checksum.clone(),
        }),
        _ => Ok(()),
    }
}

/// Brings the names in a folder to the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}
