//! Reader for checkpoints written by `torch.save`. It needs no PyTorch and executes nothing from the file.
//!
//! A `.pt` file contains a pickle, which is a program that Python runs on opening. This reader interprets the opcodes that build
//! plain data, keeps classes and calls as names, and understands only the few functions that rebuild tensors and dicts. All sizes
//! are checked against the file before memory is allocated, and no input makes it panic.
//!
//! The file is mapped, and tensors are read on demand:
//!
//! ```text
//! let file = read_module(Path::new("200000/mp_rank_00_model_states.pt"))?;
//! for name in file.names() {
//!     let tensor = file.tensor(name)?;
//!     println!("{name}: {:?} {:?}, {} bytes", tensor.kind, tensor.shape, tensor.data.len());
//! }
//! ```
//!
//! Data flow: file -> container (`torch_zip` or `torch_legacy`) -> opcodes (`machine`) -> values (`value`) -> state dict (`state`)
//! -> views of storages (`tensor`) -> [`TensorFile`].

mod error;
mod input;
mod machine;
mod stack;
mod state;
mod tensor;
mod torch_legacy;
mod torch_zip;
mod value;

#[cfg(test)]
mod handmade;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use indexmap::IndexMap;

use super::stored::{Entry, FileBytes, Storage, TensorFile};
pub use error::{Fault, PickleError, TensorFault};
use machine::{Pickle, run};
use state::{StateFault, find_state};
use tensor::View;
use torch_legacy::{TorchLegacy, is_legacy};
pub use torch_zip::Checksums;
use torch_zip::{TorchZip, is_zip};

/// Opens a checkpoint and lists its tensors. Tensor data is not read.
///
/// The state dict is the value under `module`, `model` or `state_dict`, in this order, or the whole file if it maps names to
/// tensors. Nested dicts are flattened; their keys are joined with dots.
///
/// # Errors
/// [`PickleError`] if the file cannot be read, is damaged, has no state dict, or has a tensor that is not dense or whose element type
/// is not supported.
pub fn read_module(path: &Path) -> Result<TensorFile, PickleError> {
    let bytes = FileBytes::map(path).map_err(|source| PickleError::Open { path: path.to_owned(), source })?;
    open(path, bytes, Checksums::Verify)
}

/// Like [`read_module`], for bytes in memory. `path` appears in error messages only.
///
/// # Errors
/// As [`read_module`].
pub fn parse_module(path: &Path, bytes: Vec<u8>, checksums: Checksums) -> Result<TensorFile, PickleError> {
    open(path, FileBytes::in_memory(bytes), checksums)
}

fn open(path: &Path, bytes: FileBytes, checksums: Checksums) -> Result<TensorFile, PickleError> {
    let Content { entries, storages, skipped } = read_content(path, &bytes, checksums)?;
    let mut file = TensorFile::new(path, bytes, entries, storages);
    file.skipped = skipped;
    Ok(file)
}

/// Index of a file.
struct Content {
    entries: IndexMap<String, Entry>,
    storages: Vec<Storage>,
    skipped: Vec<String>,
}

fn read_content(path: &Path, bytes: &[u8], checksums: Checksums) -> Result<Content, PickleError> {
    if is_zip(bytes) {
        let zip = TorchZip::open(path, bytes, checksums)?;
        let stream = bytes.get(zip.pickle.clone()).unwrap_or_default();
        let pickle = run(stream, 0).map_err(|failure| failure.in_part(path, "data.pkl"))?;
        return list_tensors(path, bytes, &pickle, |key| zip.storage(key));
    }
    if is_legacy(bytes) {
        let legacy = TorchLegacy::open(path, bytes)?;
        return list_tensors(path, bytes, &legacy.pickle, |key| legacy.storage(key));
    }
    let why = guess_content(bytes)
        .unwrap_or("it starts neither with a zip header nor with PyTorch's magic number; use a file written by torch.save");
    Err(PickleError::NotACheckpoint { path: path.to_owned(), why: why.to_owned() })
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
    let mut content = Content { entries: IndexMap::new(), storages: Vec::new(), skipped: state.skipped };
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
        content.entries.insert(name, Entry { kind: reference.kind, offset, shape, stride, storage });
    }
    Ok(content)
}

/// Checks the sizes of a tensor and its storage against the file.
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

/// Guesses the type of a file that has no weights and suggests what to do.
pub(super) fn guess_content(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [] => "it is empty; download it again",
        [b'B', b'Z', b'h', ..] => "it is a bzip2 archive; unpack it with tar -xjf and use the .pt file in it",
        [0x1f, 0x8b, ..] => "it is a gzip archive; unpack it with tar -xzf and use the .pt file in it",
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            "it is a Git LFS pointer; fetch the file itself with git lfs pull"
        }
        [b'<', ..] => "it is a web page; download the file again",
        _ => return None,
    })
}
