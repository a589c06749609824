//! Downloads of archives.
//!
//! - `transfer`: one file over HTTP into a part file, continued where it was cut.
//! - `part`: the part file, what is known about it, and the recorded checksum.
//!
//! What arrives is `NAME.part`, with what the server said about it in `NAME.part.json`. It gets its name only when it is whole,
//! on the disk, and what it should be. The checksum is recorded in `NAME.sha256` at the first download.

mod error;
mod part;
mod transfer;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::files::progress::Progress;
pub use error::FetchError;
use error::{read_error, write_error};
use part::{Files, sha256, sha256_digits};

/// What kind of file a download has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// A zip archive.
    Zip,
    /// Something packed by bzip2.
    Bzip2,
}

impl Archive {
    /// The first bytes of every such file that holds something.
    fn magic(self) -> &'static [u8] {
        match self {
            Self::Zip => b"PK",
            Self::Bzip2 => b"BZh",
        }
    }
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "zip archive",
            Self::Bzip2 => "bzip2 archive",
        })
    }
}

/// Why what has arrived is not what it should be.
#[derive(Debug, Error)]
pub enum ContentFault {
    /// It cannot be read to its end.
    #[error("{0}")]
    Damaged(String),
    /// It is something else.
    #[error("there is no {0} in it")]
    Missing(&'static str),
    /// The file system refused to read it.
    #[error("{0}")]
    Read(io::Error),
}

/// What to download, and how patiently.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The name that the file is given.
    pub name: &'static str,
    /// What it has to be.
    pub archive: Archive,
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
    /// A file into `dir`, with the usual patience.
    pub fn new(name: &'static str, archive: Archive, url: impl Into<String>, dir: impl Into<PathBuf>) -> Self {
        Self {
            name,
            archive,
            dir: dir.into(),
            url: url.into(),
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

/// A checksum as typed, in lower case; for clap's `value_parser`.
///
/// # Errors
/// What a checksum looks like.
pub fn parse_sha256(text: &str) -> Result<String, String> {
    sha256_digits(text).ok_or_else(|| "a sha256 has 64 hexadecimal digits".to_owned())
}

/// Downloads a file, unless it is there. `check` says whether what has arrived is what it should be; it is asked once, before the
/// file gets its name.
///
/// # Errors
/// [`FetchError`] where the file cannot be had, is not what it should be, or cannot be written.
pub fn fetch(
    options: &FetchOptions,
    check: impl Fn(&Path) -> Result<(), ContentFault>,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    fs::create_dir_all(&options.dir).map_err(write_error(&options.dir))?;
    let files = Files::new(&options.dir, options.name);
    let recorded = files.recorded()?;
    let check = |path: &Path, origin: &str| {
        check(path).map_err(|fault| match fault {
            ContentFault::Damaged(reason) => FetchError::NotAnArchive { url: origin.to_owned(), kind: options.archive, reason },
            ContentFault::Missing(member) => FetchError::NoMember { url: origin.to_owned(), member },
            ContentFault::Read(source) => read_error(path)(source),
        })
    };
    if files.target.try_exists().map_err(read_error(&files.target))? {
        return already_there(options, &files, recorded.as_deref(), check);
    }

    let (part, downloaded) = transfer::download(options, &files, progress)?;
    part.sync_all().map_err(write_error(&files.part))?;
    let (bytes, sha256) = sha256(&files.part)?;
    let checked = check_sha256(options, &files, recorded.as_deref(), &sha256).and_then(|()| check(&files.part, &options.url));
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

fn already_there(
    options: &FetchOptions,
    files: &Files,
    recorded: Option<&str>,
    check: impl Fn(&Path, &str) -> Result<(), FetchError>,
) -> Result<Fetched, FetchError> {
    let (bytes, sha256) = sha256(&files.target)?;
    let expected = options.sha256.as_deref().or(recorded);
    if let Some(expected) = expected.filter(|expected| *expected != sha256) {
        let (path, expected) = (files.target.clone(), expected.to_owned());
        return Err(FetchError::Changed { path, found: sha256, expected });
    }
    if expected.is_none() {
        // Put here by hand, or by a run that was killed just before it could record the checksum.
        check(&files.target, &files.target.display().to_string())?;
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
