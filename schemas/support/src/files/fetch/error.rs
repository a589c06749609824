//! Download errors.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::options::Archive;

/// Reason to reject a downloaded file.
#[derive(Debug, Error)]
pub enum ContentFault {
    /// The file is damaged.
    #[error("{0}")]
    Damaged(String),
    /// A required member is missing.
    #[error("it does not contain {0}")]
    Missing(&'static str),
    /// The file cannot be read.
    #[error("{0}")]
    Read(io::Error),
}

/// Error of [`fetch`](super::fetch). Every message is one sentence.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The program was built without downloads.
    #[error(
        "{url}: this program was built without downloads; build it with them (`cargo build --release`), or download the file with another program"
    )]
    Unsupported {
        /// Requested URL.
        url: String,
    },
    /// The server refused the request.
    #[error("the server returned status {status} for {url}; {}", advice(*status))]
    Status {
        /// Requested URL.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The response is an HTML page instead of the file.
    #[error(
        "{url} is an HTML page, not a {kind}; it may be the login or error page of a network in between: open it in a browser, or use another --url"
    )]
    Html {
        /// Requested URL.
        url: String,
        /// Expected kind of file.
        kind: Archive,
    },
    /// The file is of another kind, or damaged.
    #[error("{url} is not a readable {kind} ({reason}); use another --url, or try again")]
    NotAnArchive {
        /// URL or path of the file.
        url: String,
        /// Expected kind of file.
        kind: Archive,
        /// Description of the damage.
        reason: String,
    },
    /// The archive has different content.
    #[error("{url} does not contain {member}, so it is a different archive; use another --url")]
    NoMember {
        /// URL or path of the file.
        url: String,
        /// Missing member.
        member: &'static str,
    },
    /// The URL is invalid or the connection is not trusted; retrying does not help.
    #[error("cannot fetch {url}: {reason}")]
    Request {
        /// Requested URL.
        url: String,
        /// Description of the problem.
        reason: String,
    },
    /// The connection failed repeatedly.
    #[error("cannot download all of {url}: {tries} attempts failed, the last one because {reason}; {}", what_next(*have, *total, part))]
    GaveUp {
        /// Requested URL.
        url: String,
        /// Number of consecutive attempts.
        tries: u32,
        /// Failure of the last attempt.
        reason: String,
        /// Bytes received so far.
        have: u64,
        /// Size of the complete file, if the server sent it.
        total: Option<u64>,
        /// Part file with the received bytes.
        part: PathBuf,
    },
    /// The checksum differs from the required one.
    #[error("{url} has sha256 {found}, but --sha256 is {expected}; the download was removed")]
    Checksum {
        /// Requested URL.
        url: String,
        /// Checksum of the download.
        found: String,
        /// Required checksum.
        expected: String,
    },
    /// The checksum differs from the one that the first download recorded.
    #[error(
        "{url} has sha256 {found}, but the first download had {expected}; the download was removed: run the command again or, if the published file has changed and you trust it, remove {} first",
        record.display()
    )]
    RecordedChecksum {
        /// Requested URL.
        url: String,
        /// Checksum of the download.
        found: String,
        /// Recorded checksum.
        expected: String,
        /// File with the recorded checksum.
        record: PathBuf,
    },
    /// The file already exists, but has changed.
    #[error(
        "{} already exists with sha256 {found}, expected {expected}; move it away and run the command again to download it",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Checksum of the file.
        found: String,
        /// Expected checksum.
        expected: String,
    },
    /// The checksum file is malformed.
    #[error("{} does not start with a sha256; remove it if you trust the file next to it", .0.display())]
    Record(PathBuf),
    /// Another process is downloading the same file.
    #[error("another process is writing to {}; wait until it has finished", .0.display())]
    Busy(PathBuf),
    /// The disk is full.
    #[error("no space left on the device for {}; free some space and run the same command to resume", .0.display())]
    NoSpace(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Underlying error.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Underlying error.
        source: io::Error,
    },
}

fn advice(status: u16) -> &'static str {
    match status {
        404 | 410 => "the file no longer exists there, use another --url",
        401 | 403 | 407 => "the server denies access, use another --url",
        _ => "try again later, or use another --url",
    }
}

fn what_next(have: u64, total: Option<u64>, part: &Path) -> String {
    let of_total = total.map_or(String::new(), |total| format!(" of {total}"));
    match have {
        0 => "nothing was received, try again later".to_owned(),
        _ => format!("{have}{of_total} bytes are kept in {}, run the same command to resume", part.display()),
    }
}

/// Converts an I/O error of reading `path`.
pub(super) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> FetchError + '_ {
    |source| FetchError::Read { path: path.to_owned(), source }
}

/// Converts an I/O error of writing `path`.
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
    fn a_full_disk_has_its_own_message() {
        let path = Path::new("ReCoRD.zip.part");
        let full = write_error(path)(io::ErrorKind::StorageFull.into());
        assert!(full.to_string().starts_with("no space left on the device for ReCoRD.zip.part"), "{full}");
        assert!(matches!(write_error(path)(io::ErrorKind::PermissionDenied.into()), FetchError::Write { .. }));
    }
}
