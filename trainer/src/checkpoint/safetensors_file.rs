//! Reader and writer for safetensors files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use glm_support::files::atomic;
use indexmap::IndexMap;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};

use super::CheckpointError;
use super::pickle::guess_content;
use super::stored::{Entry, FileBytes, Storage, StoredKind, TensorFile, TensorHeader, contiguous_strides};

/// Length of the prefix with the length of the header.
const LENGTH_BYTES: usize = 8;

/// Maps a file and reads its header. Tensors of types that no weights have are skipped.
///
/// # Errors
/// [`CheckpointError`] if the file cannot be read or is damaged.
pub fn open(path: &Path) -> Result<TensorFile, CheckpointError> {
    let bytes =
        FileBytes::map(path).map_err(|source| CheckpointError::Io { doing: "cannot read", path: path.to_owned(), source })?;
    let fault = |source| CheckpointError::Safetensors { path: path.to_owned(), why: explain(&source, &bytes) };
    let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(fault)?;
    let start = LENGTH_BYTES + header;
    let (mut entries, mut storages, mut skipped) = (IndexMap::new(), Vec::new(), Vec::new());
    for name in metadata.offset_keys() {
        let info = metadata.info(&name).ok_or_else(|| fault(SafeTensorError::TensorNotFound(name.clone())))?;
        let Some(kind) = StoredKind::ALL.into_iter().find(|kind| dtype(*kind) == info.dtype) else {
            skipped.push(format!("{name} ({:?})", info.dtype));
            continue;
        };
        let (shape, stride) = (info.shape.clone(), contiguous_strides(&info.shape));
        entries.insert(name, Entry { kind, offset: 0, shape, stride, storage: storages.len() });
        storages.push(Storage::new(start + info.data_offsets.0..start + info.data_offsets.1, None));
    }
    let metadata = metadata.metadata().clone().unwrap_or_default();
    let mut file = TensorFile::new(path, bytes, entries, storages);
    (file.metadata, file.skipped) = (metadata, skipped);
    Ok(file)
}

/// Writes a file atomically. `data` returns the elements of a tensor; it is called in the order of `headers`, so that only one tensor
/// is in memory at a time.
///
/// # Errors
/// [`CheckpointError`] if the file cannot be written, or the error of `data`.
pub fn write<'d>(
    path: &Path,
    headers: &[TensorHeader],
    metadata: &BTreeMap<&str, String>,
    mut data: impl FnMut(&TensorHeader) -> Result<Cow<'d, [u8]>, CheckpointError>,
) -> Result<(), CheckpointError> {
    let fault = |source: SafeTensorError| CheckpointError::Safetensors { path: path.to_owned(), why: source.to_string() };
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
    let tensors = Metadata::new(None, infos).map_err(fault)?;
    let mut json = header_json(metadata, &tensors).map_err(|source| fault(SafeTensorError::JsonError(source)))?;
    // The elements start at a multiple of eight bytes.
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

/// Returns the JSON of a header, with the metadata in the order of its keys: the library's map is not ordered, and equal weights must
/// give equal bytes.
fn header_json(metadata: &BTreeMap<&str, String>, tensors: &Metadata) -> Result<Vec<u8>, serde_json::Error> {
    let tensors = serde_json::to_vec(tensors)?;
    let mut json = b"{\"__metadata__\":".to_vec();
    serde_json::to_writer(&mut json, metadata)?;
    if tensors != b"{}" {
        json.push(b',');
    }
    json.extend_from_slice(tensors.strip_prefix(b"{").unwrap_or_default());
    Ok(json)
}

/// Describes what is wrong with a file, and what to do.
fn explain(error: &SafeTensorError, bytes: &[u8]) -> String {
    use SafeTensorError as E;
    if let Some(content) = guess_content(bytes) {
        return format!("not a safetensors file: {content}");
    }
    let again = "copy or download it again";
    match error {
        E::HeaderTooSmall | E::InvalidHeaderLength => {
            format!("the file ends within its header: it was truncated, or is not a safetensors file; {again}")
        }
        E::MetadataIncompleteBuffer => {
            format!("the file does not have the size that its header specifies: it was truncated; {again}")
        }
        E::HeaderTooLarge | E::InvalidHeader(_) | E::InvalidHeaderDeserialization(_) | E::JsonError(_) => {
            format!("not a safetensors file, or its header is damaged ({error}); {again}")
        }
        _ => format!("the header describes tensors that do not fit the file ({error}); {again}"),
    }
}

/// Errors of writing weights: of the file, still without its path, or of the data.
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
    fn written_tensors_are_read_in_order() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.safetensors");
        let headers = [header("b", &[2, 2]), header("a", &[3]), header("scalar", &[])];
        let bytes: [&[u8]; 3] = [&[1; 8], &[2; 6], &[3; 2]];
        let mut remaining = bytes.iter();
        let metadata = BTreeMap::from([("key", "value".to_owned()), ("another", "\"".to_owned())]);
        write(&path, &headers, &metadata, |_| Ok(Cow::Borrowed(*remaining.next().expect("three")))).expect("written");

        let file = open(&path).expect("open");
        assert_eq!(file.names().collect::<Vec<_>>(), ["b", "a", "scalar"]);
        assert_eq!(file.metadata.len(), 2);
        assert!(metadata.iter().all(|(key, value)| file.metadata.get(*key) == Some(value)));
        for (header, bytes) in headers.iter().zip(bytes) {
            let tensor = file.tensor(&header.name).expect("tensor");
            assert_eq!((tensor.kind, &tensor.shape, tensor.data.as_ref()), (header.kind, &header.shape, bytes));
        }
        assert!(file.tensor("c").is_err());
        // The library reads the same.
        let content = std::fs::read(&path).expect("read");
        assert_eq!(SafeTensors::deserialize(&content).expect("valid").tensor("a").expect("a").data(), bytes[1]);
    }

    #[test]
    fn wrong_sizes_and_damaged_files_are_rejected() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.safetensors");
        let short = write(&path, &[header("a", &[3])], &BTreeMap::new(), |_| Ok(Cow::Borrowed(&[0; 4])));
        assert!(matches!(short, Err(CheckpointError::Safetensors { .. })) && !path.exists());
        write(&path, &[header("a", &[3])], &BTreeMap::new(), |_| Ok(Cow::Borrowed(&[0; 6]))).expect("written");
        let complete = std::fs::read(&path).expect("read");
        for length in 0..complete.len() {
            std::fs::write(&path, &complete[..length]).expect("write");
            let error = open(&path).expect_err("truncated").to_string();
            assert!(
                error.contains(" again") && !error.contains("fully covered"),
                "{length} of {} bytes: {error}",
                complete.len()
            );
        }
        write(&path, &[], &BTreeMap::new(), |_| Ok(Cow::Borrowed(&[]))).expect("written");
        assert_eq!(open(&path).expect("without tensors").names().len(), 0);
        for (content, reason) in [
            ("<!DOCTYPE html>", "it is a web page"),
            ("version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer"),
            ("some text", "not a safetensors file, or its header is damaged"),
        ] {
            std::fs::write(&path, content).expect("write");
            let error = open(&path).expect_err(reason).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
