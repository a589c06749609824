//! Reading weights by name, whatever the container.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use tch::{Tensor, no_grad};

use super::layout::{FINAL_LAYERNORM, POSITION_EMBEDDINGS, WORD_EMBEDDINGS, layer_of};
use super::locate::weights_file;
use super::pickle::{StateDict, StoredKind, StoredTensor, read_module};
use super::safetensors_file::SafetensorsFile;
use super::{CheckpointError, hugging_face, tensors};
use crate::model::config::{ModelConfig, Preset};
use crate::model::parameters::Parameters;

/// Key of a safetensors file's metadata under which the model's configuration stands as JSON.
pub(super) const CONFIG_KEY: &str = "glm.model";

/// Open weights: one file, or the shards of a Hugging Face folder.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    files: Vec<Container>,
    /// In the order of the files.
    places: Vec<Place>,
    /// Places by name.
    index: HashMap<String, usize>,
}

#[derive(Debug)]
enum Container {
    Torch(StateDict),
    Safetensors(SafetensorsFile),
}

/// Sizes of a model that show in the shapes of its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Number of transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the word embedding table.
    pub vocab_rows: usize,
    /// Rows of the position tables.
    pub positions: usize,
}

/// A tensor of a file.
#[derive(Debug)]
struct Place {
    /// Its name as published files have it.
    name: String,
    file: usize,
    /// Its name in the file.
    stored: String,
}

impl Container {
    fn open(path: &Path) -> Result<Self, CheckpointError> {
        match path.extension().is_some_and(|extension| extension == "safetensors") {
            true => Ok(Self::Safetensors(SafetensorsFile::open(path)?)),
            false => Ok(Self::Torch(read_module(path)?)),
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Torch(file) => file.names().collect(),
            Self::Safetensors(file) => file.names().collect(),
        }
    }

    fn describe(&self, name: &str) -> Result<(StoredKind, &[usize]), CheckpointError> {
        match self {
            Self::Torch(file) => Ok((file.kind(name)?, file.shape(name)?)),
            Self::Safetensors(file) => file.describe(name),
        }
    }

    fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, CheckpointError> {
        match self {
            Self::Torch(file) => Ok(file.tensor(name)?),
            Self::Safetensors(file) => file.tensor(name),
        }
    }

    fn skipped(&self) -> &[String] {
        match self {
            Self::Torch(file) => &file.skipped,
            Self::Safetensors(file) => &file.skipped,
        }
    }
}

impl Weights {
    /// Opens the weights that `path` means: a file, a folder or a packed archive, see [`super::locate`]. No tensor is read yet.
    ///
    /// Names are those of published files: where all of a model's names begin with something more, as with `glm.` in files that
    /// `transformers` has saved, that is taken off.
    ///
    /// # Errors
    /// [`CheckpointError`] where there are none or a file cannot be read.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let path = weights_file(path)?;
        let is_index = path.to_str().is_some_and(|text| text.ends_with(hugging_face::INDEX_SUFFIX));
        let files = match is_index {
            true => hugging_face::shards(&path)?.iter().map(|shard| Container::open(shard)).collect::<Result<_, _>>()?,
            false => vec![Container::open(&path)?],
        };
        Self::of_files(path, files)
    }

    fn of_files(path: PathBuf, files: Vec<Container>) -> Result<Self, CheckpointError> {
        let stored: Vec<(usize, &str)> =
            files.iter().enumerate().flat_map(|(at, file)| file.names().into_iter().map(move |name| (at, name))).collect();
        let prefix = model_prefix(&stored);
        let mut places = Vec::with_capacity(stored.len());
        let mut index = HashMap::with_capacity(stored.len());
        for (file, stored) in stored {
            let name = stored.strip_prefix(prefix.as_str()).unwrap_or(stored).to_owned();
            if index.insert(name.clone(), places.len()).is_some() {
                return Err(CheckpointError::NotAGlm { path, reason: format!("there are two tensors `{name}`") });
            }
            places.push(Place { name, file, stored: stored.to_owned() });
        }
        Ok(Self { path, files, places, index })
    }

    /// The file, or the index of the shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, in the order of the files.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.places.iter().map(|place| place.name.as_str())
    }

    /// What the files hold beside tensors of numbers, each as `name (type)`.
    pub fn skipped(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(Container::skipped).map(String::as_str)
    }

    /// Element type and sizes of a tensor.
    ///
    /// # Errors
    /// [`CheckpointError`] where it is missing.
    pub fn describe(&self, name: &str) -> Result<(StoredKind, &[usize]), CheckpointError> {
        let (file, stored) = self.place(name)?;
        file.describe(stored)
    }

    /// Shapes of all tensors, by name.
    ///
    /// # Errors
    /// [`CheckpointError`] where the file is damaged.
    pub fn shapes(&self) -> Result<BTreeMap<String, Vec<usize>>, CheckpointError> {
        self.names().map(|name| Ok((name.to_owned(), self.describe(name)?.1.to_vec()))).collect()
    }

    /// One tensor as it is stored, borrowed from the file where it lies there in order.
    ///
    /// # Errors
    /// [`CheckpointError`] where it is missing or damaged.
    pub fn stored(&self, name: &str) -> Result<StoredTensor<'_>, CheckpointError> {
        let (file, stored) = self.place(name)?;
        file.tensor(stored)
    }

    /// One tensor, copied to the CPU in the kind that it is stored in.
    ///
    /// # Errors
    /// [`CheckpointError`] where it is missing or damaged.
    pub fn tensor(&self, name: &str) -> Result<Tensor, CheckpointError> {
        let tensor = tensors::tensor(&self.stored(name)?)?;
        tensor.ok_or_else(|| self.not_a_glm(format!("`{name}` is no tensor of floating point numbers")))
    }

    fn place(&self, name: &str) -> Result<(&Container, &str), CheckpointError> {
        let place = self.index.get(name).and_then(|at| self.places.get(*at));
        match place.and_then(|place| Some((self.files.get(place.file)?, place.stored.as_str()))) {
            Some(found) => Ok(found),
            None => Err(self.not_a_glm(format!("`{name}` is missing"))),
        }
    }

    /// The sizes that the shapes tell.
    ///
    /// # Errors
    /// [`CheckpointError::NotAGlm`].
    pub fn sizes(&self) -> Result<Sizes, CheckpointError> {
        let matrix = |name: &str| match self.index.contains_key(name).then(|| self.describe(name)).transpose()? {
            Some((_, &[rows, columns])) => Ok((rows, columns)),
            Some((_, other)) => Err(self.not_a_glm(format!("`{name}` has shape {other:?}, expected two dimensions"))),
            None => Err(self.not_a_glm(format!("holds no weights of a GLM: `{name}` is missing"))),
        };
        let (vocab_rows, hidden) = matrix(WORD_EMBEDDINGS)?;
        let (positions, _) = matrix(POSITION_EMBEDDINGS[0])?;
        let layers = self.names().filter_map(layer_of).max().map_or(0, |last| last.saturating_add(1));
        Ok(Sizes { layers, hidden, vocab_rows, positions })
    }

    /// The sizes of the model that these weights belong to, with the default rates. The number of heads is `heads`, else
    /// what the files say, else that of the preset with these sizes.
    ///
    /// # Errors
    /// [`CheckpointError`] where they are no weights of a GLM, or nothing says how many heads it has.
    pub fn model_config(&self, heads: Option<usize>) -> Result<ModelConfig, CheckpointError> {
        let Sizes { layers, hidden, vocab_rows, positions } = self.sizes()?;
        let preset = Preset::with_sizes(layers, hidden);
        let Some(heads) = heads.or_else(|| self.stated_heads(hidden)).or(preset.map(|preset| preset.heads)) else {
            return Err(CheckpointError::Heads { path: self.path.clone(), hidden });
        };
        let config = ModelConfig { layers, hidden, heads, vocab_rows, positions, ..Preset::LARGE.config() };
        config.validate().map_err(|error| self.not_a_glm(error.to_string()))?;
        Ok(config)
    }

    /// The number of heads that a file of ours carries, or a Hugging Face folder's settings state, for a model of this width.
    pub fn stated_heads(&self, hidden: usize) -> Option<usize> {
        let own = self.files.iter().find_map(|file| match file {
            Container::Safetensors(file) => serde_json::from_str::<ModelConfig>(file.metadata(CONFIG_KEY)?).ok(),
            Container::Torch(_) => None,
        });
        match own {
            Some(own) => (own.hidden == hidden).then_some(own.heads),
            None => hugging_face::heads(&self.path, hidden),
        }
    }

    /// Copies the weights into `parameters` by name. Every parameter must be there. Position tables with fewer rows than
    /// the model's fill the first rows; the others are drawn from torch's generator.
    ///
    /// # Errors
    /// [`CheckpointError`] names the parameter that is missing or has another shape.
    pub fn load_into(&self, parameters: &Parameters) -> Result<(), CheckpointError> {
        no_grad(|| {
            for parameter in parameters.iter() {
                let name = &parameter.name;
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
                    true => {
                        parameter.draw()?;
                        parameter.tensor.f_narrow(0, 0, found[0])?
                    }
                    false => parameter.tensor.shallow_clone(),
                };
                target.f_copy_(&stored)?;
            }
            Ok(())
        })
    }

    fn not_a_glm(&self, reason: String) -> CheckpointError {
        CheckpointError::NotAGlm { path: self.path.clone(), reason }
    }
}

/// What stands in front of the names of a model: the same in front of the first and the last of them. Nothing where that is true
/// of several, as in a file of an optimizer's averages.
fn model_prefix(names: &[(usize, &str)]) -> String {
    let before = |end: &str| -> Vec<&str> {
        let prefixes = names.iter().filter_map(|(_, name)| name.strip_suffix(end));
        prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).collect()
    };
    let last = before(FINAL_LAYERNORM);
    let both: Vec<&str> = before(WORD_EMBEDDINGS).into_iter().filter(|prefix| last.contains(prefix)).collect();
    match both.as_slice() {
        [only] => (*only).to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(names: &[&str]) -> String {
        model_prefix(&names.iter().map(|name| (0, *name)).collect::<Vec<_>>())
    }

    #[test]
    fn a_common_prefix_is_found_and_several_are_left() {
        assert_eq!(prefix(&[WORD_EMBEDDINGS, FINAL_LAYERNORM]), "");
        assert_eq!(prefix(&["glm.word_embeddings.weight", "glm.transformer.final_layernorm.weight", "dense.bias"]), "glm.");
        assert_eq!(prefix(&["model.glm.word_embeddings.weight", "model.glm.transformer.final_layernorm.weight"]), "model.glm.");
        let moments =
            ["first", "second"].map(|moment| [WORD_EMBEDDINGS, FINAL_LAYERNORM].map(|name| format!("{moment}.{name}")));
        let moments: Vec<&str> = moments.iter().flatten().map(String::as_str).collect();
        assert_eq!(prefix(&moments), "");
        assert_eq!(prefix(&["my_word_embeddings.weight", "my_transformer.final_layernorm.weight"]), "");
    }
}
