//! Errors of this crate.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Error of this crate. Every message is one sentence that names the URL.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The URL is malformed or not supported.
    #[error("{url}: {reason}")]
    Url {
        /// The URL, without secrets.
        url: String,
        /// Reason and remedy.
        reason: String,
    },
    /// Nothing is there.
    #[error("there is nothing at {url} ({reason}); check the URL: names of buckets and files are case-sensitive")]
    Missing {
        /// The URL.
        url: String,
        /// Answer of the server.
        reason: String,
    },
    /// The server refused access.
    #[error("no access to {url} ({reason}); {remedy}")]
    Denied {
        /// The URL.
        url: String,
        /// Answer of the server.
        reason: String,
        /// Remedy: the sources of credentials.
        remedy: &'static str,
    },
    /// There are no credentials, or they cannot be used.
    #[error("no credentials for {url}: {reason}; {remedy}")]
    Credentials {
        /// The URL.
        url: String,
        /// Description of the fault.
        reason: String,
        /// Remedy: the sources of credentials.
        remedy: &'static str,
    },
    /// The server cannot be reached, or fails again and again.
    #[error("cannot {doing} {url}: {reason}; {remedy}")]
    Request {
        /// Verb: read, write, list or delete.
        doing: &'static str,
        /// The URL.
        url: String,
        /// Last failure.
        reason: String,
        /// Remedy: the things to check.
        remedy: &'static str,
    },
    /// A file changed while it was read.
    #[error("{url} changed while it was read; run the command again")]
    Changed {
        /// The URL.
        url: String,
    },
    /// Files cannot be written there.
    #[error("cannot write to {url}: only s3://, gs:// and az:// can be written to")]
    ReadOnly {
        /// The URL.
        url: String,
    },
    /// A file has another checksum than the list of its folder.
    #[error("{url} has sha256 {found}, but {list} lists {expected}; it was damaged or replaced: write it to the store again")]
    Checksum {
        /// The URL.
        url: String,
        /// Checksum of the content.
        found: String,
        /// Name of the list: the manifest of a data set, or a list of checksums.
        list: String,
        /// Checksum on the list.
        expected: String,
    },
    /// A file has another size than the list of its folder says.
    #[error("{url} has {found} bytes, but {list} lists {expected}; it was truncated or replaced: write it to the store again")]
    Size {
        /// The URL.
        url: String,
        /// Size of the file.
        found: u64,
        /// Name of the list: the manifest of a data set, or a list of checksums.
        list: String,
        /// Size on the list.
        expected: u64,
    },
    /// A folder cannot be listed.
    #[error("cannot list {url}: {reason}")]
    List {
        /// The URL.
        url: String,
        /// Reason and remedy.
        reason: String,
    },
    /// There is no data set or there are no weights at the URL.
    #[error("{url} {reason}")]
    Content {
        /// The URL.
        url: String,
        /// Missing content, with a remedy.
        reason: String,
    },
    /// The files do not fit into the cache.
    #[error(
        "{url} needs {needed} MB in the cache {}, whose limit is {limit} MB, of which {in_use} MB are in use by other processes; set \
         GLM_CACHE_LIMIT to a larger size, such as 200GB",
        cache.display()
    )]
    CacheFull {
        /// The URL.
        url: String,
        /// Folder of the cache.
        cache: PathBuf,
        /// Size of the files.
        needed: u64,
        /// Maximum size of the cache.
        limit: u64,
        /// Size of what cannot be removed.
        in_use: u64,
    },
    /// The setting of the cache is not valid.
    #[error("{0}")]
    CacheSetting(String),
    /// A local file or folder cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// Verb: read, write, create, lock or remove.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The program was built without object stores.
    #[error(
        "{url}: this program was built without object stores; build it with them (`cargo build --release`), or copy the files to a disk"
    )]
    Unsupported {
        /// The URL.
        url: String,
    },
    /// The threads for connections cannot be started.
    #[error("cannot start threads for connections: {0}")]
    Threads(io::Error),
}

/// Codes of answers that there is no bucket, container or repository.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "BucketNotFound"];

impl RemoteError {
    /// Returns a function that adds a verb and a path to an error of the operating system.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }

    /// Returns true if there is no such file, though the bucket exists.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { reason, .. } if !NO_BUCKET.iter().any(|code| reason.starts_with(code)))
    }

    /// Returns the error of a [`Reader`](super::Reader), which comes as one of the standard library.
    pub(crate) fn of_read(url: String, error: io::Error) -> Self {
        let reason = error.to_string();
        match error.into_inner().map(|inner| inner.downcast::<Self>()) {
            Some(Ok(error)) => *error,
            _ => Self::Request { doing: "read", url, reason, remedy: "run the command again" },
        }
    }
}
