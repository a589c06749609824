//! Data sets of shards in a store.

use std::path::{Path, PathBuf};

use glm_schemas::manifest::{DATA_FOLDER, MANIFEST_FILE, Manifest, SHARDS_FOLDER, Shard, Split, hex};
use glm_support::files::progress::Progress;
use sha2::{Digest, Sha256};

use super::cache::{Cache, Entry, Wanted};
use super::sums::is_inside;
use super::{Location, RemoteError, Store};

/// Number of attempts to read a data set that is replaced meanwhile.
const ATTEMPTS: usize = 3;
/// Name of the list of rejected records, next to the manifest.
const REJECTS_FILE: &str = "rejects.jsonl";
/// Name of the file that tells where and how the data set was made, next to the manifest.
const PROVENANCE_FILE: &str = "provenance.json";

/// A data set in a store, and its copy in the cache: a folder with the layout of a local one, into which the shards come when they are
/// needed.
#[derive(Debug)]
pub struct RemoteDataSet {
    store: Store,
    entry: Entry,
    manifest: Manifest,
    text: Vec<u8>,
}

impl RemoteDataSet {
    /// Opens the data set at a location: the folder given to `glm-prep ingest --out`, its subfolder `shards`, or that of the Parquet
    /// files. Only the manifest is downloaded.
    ///
    /// # Errors
    /// [`RemoteError`] if there is no data set, or its manifest is not valid.
    pub fn open(location: &Location) -> Result<Self, RemoteError> {
        Self::open_in(&Cache::of_user()?, location)
    }

    pub(crate) fn open_in(cache: &Cache, location: &Location) -> Result<Self, RemoteError> {
        let (store, text) = find_manifest(location)?;
        let manifest = parse(&text, &store.location().join(MANIFEST_FILE))?;
        let entry = cache.entry(&store.location().identity(), &hex(&Sha256::digest(&text)))?;
        entry.write(&format!("{SHARDS_FOLDER}/{MANIFEST_FILE}"), &text)?;
        Ok(Self { store, entry, manifest, text })
    }

    /// Folder of the copy; the manifest is in its subfolder `shards`.
    pub fn folder(&self) -> &Path {
        self.entry.folder()
    }

    /// Downloads the shards of these splits that are not in the cache, and compares each with its checksum in the manifest.
    ///
    /// # Errors
    /// [`RemoteError`]; a shard with another checksum is not kept.
    pub fn fetch(&self, splits: &[Split], progress: &dyn Progress) -> Result<(), RemoteError> {
        let shard = |shard: &Shard| {
            let from = format!("{DATA_FOLDER}/{}", shard.file);
            let (bytes, sha256) = (Some(shard.bytes), Some(shard.sha256.clone()));
            Wanted { to: format!("{SHARDS_FOLDER}/{from}"), from, bytes, sha256 }
        };
        let of_splits = self.manifest.splits.iter().filter(|(split, _)| splits.contains(split));
        let wanted: Vec<Wanted> = of_splits.flat_map(|(_, content)| content.shards.iter().map(shard)).collect();
        self.entry.fill(&self.store, &wanted, MANIFEST_FILE, progress)
    }

    /// Downloads all files of the data set.
    fn fetch_all(&self, progress: &dyn Progress) -> Result<(), RemoteError> {
        if let Some(rejects) = &self.manifest.rejects {
            let (from, to) = (REJECTS_FILE.to_owned(), format!("{SHARDS_FOLDER}/{REJECTS_FILE}"));
            let wanted = Wanted { from, to, bytes: Some(rejects.bytes), sha256: Some(rejects.sha256.clone()) };
            self.entry.fill(&self.store, &[wanted], MANIFEST_FILE, progress)?;
        }
        if let Some(text) = self.store.text(PROVENANCE_FILE)? {
            self.entry.write(&format!("{SHARDS_FOLDER}/{PROVENANCE_FILE}"), &text)?;
        }
        self.fetch(&Split::ALL, progress)
    }

    /// Returns true if the data set in the store is another one by now, or none.
    fn is_replaced(&self) -> Result<bool, RemoteError> {
        Ok(self.store.text(MANIFEST_FILE)?.is_none_or(|text| text != self.text))
    }
}

/// Brings all of a data set into the cache and returns its folder there, with the manifest in `shards`. `location` is as for
/// [`RemoteDataSet::open`].
///
/// # Errors
/// [`RemoteError`] if there is no data set, or it cannot be downloaded.
pub fn local_data_set(location: &Location, progress: &dyn Progress) -> Result<PathBuf, RemoteError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let found = RemoteDataSet::open(location)?;
        match found.fetch_all(progress) {
            Ok(()) => return Ok(found.folder().to_owned()),
            Err(error) if attempt < ATTEMPTS && found.is_replaced()? => {
                tracing::debug!("{location} was replaced while it was downloaded ({error}); starting again");
            }
            Err(error) => return Err(error),
        }
    }
}

/// Finds the data set at a location, as [`RemoteDataSet::open`] does. Returns the folder of its manifest, and the content of the
/// manifest, which may not be valid.
///
/// # Errors
/// [`RemoteError`] if there is no data set.
pub fn find_manifest(location: &Location) -> Result<(Store, Vec<u8>), RemoteError> {
    let above = location.parent().filter(|_| location.name() == DATA_FOLDER);
    let places = [Some(location.join(SHARDS_FOLDER)), Some(location.clone()), above];
    for place in places.into_iter().flatten() {
        let store = Store::open(&place)?;
        if let Some(text) = store.text(MANIFEST_FILE)? {
            return Ok((store, text));
        }
    }
    let remedy = if location.is_writable() {
        format!("`glm-prep ingest DIR --out {location}` publishes one")
    } else {
        "`glm-prep ingest DIR` makes one, in a folder to be copied there".to_owned()
    };
    let reason = format!("is not a data set: there is neither {MANIFEST_FILE} nor {SHARDS_FOLDER}/{MANIFEST_FILE}; {remedy}");
    Err(RemoteError::Content { url: location.to_string(), reason })
}

fn parse(text: &[u8], place: &Location) -> Result<Manifest, RemoteError> {
    let refuse = |reason: String| RemoteError::Content { url: place.to_string(), reason };
    let manifest = Manifest::from_json(&String::from_utf8_lossy(text))
        .map_err(|error| refuse(format!("is not a manifest that this version reads: {error}")))?;
    let mut shards = manifest.splits.values().flat_map(|split| &split.shards);
    match shards.find(|shard| !is_inside(&shard.file)) {
        Some(shard) => Err(refuse(format!("lists a shard outside of its folder, `{}`", shard.file.escape_debug()))),
        None => Ok(manifest),
    }
}
