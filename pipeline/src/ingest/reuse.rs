//! Detection of work that is already done: a data set or a part that the same program made from the same files with the same
//! settings.
//!
//! The raw files are hashed again (about a twentieth of the time of an ingest) and so are the shards. A data set is only reused
//! if every byte matches its manifest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{IngestSettings, MANIFEST_FILE, Manifest, RawFile, SHARDS_FOLDER};
use glm_support::files::checksum::{FileDigest, digest};
use glm_text::tokenize::Tokenizer;

use super::error::IngestError;
use super::kind::RowKind;
use super::options::{IngestOptions, Partition, tool};
use super::part::{Frame, PartReader, Plan, SplitEnd};
use crate::shard::publish::REJECTS_FILE;
use crate::source::input::{self, Input, InputError};
use crate::source::unpack::unpacked;

/// Returns the manifest of the published data set if an ingest would write the same data set again.
pub(super) fn published(
    options: &IngestOptions,
    inputs: &[Input],
    tokenizer: &Tokenizer,
) -> Result<Option<Manifest>, InputError> {
    if options.limit.is_some() || inputs.iter().any(Input::is_stream) {
        return Ok(None);
    }
    let folder = options.dir.join(SHARDS_FOLDER);
    // A manifest that cannot be read is replaced.
    let Some(manifest) = read_manifest(&folder) else { return Ok(None) };
    let wanted = IngestSettings { format: manifest.settings.format.clone(), ..options.settings() };
    let is_format = options.format.is_none_or(|format| format.to_string() == manifest.settings.format);
    if manifest.task != options.task()
        || manifest.tool != tool()
        || manifest.tokenizer != *tokenizer.identity()
        || manifest.settings != wanted
        || !is_format
    {
        return Ok(None);
    }
    let is_raw =
        |(input, raw): (&Input, &RawFile)| input.name == raw.file && input.split == raw.split && input.may_hold(raw.bytes);
    if inputs.len() != manifest.raw_files.len() || !inputs.iter().zip(&manifest.raw_files).all(is_raw) {
        return Ok(None);
    }
    let same = |digest: &FileDigest, raw: &RawFile| digest.bytes == raw.bytes && digest.sha256 == raw.sha256;
    let unchanged = all_digests(inputs, |at, digest| same(digest, &manifest.raw_files[at]))?;
    Ok((unchanged && is_intact(&folder, &manifest)).then_some(manifest))
}

fn read_manifest(folder: &Path) -> Option<Manifest> {
    Manifest::from_json(&fs::read_to_string(folder.join(MANIFEST_FILE)).ok()?).ok()
}

/// Returns the manifest of the data set in `folder` if every byte matches it.
pub(super) fn intact(folder: &Path) -> Option<Manifest> {
    read_manifest(folder).filter(|manifest| is_intact(folder, manifest))
}

/// Returns true if every shard and the list of rejected records have the size and checksum that the manifest lists.
fn is_intact(folder: &Path, manifest: &Manifest) -> bool {
    let is_listed = |path: PathBuf, bytes: u64, sha256: &str| {
        let digest = File::open(path).and_then(digest);
        digest.is_ok_and(|digest| digest.bytes == bytes && digest.sha256 == sha256)
    };
    let rejects = folder.join(REJECTS_FILE);
    let is_rejects_intact = match &manifest.rejects {
        Some(listed) => is_listed(rejects, listed.bytes, &listed.sha256),
        None => !rejects.exists(),
    };
    let mut shards = manifest.splits.values().flat_map(|split| &split.shards);
    is_rejects_intact && shards.all(|shard| is_listed(shard.path(folder), shard.bytes, &shard.sha256))
}

/// Returns the number of records in the part file if preparing the part again would give the same file.
pub(super) fn part<R: RowKind>(
    options: &IngestOptions,
    partition: Partition,
    plan: &Plan,
    inputs: &[Input],
) -> Result<Option<usize>, IngestError> {
    if options.limit.is_some() || inputs.iter().any(Input::is_stream) {
        return Ok(None);
    }
    // A part that cannot be read is replaced.
    let Ok(Some(part)) = PartReader::open(&options.dir, partition.index, partition.count.get()) else { return Ok(None) };
    if part.plan != *plan {
        return Ok(None);
    }
    let Ok((records, ends)) = contents::<R>(part) else { return Ok(None) };
    let known: Vec<_> = ends.into_iter().flat_map(|end| end.digests).collect();
    let unchanged = known.len() == inputs.len() && all_digests(inputs, |at, digest| *digest == known[at])?;
    Ok(unchanged.then_some(records))
}

fn contents<R: RowKind>(mut part: PartReader) -> Result<(usize, Vec<SplitEnd>), IngestError> {
    let mut records = 0;
    let mut ends = Vec::new();
    loop {
        match part.next::<R>()? {
            Frame::Batch(batch) => records += batch.records.len(),
            Frame::SplitEnd(end) => ends.push(end),
            Frame::End => return Ok((records, ends)),
        }
    }
}

/// Returns true if `is_same` accepts the digests of all files; stops at the first that it rejects.
fn all_digests(inputs: &[Input], is_same: impl Fn(usize, &FileDigest) -> bool) -> Result<bool, InputError> {
    let mut offset = 0;
    for of_split in inputs.chunk_by(|a, b| a.split == b.split) {
        let mut same = true;
        input::read(of_split, |number, file| {
            same = is_same(offset + number, &digest(unpacked(file)?)?);
            Ok(same)
        })?;
        if !same {
            return Ok(false);
        }
        offset += of_split.len();
    }
    Ok(true)
}
