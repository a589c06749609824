//! Reads the checkpoints that `torch.save` writes, without PyTorch and without running what is in them.
//!
//! A `.pt` file is a pickle, which is a program: in Python, opening one runs whatever it says. This reader interprets the opcodes
//! that build data, keeps classes and calls as names, and understands only the handful that stand for tensors and dicts. All
//! sizes are checked against the file before anything is allocated, and no sequence of bytes makes it panic.
//!
//! The file is mapped, and a tensor is read when it is asked for:
//!
//! ```text
//! let state = read_module(Path::new("200000/mp_rank_00_model_states.pt"))?;
//! for name in state.names() {
//!     let tensor = state.tensor(name)?;
//!     println!("{name}: {:?} {:?}, {} bytes", tensor.kind, tensor.shape, tensor.data.len());
//! }
//! ```
//!
//! The way of the data: file -> container (`torch_zip` or `torch_legacy`) -> opcodes (`machine`) -> values (`value`) ->
//! state dict (`state`) -> descriptions of tensors (`tensor`) -> bytes (`gather`).

mod error;
mod file;
mod gather;
mod input;
mod machine;
mod stack;
mod state;
mod storage;
mod tensor;
mod torch_legacy;
mod torch_zip;
mod value;
mod zip_directory;

#[cfg(test)]
mod handmade;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

pub use error::{Fault, PickleError, TensorFault};
pub use storage::Checksums;
pub use tensor::StoredKind;

pub(crate) use file::FileBytes;
use machine::{Pickle, run};
use state::{StateFault, find_state};
use storage::Storage;
use tensor::View;
use torch_legacy::{TorchLegacy, is_legacy};
use torch_zip::TorchZip;
use zip_directory::{ZipFault, is_zip};

/// A tensor read from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor<'s> {
    /// Element type.
    pub kind: StoredKind,
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements in row-major order, little endian. Borrowed from the file where they lie so there; not aligned.
    pub data: Cow<'s, [u8]>,
}

/// The tensors of a checkpoint by name. They stay in the file until they are asked for.
#[derive(Debug)]
pub struct StateDict {
    path: PathBuf,
    bytes: FileBytes,
    entries: Vec<Entry>,
    storages: Vec<Storage>,
    index: HashMap<String, usize>,
    /// Place in `entries` of the tensor read last; beyond the end at first.
    last_read: AtomicUsize,
    /// What was passed over: entries that are no tensors, inside the state dict and beside it, each as `name (Python type)`.
    pub skipped: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    kind: StoredKind,
    /// Elements from the start of the storage to the first element.
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
    /// Place of the storage in the state dict's list: tensors may share one.
    storage: usize,
}

/// Opens a checkpoint and lists its tensors. No tensor data is read.
///
/// The state dict is what the file has under `module`, else `model`, else `state_dict`, else all of it when it maps names to
/// tensors. Dicts in it are flattened, the levels joined with dots.
///
/// # Errors
/// A file that cannot be read, is damaged, holds no state dict, or has a tensor that is not dense or of an unknown element type.
pub fn read_module(path: &Path) -> Result<StateDict, PickleError> {
    let bytes = FileBytes::map(path).map_err(|source| PickleError::Open { path: path.to_owned(), source })?;
    StateDict::open(path, bytes, Checksums::Verify)
}

/// Like [`read_module`] for bytes in memory; `path` is for messages only.
///
/// # Errors
/// As [`read_module`].
pub fn parse_module(path: &Path, bytes: Vec<u8>, checksums: Checksums) -> Result<StateDict, PickleError> {
    StateDict::open(path, FileBytes::Memory(bytes), checksums)
}

impl StateDict {
    fn open(path: &Path, bytes: FileBytes, checksums: Checksums) -> Result<Self, PickleError> {
        let Content { entries, storages, skipped } = read_content(path, &bytes, checksums)?;
        let index = entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        let last_read = AtomicUsize::new(usize::MAX);
        Ok(Self { path: path.to_owned(), bytes, entries, storages, index, last_read, skipped })
    }

    /// Number of tensors; at least one.
    #[allow(clippy::len_without_is_empty, reason = "a state dict without tensors is an error")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Names of the tensors, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Element type of a tensor.
    ///
    /// # Errors
    /// No tensor of that name.
    pub fn kind(&self, name: &str) -> Result<StoredKind, PickleError> {
        self.entry(name).map(|(_, entry)| entry.kind)
    }

    /// Sizes of a tensor, outermost first.
    ///
    /// # Errors
    /// No tensor of that name.
    pub fn shape(&self, name: &str) -> Result<&[usize], PickleError> {
        self.entry(name).map(|(_, entry)| entry.shape.as_slice())
    }

    /// Reads a tensor. Its bytes are borrowed from the file, unless a transposed or strided view has to be laid out. The first
    /// read from a storage compares its checksum.
    ///
    /// The memory of the tensor read before is given back to the system, so that reading all of them one after the other takes
    /// no more than the largest. Data borrowed earlier stays valid; it would be read from the file again.
    ///
    /// # Errors
    /// No tensor of that name; a checksum that is wrong.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, PickleError> {
        let (at, entry) = self.entry(name)?;
        let before = self.last_read.swap(at, Ordering::Relaxed);
        if let Some(before) = self.entries.get(before).filter(|before| before.storage != entry.storage) {
            self.bytes.release(&self.storages[before.storage].range);
        }
        let place = &self.storages[entry.storage];
        let storage = self.bytes.get(place.range.clone()).unwrap_or_default();
        place.verify(storage).map_err(|fault| zip_error(&self.path, fault))?;
        let data = gather::gather(storage, entry.kind.size(), entry.offset, &entry.shape, &entry.stride);
        let data = data.ok_or_else(|| {
            let fault = TensorFault::Overflow(entry.shape.clone());
            PickleError::Tensor { path: self.path.clone(), name: entry.name.clone(), fault }
        })?;
        Ok(StoredTensor { kind: entry.kind, shape: entry.shape.clone(), data })
    }

    fn entry(&self, name: &str) -> Result<(usize, &Entry), PickleError> {
        let found = self.index.get(name).and_then(|at| self.entries.get(*at).map(|entry| (*at, entry)));
        found.ok_or_else(|| PickleError::UnknownTensor { path: self.path.clone(), name: name.to_owned(), count: self.len() })
    }
}

/// What a file holds.
struct Content {
    entries: Vec<Entry>,
    storages: Vec<Storage>,
    skipped: Vec<String>,
}

fn read_content(path: &Path, bytes: &[u8], checksums: Checksums) -> Result<Content, PickleError> {
    if is_zip(bytes) {
        let zip = TorchZip::open(bytes, checksums).map_err(|fault| zip_error(path, fault))?;
        let stream = bytes.get(zip.pickle.clone()).unwrap_or_default();
        let pickle = run(stream, 0).map_err(|failure| failure.in_part(path, "data.pkl"))?;
        return list_tensors(path, bytes, &pickle, |key| zip.storage(key));
    }
    if is_legacy(bytes) {
        let legacy = TorchLegacy::open(path, bytes)?;
        return list_tensors(path, bytes, &legacy.pickle, |key| legacy.storage(key));
    }
    Err(PickleError::NotACheckpoint { path: path.to_owned(), why: guess_content(bytes).to_owned() })
}

fn zip_error(path: &Path, fault: ZipFault) -> PickleError {
    PickleError::Zip { path: path.to_owned(), member: value::quote(&fault.member), why: fault.why }
}

fn list_tensors(
    path: &Path,
    bytes: &[u8],
    pickle: &Pickle<'_>,
    locate: impl Fn(&str) -> Option<Storage>,
) -> Result<Content, PickleError> {
    let state = find_state(&pickle.values, pickle.root).map_err(|fault| match fault {
        StateFault::Missing(found) => PickleError::NoStateDict { path: path.to_owned(), found },
        StateFault::Tensor(name, fault) => PickleError::Tensor { path: path.to_owned(), name, fault },
    })?;
    let mut content = Content { entries: Vec::new(), storages: Vec::new(), skipped: state.skipped };
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (name, view) in state.tensors {
        let key = view.storage.key;
        let storage = match known.get(key) {
            Some(at) => Ok(*at),
            None => locate(key).ok_or_else(|| TensorFault::NoStorage(value::quote(key))).map(|found| {
                content.storages.push(found);
                content.storages.len() - 1
            }),
        };
        let checked = storage.and_then(|at| {
            check_size(&view, &content.storages[at].range, bytes.len())?;
            Ok(at)
        });
        let storage = checked.map_err(|fault| PickleError::Tensor { path: path.to_owned(), name: name.clone(), fault })?;
        known.insert(key, storage);
        let View { storage: reference, offset, shape, stride } = view;
        content.entries.push(Entry { name, kind: reference.kind, offset, shape, stride, storage });
    }
    Ok(content)
}

/// Fails unless the file justifies the sizes of a tensor and its storage.
fn check_size(view: &View<'_>, range: &Range<usize>, file_size: usize) -> Result<(), TensorFault> {
    let storage = &view.storage;
    let overflow = || TensorFault::Overflow(view.shape.clone());
    let width = storage.kind.size();
    let wanted = storage.numel.checked_mul(width).ok_or_else(overflow)?;
    if range.len() < wanted {
        return Err(TensorFault::ShortStorage { key: value::quote(storage.key), wanted, found: range.len() });
    }
    let bytes = view.numel().and_then(|numel| numel.checked_mul(width)).ok_or_else(overflow)?;
    if bytes > file_size {
        return Err(TensorFault::Expanded { bytes });
    }
    Ok(())
}

/// What a file that is no checkpoint probably is, and what to do about it.
fn guess_content(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "it is empty; download it again",
        [b'B', b'Z', b'h', ..] => "it is a bzip2 archive; unpack it with tar -xjf and give the .pt file inside",
        [0x1f, 0x8b, ..] => "it is a gzip archive; unpack it with tar -xzf and give the .pt file inside",
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            "it is a Git LFS pointer; fetch the file itself with git lfs pull"
        }
        [b'<', ..] => "it is a web page; the download went wrong",
        _ => "it starts neither like a zip file nor with PyTorch's magic number; give a file written by torch.save",
    }
}
