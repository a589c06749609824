//! Part file, its state, and checksums.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{FetchError, read_error, write_error};
use crate::files::atomic::{self, sync_dir};
use crate::files::checksum::digest;
use crate::files::lock;

/// Files of one download.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    name: &'static str,
    /// The complete file.
    pub(super) target: PathBuf,
    /// The bytes received so far.
    pub(super) part: PathBuf,
    /// The serialized [`State`].
    state: PathBuf,
    /// The checksum, in the format of `sha256sum`.
    pub(super) checksum: PathBuf,
}

/// Identity of the file that the part file belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) url: String,
    /// Value for `If-Range`: a strong `ETag`, else `Last-Modified`. A download without one cannot resume.
    pub(super) validator: Option<String>,
    /// Size of the complete file, if the server sent it.
    pub(super) total: Option<u64>,
}

impl Files {
    pub(super) fn new(dir: &Path, name: &'static str) -> Self {
        let with = |suffix: &str| dir.join(format!("{name}{suffix}"));
        Self {
            dir: dir.to_owned(),
            name,
            target: with(""),
            part: with(".part"),
            state: with(".part.json"),
            checksum: with(".sha256"),
        }
    }

    /// Reads the checksum that the first download recorded.
    pub(super) fn recorded(&self) -> Result<Option<String>, FetchError> {
        let bytes = match fs::read(&self.checksum) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read_error(&self.checksum)(error)),
        };
        let digits = std::str::from_utf8(&bytes).ok().and_then(|text| text.split_whitespace().next()).and_then(sha256_digits);
        digits.map(Some).ok_or_else(|| FetchError::Record(self.checksum.clone()))
    }

    /// Records the checksum.
    pub(super) fn record(&self, sha256: &str) -> Result<(), FetchError> {
        write_whole(&self.checksum, format!("{sha256}  {}\n", self.name).as_bytes())?;
        // This also syncs the name of the file itself.
        sync_dir(&self.dir).map_err(write_error(&self.dir))
    }

    /// Opens the part file and locks it.
    pub(super) fn open_part(&self) -> Result<File, FetchError> {
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&self.part);
        let part = opened.map_err(write_error(&self.part))?;
        match lock::try_lock(&part) {
            Ok(true) => Ok(part),
            Ok(false) => Err(FetchError::Busy(self.part.clone())),
            Err(error) => Err(write_error(&self.part)(error)),
        }
    }

    /// Reads the state of the part file; `None` if unknown.
    pub(super) fn state(&self) -> Option<State> {
        serde_json::from_slice(&fs::read(&self.state).ok()?).ok()
    }

    pub(super) fn set_state(&self, state: &State) -> Result<(), FetchError> {
        let json = serde_json::to_vec(state).map_err(|error| write_error(&self.state)(error.into()))?;
        write_whole(&self.state, &json)
    }

    /// Removes the part file and its state.
    pub(super) fn remove_part(&self) -> Result<(), FetchError> {
        for path in [&self.part, &self.state] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write_error(path)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), FetchError> {
    atomic::write(path, |file| file.write_all(content)).map_err(write_error(path))
}

/// Returns the digits of a sha256 in lower case; `None` if `text` is not a sha256.
pub(super) fn sha256_digits(text: &str) -> Option<String> {
    (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

/// Computes size and checksum of a file.
pub(super) fn sha256(path: &Path) -> Result<(u64, String), FetchError> {
    let found = File::open(path).and_then(digest).map_err(read_error(path))?;
    Ok((found.bytes, found.sha256))
}
