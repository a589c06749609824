//! Why a file cannot be had.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Archive;

/// Why `fetch` failed. Every message is one sentence.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The server refuses.
    #[error("the server answers {status} for {url}; {}", advice(*status))]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: u16,
    },
    /// A page for people instead of the file.
    #[error(
        "{url} is an HTML page and no {kind}; perhaps a login or error page of a network in between answered: open it in a browser, or give another --url"
    )]
    Html {
        /// What was asked for.
        url: String,
        /// What it should be.
        kind: Archive,
    },
    /// Another kind of file.
    #[error("{url} is no {kind} that can be read ({reason}); give another --url, or try again")]
    NotAnArchive {
        /// Where it comes from.
        url: String,
        /// What it should be.
        kind: Archive,
        /// What is wrong.
        reason: String,
    },
    /// Another archive.
    #[error("{url} holds no {member}, so it is another archive; give another --url")]
    NoMember {
        /// Where it comes from.
        url: String,
        /// What should be in it.
        member: &'static str,
    },
    /// The address is wrong, or the connection is not to be trusted: trying again does not help.
    #[error("cannot fetch {url}: {reason}")]
    Request {
        /// What was asked for.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Cut, again and again.
    #[error(
        "{url} could not be fetched to its end, the last of {tries} tries says: {reason}; {}",
        what_next(*have, *total, part)
    )]
    GaveUp {
        /// What was asked for.
        url: String,
        /// Tries in a row.
        tries: u32,
        /// How the last one ended.
        reason: String,
        /// What has arrived.
        have: u64,
        /// Size of the whole file, where the server says it.
        total: Option<u64>,
        /// Where it is.
        part: PathBuf,
    },
    /// Not the checksum that was asked for.
    #[error("{url} has sha256 {found}, but --sha256 asks for {expected}; what was downloaded is removed")]
    Checksum {
        /// Where it comes from.
        url: String,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// Not the checksum of the first download.
    #[error(
        "{url} has sha256 {found}, but the first download had {expected}; what was downloaded is removed: run it again, and if the published file has changed and you trust it, remove {} first",
        record.display()
    )]
    RecordedChecksum {
        /// Where it comes from.
        url: String,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
        /// Where that is written.
        record: PathBuf,
    },
    /// The file is there, but is not what it was.
    #[error("{} is there with sha256 {found}, expected {expected}; move it away and run it again to fetch it anew", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// The record of the checksum is none.
    #[error("{} does not begin with a sha256; remove it if you trust the file beside it", .0.display())]
    Record(PathBuf),
    /// Two runs at a time.
    #[error("another run is writing to {}; wait until it has finished", .0.display())]
    Busy(PathBuf),
    /// The disk is full.
    #[error("no space left on the device for {}; free some, the same command continues where it stopped", .0.display())]
    NoSpace(PathBuf),
    /// The file system refused to read something.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system refused to write something.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn advice(status: u16) -> &'static str {
    match status {
        404 | 410 => "the file is not there (any more), give another --url",
        401 | 403 | 407 => "it wants to know who asks, give another --url",
        _ => "try again later, or give another --url",
    }
}

fn what_next(have: u64, total: Option<u64>, part: &Path) -> String {
    let of_total = total.map_or(String::new(), |total| format!(" of {total}"));
    match have {
        0 => "nothing has arrived, so try again later".to_owned(),
        _ => format!("{have}{of_total} bytes are kept in {}, and the same command continues from there", part.display()),
    }
}

/// From what the file system said about `path`.
pub(super) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> FetchError + '_ {
    |source| FetchError::Read { path: path.to_owned(), source }
}

/// From what the file system said about `path`.
pub(super) fn write_error(path: &Path) -> impl FnOnce(io::Error) -> FetchError + '_ {
    |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchError::NoSpace(path.to_owned()),
        _ => FetchError::Write { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let path = Path::new("ReCoRD.zip.part");
        let full = write_error(path)(io::ErrorKind::StorageFull.into());
        assert!(full.to_string().starts_with("no space left on the device for ReCoRD.zip.part"), "{full}");
        assert!(matches!(write_error(path)(io::ErrorKind::PermissionDenied.into()), FetchError::Write { .. }));
    }
}
