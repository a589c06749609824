//! The bytes of a checkpoint file, mapped so that only the pages in use take up memory.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

/// Bytes of a file, or bytes that are in memory anyway.
#[derive(Debug)]
pub(crate) enum FileBytes {
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
            return Ok(FileBytes::Memory(Vec::new()));
        }
        // SAFETY: the mapping is read-only and nothing here writes the file. As for any mapped file, another program must not
        // change or shorten it meanwhile; published checkpoints are not written in place.
        let mapped = unsafe { Mmap::map(&file)? };
        Ok(FileBytes::Mapped(mapped))
    }

    /// Lets the system take back the memory of a range; it is read from the file again when it is used again.
    pub(crate) fn release(&self, range: &Range<usize>) {
        #[cfg(unix)]
        if let FileBytes::Mapped(mapped) = self {
            // SAFETY: pages of a read-only file mapping are never dirty, so dropping them changes no byte that anyone can see.
            let advised = unsafe {
                mapped.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.end.saturating_sub(range.start),
                )
            };
            // Only a hint: if the system refuses it, the bytes stay in memory and nothing else changes.
            drop(advised);
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            FileBytes::Mapped(mapped) => mapped,
            FileBytes::Memory(bytes) => bytes,
        }
    }
}
