//! The container of PyTorch before 1.6, still written with `_use_new_zipfile_serialization=False`: five pickles one after the
//! other (a magic number, a protocol version, facts about the machine, the data, the keys of the storages), then each storage as
//! a 64-bit count of elements and the elements.
//!
//! Source: `_legacy_load` in `torch/serialization.py`.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::error::PickleError;
use super::input::Input;
use super::machine::{Pickle, run};
use super::storage::Storage;
use super::tensor::read_storage;
use super::value::{Id, Value, Values};

/// `MAGIC_NUMBER` in `torch/serialization.py`.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// `PROTOCOL_VERSION` in `torch/serialization.py`.
const PROTOCOL: i128 = 1001;

/// The parts of a checkpoint in the old container.
#[derive(Debug)]
pub(super) struct TorchLegacy<'a> {
    /// The data.
    pub(super) pickle: Pickle<'a>,
    storages: HashMap<String, Range<usize>>,
}

/// Whether the file starts with the magic number.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    run(bytes, 0).is_ok_and(|magic| is_int(&magic, MAGIC))
}

fn is_int(pickle: &Pickle<'_>, wanted: i128) -> bool {
    matches!(pickle.values.get(pickle.root), Value::Int(int) if *int == wanted)
}

impl<'a> TorchLegacy<'a> {
    /// Reads the five pickles and finds the storages.
    pub(super) fn open(path: &Path, bytes: &'a [u8]) -> Result<Self, PickleError> {
        let fault = |offset, why: &str| PickleError::Legacy { path: path.to_owned(), offset, why: why.to_owned() };
        let part = |name, start| run(bytes, start).map_err(|failure| failure.in_part(path, name));

        let magic = part("the magic number", 0)?;
        let protocol = part("the protocol version", magic.end)?;
        if !is_int(&magic, MAGIC) || !is_int(&protocol, PROTOCOL) {
            return Err(fault(magic.end, "the protocol version is not 1001"));
        }
        let system = part("the facts about the machine", protocol.end)?;
        if is_big_endian(&system) {
            return Err(fault(protocol.end, "the file is from a big-endian machine"));
        }
        let pickle = part("the data", system.end)?;
        let keys = part("the keys of the storages", pickle.end)?;
        let Some(key_ids) = keys.values.sequence(keys.root) else {
            return Err(fault(pickle.end, "the keys of the storages are no list"));
        };
        let storages = locate_storages(path, bytes, &pickle.values, &keys.values, key_ids, keys.end)?;
        Ok(Self { pickle, storages })
    }

    /// The storage with that key.
    pub(super) fn storage(&self, key: &str) -> Option<Storage> {
        self.storages.get(key).cloned().map(Storage::plain)
    }
}

fn is_big_endian(system: &Pickle<'_>) -> bool {
    let facts = system.values.dict(system.root).unwrap_or_default();
    facts.iter().any(|(key, value)| {
        system.values.text(*key) == Some("little_endian") && matches!(system.values.get(*value), Value::Bool(false))
    })
}

/// Walks over the storages. The data says how wide the elements of each are, those outside the state dict included.
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
            read_storage(data, *reference).map_err(|tensor_fault| fault(start, format!("a storage: {tensor_fault}")))?;
        let width = storage.kind.size();
        if *widths.entry(storage.key).or_insert(width) != width {
            return Err(fault(start, format!("storage '{}' is used with elements of two widths", storage.key)));
        }
    }

    let mut storages = HashMap::new();
    let mut input = Input::new(bytes, start);
    for id in key_ids {
        let offset = input.position();
        let known = keys.text(*id).and_then(|key| widths.get_key_value(key));
        let Some((key, width)) = known else {
            return Err(fault(offset, "a storage that the data does not use, of unknown width".to_owned()));
        };
        let cut = |_| fault(offset, format!("storage '{key}' goes beyond the end of the file"));
        let count = input.u64().map_err(cut)?;
        let length = count.saturating_mul(*width as u64);
        let begin = input.position();
        input.take(length).map_err(cut)?;
        storages.insert((*key).to_owned(), begin..input.position());
    }
    Ok(storages)
}

/// Old files also refer to the source text of module classes: `('module', class, file, text)`.
fn is_module_source(data: &Values<'_>, reference: Id) -> bool {
    data.sequence(reference).and_then(|tuple| tuple.first()).is_some_and(|tag| data.text(*tag) == Some("module"))
}
