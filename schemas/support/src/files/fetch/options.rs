//! Download options.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Expected kind of a downloaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// A zip archive.
    Zip,
    /// A bzip2-compressed file.
    Bzip2,
}

impl Archive {
    /// First bytes of every non-empty file of this kind.
    pub(super) fn magic(self) -> &'static [u8] {
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

/// Source, destination, retries and timeouts of a download.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// File name of the downloaded file.
    pub name: &'static str,
    /// Expected kind of file.
    pub archive: Archive,
    /// Destination folder, created if missing.
    pub dir: PathBuf,
    /// URL to download from.
    pub url: String,
    /// Required checksum.
    pub sha256: Option<String>,
    /// Maximum number of consecutive attempts that make next to no progress.
    pub tries: u32,
    /// Delay before the second attempt; doubles with every further attempt.
    pub pause: Duration,
    /// Timeout for establishing a connection.
    pub connect_timeout: Duration,
    /// Timeout for receiving data.
    pub stall_timeout: Duration,
}

impl FetchOptions {
    /// Options with the default retries and timeouts and no required checksum.
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
