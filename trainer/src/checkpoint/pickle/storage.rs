//! Storages of a file, and the checksums that the zip container has of them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::value::quote;
use super::zip_directory::{Member, ZipFault};

/// Whether the checksums of the zip container count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// Bytes with another checksum than the directory says are refused.
    Verify,
    /// For fuzzing, which would hardly ever get past them.
    Ignore,
}

/// Where a storage is in the file, and what tells that it is undamaged.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) range: Range<usize>,
    checksum: Option<Checksum>,
    /// Whether the checksum was found to be right. Set twice is as good as once, so no ordering is needed.
    verified: AtomicBool,
}

#[derive(Debug)]
struct Checksum {
    member: String,
    crc: u32,
}

impl Storage {
    /// A storage of the old container, which has no checksums.
    pub(super) fn plain(range: Range<usize>) -> Self {
        Self { range, checksum: None, verified: AtomicBool::new(false) }
    }

    /// A storage that is a member of a zip file.
    pub(super) fn member(name: String, member: Member, checksums: Checksums) -> Self {
        let checksum = (checksums == Checksums::Verify).then_some(Checksum { member: name, crc: member.crc });
        Self { range: member.range, checksum, verified: AtomicBool::new(false) }
    }

    /// Compares the checksum of the storage's `bytes`, the first time it is asked to.
    pub(super) fn verify(&self, bytes: &[u8]) -> Result<(), ZipFault> {
        let Some(Checksum { member, crc }) = &self.checksum else { return Ok(()) };
        if !self.verified.load(Ordering::Relaxed) {
            verify(member, bytes, *crc)?;
            self.verified.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Compares the checksum of a member's bytes.
pub(super) fn verify(member: &str, bytes: &[u8], crc: u32) -> Result<(), ZipFault> {
    let found = crc32fast::hash(bytes);
    if found == crc {
        return Ok(());
    }
    let why = format!("is damaged: its CRC-32 is {found:08x}, the directory says {crc:08x}");
    Err(ZipFault { member: quote(member), why })
}
