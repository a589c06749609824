//! Resumable downloads of archives.
//!
//! - `options`: source, destination, retries and timeouts.
//! - `transfer`: one file over HTTP into a part file; interrupted transfers resume. `no_transfer` replaces it without the feature `network`.
//! - `part`: the part file, its state, and the recorded checksum.
//! - `error`: download errors.
//!
//! Data arrives in `NAME.part`; `NAME.part.json` records the URL, the size and the validator that the server sent. The file
//! gets its final name once it is complete, synced to disk and verified. The first download records the checksum in
//! `NAME.sha256`.

mod error;
#[cfg(not(feature = "network"))]
mod no_transfer;
#[cfg_attr(not(feature = "network"), expect(dead_code, reason = "nothing is downloaded"))]
mod options;
#[cfg_attr(not(feature = "network"), expect(dead_code, reason = "nothing is downloaded"))]
mod part;
#[cfg(feature = "network")]
mod transfer;

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::progress::Progress;
pub use error::{ContentFault, FetchError};
use error::{read_error, write_error};
#[cfg(not(feature = "network"))]
use no_transfer::download;
pub use options::{Archive, FetchOptions};
use part::{Files, sha256, sha256_digits};
#[cfg(feature = "network")]
use transfer::download;

/// Result of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Path of the file.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// sha256 of the file.
    pub sha256: String,
    /// Bytes downloaded by this call; 0 if the file already existed.
    pub downloaded: u64,
    /// True if the file already existed.
    pub already_there: bool,
}

/// Parses a sha256 into lower-case digits; for clap's `value_parser`.
///
/// # Errors
/// A message for the user if `text` is not a sha256.
pub fn parse_sha256(text: &str) -> Result<String, String> {
    sha256_digits(text).ok_or_else(|| "a sha256 has 64 hexadecimal digits".to_owned())
}

/// Downloads a file unless it already exists. `check` verifies the content once, before the file gets its final name.
///
/// # Errors
/// [`FetchError`] if the file cannot be downloaded, fails verification, or cannot be written.
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

    let (part, downloaded) = download(options, &files, progress)?;
    part.sync_all().map_err(write_error(&files.part))?;
    let (bytes, sha256) = sha256(&files.part)?;
    let checked = check_sha256(options, &files, recorded.as_deref(), &sha256).and_then(|()| check(&files.part, &options.url));
    if let Err(error) = checked {
        // The file is complete but wrong: resuming cannot repair it.
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
        // Copied here by the user, or downloaded by a process that was killed before it recorded the checksum.
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
