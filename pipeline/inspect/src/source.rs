//! Shard files of a path.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{ClozeManifest, Manifest, Split, TaskName};
use glm_schemas::vocab::SpecialIds;
use parquet::file::metadata::ParquetMetaDataReader;
use polars::error::PolarsError;

use super::error::InspectError;
use super::json::PrintError;
use glm_prep::shard::DataSetError;
use glm_prep::shard::published::{Published, local};

/// First and last bytes of every Parquet file.
const MAGIC: [u8; 4] = *b"PAR1";

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Path of the file.
    pub(super) path: PathBuf,
    /// Split of the file; `None` for a single file without a manifest whose name does not contain the split.
    pub(super) split: Option<Split>,
    /// Number of rows in the preceding shards of the split.
    pub(super) first_row: usize,
}

/// Files to inspect.
#[derive(Debug)]
pub(super) struct Source {
    /// Path given by the user, for messages.
    pub(super) path: PathBuf,
    /// Files in published order.
    pub(super) parts: Vec<Part>,
    /// Kind of the rows.
    pub(super) task: TaskName,
    /// Ids of the special tokens.
    pub(super) special: SpecialIds,
    /// Task of cloze questions; the form of ReCoRD for a single file without a manifest.
    pub(super) cloze: ClozeManifest,
    /// Manifest; `None` for a single file.
    pub(super) manifest: Option<Manifest>,
    /// The data set; `None` for a single file.
    published: Option<Published>,
}

impl Source {
    /// Finds the files of a path and checks that they are Parquet files.
    pub(super) fn open(path: &Path, split: Option<Split>) -> Result<Self, InspectError> {
        let given = path;
        let path = &*local(path).map_err(DataSetError::from)?;
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => InspectError::Missing { path: path.to_owned() },
            _ => file_error(path)(source),
        })?;
        let mut source = if metadata.is_dir() { Self::open_folder(path)? } else { Self::open_shard(path)? };
        // Not that of the cache, if it is a URL.
        source.path = given.to_owned();
        if let Some(split) = split {
            source.parts.retain(|part| part.split == Some(split));
            if source.parts.is_empty() {
                return Err(InspectError::NoSuchSplit { path: source.path, split });
            }
        }
        let tasks: Result<Vec<_>, _> = source.parts.iter().map(|part| check_parquet(&part.path)).collect();
        let tasks = tasks.map_err(|error| source.replaced_or(error))?;
        source.task = tasks.first().copied().unwrap_or(source.task);
        Ok(source)
    }

    fn open_folder(path: &Path) -> Result<Self, InspectError> {
        let published = Published::find(path)?;
        let manifest = published.parse()?;
        let parts = parts(&published.folder, &manifest);
        let special = manifest.special_ids;
        let task = manifest.task;
        let cloze = manifest.cloze();
        Ok(Self { path: path.to_owned(), parts, task, special, cloze, manifest: Some(manifest), published: Some(published) })
    }

    /// Opens a single file. If it belongs to a data set, split and first row come from its manifest.
    fn open_shard(path: &Path) -> Result<Self, InspectError> {
        let absolute = std::path::absolute(path).map_err(file_error(path))?;
        let mut part = Part { path: path.to_owned(), split: split_of_file(path), first_row: 0 };
        let mut special = SpecialIds::BERT_UNCASED;
        let mut cloze = ClozeManifest::record("record");
        if let Some(published) = Published::of_shard(&absolute) {
            let manifest = published.parse()?;
            let mut known = parts(&published.folder, &manifest).into_iter();
            if let Some(known) = known.find(|known| known.path.file_name() == path.file_name()) {
                part = Part { path: path.to_owned(), ..known };
                special = manifest.special_ids;
                cloze = manifest.cloze();
            }
        }
        Ok(Self {
            path: path.to_owned(),
            parts: vec![part],
            task: TaskName::default(),
            special,
            cloze,
            manifest: None,
            published: None,
        })
    }

    /// Checks that no ingest has replaced the data set since it was opened, so that what was read belongs to the manifest.
    pub(super) fn check_current(&self) -> Result<(), InspectError> {
        match &self.published {
            Some(published) if published.is_replaced() => Err(DataSetError::Replaced(self.path.clone()).into()),
            _ => Ok(()),
        }
    }

    /// Returns `error`, unless it is due to an ingest that has replaced the data set.
    pub(super) fn replaced_or(&self, error: InspectError) -> InspectError {
        self.check_current().err().unwrap_or(error)
    }
}

/// Returns the shards of all splits in order.
fn parts(folder: &Path, manifest: &Manifest) -> Vec<Part> {
    let mut parts = Vec::new();
    for (&split, content) in &manifest.splits {
        let mut first_row = 0;
        for shard in &content.shards {
            parts.push(Part { path: shard.path(folder), split: Some(split), first_row });
            first_row += shard.rows;
        }
    }
    parts
}

fn split_of_file(path: &Path) -> Option<Split> {
    let (name, _) = path.file_name()?.to_str()?.split_once('-')?;
    name.parse().ok()
}

/// Checks the magic bytes and the footer, as errors of Polars do not name the file; returns the kind of the rows, by their columns.
fn check_parquet(path: &Path) -> Result<TaskName, InspectError> {
    let mut file = File::open(path).map_err(file_error(path))?;
    let mut ends = [[0; 4]; 2];
    let mut read = || -> io::Result<()> {
        file.read_exact(&mut ends[0])?;
        // The length of the footer precedes the magic bytes at the end: both magics cannot be the same four bytes.
        file.seek(SeekFrom::End(-8))?;
        file.seek(SeekFrom::Current(4))?;
        file.read_exact(&mut ends[1])
    };
    match read() {
        Ok(()) if ends == [MAGIC; 2] => {}
        Err(source) if !matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput) => {
            return Err(file_error(path)(source));
        }
        _ => return Err(InspectError::NotParquet { path: path.to_owned() }),
    }
    match ParquetMetaDataReader::new().parse_and_finish(&file) {
        Ok(metadata) => {
            let columns = metadata.file_metadata().schema_descr().root_schema().get_fields();
            let has = |name: &str| columns.iter().any(|column| column.name() == name);
            Ok(match () {
                () if has("sentence_ends") => TaskName::Text,
                () if has("target_ids") => TaskName::Seq2seq,
                () => TaskName::Cloze,
            })
        }
        Err(source) => Err(InspectError::Parquet { path: path.to_owned(), source }),
    }
}

pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> InspectError {
    let path = path.to_owned();
    move |source| InspectError::File { path, source }
}

/// Converts an error of Polars while the shards are read.
pub(super) fn polars_error(source: &Source) -> impl Fn(PolarsError) -> InspectError + '_ {
    |error| InspectError::Polars { path: source.path.clone(), source: error }
}

/// Converts an error of printing rows.
pub(super) fn print_error(source: &Source) -> impl Fn(PrintError) -> InspectError + '_ {
    |error| match error {
        PrintError::Output(error) => InspectError::Output(error),
        PrintError::Polars(error) => polars_error(source)(error),
    }
}
