//! Manifest and list of files.

use std::collections::BTreeSet;
use std::path::Path;

use glm_schemas::SCHEMA_VERSION;
use glm_schemas::manifest::{DATA_FOLDER, MANIFEST_FILE, Manifest, ManifestError, Shard, Split};

use glm_support::files::checksum::digest;

use super::fault::{COPY_AGAIN, Fault, INGEST_AGAIN, Stop};
use super::files::Files;
use crate::shard::file_name;
use crate::shard::publish::REJECTS_FILE;

const SHARD_EXTENSION: &str = ".parquet";

/// A shard of the manifest.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) split: Split,
    pub(super) shard: Shard,
}

/// A data set with a consistent manifest.
pub(super) struct Set<'a> {
    pub(super) files: &'a Files,
    pub(super) manifest: Manifest,
    /// Shards of all splits, in order.
    pub(super) parts: Vec<Part>,
}

impl<'a> Set<'a> {
    /// Parses the manifest of these files and checks its consistency.
    pub(super) fn open(manifest: &[u8], files: &'a Files) -> Result<Self, Stop> {
        let manifest = parse(manifest)?;
        check_tokens(&manifest)?;
        let mut parts = Vec::new();
        let mut names = BTreeSet::new();
        for (&split, content) in &manifest.splits {
            let count = content.shards.len();
            for (index, shard) in content.shards.iter().enumerate() {
                if !names.insert(shard.file.clone()) {
                    return Err(of_shard(split, shard, "listed twice", "every shard once").into());
                }
                check_entry(&manifest, split, shard, &file_name(split, index, count))?;
                parts.push(Part { split, shard: shard.clone() });
            }
            let rows = content.shards.iter().fold(0, |sum: usize, shard| sum.saturating_add(shard.rows));
            if content.rows != rows {
                let found = format!("splits.{split}.rows = {}", content.rows);
                return Err(of_manifest(found, format!("{rows}, the sum over its shards")).of(split).into());
            }
        }
        for raw in &manifest.raw_files {
            if raw.rejects > raw.records {
                let found = format!("raw_files: {} rejects of {} records of {}", raw.rejects, raw.records, raw.file);
                return Err(of_manifest(found, "no more rejects than records").of(raw.split).into());
            }
        }
        Ok(Self { files, manifest, parts })
    }

    /// Name of the manifest in messages.
    pub(super) fn manifest_name(&self) -> &'static str {
        MANIFEST_FILE
    }

    /// Checks size and checksum of the list of rejected records.
    pub(super) fn check_rejects(&self) -> Result<(), Stop> {
        let fault = |found: String, expected: String| Stop::from(Fault::new(REJECTS_FILE, found, expected, COPY_AGAIN));
        let (file, listed) = match (self.files.open(REJECTS_FILE)?, &self.manifest.rejects) {
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                return Err(fault(
                    "no such file".to_owned(),
                    "the list of rejected records that the manifest names".to_owned(),
                ));
            }
            (Some(_), None) => {
                return Err(fault(
                    "a file that is not in the manifest".to_owned(),
                    "no file, as no record was rejected".to_owned(),
                ));
            }
            (Some(file), Some(listed)) => (file, listed),
        };
        let found = digest(file).map_err(self.files.read_error(REJECTS_FILE))?;
        if found.bytes != listed.bytes {
            return Err(fault(format!("{} bytes", found.bytes), format!("{} bytes", listed.bytes)));
        }
        if found.sha256 != listed.sha256 {
            return Err(fault(format!("sha256 {}", found.sha256), listed.sha256.clone()));
        }
        Ok(())
    }

    /// Checks that the folder of the Parquet files contains the listed shards and nothing else, and that no others are next to it. Files
    /// of a server that does not list them are not looked for.
    pub(super) fn check_files(&self) -> Result<(), Stop> {
        let [Some(mut there), Some(beside)] = [self.files.names(DATA_FOLDER)?, self.files.names("")?] else { return Ok(()) };
        for part in &self.parts {
            if !there.remove(&part.shard.file) {
                return Err(part.missing().into());
            }
        }
        let advice = "move it away, or ingest the raw data again";
        if let Some(other) = there.first() {
            let expected = format!("no other files in {DATA_FOLDER}");
            return Err(Fault::new(other, "a file that is not in the manifest", expected, advice).into());
        }
        match beside.iter().find(|name| name.to_ascii_lowercase().ends_with(SHARD_EXTENSION)) {
            None => Ok(()),
            Some(other) => {
                let expected = format!("all Parquet files in {DATA_FOLDER}");
                Err(Fault::new(other, "a Parquet file next to the manifest", expected, advice).into())
            }
        }
    }
}

impl Part {
    /// The fault that there is no such shard.
    pub(super) fn missing(&self) -> Fault {
        Fault::new(&self.shard.file, "no such file", "the shard listed in the manifest", COPY_AGAIN).of(self.split)
    }

    /// Path of the shard relative to the manifest.
    pub(super) fn name(&self) -> String {
        format!("{DATA_FOLDER}/{}", self.shard.file)
    }
}

fn of_manifest(found: impl Into<String>, expected: impl Into<String>) -> Fault {
    Fault::new(MANIFEST_FILE, found, expected, INGEST_AGAIN)
}

fn of_shard(split: Split, shard: &Shard, found: &str, expected: impl Into<String>) -> Fault {
    of_manifest(format!("shard {:?} {found}", shard.file), expected).of(split)
}

fn parse(bytes: &[u8]) -> Result<Manifest, Stop> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(of_manifest("invalid UTF-8", "the JSON of a manifest").into());
    };
    Manifest::from_json(text).map_err(|error| {
        Stop::from(match error {
            ManifestError::Syntax(error) => of_manifest(format!("not a manifest ({error})"), "the JSON of a manifest"),
            ManifestError::Version { found, .. } => {
                of_manifest(format!("schema version {found}"), format!("{SCHEMA_VERSION}, the version of this program"))
            }
            ManifestError::NoChecksum => of_manifest("no checksum at its end", "the checksum that `ingest` writes"),
            ManifestError::Checksum { found, expected } => {
                let expected = format!("{expected}, the checksum at its end");
                Fault::new(MANIFEST_FILE, format!("sha256 {found}"), expected, COPY_AGAIN)
            }
            ManifestError::Fingerprint { found, expected } => {
                of_manifest(format!("fingerprint {found}"), format!("{expected}, the fingerprint of the listed shards"))
            }
        })
    })
}

fn check_tokens(manifest: &Manifest) -> Result<(), Stop> {
    let named = manifest.special_ids.named();
    let size = manifest.tokenizer.vocab_size;
    for (i, &(name, id)) in named.iter().enumerate() {
        if usize::try_from(id).map_or(true, |id| id >= size) {
            return Err(of_manifest(
                format!("special id {id} for {name}"),
                format!("an id from 0 to below vocab_size = {size}"),
            )
            .into());
        }
        // RoBERTa's end of text is also its separator.
        let may_share = |other: &str| name == "[SEP]" && other == "[PAD]";
        if let Some((other, _)) = named[..i].iter().find(|(other, earlier)| *earlier == id && !may_share(other)) {
            return Err(of_manifest(format!("special id {id} for both {other} and {name}"), "distinct ids").into());
        }
    }
    Ok(())
}

/// Checks the manifest's entry of one shard. `usual` is the name that `ingest` gives to the shard at this position.
fn check_entry(manifest: &Manifest, split: Split, shard: &Shard, usual: &str) -> Result<(), Stop> {
    // Paths outside of the folder must not be followed.
    if Path::new(&shard.file).file_name().is_none_or(|name| name != shard.file.as_str()) {
        return Err(of_shard(split, shard, "listed", "the name of a file in the same folder").into());
    }
    if !shard.file.ends_with(SHARD_EXTENSION) {
        return Err(of_shard(split, shard, "listed", format!("a name ending in {SHARD_EXTENSION}")).into());
    }
    // Data sets of other tools may use other names, but names in the style of `ingest` must match their position.
    if is_numbered(&shard.file) && shard.file != usual {
        return Err(of_shard(split, shard, "at this position", format!("{usual:?}")).into());
    }
    if shard.sha256.len() != 64 || !shard.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(
            of_shard(split, shard, &format!("with sha256 {:?}", shard.sha256), "64 hexadecimal digits, lower case").into()
        );
    }
    let max = manifest.settings.rows_per_shard;
    if shard.rows > max {
        return Err(
            of_shard(split, shard, &format!("with {} rows", shard.rows), format!("at most rows_per_shard = {max}")).into()
        );
    }
    Ok(())
}

fn is_numbered(file: &str) -> bool {
    Split::ALL.iter().any(|split| {
        let rest = file.strip_prefix(split.name()).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(SHARD_EXTENSION));
        let numbers = rest.and_then(|rest| rest.split_once("-of-"));
        numbers.is_some_and(|(index, count)| [index, count].iter().all(|n| n.bytes().all(|b| b.is_ascii_digit())))
    })
}
