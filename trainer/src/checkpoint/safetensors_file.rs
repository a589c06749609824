//! A safetensors file: mapped to be read, written tensor by tensor.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use glm_support::files::atomic;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};

use super::CheckpointError;
use super::pickle::{FileBytes, StoredKind, StoredTensor};

/// Bytes in front of the header, which state its length.
const LENGTH_BYTES: usize = 8;

/// An open file. Its tensors stay there until they are asked for.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    bytes: FileBytes,
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    metadata: HashMap<String, String>,
    /// Place in `entries` of the tensor read last; beyond the end at first.
    last_read: AtomicUsize,
    /// Tensors of element types that no weights have, each as `name (type)`.
    pub skipped: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    kind: StoredKind,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl SafetensorsFile {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// [`CheckpointError`] where it cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let fault = |source| CheckpointError::Safetensors { path: path.to_owned(), source };
        let bytes = FileBytes::map(path).map_err(|source| CheckpointError::Io {
            doing: "cannot read",
            path: path.to_owned(),
            source,
        })?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(fault)?;
        let start = LENGTH_BYTES + header;
        let (mut entries, mut skipped) = (Vec::new(), Vec::new());
        for name in metadata.offset_keys() {
            let info = metadata.info(&name).ok_or_else(|| fault(SafeTensorError::TensorNotFound(name.clone())))?;
            let Some(kind) = stored_kind(info.dtype) else {
                skipped.push(format!("{name} ({:?})", info.dtype));
                continue;
            };
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            entries.push(Entry { kind, shape: info.shape.clone(), range, name });
        }
        let index = entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let last_read = AtomicUsize::new(usize::MAX);
        Ok(Self { path: path.to_owned(), bytes, entries, index, metadata, last_read, skipped })
    }

    /// Names of the tensors, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// A text of the header's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Element type and sizes of a tensor.
    ///
    /// # Errors
    /// No tensor of that name.
    pub fn describe(&self, name: &str) -> Result<(StoredKind, &[usize]), CheckpointError> {
        self.entry(name).map(|(_, entry)| (entry.kind, entry.shape.as_slice()))
    }

    /// Reads a tensor, borrowed from the file. The memory of the one read before is given back to the system, as
    /// [`super::pickle::StateDict::tensor`] does.
    ///
    /// # Errors
    /// No tensor of that name.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, CheckpointError> {
        let (at, entry) = self.entry(name)?;
        let before = self.last_read.swap(at, Ordering::Relaxed);
        if let Some(before) = self.entries.get(before).filter(|_| before != at) {
            self.bytes.release(&before.range);
        }
        let data = Cow::Borrowed(self.bytes.get(entry.range.clone()).unwrap_or_default());
        Ok(StoredTensor { kind: entry.kind, shape: entry.shape.clone(), data })
    }

    fn entry(&self, name: &str) -> Result<(usize, &Entry), CheckpointError> {
        let found = self.index.get(name).and_then(|at| self.entries.get(*at).map(|entry| (*at, entry)));
        found.ok_or_else(|| CheckpointError::Safetensors {
            path: self.path.clone(),
            source: SafeTensorError::TensorNotFound(name.to_owned()),
        })
    }
}

/// What a tensor in a file to be written is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorHeader {
    /// Its name.
    pub name: String,
    /// Element type.
    pub kind: StoredKind,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
}

impl TensorHeader {
    /// Bytes of its elements; none if that overflows.
    pub fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.kind.size(), |product, size| product.checked_mul(*size))
    }
}

/// Writes a file whole or not at all. `data` gives the elements of one tensor after the other, in the order of `headers`; only
/// one of them is in memory at a time.
///
/// # Errors
/// [`CheckpointError`] where the file cannot be written, or what `data` fails with.
pub fn write<'d>(
    path: &Path,
    headers: &[TensorHeader],
    metadata: HashMap<String, String>,
    mut data: impl FnMut(&TensorHeader) -> Result<Cow<'d, [u8]>, CheckpointError>,
) -> Result<(), CheckpointError> {
    let fault = |source| CheckpointError::Safetensors { path: path.to_owned(), source };
    let mut infos = Vec::with_capacity(headers.len());
    let mut end = 0usize;
    for header in headers {
        let start = end;
        end = header
            .bytes()
            .and_then(|bytes| end.checked_add(bytes))
            .ok_or_else(|| fault(SafeTensorError::ValidationOverflow))?;
        let info = TensorInfo { dtype: dtype(header.kind), shape: header.shape.clone(), data_offsets: (start, end) };
        infos.push((header.name.clone(), info));
    }
    let metadata = Metadata::new(Some(metadata), infos).map_err(fault)?;
    let mut json = serde_json::to_vec(&metadata).map_err(|source| fault(SafeTensorError::JsonError(source)))?;
    // The elements begin at a multiple of eight bytes.
    json.resize(json.len().next_multiple_of(LENGTH_BYTES), b' ');
    let write = |file: &mut dyn atomic::Sink| {
        file.write_all(&(json.len() as u64).to_le_bytes())?;
        file.write_all(&json)?;
        for header in headers {
            let elements = data(header)?;
            if Some(elements.len()) != header.bytes() {
                return Err(WriteFailure::Data(fault(SafeTensorError::TensorInvalidInfo)));
            }
            file.write_all(&elements)?;
        }
        Ok(())
    };
    atomic::write(path, write).map_err(|failure| failure.at(path))
}

/// Why writing weights failed: the file system, which does not know the file's name, or the weights.
pub(super) enum WriteFailure {
    File(std::io::Error),
    Data(CheckpointError),
}

impl From<std::io::Error> for WriteFailure {
    fn from(error: std::io::Error) -> Self {
        Self::File(error)
    }
}

impl From<CheckpointError> for WriteFailure {
    fn from(error: CheckpointError) -> Self {
        Self::Data(error)
    }
}

impl WriteFailure {
    pub(super) fn at(self, path: &Path) -> CheckpointError {
        match self {
            Self::File(source) => CheckpointError::Io { doing: "cannot write", path: path.to_owned(), source },
            Self::Data(error) => error,
        }
    }
}

fn stored_kind(dtype: Dtype) -> Option<StoredKind> {
    Some(match dtype {
        Dtype::F16 => StoredKind::F16,
        Dtype::BF16 => StoredKind::BF16,
        Dtype::F32 => StoredKind::F32,
        Dtype::F64 => StoredKind::F64,
        Dtype::I64 => StoredKind::I64,
        Dtype::I32 => StoredKind::I32,
        Dtype::I16 => StoredKind::I16,
        Dtype::I8 => StoredKind::I8,
        Dtype::U8 => StoredKind::U8,
        Dtype::BOOL => StoredKind::Bool,
        _ => return None,
    })
}

fn dtype(kind: StoredKind) -> Dtype {
    match kind {
        StoredKind::F16 => Dtype::F16,
        StoredKind::BF16 => Dtype::BF16,
        StoredKind::F32 => Dtype::F32,
        StoredKind::F64 => Dtype::F64,
        StoredKind::I64 => Dtype::I64,
        StoredKind::I32 => Dtype::I32,
        StoredKind::I16 => Dtype::I16,
        StoredKind::I8 => Dtype::I8,
        StoredKind::U8 => Dtype::U8,
        StoredKind::Bool => Dtype::BOOL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, shape: &[usize]) -> TensorHeader {
        TensorHeader { name: name.into(), kind: StoredKind::F16, shape: shape.to_vec() }
    }

    #[test]
    fn what_is_written_is_read_and_in_order() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.safetensors");
        let headers = [header("b", &[2, 2]), header("a", &[3]), header("scalar", &[])];
        let bytes: [&[u8]; 3] = [&[1; 8], &[2; 6], &[3; 2]];
        let mut given = bytes.iter();
        let metadata = HashMap::from([("key".to_owned(), "value".to_owned())]);
        write(&path, &headers, metadata, |_| Ok(Cow::Borrowed(*given.next().expect("three")))).expect("written");

        let file = SafetensorsFile::open(&path).expect("open");
        assert_eq!(file.names().collect::<Vec<_>>(), ["b", "a", "scalar"]);
        assert_eq!((file.metadata("key"), file.metadata("other")), (Some("value"), None));
        for (header, bytes) in headers.iter().zip(bytes) {
            let tensor = file.tensor(&header.name).expect("tensor");
            assert_eq!((tensor.kind, &tensor.shape, tensor.data.as_ref()), (header.kind, &header.shape, bytes));
        }
        assert!(file.tensor("c").is_err());
        // The library itself agrees.
        let content = std::fs::read(&path).expect("read");
        assert_eq!(SafeTensors::deserialize(&content).expect("valid").tensor("a").expect("a").data(), bytes[1]);
    }

    #[test]
    fn elements_of_another_size_and_damaged_files_are_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.safetensors");
        let short = write(&path, &[header("a", &[3])], HashMap::new(), |_| Ok(Cow::Borrowed(&[0; 4])));
        assert!(matches!(short, Err(CheckpointError::Safetensors { .. })) && !path.exists());
        write(&path, &[header("a", &[3])], HashMap::new(), |_| Ok(Cow::Borrowed(&[0; 6]))).expect("written");
        let whole = std::fs::read(&path).expect("read");
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("write");
            assert!(SafetensorsFile::open(&path).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}
