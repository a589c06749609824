//! Weights by name, independent of the container.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use glm_schemas::manifest::Tokenizer;
use indexmap::IndexMap;
use tch::{Tensor, no_grad};

use super::layout::{self, FINAL_LAYERNORM, POSITION_EMBEDDINGS, WORD_EMBEDDINGS, layer_of};
use super::locate::{CheckpointChoice, Located, local, locate, origin};
use super::model_parallel::{self, Share};
use super::pickle::read_module;
use super::stored::{StoredKind, StoredTensor, TensorFile, TensorHeader};
use super::tensors::{CONFIG_KEY, PROGRAM_KEY, TOKENIZER_KEY};
use super::{CheckpointError, hugging_face, safetensors_file, seal, tensors};
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::model::preset::{PRESETS, Preset, Vocabulary};

/// Open weights: one file, the shards of a Hugging Face folder, or model-parallel parts.
#[derive(Debug)]
pub struct Weights {
    located: Located,
    files: Vec<TensorFile>,
    /// Tensors by name, in the order of the files.
    entries: IndexMap<String, Entry>,
}

/// Location of a tensor.
#[derive(Debug)]
struct Entry {
    /// The file, or all files if each has a part of the tensor.
    files: Range<usize>,
    /// Name in the file, which can have a prefix.
    stored_name: String,
    kind: StoredKind,
    shape: Vec<usize>,
}

/// Sizes of a model that follow from the shapes of its weights.
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

impl Weights {
    /// Opens the weights at `path`: a file, a folder or an archive, see [`super::locate`]; in the folder of a run, those of the best
    /// checkpoint. Their checksums are verified if there are any.
    ///
    /// Names are those of published files. A common prefix is removed, such as `glm.` in files saved by `transformers`.
    ///
    /// # Errors
    /// [`CheckpointError`] if there are no weights or a file cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Self::open_checkpoint(path, None)
    }

    /// As [`Self::open`], with the given checkpoint of the run folder `path`. Logs which checkpoint of a run is used.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_checkpoint(path: &Path, choice: Option<CheckpointChoice>) -> Result<Self, CheckpointError> {
        let local = local(path, choice)?;
        let located = locate(&local, choice)?;
        let origin = origin(path, &local, &located.path)?;
        if let Some(chosen) = located.checkpoint {
            tracing::info!("using the {chosen} checkpoint of {}: {}", path.display(), origin.display());
        }
        let files = Self::files(&located.path)?;
        let folder = located.path.parent().unwrap_or(Path::new(""));
        seal::check_files(folder, &files).map_err(CheckpointError::Damaged)?;
        let mut weights = Self::from_files(located, open_files(&files)?)?;
        weights.located.path = origin;
        Ok(weights)
    }

    /// Opens a file whose checksum the caller has verified.
    ///
    /// # Errors
    /// [`CheckpointError`] if the file cannot be read or is damaged.
    pub(crate) fn open_verified(path: &Path) -> Result<Self, CheckpointError> {
        let located = locate(path, None)?;
        let files = open_files(&Self::files(&located.path)?)?;
        Self::from_files(located, files)
    }

    /// Returns the files of `path`: itself, the shards that it lists, or all model-parallel parts if it is one.
    fn files(path: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
        match path.to_str().is_some_and(|text| text.ends_with(hugging_face::INDEX_SUFFIX)) {
            true => hugging_face::shards(path),
            false => model_parallel::parts_of(path),
        }
    }

    /// Lists the tensors of open files.
    pub(super) fn from_files(located: Located, files: Vec<TensorFile>) -> Result<Self, CheckpointError> {
        let is_index = located.path.to_str().is_some_and(|text| text.ends_with(hugging_face::INDEX_SUFFIX));
        let parts = if is_index { 1 } else { files.len() };
        let listed = if is_index { files.len() } else { files.len().min(1) };
        let stored: Vec<(usize, &str)> =
            files[..listed].iter().enumerate().flat_map(|(at, file)| file.names().map(move |name| (at, name))).collect();
        let prefix = model_prefix(&stored);
        let mut entries = IndexMap::with_capacity(stored.len());
        for (file, stored) in stored {
            let name = stored.strip_prefix(prefix.as_str()).unwrap_or(stored).to_owned();
            let (kind, shape) = match parts {
                1 => files[file].describe(stored).map(|(kind, shape)| (kind, shape.to_vec()))?,
                _ => model_parallel::joined(&files, stored)?,
            };
            let entry = Entry { files: file..file + parts, stored_name: stored.to_owned(), kind, shape };
            if entries.insert(name, entry).is_some() {
                let reason = format!("two tensors have the name `{stored}`");
                return Err(CheckpointError::NotAGlm { path: located.path, reason });
            }
        }
        let weights = Self { located, files, entries };
        weights.check_parts(parts)?;
        Ok(weights)
    }

    /// Checks that no model-parallel part is missing after the last: together they have the queries, keys and values of all heads.
    fn check_parts(&self, parts: usize) -> Result<(), CheckpointError> {
        let mut names = self.names().filter(|name| name.ends_with("attention.query_key_value.weight"));
        let Some(Ok((_, &[rows, hidden]))) = names.next().map(|name| self.describe(name)) else { return Ok(()) };
        let all = 3_usize.saturating_mul(hidden);
        let shares = all.saturating_mul(parts);
        if !model_parallel::is_part(self.path()) || rows == 0 || rows >= all || !shares.is_multiple_of(rows) {
            return Ok(());
        }
        let count = shares / rows;
        let reason =
            format!("it is one of {count} model-parallel parts; {} is missing, copy it too", model_parallel::file_name(parts));
        Err(CheckpointError::Parts { path: self.path().to_owned(), reason })
    }

    /// Path or URL of the file, or of the index of the shards.
    pub fn path(&self) -> &Path {
        &self.located.path
    }

    /// Path or URL, and the checkpoint of a run that it belongs to.
    pub fn located(&self) -> &Located {
        &self.located
    }

    /// Vocabulary of the weights; `None` if the files do not specify it, as published ones.
    pub fn tokenizer(&self) -> Option<Tokenizer> {
        self.files.iter().filter_map(|file| file.metadata.get(TOKENIZER_KEY)).find_map(|json| serde_json::from_str(json).ok())
    }

    /// Program that wrote the files, if they say.
    pub fn program(&self) -> Option<&str> {
        self.files.iter().find_map(|file| file.metadata.get(PROGRAM_KEY)).map(String::as_str)
    }

    /// Checks that the weights have the vocabulary of a data set or of questions. Weights that do not specify theirs are accepted.
    ///
    /// # Errors
    /// [`CheckpointError::Vocabulary`].
    pub fn check_vocabulary(&self, given: &Tokenizer) -> Result<(), CheckpointError> {
        match self.tokenizer() {
            Some(own) if own.sha256 != given.sha256 => {
                let (own, given) = (Box::new(own), Box::new(given.clone()));
                Err(CheckpointError::Vocabulary { path: self.path().to_owned(), own, given })
            }
            Some(_) => Ok(()),
            None => {
                let own = self.published_vocabularies();
                if Vocabulary::named(&given.name).is_some_and(|given| !own.is_empty() && !own.contains(&given)) {
                    let own = own.into_iter().map(Vocabulary::name).collect::<Vec<_>>().join(" or ");
                    let (path, given) = (self.path().to_owned(), Box::new(given.clone()));
                    return Err(CheckpointError::PublishedVocabulary { path, own, given });
                }
                let path = self.path().display();
                tracing::debug!("{path} does not specify its vocabulary; assuming {}, {}", given.name, given.sha256);
                Ok(())
            }
        }
    }

    /// Vocabularies of published weights with these sizes or, if there are none, with this number of rows of word embeddings.
    pub fn published_vocabularies(&self) -> Vec<Vocabulary> {
        let Ok(Sizes { layers, hidden, vocab_rows, .. }) = self.sizes() else { return Vec::new() };
        let of_rows: Vec<Preset> = PRESETS.into_iter().filter(|preset| preset.vocabulary.rows() == vocab_rows).collect();
        let same = of_rows.iter().find(|preset| (preset.layers, preset.hidden) == (layers, hidden));
        let mut found: Vec<Vocabulary> = match same {
            Some(preset) => vec![preset.vocabulary],
            None => of_rows.iter().map(|preset| preset.vocabulary).collect(),
        };
        found.sort();
        found.dedup();
        found
    }

    /// Names of all tensors, in the order of the files.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Other entries of the files, each as `name (type)`.
    pub fn skipped(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(|file| &file.skipped).map(String::as_str)
    }

    /// Returns the element type and shape of a tensor.
    ///
    /// # Errors
    /// [`CheckpointError`] if it is missing.
    pub fn describe(&self, name: &str) -> Result<(StoredKind, &[usize]), CheckpointError> {
        let Entry { kind, shape, .. } = self.entry(name)?;
        Ok((*kind, shape))
    }

    /// Reads a tensor without conversion, borrowed from the file if it is contiguous there. Model-parallel parts are joined.
    ///
    /// # Errors
    /// [`CheckpointError`] if it is missing or damaged.
    pub fn stored(&self, name: &str) -> Result<StoredTensor<'_>, CheckpointError> {
        let Entry { files, stored_name, kind, shape } = self.entry(name)?;
        let files = self.files.get(files.clone()).unwrap_or_default();
        let read = |file: &TensorFile| file.tensor(stored_name).map(|part| part.data.into_owned());
        let [first, others @ ..] = files else { return Err(self.not_a_glm(format!("`{name}` is missing"))) };
        if others.is_empty() {
            return Ok(first.tensor(stored_name)?);
        }
        let parts = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let share = Share::of(name);
        if share == Share::All && parts.iter().any(|part| *part != parts[0]) {
            tracing::warn!(
                "{}: the model-parallel parts differ in `{name}`, which they should have in common; using that of the first",
                self.path().display()
            );
        }
        let data = Cow::Owned(share.join(&parts, first.describe(stored_name)?.1));
        Ok(StoredTensor { kind: *kind, shape: shape.clone(), data })
    }

    /// Reads a tensor into memory, on the CPU and of the stored kind.
    ///
    /// # Errors
    /// [`CheckpointError`] if it is missing or damaged.
    pub fn tensor(&self, name: &str) -> Result<Tensor, CheckpointError> {
        let tensor = tensors::tensor(&self.stored(name)?)?;
        tensor.ok_or_else(|| self.not_a_glm(format!("`{name}` is not a tensor of floating point numbers")))
    }

    fn entry(&self, name: &str) -> Result<&Entry, CheckpointError> {
        self.entries.get(name).ok_or_else(|| self.not_a_glm(format!("`{name}` is missing")))
    }

    /// Derives the sizes of the model from the shapes.
    ///
    /// # Errors
    /// [`CheckpointError::NotAGlm`].
    pub fn sizes(&self) -> Result<Sizes, CheckpointError> {
        let matrix = |name: &str| match self.entries.contains_key(name).then(|| self.describe(name)).transpose()? {
            Some((_, &[rows, columns])) => Ok((rows, columns)),
            Some((_, other)) => Err(self.not_a_glm(format!("`{name}` has shape {other:?}, expected two dimensions"))),
            None => Err(self.not_a_glm(format!("not the weights of a GLM: `{name}` is missing"))),
        };
        let (vocab_rows, hidden) = matrix(WORD_EMBEDDINGS)?;
        let (positions, width) = matrix(POSITION_EMBEDDINGS[0])?;
        for (name, sizes) in [(WORD_EMBEDDINGS, [vocab_rows, hidden]), (POSITION_EMBEDDINGS[0], [positions, width])] {
            if sizes.contains(&0) {
                return Err(self.not_a_glm(format!("`{name}` is empty: it has shape {:?}", self.describe(name)?.1)));
            }
        }
        let layers = self.names().filter_map(layer_of).max().map_or(0, |last| last.saturating_add(1));
        if layers > self.entries.len() {
            return Err(self.not_a_glm(format!("{} tensors are too few for {layers} layers", self.entries.len())));
        }
        Ok(Sizes { layers, hidden, vocab_rows, positions })
    }

    /// Returns the headers of all parameters of a model, in published order, if the weights have them with these shapes. Call it before
    /// memory is allocated for the model: then the model takes no more than a small multiple of the size of the file, whatever the names
    /// and shapes in a damaged or hostile file.
    ///
    /// # Errors
    /// [`CheckpointError`] if a parameter is missing or has another shape, or if parameters share their bytes.
    pub fn check(&self, config: &ModelConfig) -> Result<Vec<TensorHeader>, CheckpointError> {
        let size: usize = self.files.iter().map(TensorFile::size).sum();
        let mut left = size;
        let mut headers = Vec::new();
        for (name, expected) in layout::parameters(config)? {
            let (kind, found) = self.describe(&name)?;
            if *found != expected {
                let sizes = |sizes: &[usize]| sizes.iter().map(|size| *size as i64).collect();
                let (found, expected, path) = (sizes(found), sizes(&expected), self.path().to_owned());
                return Err(CheckpointError::Shape { path, name, found, expected });
            }
            let header = TensorHeader { name, kind, shape: expected };
            let Some(rest) = header.bytes().and_then(|bytes| left.checked_sub(bytes)) else {
                let reason =
                    format!("its parameters have more bytes than the file, {size}: they overlap, or the file is damaged");
                return Err(self.not_a_glm(reason));
            };
            left = rest;
            headers.push(header);
        }
        Ok(headers)
    }

    /// Derives the configuration of the model, with default rates. The number of heads is `heads` if given, else the one stored with
    /// the weights, else that of the preset with these sizes.
    ///
    /// # Errors
    /// [`CheckpointError::Heads`] if the number of heads is unknown; [`CheckpointError::NotAGlm`].
    pub fn model_config(&self, heads: Option<usize>) -> Result<ModelConfig, CheckpointError> {
        let Sizes { layers, hidden, vocab_rows, positions } = self.sizes()?;
        let preset = Preset::with_sizes(layers, hidden);
        let Some(heads) = heads.or_else(|| self.stored_heads(hidden)).or(preset.map(|preset| preset.heads)) else {
            return Err(CheckpointError::Heads { path: self.path().to_owned(), layers, hidden });
        };
        let config = ModelConfig { layers, hidden, heads, vocab_rows, positions, ..Preset::LARGE.config() };
        config.validate().map_err(|error| self.not_a_glm(error.to_string()))?;
        Ok(config)
    }

    /// Returns the number of heads stored in the metadata of the weights or in the `config.json` next to them, if it is that of a
    /// model of this width.
    pub fn stored_heads(&self, hidden: usize) -> Option<usize> {
        let mut configs = self.files.iter().filter_map(|file| file.metadata.get(CONFIG_KEY));
        match configs.find_map(|json| serde_json::from_str::<ModelConfig>(json).ok()) {
            Some(config) => (config.hidden == hidden).then_some(config.heads),
            None => hugging_face::heads(self.path(), hidden),
        }
    }

    /// Copies the weights into `parameters` by name. Position tables with fewer rows than in the model fill its first rows; the other
    /// rows are drawn from torch's generator.
    ///
    /// # Errors
    /// [`CheckpointError`] if a parameter is missing or has another shape.
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
                    return Err(CheckpointError::Shape { path: self.path().to_owned(), name: name.clone(), found, expected });
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
        CheckpointError::NotAGlm { path: self.path().to_owned(), reason }
    }
}

fn open_files(paths: &[PathBuf]) -> Result<Vec<TensorFile>, CheckpointError> {
    paths.iter().map(|path| open_file(path)).collect()
}

/// Opens one file; the extension specifies the container.
fn open_file(path: &Path) -> Result<TensorFile, CheckpointError> {
    match path.extension().is_some_and(|extension| extension == "safetensors") {
        true => safetensors_file::open(path),
        false => Ok(read_module(path)?),
    }
}

/// Returns the prefix that the names of the first and the last parameter of the model have in common. Returns an empty prefix if there
/// are several, as in a file with the averages of an optimizer.
pub(super) fn model_prefix(names: &[(usize, &str)]) -> String {
    let before = |end: &str| -> Vec<&str> {
        let prefixes = names.iter().filter_map(|(_, name)| name.strip_suffix(end));
        prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).collect()
    };
    let last: HashSet<&str> = before(FINAL_LAYERNORM).into_iter().collect();
    let both: Vec<&str> = before(WORD_EMBEDDINGS).into_iter().filter(|prefix| last.contains(prefix)).collect();
    match both.as_slice() {
        [only] => (*only).to_owned(),
        _ => String::new(),
    }
}
