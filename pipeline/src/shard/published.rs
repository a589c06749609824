//! Published data sets: finding them, and reading them while an ingest may replace them.
//!
//! An ingest replaces the whole folder in one step and then removes the old files. A reader that has read the old manifest would
//! find missing or different files. [`read`] therefore compares the manifest again after reading and starts again if it changed.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glm_remote::{Location, RemoteError, local_data_set, local_file};
use glm_schemas::manifest::{DATA_FOLDER, MANIFEST_FILE, Manifest, ManifestError, SHARDS_FOLDER};
use glm_support::files::progress;
use thiserror::Error;

/// Maximum number of attempts to read a data set that is replaced again and again.
const MAX_ATTEMPTS: usize = 20;
/// End of the name of a Parquet file.
const SHARD_EXTENSION: &str = ".parquet";

/// Error of finding or reading a data set.
#[derive(Debug, Error)]
pub enum DataSetError {
    /// The path does not exist.
    #[error("there is no folder {}; specify the folder given to `glm-prep ingest`", .0.display())]
    Missing(PathBuf),
    /// The path is a file.
    #[error(
        "{} is a file; specify the folder of its data set{}, or show the file with `glm-prep inspect {}`",
        path.display(), folder.as_ref().map_or(String::new(), |folder| format!(", {}", folder.display())), path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Folder of the data set that the file belongs to, if any.
        folder: Option<PathBuf>,
    },
    /// The folder has no manifest.
    #[error(
        "{0} is not a data set: there is neither {0}/{MANIFEST_FILE} nor {0}/{SHARDS_FOLDER}/{MANIFEST_FILE}; `glm-prep ingest {0}` creates one from raw data",
        path.display()
    )]
    NoManifest {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Underlying error.
        source: io::Error,
    },
    /// The manifest is invalid.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Underlying error.
        source: ManifestError,
    },
    /// A data set or a shard in an object store cannot be read.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The data set was replaced while it was read.
    #[error("{} was replaced by an ingest while it was read; run the command again", .0.display())]
    Replaced(PathBuf),
}

/// Published data set, as it was when it was found.
#[derive(Debug)]
pub struct Published {
    /// Folder of the manifest.
    pub folder: PathBuf,
    /// Content of the manifest.
    pub manifest: Vec<u8>,
}

impl Published {
    /// Finds the data set of `path`: the folder given to `ingest`, its subfolder `shards`, or that of the Parquet files.
    pub fn find(path: &Path) -> Result<Self, DataSetError> {
        let above = data_folder(path).map(Path::to_owned);
        for folder in [Some(path.to_owned()), Some(path.join(SHARDS_FOLDER)), above].into_iter().flatten() {
            let file = folder.join(MANIFEST_FILE);
            match fs::read(&file) {
                Ok(manifest) => return Ok(Self { folder, manifest }),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(DataSetError::Read { path: file, source }),
            }
        }
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DataSetError::Missing(path.to_owned())),
            Err(source) => Err(DataSetError::Read { path: path.to_owned(), source }),
            Ok(found) if found.is_dir() => Err(DataSetError::NoManifest { path: path.to_owned() }),
            Ok(_) => {
                Err(DataSetError::File { path: path.to_owned(), folder: Self::of_shard(path).map(|set| set.root().to_owned()) })
            }
        }
    }

    /// Finds the data set that a shard belongs to.
    pub fn of_shard(shard: &Path) -> Option<Self> {
        let folder = data_folder(shard.parent()?)?.to_owned();
        let manifest = fs::read(folder.join(MANIFEST_FILE)).ok()?;
        Some(Self { folder, manifest })
    }

    /// Returns the folder given to `ingest`, or the folder of the manifest if its name is not the usual one.
    pub fn root(&self) -> &Path {
        let is_usual = self.folder.file_name().is_some_and(|name| name == SHARDS_FOLDER);
        let above = self.folder.parent().filter(|_| is_usual).unwrap_or(&self.folder);
        if above.as_os_str().is_empty() { Path::new(".") } else { above }
    }

    /// Parses the manifest.
    pub fn parse(&self) -> Result<Manifest, DataSetError> {
        let path = self.folder.join(MANIFEST_FILE);
        Manifest::from_json(&String::from_utf8_lossy(&self.manifest))
            .map_err(|source| DataSetError::Manifest { source: source.at(&path), path })
    }

    /// Returns true if an ingest has replaced the data set since it was found.
    pub fn is_replaced(&self) -> bool {
        fs::read(self.folder.join(MANIFEST_FILE)).map_or(true, |manifest| manifest != self.manifest)
    }
}

/// Returns the folder of the manifest if `path` is the folder of the Parquet files of a data set.
fn data_folder(path: &Path) -> Option<&Path> {
    path.parent().filter(|_| path.file_name().is_some_and(|name| name == DATA_FOLDER))
}

/// Returns the local path for a path of a data set or of a Parquet file, which is downloaded if it is a URL.
///
/// # Errors
/// [`RemoteError`] if it cannot be downloaded.
pub fn local(path: &Path) -> Result<Cow<'_, Path>, RemoteError> {
    let Some(location) = Location::of_path(path)? else { return Ok(Cow::Borrowed(path)) };
    let progress = progress::of(!tracing::enabled!(tracing::Level::WARN));
    let is_shard = location.name().ends_with(SHARD_EXTENSION);
    let local = if is_shard { local_file(&location, progress.as_ref()) } else { local_data_set(&location, progress.as_ref()) };
    local.map(Cow::Owned)
}

/// Passes the data set of `path` to `read`, again if an ingest replaced it meanwhile.
pub fn read<T, E: From<DataSetError>>(path: &Path, mut read: impl FnMut(&Published) -> Result<T, E>) -> Result<T, E> {
    let path = &*local(path).map_err(DataSetError::from)?;
    for _ in 0..MAX_ATTEMPTS {
        let published = Published::find(path)?;
        let result = read(&published);
        if !published.is_replaced() {
            return result;
        }
        tracing::debug!("{} was replaced while it was read; reading it again", published.folder.display());
    }
    Err(DataSetError::Replaced(path.to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("folder");
        fs::create_dir_all(dir.path().join("shards/data")).expect("folder");
        fs::write(dir.path().join("shards/manifest.json"), "one").expect("write");
        dir
    }

    #[test]
    fn a_data_set_is_found_by_each_of_its_folders() {
        let dir = set();
        for path in ["", "shards", "shards/data"] {
            let found = Published::find(&dir.path().join(path)).expect("found");
            assert_eq!(
                (found.folder.canonicalize().expect("path"), found.manifest.as_slice()),
                (dir.path().join("shards").canonicalize().expect("path"), &b"one"[..]),
                "{path}"
            );
            assert_eq!(found.root(), dir.path(), "{path}");
        }
    }

    #[test]
    fn other_paths_are_explained() {
        let dir = set();
        let message = |path: &str| Published::find(&dir.path().join(path)).expect_err("not a data set").to_string();
        assert!(message("gone").contains("there is no folder"), "{}", message("gone"));
        fs::write(dir.path().join("shards/data/x.parquet"), "").expect("write");
        let file = message("shards/data/x.parquet");
        assert!(
            file.contains(&format!("is a file; specify the folder of its data set, {}, or", dir.path().display())),
            "{file}"
        );
        fs::create_dir(dir.path().join("raw")).expect("folder");
        fs::write(dir.path().join("raw/train.jsonl"), "").expect("write");
        assert!(message("raw").contains("is not a data set"), "{}", message("raw"));
        assert!(
            message("raw/train.jsonl").contains("is a file; specify the folder of its data set, or"),
            "{}",
            message("raw/train.jsonl")
        );
    }

    #[test]
    fn a_replaced_data_set_is_read_again() {
        let dir = set();
        let mut seen = Vec::new();
        let result: Result<&str, DataSetError> = read(dir.path(), |set| {
            seen.push(set.manifest.clone());
            if seen.len() < 3 {
                fs::write(set.folder.join(MANIFEST_FILE), format!("{} more", seen.len())).expect("write");
                return Err(DataSetError::Missing("a shard".into()));
            }
            Ok("read")
        });
        assert_eq!(result.expect("read"), "read");
        assert_eq!(seen, [b"one".to_vec(), b"1 more".to_vec(), b"2 more".to_vec()]);
        let mut count = 0;
        let endless: Result<(), DataSetError> = read(dir.path(), |set| {
            count += 1;
            fs::write(set.folder.join(MANIFEST_FILE), format!("version {count}")).expect("write");
            Ok(())
        });
        assert!(matches!(endless, Err(DataSetError::Replaced(_))));
    }
}
