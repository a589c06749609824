//! Bytes of a file, mapped so that only the pages in use occupy memory.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use memmap2::Mmap;

/// Bytes of a mapped file, or bytes in memory.
#[derive(Debug)]
pub(crate) struct FileBytes {
    bytes: Bytes,
    /// Range of the latest [`Self::read`].
    last_read: Mutex<Range<usize>>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Memory(Vec<u8>),
}

impl FileBytes {
    /// Maps a regular file.
    pub(crate) fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(Self::in_memory(Vec::new()));
        }
        // SAFETY: the mapping is read-only and this program does not write to the file. As with any mapped file, other programs must
        // not change or truncate it while it is in use; published checkpoints are not modified in place.
        let mapped = unsafe { Mmap::map(&file)? };
        Ok(Self::new(Bytes::Mapped(mapped)))
    }

    /// Wraps bytes that are already in memory.
    pub(crate) fn in_memory(bytes: Vec<u8>) -> Self {
        Self::new(Bytes::Memory(bytes))
    }

    fn new(bytes: Bytes) -> Self {
        Self { bytes, last_read: Mutex::new(0..0) }
    }

    /// Returns a range of the bytes and releases the pages of the range read before, so that reading a file range by range needs no
    /// more memory than the largest range. Slices returned earlier stay valid; the system reads their pages again on access.
    pub(crate) fn read(&self, range: &Range<usize>) -> Option<&[u8]> {
        let bytes = self.get(range.clone())?;
        let mut last_read = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = std::mem::replace(&mut *last_read, range.clone());
        if previous != *range {
            self.release(&previous);
        }
        Some(bytes)
    }

    fn release(&self, range: &Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(mapped) = &self.bytes {
            // SAFETY: pages of a read-only file mapping are never dirty, so dropping them changes no byte that a reader can observe.
            let advised =
                unsafe { mapped.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
            // Only a hint: if the system refuses it, the pages stay in memory.
            drop(advised);
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(mapped) => mapped,
            Bytes::Memory(bytes) => bytes,
        }
    }
}
