//! Timestamps and identity checks of files that a run appends to.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the seconds since 1970, with millisecond resolution.
pub(crate) fn unix_seconds() -> f64 {
    // A clock set to a time before 1970 must not cause a failure.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_millis() as f64 / 1e3)
}

/// Returns true if `path` still refers to the open file.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let (open, named) = (file.metadata().map(place).ok(), std::fs::metadata(path).map(place).ok());
    open.is_some() && open == named
}
