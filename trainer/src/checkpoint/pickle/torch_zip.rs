//! Container of PyTorch 1.6 and later: a zip file with `NAME/data.pkl`, `NAME/data/KEY` for each storage, `NAME/version` and, since
//! 2.1, `NAME/byteorder`. Members are not compressed, so that their bytes can be used in place.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::super::stored::{Checksum, Storage};
use super::error::PickleError;
use super::value::quote;

/// Handling of the checksums in the zip container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// Reject members whose CRC-32 differs from the one in the directory.
    Verify,
    /// Accept any bytes. For fuzzing: random input hardly ever has the right checksum.
    Ignore,
}

/// Parts of a checkpoint in the zip container.
#[derive(Debug)]
pub(super) struct TorchZip {
    members: HashMap<String, Member>,
    /// Folder of all members, with a trailing slash; empty if they are at the top.
    prefix: String,
    checksums: Checksums,
    /// Location of the pickle.
    pub(super) pickle: Range<usize>,
}

/// Location and CRC-32 of a member.
#[derive(Debug)]
struct Member {
    range: Range<usize>,
    crc: u32,
}

/// A member and what is wrong with it.
struct Fault(String, String);

fn fault<T>(member: &str, why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(member.to_owned(), why.into()))
}

/// Returns true if the file starts with the header of a zip member.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

impl TorchZip {
    /// Locates the parts and verifies the checksum of the pickle. Checksums of storages are verified on first use.
    pub(super) fn open(path: &Path, bytes: &[u8], checksums: Checksums) -> Result<Self, PickleError> {
        let zip = Self::locate(bytes, checksums).map_err(|Fault(member, why)| PickleError::Zip {
            path: path.to_owned(),
            member: quote(&member),
            why,
        })?;
        if let Some(checksum) = zip.checksum(&format!("{}data.pkl", zip.prefix)) {
            let verified = checksum.verify(bytes.get(zip.pickle.clone()).unwrap_or_default());
            verified.map_err(|source| PickleError::Checksum { path: path.to_owned(), source })?;
        }
        Ok(zip)
    }

    fn locate(bytes: &[u8], checksums: Checksums) -> Result<Self, Fault> {
        let members = read_directory(bytes)?;
        let pickles = members.iter().filter_map(|(name, member)| Some((name.strip_suffix("data.pkl")?, member)));
        let mut pickles = pickles.filter(|(prefix, _)| is_prefix(prefix));
        let Some((prefix, pickle)) = pickles.next() else {
            return fault("data.pkl", "is missing; the zip file was not written by torch.save");
        };
        if pickles.next().is_some() {
            return fault("data.pkl", "occurs in several folders");
        }
        if members.contains_key(&format!("{prefix}constants.pkl")) {
            return fault("constants.pkl", "belongs to a TorchScript program, which contains code, not only weights");
        }
        let byteorder = members.get(&format!("{prefix}byteorder"));
        if byteorder.is_some_and(|member| bytes.get(member.range.clone()) != Some(&b"little"[..])) {
            return fault("byteorder", "is not 'little'; the file was written on a big-endian machine");
        }
        let (prefix, pickle) = (prefix.to_owned(), pickle.range.clone());
        Ok(Self { members, prefix, checksums, pickle })
    }

    /// Returns the storage with this key.
    pub(super) fn storage(&self, key: &str) -> Option<Storage> {
        let name = format!("{}data/{key}", self.prefix);
        let range = self.members.get(&name)?.range.clone();
        Some(Storage::new(range, self.checksum(&name)))
    }

    fn checksum(&self, name: &str) -> Option<Checksum> {
        let crc = self.members.get(name).filter(|_| self.checksums == Checksums::Verify)?.crc;
        Some(Checksum { member: quote(name), crc })
    }
}

/// Returns true for the top of the archive and for a folder at the top.
fn is_prefix(prefix: &str) -> bool {
    prefix.is_empty() || prefix.find('/') == Some(prefix.len() - 1)
}

/// Reads the directory. All ranges are within `bytes` and do not overlap, so that reading all members takes no longer than reading
/// the file.
fn read_directory(bytes: &[u8]) -> Result<HashMap<String, Member>, Fault> {
    let broken = |error: zip::result::ZipError| Fault("(directory)".to_owned(), format!("{error}; the file may be truncated"));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.has_duplicate_names() {
        return fault("(directory)", "lists two members of the same name");
    }
    let mut members = HashMap::with_capacity(archive.len());
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(broken)?;
        let name = member.name().map_err(broken)?.into_owned();
        if member.encrypted() {
            return fault(&name, "is encrypted");
        }
        if member.compression() != CompressionMethod::Stored || member.compressed_size() != member.size() {
            return fault(&name, "is compressed, which torch.save never does");
        }
        let Some(range) = range_within(bytes.len(), member.data_start(), member.size()) else {
            return fault(&name, "extends beyond the end of the file");
        };
        members.insert(name, Member { range, crc: member.crc32() });
    }
    let mut by_start: Vec<(&String, &Member)> = members.iter().filter(|(_, member)| !member.range.is_empty()).collect();
    by_start.sort_unstable_by_key(|(_, member)| member.range.start);
    let overlap = by_start.windows(2).find(|pair| pair[0].1.range.end > pair[1].1.range.start);
    if let Some([(first, _), (second, _)]) = overlap {
        return fault(second, format!("shares bytes with member {}", quote(first)));
    }
    Ok(members)
}

fn range_within(length: usize, start: Option<u64>, size: u64) -> Option<Range<usize>> {
    let start = usize::try_from(start?).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= length).then_some(start..end)
}
