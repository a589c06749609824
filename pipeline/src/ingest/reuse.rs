//! Work that is done already: a data set or a part that the same program made of the same files with the same settings.
//!
//! Nothing is taken on trust. The raw files are read again (checksums cost a twentieth of an ingest) and so are the shards; only
//! if every byte is what the manifest says is the set left as it is.

use std::fs::{self, File};
use std::path::Path;

use glm_schemas::manifest::{IngestSettings, MANIFEST_FILE, Manifest, RawFile, SHARDS_FOLDER, Split};

use super::part::{Frame, PartReader, Plan, SplitEnd};
use super::run::TOOL;
use super::{IngestError, IngestOptions, Partition};
use crate::source::input::{self, Input, InputError};
use crate::source::unpack::unpacked;
use glm_support::files::checksum::{FileDigest, digest};
use glm_text::tokenize::Tokenizer;

/// The manifest of the published set, if an ingest would write exactly that set again.
pub(super) fn published(
    options: &IngestOptions,
    inputs: &[Input],
    tokenizer: &Tokenizer,
) -> Result<Option<Manifest>, InputError> {
    if options.limit.is_some() || inputs.iter().any(Input::is_stream) {
        return Ok(None);
    }
    let folder = options.dir.join(SHARDS_FOLDER);
    // Whatever is wrong with it, it is no reason not to ingest.
    let Ok(text) = fs::read_to_string(folder.join(MANIFEST_FILE)) else { return Ok(None) };
    let Ok(manifest) = Manifest::from_json(&text) else { return Ok(None) };
    let wanted = IngestSettings { format: manifest.settings.format.clone(), ..options.settings() };
    let is_format = options.format.is_none_or(|format| format.to_string() == manifest.settings.format);
    if manifest.tool != TOOL || manifest.tokenizer != *tokenizer.identity() || manifest.settings != wanted || !is_format {
        return Ok(None);
    }
    let is_raw =
        |(input, raw): (&Input, &RawFile)| input.name == raw.file && input.split == raw.split && input.may_hold(raw.bytes);
    if inputs.len() != manifest.raw_files.len() || !inputs.iter().zip(&manifest.raw_files).all(is_raw) {
        return Ok(None);
    }
    let same = |digest: &FileDigest, raw: &RawFile| digest.bytes == raw.bytes && digest.sha256 == raw.sha256;
    let unchanged = digests(inputs, |at, digest| same(digest, &manifest.raw_files[at]))?;
    Ok((unchanged && is_whole(&folder, &manifest)).then_some(manifest))
}

/// Whether every shard is what the manifest says.
fn is_whole(folder: &Path, manifest: &Manifest) -> bool {
    manifest.splits.values().flat_map(|split| &split.shards).all(|shard| {
        let digest = File::open(folder.join(&shard.file)).and_then(digest);
        digest.is_ok_and(|digest| digest.bytes == shard.bytes && digest.sha256 == shard.sha256)
    })
}

/// The number of batches' records of a part that is there and would be made again just so.
pub(super) fn part(
    options: &IngestOptions,
    partition: Partition,
    plan: &Plan,
    inputs: &[Input],
) -> Result<Option<usize>, IngestError> {
    if options.limit.is_some() || inputs.iter().any(Input::is_stream) {
        return Ok(None);
    }
    // A part that cannot be read is made again.
    let Ok(Some(part)) = PartReader::open(&options.dir, partition.index, partition.count.get()) else { return Ok(None) };
    if part.plan != *plan {
        return Ok(None);
    }
    let Ok((records, ends)) = contents(part) else { return Ok(None) };
    let known: Vec<_> = ends.into_iter().flat_map(|end| end.digests).collect();
    let unchanged = known.len() == inputs.len() && digests(inputs, |at, digest| *digest == known[at])?;
    Ok(unchanged.then_some(records))
}

fn contents(mut part: PartReader) -> Result<(usize, Vec<SplitEnd>), IngestError> {
    let mut records = 0;
    let mut ends = Vec::new();
    loop {
        match part.next()? {
            Frame::Batch(batch) => records += batch.records.len(),
            Frame::SplitEnd(end) => ends.push(end),
            Frame::End => return Ok((records, ends)),
        }
    }
}

/// Reads all files; ends with false at the first that is not as it should be.
fn digests(inputs: &[Input], is_same: impl Fn(usize, &FileDigest) -> bool) -> Result<bool, InputError> {
    let mut before = 0;
    for of_split in inputs.chunk_by(|a, b| a.split == b.split) {
        let mut same = true;
        input::read(of_split, |number, file| {
            same = is_same(before + number, &digest(unpacked(file)?)?);
            Ok(same)
        })?;
        if !same {
            return Ok(false);
        }
        before += of_split.len();
    }
    Ok(true)
}

/// The raw files of a split.
pub(super) fn raw_files(manifest: &Manifest, split: Split) -> impl Iterator<Item = &RawFile> {
    manifest.raw_files.iter().filter(move |raw| raw.split == split)
}
