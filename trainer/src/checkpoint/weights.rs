//! Reading weights by name, whatever the container, and writing them as safetensors.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, View};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::CheckpointError;
use super::locate::weights_file;
use super::pickle::{StateDict, StoredKind, read_module};
use crate::model::config::{ModelConfig, Preset};
use crate::model::parameters::Parameters;

/// Key of a safetensors file's metadata under which the model's configuration stands as JSON.
const CONFIG_KEY: &str = "glm.model";
const WORD_EMBEDDINGS: &str = "word_embeddings.weight";
const POSITION_EMBEDDINGS: [&str; 2] =
    ["transformer.position_embeddings.weight", "transformer.block_position_embeddings.weight"];

/// An open file of weights.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    container: Container,
}

#[derive(Debug)]
enum Container {
    Published(StateDict),
    Safetensors(Mmap),
}

impl Weights {
    /// Opens the weights that `path` means: a file, a checkpoint's or run's folder, or a published folder.
    ///
    /// # Errors
    /// [`CheckpointError`] where there are none or the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let path = weights_file(path)?;
        let is_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
        if !is_safetensors {
            return Ok(Self { container: Container::Published(read_module(&path)?), path });
        }
        let map = map_file(&path)?;
        SafeTensors::deserialize(&map).map_err(|source| CheckpointError::Safetensors { path: path.clone(), source })?;
        Ok(Self { path, container: Container::Safetensors(map) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shapes of all tensors, by name.
    ///
    /// # Errors
    /// [`CheckpointError`] where the file is damaged.
    pub fn shapes(&self) -> Result<BTreeMap<String, Vec<usize>>, CheckpointError> {
        match &self.container {
            Container::Published(dict) => dict.names().map(|name| Ok((name.to_owned(), dict.shape(name)?.to_vec()))).collect(),
            Container::Safetensors(map) => {
                let file = self.safetensors(map)?;
                Ok(file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect())
            }
        }
    }

    /// One tensor, copied to the CPU in the kind that it is stored in.
    ///
    /// # Errors
    /// [`CheckpointError`] where it is missing or damaged.
    pub fn tensor(&self, name: &str) -> Result<Tensor, CheckpointError> {
        let (kind, shape, data): (Option<Kind>, Vec<usize>, Cow<'_, [u8]>) = match &self.container {
            Container::Published(dict) => {
                let stored = dict.tensor(name)?;
                (stored_kind(stored.kind), stored.shape, stored.data)
            }
            Container::Safetensors(map) => {
                let file = self.safetensors(map)?;
                let view =
                    file.tensor(name).map_err(|source| CheckpointError::Safetensors { path: self.path.clone(), source })?;
                (safetensors_kind(view.dtype()), view.shape().to_vec(), Cow::Owned(view.data().to_vec()))
            }
        };
        let Some(kind) = kind else { return Err(self.not_a_glm(format!("`{name}` is no tensor of floating point numbers"))) };
        let shape: Vec<i64> = shape.into_iter().map(|size| size as i64).collect();
        Ok(Tensor::f_from_data_size(&data, &shape, kind)?)
    }

    /// The sizes of the model that these weights belong to, with the default rates. The number of heads is `heads`, else
    /// what the file itself says, else that of the preset with this width.
    ///
    /// # Errors
    /// [`CheckpointError`] where they are no weights of a GLM, or nothing says how many heads it has.
    pub fn model_config(&self, heads: Option<usize>) -> Result<ModelConfig, CheckpointError> {
        let shapes = self.shapes()?;
        let matrix = |name: &str| match shapes.get(name).map(Vec::as_slice) {
            Some(&[rows, columns]) => Ok((rows, columns)),
            Some(other) => Err(self.not_a_glm(format!("`{name}` has shape {other:?}, expected two dimensions"))),
            None => Err(self.not_a_glm(format!("holds no weights of a GLM: `{name}` is missing"))),
        };
        let (vocab_rows, hidden) = matrix(WORD_EMBEDDINGS)?;
        let (positions, _) = matrix(POSITION_EMBEDDINGS[0])?;
        let layer = |name: &String| name.strip_prefix("transformer.layers.")?.split('.').next()?.parse::<usize>().ok();
        let layers = shapes.keys().filter_map(layer).max().map_or(0, |last| last + 1);
        let said = heads.or_else(|| self.own_config().filter(|own| own.hidden == hidden).map(|own| own.heads));
        let preset = Preset::with_hidden(hidden).map(Preset::config);
        let Some(heads) = said.or(preset.map(|preset| preset.heads)) else {
            return Err(CheckpointError::Heads { path: self.path.clone(), hidden });
        };
        let config = ModelConfig { layers, hidden, heads, vocab_rows, positions, ..Preset::Large.config() };
        config.validate().map_err(|error| self.not_a_glm(error.to_string()))?;
        Ok(config)
    }

    /// The configuration that a checkpoint of ours carries.
    fn own_config(&self) -> Option<ModelConfig> {
        let Container::Safetensors(map) = &self.container else { return None };
        let (_, metadata) = SafeTensors::read_metadata(map).ok()?;
        serde_json::from_str(metadata.metadata().as_ref()?.get(CONFIG_KEY)?).ok()
    }

    /// Copies the weights into `parameters` by name. Every parameter must be there. Position tables with fewer rows than
    /// the model's fill the first rows; the others keep their initial values.
    ///
    /// # Errors
    /// [`CheckpointError`] names the parameter that is missing or has another shape.
    pub fn load_into(&self, parameters: &Parameters) -> Result<(), CheckpointError> {
        let shapes = self.shapes()?;
        no_grad(|| {
            for parameter in parameters.iter() {
                let name = &parameter.name;
                if !shapes.contains_key(name) {
                    return Err(self.not_a_glm(format!("`{name}` is missing")));
                }
                let stored = self.tensor(name)?;
                let (found, expected) = (stored.size(), parameter.tensor.size());
                let extends = POSITION_EMBEDDINGS.contains(&name.as_str())
                    && found.len() == 2
                    && found[1] == expected[1]
                    && found[0] < expected[0];
                if found != expected && !extends {
                    return Err(CheckpointError::Shape { path: self.path.clone(), name: name.clone(), found, expected });
                }
                let mut target = match extends {
                    true => parameter.tensor.f_narrow(0, 0, found[0])?,
                    false => parameter.tensor.shallow_clone(),
                };
                target.f_copy_(&stored)?;
            }
            Ok(())
        })
    }

    fn safetensors<'a>(&self, map: &'a Mmap) -> Result<SafeTensors<'a>, CheckpointError> {
        SafeTensors::deserialize(map).map_err(|source| CheckpointError::Safetensors { path: self.path.clone(), source })
    }

    fn not_a_glm(&self, reason: String) -> CheckpointError {
        CheckpointError::NotAGlm { path: self.path.clone(), reason }
    }
}

fn map_file(path: &Path) -> Result<Mmap, CheckpointError> {
    let io = |source| CheckpointError::Io { doing: "cannot read", path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    // SAFETY: checkpoints are written under another name and renamed, never changed in place, and nothing here writes
    // through the mapping.
    unsafe { Mmap::map(&file) }.map_err(io)
}

fn stored_kind(kind: StoredKind) -> Option<Kind> {
    match kind {
        StoredKind::F16 => Some(Kind::Half),
        StoredKind::BF16 => Some(Kind::BFloat16),
        StoredKind::F32 => Some(Kind::Float),
        StoredKind::F64 => Some(Kind::Double),
        _ => None,
    }
}

fn safetensors_kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

/// A tensor on its way into a safetensors file: on the CPU and contiguous.
struct HostTensor {
    tensor: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: usize,
}

impl HostTensor {
    fn new(tensor: &Tensor) -> Result<Self, TchError> {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let (dtype, size) = match tensor.f_kind()? {
            Kind::Double => (Dtype::F64, 8),
            Kind::Half => (Dtype::F16, 2),
            Kind::BFloat16 => (Dtype::BF16, 2),
            Kind::Float => (Dtype::F32, 4),
            other => return Err(TchError::Kind(format!("{other:?} is no kind of weights"))),
        };
        let shape: Vec<usize> = tensor.size().into_iter().map(|size| size as usize).collect();
        let bytes = shape.iter().product::<usize>() * size;
        Ok(Self { tensor, dtype, shape, bytes })
    }
}

impl View for &HostTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // SAFETY: the tensor is contiguous and on the CPU, so its storage holds `bytes` bytes from `data_ptr` on; it lives
        // as long as `self`, and nobody writes to it meanwhile (a run saves between two optimizer steps).
        Cow::Borrowed(unsafe { std::slice::from_raw_parts(self.tensor.data_ptr().cast(), self.bytes) })
    }

    fn data_len(&self) -> usize {
        self.bytes
    }
}

/// Writes tensors as a safetensors file, under a temporary name until it is whole.
///
/// # Errors
/// [`CheckpointError`] where the file cannot be written.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    config: &ModelConfig,
) -> Result<(), CheckpointError> {
    let host =
        tensors.into_iter().map(|(name, tensor)| Ok((name, HostTensor::new(tensor)?))).collect::<Result<Vec<_>, TchError>>()?;
    let json = serde_json::to_string(config).map_err(|source| CheckpointError::State { path: path.to_owned(), source })?;
    // One key only: the map has no order, and the same weights are to be the same bytes.
    let metadata = HashMap::from([(CONFIG_KEY.to_owned(), json)]);
    safetensors::serialize_to_file(host.iter().map(|(name, tensor)| (name.as_str(), tensor)), Some(metadata), path)
        .map_err(|source| CheckpointError::Safetensors { path: path.to_owned(), source })
}
