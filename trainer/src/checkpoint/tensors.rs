//! Conversion between libtorch's tensors and tensors in files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use glm_schemas::manifest::Tokenizer;
use tch::{Device, Kind, TchError, Tensor};

use super::CheckpointError;
use super::safetensors_file::write;
use super::stored::{StoredKind, StoredTensor, TensorHeader};
use crate::model::ModelConfig;
use crate::version;

/// Key of the model's configuration, as JSON, in the metadata of a safetensors file.
pub(super) const CONFIG_KEY: &str = "glm.model";
/// Key of the vocabulary, as JSON: its name, the sha256 of its file and its size.
pub(super) const TOKENIZER_KEY: &str = "glm.tokenizer";

/// Key of the program that wrote the file: its version and revision, and that of libtorch.
pub(super) const PROGRAM_KEY: &str = "glm.program";

/// Copies floating point numbers to a tensor on the CPU; returns `None` for other element types.
pub(super) fn tensor(stored: &StoredTensor<'_>) -> Result<Option<Tensor>, TchError> {
    let kind = match stored.kind {
        StoredKind::F16 => Kind::Half,
        StoredKind::BF16 => Kind::BFloat16,
        StoredKind::F32 => Kind::Float,
        StoredKind::F64 => Kind::Double,
        _ => return Ok(None),
    };
    let shape: Vec<i64> = stored.shape.iter().map(|size| *size as i64).collect();
    Tensor::f_from_data_size(&stored.data, &shape, kind).map(Some)
}

/// A contiguous tensor on the CPU, ready to be written.
struct HostTensor {
    tensor: Tensor,
    header: TensorHeader,
}

impl HostTensor {
    fn new(name: String, tensor: &Tensor) -> Result<Self, TchError> {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let kind = match tensor.f_kind()? {
            Kind::Double => StoredKind::F64,
            Kind::Half => StoredKind::F16,
            Kind::BFloat16 => StoredKind::BF16,
            Kind::Float => StoredKind::F32,
            other => return Err(TchError::Kind(format!("weights of kind {other:?} are not supported"))),
        };
        let shape = tensor.size().into_iter().map(|size| size as usize).collect();
        Ok(Self { tensor, header: TensorHeader { name, kind, shape } })
    }

    fn data(&self) -> &[u8] {
        // SAFETY: the tensor is contiguous and on the CPU, so `data_ptr` points to `header.bytes()` bytes of elements. They live as
        // long as `self`, and nothing writes to them meanwhile: a run writes a copy, once it is complete.
        unsafe { std::slice::from_raw_parts(self.tensor.data_ptr().cast(), self.header.bytes().unwrap_or_default()) }
    }
}

/// Writes tensors as a safetensors file, atomically.
///
/// # Errors
/// [`CheckpointError`] if the file cannot be written.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    config: &ModelConfig,
    tokenizer: Option<&Tokenizer>,
) -> Result<(), CheckpointError> {
    write_with_metadata(path, tensors, &metadata(path, config, tokenizer)?)
}

/// As [`write_safetensors`], with this metadata.
///
/// # Errors
/// As [`write_safetensors`].
pub(super) fn write_with_metadata<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    metadata: &BTreeMap<&str, String>,
) -> Result<(), CheckpointError> {
    let host = tensors.into_iter().map(|(name, tensor)| HostTensor::new(name, tensor)).collect::<Result<Vec<_>, TchError>>()?;
    let headers: Vec<TensorHeader> = host.iter().map(|tensor| tensor.header.clone()).collect();
    let mut remaining = host.iter();
    write(path, &headers, metadata, |_| Ok(Cow::Borrowed(remaining.next().map(HostTensor::data).unwrap_or_default())))
}

/// Returns the metadata of a safetensors file: the program, the configuration of the model, and its vocabulary if it is known.
/// Host, command line and time are left out: equal weights are equal files.
pub(crate) fn metadata(
    path: &Path,
    config: &ModelConfig,
    tokenizer: Option<&Tokenizer>,
) -> Result<BTreeMap<&'static str, String>, CheckpointError> {
    let fault = |source| CheckpointError::State { path: path.to_owned(), source };
    let mut metadata =
        BTreeMap::from([(CONFIG_KEY, serde_json::to_string(config).map_err(fault)?), (PROGRAM_KEY, version::with_libtorch())]);
    if let Some(tokenizer) = tokenizer {
        metadata.insert(TOKENIZER_KEY, serde_json::to_string(tokenizer).map_err(fault)?);
    }
    Ok(metadata)
}
