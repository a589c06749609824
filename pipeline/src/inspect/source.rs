//! Shard files of a path.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{DATA_FOLDER, MANIFEST_FILE, Manifest, SHARDS_FOLDER, Split};
use glm_schemas::vocab::SpecialIds;

use super::error::InspectError;

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
    /// Ids of the special tokens.
    pub(super) special: SpecialIds,
    /// Manifest; `None` for a single file.
    pub(super) manifest: Option<Manifest>,
}

impl Source {
    /// Finds the files of a path and checks that they are Parquet files.
    pub(super) fn open(path: &Path, split: Option<Split>) -> Result<Self, InspectError> {
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => InspectError::Missing { path: path.to_owned() },
            _ => file_error(path)(source),
        })?;
        let mut source = if metadata.is_dir() { Self::open_folder(path)? } else { Self::open_shard(path)? };
        if let Some(split) = split {
            source.parts.retain(|part| part.split == Some(split));
            if source.parts.is_empty() {
                return Err(InspectError::NoSuchSplit { path: path.to_owned(), split });
            }
        }
        source.parts.iter().try_for_each(|part| check_magic(&part.path))?;
        Ok(source)
    }

    fn open_folder(path: &Path) -> Result<Self, InspectError> {
        for folder in [path.to_owned(), path.join(SHARDS_FOLDER)] {
            if let Some(manifest) = read_manifest(&folder)? {
                let parts = parts(&folder, &manifest);
                return Ok(Self { path: path.to_owned(), parts, special: manifest.special_ids, manifest: Some(manifest) });
            }
        }
        Err(InspectError::NotADataSet { path: path.to_owned() })
    }

    /// Opens a single file. If it belongs to a data set, split and first row come from its manifest.
    fn open_shard(path: &Path) -> Result<Self, InspectError> {
        let absolute = std::path::absolute(path).map_err(file_error(path))?;
        let data = absolute.parent().filter(|data| data.file_name().is_some_and(|name| name == DATA_FOLDER));
        let folder = data.and_then(Path::parent);
        let manifest = folder.map(read_manifest).transpose()?.flatten();
        let known = folder.zip(manifest.as_ref()).and_then(|(folder, manifest)| {
            let part = parts(folder, manifest).into_iter().find(|part| part.path.file_name() == path.file_name())?;
            Some((part, manifest.special_ids))
        });
        let (part, special) = known.unwrap_or_else(|| {
            (Part { path: path.to_owned(), split: split_of_file(path), first_row: 0 }, SpecialIds::BERT_UNCASED)
        });
        Ok(Self { path: path.to_owned(), parts: vec![Part { path: path.to_owned(), ..part }], special, manifest: None })
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

fn read_manifest(folder: &Path) -> Result<Option<Manifest>, InspectError> {
    let path = folder.join(MANIFEST_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(source) => return Err(InspectError::File { path, source }),
    };
    Manifest::from_json(&text).map(Some).map_err(|source| InspectError::Manifest { source: source.at(&path), path })
}

fn split_of_file(path: &Path) -> Option<Split> {
    let (name, _) = path.file_name()?.to_str()?.split_once('-')?;
    name.parse().ok()
}

fn check_magic(path: &Path) -> Result<(), InspectError> {
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
        Ok(()) if ends == [MAGIC; 2] => Ok(()),
        Err(source) if !matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput) => {
            Err(file_error(path)(source))
        }
        _ => Err(InspectError::NotParquet { path: path.to_owned() }),
    }
}

pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> InspectError {
    let path = path.to_owned();
    move |source| InspectError::File { path, source }
}
