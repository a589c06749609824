//! Publication of a data set in an object store.
//!
//! ```text
//! URL/shards/data/train-00000-of-00002.parquet   each uploaded when it is written, and then removed from disk
//!            provenance.json
//!            rejects.jsonl
//!            SHA256SUMS                          checksums of all other files
//!            manifest.json                       last: without it there is no data set
//! ```
//!
//! A store has no step that replaces several files. The manifest of a replaced data set is therefore removed before its first shard is
//! replaced: a reader finds the old data set, none, or the new one. One that reads the old data set meanwhile notices by the checksums.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use glm_remote::{Location, SUMS_FILE, Store, sums_of};
use glm_schemas::manifest::{DATA_FOLDER, MANIFEST_FILE, Manifest, SHARDS_FOLDER, Shard, hex};
use glm_support::files::checksum::digest;
use sha2::{Digest, Sha256};

use super::error::WriteError;
use super::publish::{PROVENANCE_FILE, REJECTS_FILE, is_ours};

/// Data set in an object store that is being replaced.
#[derive(Debug)]
pub(crate) struct Upload {
    store: Store,
    /// Names of the files that are there already.
    old: Vec<String>,
}

impl Upload {
    /// Prepares the publication in the subfolder `shards` of a URL. Nothing is changed yet; a lack of access shows at once.
    pub(crate) fn begin(url: &Location) -> Result<Self, WriteError> {
        url.check_writable()?;
        let store = Store::open(&url.join(SHARDS_FOLDER))?;
        let old: Vec<String> = store.list()?.into_iter().map(|file| file.name).collect();
        // Other files are not removed: the URL may be a mistake.
        let is_known = |name: &str| name == SUMS_FILE || is_ours(name);
        if let Some(other) = old.iter().find(|name| !is_known(name)) {
            let (path, found) = (store.location().to_string().into(), format!("contains `{other}`"));
            return Err(WriteError::NotOurs { path, found });
        }
        Ok(Self { store, old })
    }

    /// Removes the manifest of the old data set: from now on there is no data set until [`Self::finish`].
    pub(crate) fn replace(&self) -> Result<(), WriteError> {
        if self.old.iter().any(|name| name == MANIFEST_FILE) {
            self.store.remove(MANIFEST_FILE)?;
        }
        Ok(())
    }

    /// Uploads a shard and removes it from disk.
    pub(crate) fn shard(&self, folder: &Path, shard: &Shard) -> Result<(), WriteError> {
        let path = folder.join(&shard.file);
        self.store.upload(&path, &format!("{DATA_FOLDER}/{}", shard.file), &|_| ())?;
        std::fs::remove_file(&path).map_err(WriteError::io(&path))
    }

    /// Uploads the other files of the data set in `folder`, the manifest last, after the files of the old one are removed.
    pub(crate) fn finish(&self, folder: &Path, manifest: &Manifest) -> Result<(), WriteError> {
        let text = manifest
            .to_json()
            .map_err(|error| WriteError::Io { path: folder.join(MANIFEST_FILE), source: std::io::Error::other(error) })?;
        let shards = manifest.splits.values().flat_map(|split| &split.shards);
        let mut sums: Vec<(String, String)> =
            shards.map(|shard| (format!("{DATA_FOLDER}/{}", shard.file), shard.sha256.clone())).collect();
        for name in [PROVENANCE_FILE, REJECTS_FILE] {
            let path = folder.join(name);
            if path.is_file() {
                let digest = File::open(&path).and_then(digest).map_err(WriteError::io(&path))?;
                self.store.upload(&path, name, &|_| ())?;
                sums.push((name.to_owned(), digest.sha256));
            }
        }
        sums.push((MANIFEST_FILE.to_owned(), hex(&Sha256::digest(&text))));
        let new: BTreeSet<&str> = sums.iter().map(|(name, _)| name.as_str()).collect();
        for old in self.old.iter().filter(|old| !new.contains(old.as_str())) {
            self.store.remove(old)?;
        }
        self.store.write(SUMS_FILE, sums_of(sums.iter().map(|(name, sum)| (name.as_str(), sum.as_str()))).into_bytes())?;
        self.store.write(MANIFEST_FILE, text.into_bytes())?;
        Ok(())
    }
}
