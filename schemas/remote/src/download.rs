//! Downloads to disk.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use glm_schemas::manifest::hex;
use glm_support::files::atomic::{self, Draft};
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::{Reader, RemoteError, Store};

const READ_BYTES: usize = 1 << 18;

/// Size and checksum of a file, as known before it is downloaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// Size in bytes.
    pub bytes: Option<u64>,
    /// Checksum.
    pub sha256: Option<&'a str>,
    /// Name of the list that tells them, for messages.
    pub list: &'a str,
}

impl Store {
    /// Downloads a file, with the folders above it. It gets its name on disk when it is complete and has the expected checksum.
    /// `received` is called with numbers of bytes. Returns the open file and its checksum.
    ///
    /// # Errors
    /// [`RemoteError`]; nothing is left on disk then.
    pub fn download(
        &self,
        name: &str,
        path: &Path,
        expected: Expected<'_>,
        received: &dyn Fn(u64),
    ) -> Result<(File, String), RemoteError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let failed = RemoteError::file("write", path);
        fs::create_dir_all(folder).map_err(RemoteError::file("create", folder))?;
        atomic::remove_leftovers_of(path).map_err(&failed)?;
        let url = if name.is_empty() { self.location().to_string() } else { self.location().join(name).to_string() };
        let list = expected.list.to_owned();
        let mut reader = self.read(name)?;
        if let Some(bytes) = expected.bytes.filter(|&bytes| bytes != reader.size()) {
            return Err(RemoteError::Size { url, found: reader.size(), list, expected: bytes });
        }
        let mut draft = Draft::create(path).map_err(&failed)?;
        let mut hash = Sha256::new();
        transfer(&mut reader, &url, received, |bytes| {
            hash.update(bytes);
            draft.write_all(bytes).map_err(&failed)
        })?;
        let found = hex(&hash.finalize());
        match expected.sha256.filter(|expected| *expected != found) {
            // The draft is removed with the error.
            Some(expected) => Err(RemoteError::Checksum { url, found, list, expected: expected.to_owned() }),
            None => Ok((draft.publish().map_err(&failed)?, found)),
        }
    }

    /// Downloads a file whatever its content, to a file in the cache folder that has no name and is gone when it is closed. Returns
    /// it at its beginning. `received` is called with numbers of bytes.
    ///
    /// # Errors
    /// [`RemoteError`] if there is no such file, or it cannot be read.
    pub fn copy(&self, name: &str, received: &dyn Fn(u64)) -> Result<File, RemoteError> {
        let cache = Cache::of_user()?;
        let mut reader = self.read(name)?;
        let mut file = cache.unnamed_file()?;
        let failed = RemoteError::file("write", cache.folder());
        let url = self.location().join(name).to_string();
        transfer(&mut reader, &url, received, |bytes| file.write_all(bytes).map_err(&failed))?;
        file.rewind().map_err(&failed)?;
        Ok(file)
    }
}

/// Passes the content of a file of a store to `write`, piece by piece.
fn transfer(
    reader: &mut Reader,
    url: &str,
    received: &dyn Fn(u64),
    mut write: impl FnMut(&[u8]) -> Result<(), RemoteError>,
) -> Result<(), RemoteError> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                write(&buffer[..read])?;
                received(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(RemoteError::of_read(url.to_owned(), error)),
        }
    }
}
