//! Files of a data set, on disk or in an object store.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use glm_remote::{RemoteError, Store};
use glm_support::files::progress::{Progress, Unit};

use super::error::VerifyError;

/// Files of a data set, with names relative to its manifest.
pub(super) enum Files {
    /// In a folder on disk.
    Folder(PathBuf),
    /// In an object store. They are read from there, not from the cache, which may have older ones.
    Store {
        /// Folder of the manifest.
        store: Store,
        /// Names of all files, if the store tells them.
        names: Option<Vec<String>>,
        /// Receiver of the numbers of downloaded bytes.
        progress: Box<dyn Progress>,
    },
}

impl Files {
    /// Files of a store.
    pub(super) fn of_store(store: Store, progress: Box<dyn Progress>) -> Result<Self, RemoteError> {
        let list = || Ok::<_, RemoteError>(store.list()?.into_iter().map(|file| file.name).collect());
        let names = store.location().is_listable().then(list).transpose()?;
        Ok(Self::Store { store, names, progress })
    }

    /// Tells that files of so many bytes will be read, if that may take long.
    pub(super) fn begin(&self, bytes: u64) {
        if let Self::Store { store, progress, .. } = self {
            progress.begin(&format!("reading {}", store.location()), bytes, Unit::Bytes);
        }
    }

    /// Tells that all files have been read.
    pub(super) fn end(&self) {
        if let Self::Store { progress, .. } = self {
            progress.end();
        }
    }

    /// Path or URL of a file, or of the folder of the manifest for an empty name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(folder) if name.is_empty() => folder.clone(),
            Self::Folder(folder) => folder.join(name),
            Self::Store { store, .. } => store.location().join(name).to_string().into(),
        }
    }

    /// Names of the files in a folder, which is that of the manifest if its name is empty. There are none without the folder; `None` if
    /// they are not known.
    pub(super) fn names(&self, folder: &str) -> Result<Option<BTreeSet<String>>, VerifyError> {
        match self {
            Self::Folder(_) => names_in(&self.path(folder)).map(Some),
            Self::Store { names, .. } => {
                let in_folder = |name: &String| match (folder, name.rsplit_once('/')) {
                    ("", None) => Some(name.clone()),
                    (folder, Some((above, name))) if above == folder => Some(name.to_owned()),
                    _ => None,
                };
                Ok(names.as_ref().map(|names| names.iter().filter_map(in_folder).collect()))
            }
        }
    }

    /// Opens a file; `None` if there is none. One of a store is copied to disk until it is closed.
    pub(super) fn open(&self, name: &str) -> Result<Option<File>, VerifyError> {
        match self {
            Self::Folder(_) => match File::open(self.path(name)) {
                Ok(file) => Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.read_error(name)(error)),
            },
            Self::Store { store, progress, .. } => match store.copy(name, &|bytes| progress.advance(bytes)) {
                Ok(file) => Ok(Some(file)),
                Err(error) if error.is_missing() => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Converts an I/O error of reading a file.
    pub(super) fn read_error(&self, name: &str) -> impl FnOnce(io::Error) -> VerifyError + use<> {
        let path = self.path(name);
        |source| VerifyError::Read { path, source }
    }
}

/// Lists the names in a folder; none if there is no folder.
fn names_in(folder: &Path) -> Result<BTreeSet<String>, VerifyError> {
    let failed = |source| VerifyError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(failed)?,
    };
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}
