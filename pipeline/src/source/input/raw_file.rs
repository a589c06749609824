//! A raw file, on disk or in an object store.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use glm_remote::{Location, Store};

/// Raw file on disk or in an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RawFile {
    Local(PathBuf),
    Remote(Location),
}

/// Open raw file.
pub(super) struct OpenFile {
    pub(super) content: Box<dyn Read>,
    /// Size, except of pipes and devices.
    pub(super) bytes: Option<u64>,
}

impl RawFile {
    /// Opens the file. One in an object store is read as a stream.
    pub(super) fn open(&self) -> io::Result<OpenFile> {
        match self {
            Self::Local(path) => {
                let file = File::open(path)?;
                let found = file.metadata()?;
                Ok(OpenFile { content: Box::new(file), bytes: found.is_file().then_some(found.len()) })
            }
            Self::Remote(location) => {
                let reader = Store::open(location).and_then(|store| store.read("")).map_err(io::Error::other)?;
                let bytes = Some(reader.size());
                Ok(OpenFile { content: Box::new(reader), bytes })
            }
        }
    }
}
