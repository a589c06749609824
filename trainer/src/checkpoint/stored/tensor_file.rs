//! Tensors of one file by name.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use indexmap::IndexMap;
use thiserror::Error;

use super::file_bytes::FileBytes;
use super::gather::gather;
use super::{StoredKind, StoredTensor};

/// An open file of tensors. The tensors stay in the file until they are read.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    bytes: FileBytes,
    entries: IndexMap<String, Entry>,
    storages: Vec<Storage>,
    /// Strings stored beside the tensors; PyTorch's container has none.
    pub metadata: HashMap<String, String>,
    /// Entries that are not tensors of a supported type, each as `name (type)`.
    pub skipped: Vec<String>,
}

/// A tensor as a view of a storage: the element with index (i, j, …) is element `offset + i * stride[0] + j * stride[1] + …`.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: StoredKind,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) stride: Vec<usize>,
    /// Index of the storage; tensors can share one.
    pub(crate) storage: usize,
}

/// Location of a storage in the file, and its checksum if the container has one.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) range: Range<usize>,
    checksum: Option<Checksum>,
    /// Set after the checksum was verified. Verifying twice is harmless, so relaxed ordering suffices.
    verified: AtomicBool,
}

/// CRC-32 of a member of a zip file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// Name of the member.
    pub member: String,
    /// CRC-32 from the directory of the zip file.
    pub crc: u32,
}

/// A member of a zip file whose bytes do not match its checksum.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "zip member {member} is damaged: its CRC-32 is {found:08x}, expected {expected:08x}; download the checkpoint again or save it again with torch.save"
)]
pub struct ChecksumMismatch {
    /// Name of the member.
    pub member: String,
    /// CRC-32 of the bytes.
    pub found: u32,
    /// CRC-32 from the directory of the zip file.
    pub expected: u32,
}

/// Errors of reading a tensor from an open file.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file has no tensor of this name.
    #[error("{}: no tensor '{name}' among the {count} of the file", .path.display())]
    UnknownTensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Number of tensors in the file.
        count: usize,
    },
    /// The bytes of the tensor are damaged.
    #[error("{}: {source}", .path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The mismatch.
        source: ChecksumMismatch,
    },
    /// The tensor extends beyond its storage. Readers check this when they open a file.
    #[error("{}: tensor '{name}' extends beyond its storage; the file is damaged", .path.display())]
    OutOfStorage {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
    },
}

impl Checksum {
    /// Compares the checksum with that of `bytes`.
    ///
    /// # Errors
    /// [`ChecksumMismatch`].
    pub fn verify(&self, bytes: &[u8]) -> Result<(), ChecksumMismatch> {
        match crc32fast::hash(bytes) {
            found if found == self.crc => Ok(()),
            found => Err(ChecksumMismatch { member: self.member.clone(), found, expected: self.crc }),
        }
    }
}

impl Storage {
    pub(crate) fn new(range: Range<usize>, checksum: Option<Checksum>) -> Self {
        Self { range, checksum, verified: AtomicBool::new(false) }
    }

    /// Verifies the checksum on first use.
    fn verify(&self, bytes: &[u8]) -> Result<(), ChecksumMismatch> {
        let Some(checksum) = &self.checksum else { return Ok(()) };
        if !self.verified.load(Ordering::Relaxed) {
            checksum.verify(bytes)?;
            self.verified.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl TensorFile {
    pub(crate) fn new(path: &Path, bytes: FileBytes, entries: IndexMap<String, Entry>, storages: Vec<Storage>) -> Self {
        let path = path.to_owned();
        Self { path, bytes, entries, storages, metadata: HashMap::new(), skipped: Vec::new() }
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Names of the tensors, in the order of the file.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the element type and shape of a tensor.
    ///
    /// # Errors
    /// [`ReadError::UnknownTensor`].
    pub fn describe(&self, name: &str) -> Result<(StoredKind, &[usize]), ReadError> {
        self.entry(name).map(|entry| (entry.kind, entry.shape.as_slice()))
    }

    /// Reads a tensor. Contiguous tensors are borrowed from the file; transposed and strided views are copied. The checksum of a
    /// storage is verified when a tensor is first read from it.
    ///
    /// The memory of the storage read before is released, so that reading all tensors needs no more memory than the largest storage.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, ReadError> {
        let Entry { kind, offset, shape, stride, storage } = self.entry(name)?;
        let beyond = || ReadError::OutOfStorage { path: self.path.clone(), name: name.to_owned() };
        let storage = self.storages.get(*storage).ok_or_else(beyond)?;
        let bytes = self.bytes.read(&storage.range).ok_or_else(beyond)?;
        storage.verify(bytes).map_err(|source| ReadError::Checksum { path: self.path.clone(), source })?;
        let data = gather(bytes, kind.size(), *offset, shape, stride).ok_or_else(beyond)?;
        Ok(StoredTensor { kind: *kind, shape: shape.clone(), data })
    }

    fn entry(&self, name: &str) -> Result<&Entry, ReadError> {
        self.entries.get(name).ok_or_else(|| ReadError::UnknownTensor {
            path: self.path.clone(),
            name: name.to_owned(),
            count: self.entries.len(),
        })
    }
}
