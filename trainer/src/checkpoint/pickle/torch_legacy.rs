//! Container of PyTorch before 1.6, still written with `_use_new_zipfile_serialization=False`: five consecutive pickles (magic
//! number, protocol version, system information, data, keys of the storages), then each storage as a 64-bit number of elements
//! followed by the elements.
//!
//! Source: `_legacy_load` in `torch/serialization.py`.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::super::stored::Storage;
use super::error::PickleError;
use super::input::Input;
use super::machine::{Pickle, run};
use super::tensor::read_storage;
use super::value::{Id, Value, Values};

/// `MAGIC_NUMBER` in `torch/serialization.py`.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// `PROTOCOL_VERSION` in `torch/serialization.py`.
const PROTOCOL: i128 = 1001;

/// Parts of a checkpoint in the legacy container.
#[derive(Debug)]
pub(super) struct TorchLegacy<'a> {
    /// The data.
    pub(super) pickle: Pickle<'a>,
    storages: HashMap<String, Range<usize>>,
}

/// Returns true if the file starts with the magic number.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    run(bytes, 0).is_ok_and(|magic| is_int(&magic, MAGIC))
}

fn is_int(pickle: &Pickle<'_>, wanted: i128) -> bool {
    matches!(pickle.values.get(pickle.root), Value::Int(int) if *int == wanted)
}

impl<'a> TorchLegacy<'a> {
    /// Reads the five pickles and locates the storages.
    pub(super) fn open(path: &Path, bytes: &'a [u8]) -> Result<Self, PickleError> {
        let fault = |offset, why: &str| PickleError::Legacy { path: path.to_owned(), offset, why: why.to_owned() };
        let part = |name, start| run(bytes, start).map_err(|failure| failure.in_part(path, name));

        let magic = part("the magic number", 0)?;
        let protocol = part("the protocol version", magic.end)?;
        if !is_int(&magic, MAGIC) || !is_int(&protocol, PROTOCOL) {
            return Err(fault(magic.end, "the protocol version is not 1001"));
        }
        let system = part("the system information", protocol.end)?;
        if is_big_endian(&system) {
            return Err(fault(protocol.end, "the file was written on a big-endian machine"));
        }
        let pickle = part("the data", system.end)?;
        let keys = part("the keys of the storages", pickle.end)?;
        let Some(key_ids) = keys.values.sequence(keys.root) else {
            return Err(fault(pickle.end, "the keys of the storages are not a list"));
        };
        let storages = locate_storages(path, bytes, &pickle.values, &keys.values, key_ids, keys.end)?;
        Ok(Self { pickle, storages })
    }

    /// Returns the storage with this key.
    pub(super) fn storage(&self, key: &str) -> Option<Storage> {
        self.storages.get(key).map(|range| Storage::new(range.clone(), None))
    }
}

fn is_big_endian(system: &Pickle<'_>) -> bool {
    let facts = system.values.dict(system.root).unwrap_or_default();
    facts.iter().any(|(key, value)| {
        system.values.text(*key) == Some("little_endian") && matches!(system.values.get(*value), Value::Bool(false))
    })
}

/// Locates the storages one after another. The data specifies the element type of each, also outside the state dict.
fn locate_storages(
    path: &Path,
    bytes: &[u8],
    data: &Values<'_>,
    keys: &Values<'_>,
    key_ids: &[Id],
    start: usize,
) -> Result<HashMap<String, Range<usize>>, PickleError> {
    let fault = |offset, why: String| PickleError::Legacy { path: path.to_owned(), offset, why };
    let mut widths = HashMap::new();
    for value in data.iter() {
        let Value::Persistent(reference) = value else { continue };
        if is_module_source(data, *reference) {
            continue;
        }
        let storage =
            read_storage(data, *reference).map_err(|tensor_fault| fault(start, format!("invalid storage: {tensor_fault}")))?;
        let width = storage.kind.size();
        if *widths.entry(storage.key).or_insert(width) != width {
            return Err(fault(start, format!("storage '{}' has elements of two sizes", storage.key)));
        }
    }

    let mut storages = HashMap::new();
    let mut input = Input::new(bytes, start);
    for id in key_ids {
        let offset = input.position();
        let known = keys.text(*id).and_then(|key| widths.get_key_value(key));
        let Some((key, width)) = known else {
            return Err(fault(offset, "a storage that the data does not use, with elements of unknown size".to_owned()));
        };
        let cut = |_| fault(offset, format!("storage '{key}' extends beyond the end of the file"));
        let count = input.u64().map_err(cut)?;
        let length = count.saturating_mul(*width as u64);
        let begin = input.position();
        input.take(length).map_err(cut)?;
        storages.insert((*key).to_owned(), begin..input.position());
    }
    Ok(storages)
}

/// Returns true for `('module', class, file, source)`, a reference to the source code of a module class in old files.
fn is_module_source(data: &Values<'_>, reference: Id) -> bool {
    data.sequence(reference).and_then(|tuple| tuple.first()).is_some_and(|tag| data.text(*tag) == Some("module"))
}
