//! The directory of a zip file, as far as `torch.save` uses the format: members that are stored as they are, so that their bytes
//! can be used straight from the file, with the 64-bit extension for large files.
//!
//! Sources: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (end records), 4.5.3 (64 bit).

use std::collections::HashMap;
use std::ops::Range;

use super::error::Fault;
use super::input::Input;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DIRECTORY_HEADER: u32 = 0x0201_4b50;
const DIRECTORY_END: u32 = 0x0605_4b50;
const DIRECTORY_END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
/// Length of the end record without its comment.
const END_LENGTH: usize = 22;
/// A 32-bit field with this value has its real value in the 64-bit extra field.
const IN_EXTRA: u32 = u32::MAX;

/// The members by name.
pub(super) type Directory = HashMap<String, Member>;

/// A member's bytes.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Where they are in the file.
    pub(super) range: Range<usize>,
    /// CRC-32 of them.
    pub(super) crc: u32,
}

/// A member, or `(directory)`, and what is wrong with it.
#[derive(Debug)]
pub(super) struct ZipFault {
    pub(super) member: String,
    pub(super) why: String,
}

impl From<Fault> for ZipFault {
    fn from(fault: Fault) -> Self {
        ZipFault { member: "(directory)".to_owned(), why: fault.to_string() }
    }
}

fn broken(why: &str) -> ZipFault {
    ZipFault { member: "(directory)".to_owned(), why: why.to_owned() }
}

/// Whether the file starts like a zip file.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(&LOCAL_HEADER.to_le_bytes())
}

/// Reads the directory. Every range lies within `bytes`, and no two overlap, so that reading all members takes no longer than
/// reading the file; no name occurs twice.
pub(super) fn read_directory(bytes: &[u8]) -> Result<Directory, ZipFault> {
    let end = find_end(bytes).ok_or_else(|| broken("no end record: the file is cut short"))?;
    let (count, start) = read_end(bytes, end)?;
    let mut input = Input::new(bytes, start);
    let mut directory = Directory::new();
    // `count` is not trusted with an allocation: each entry takes at least 46 bytes of the file, or the read fails.
    for _ in 0..count {
        let entry = read_entry(&mut input)?;
        let fault = |why: &str| ZipFault { member: entry.name.clone(), why: why.to_owned() };
        if entry.encrypted {
            return Err(fault("is encrypted"));
        }
        if entry.compressed {
            return Err(fault("is compressed, which torch.save never does"));
        }
        let range = locate(bytes, &entry).ok_or_else(|| fault("its bytes are not where the directory says"))?;
        if directory.insert(entry.name.clone(), Member { range, crc: entry.crc }).is_some() {
            return Err(fault("occurs twice"));
        }
    }
    refuse_overlaps(&directory)?;
    Ok(directory)
}

fn refuse_overlaps(directory: &Directory) -> Result<(), ZipFault> {
    let mut members: Vec<_> = directory.iter().filter(|(_, member)| !member.range.is_empty()).collect();
    members.sort_unstable_by_key(|(_, member)| member.range.start);
    match members.windows(2).find(|pair| pair[0].1.range.end > pair[1].1.range.start) {
        Some(pair) => Err(ZipFault { member: pair[1].0.clone(), why: format!("shares bytes with member {}", pair[0].0) }),
        None => Ok(()),
    }
}

/// The end record is the last thing in the file, followed by a comment of at most 65,535 bytes whose length it states.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_LENGTH)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|at| {
        let mut input = Input::new(bytes, *at);
        if input.u32() != Ok(DIRECTORY_END) {
            return false;
        }
        let mut comment = Input::new(bytes, at + END_LENGTH - 2);
        comment.u16().is_ok_and(|length| at + END_LENGTH + usize::from(length) == bytes.len())
    })
}

/// Number of entries and offset of the first, from the end record or its 64-bit form.
fn read_end(bytes: &[u8], end: usize) -> Result<(u64, usize), ZipFault> {
    let mut input = Input::new(bytes, end + 4);
    let (disk, directory_disk, _, count) = (input.u16()?, input.u16()?, input.u16()?, input.u16()?);
    let (_size, start) = (input.u32()?, input.u32()?);
    if let Some(end_64) = find_end_64(bytes, end) {
        let mut input = Input::new(bytes, end_64 + 32);
        let (count, _size, start) = (input.u64()?, input.u64()?, input.u64()?);
        let start = usize::try_from(start).map_err(|_| broken("it starts beyond the end of the file"))?;
        return Ok((count, start));
    }
    if disk != directory_disk || count == u16::MAX || start == IN_EXTRA {
        return Err(broken("the 64-bit end record is missing"));
    }
    let start = usize::try_from(start).map_err(|_| broken("it starts beyond the end of the file"))?;
    Ok((count.into(), start))
}

/// Offset of the 64-bit end record, if there is one.
fn find_end_64(bytes: &[u8], end: usize) -> Option<usize> {
    let mut locator = Input::new(bytes, end.checked_sub(20)?);
    if locator.u32().ok()? != LOCATOR_64 {
        return None;
    }
    let _disk = locator.u32().ok()?;
    let at = usize::try_from(locator.u64().ok()?).ok()?;
    (Input::new(bytes, at).u32().ok()? == DIRECTORY_END_64).then_some(at)
}

struct Entry {
    name: String,
    encrypted: bool,
    compressed: bool,
    crc: u32,
    size: u64,
    header: u64,
}

fn read_entry(input: &mut Input<'_>) -> Result<Entry, ZipFault> {
    if input.u32()? != DIRECTORY_HEADER {
        return Err(broken("an entry does not start as it should"));
    }
    let _versions = input.u32()?;
    let flags = input.u16()?;
    let method = input.u16()?;
    let _time = input.u32()?;
    let crc = input.u32()?;
    let (packed, size) = (input.u32()?, input.u32()?);
    let (name_length, extra_length, comment_length) = (input.u16()?, input.u16()?, input.u16()?);
    let _disk_and_attributes = input.take(8)?;
    let header = input.u32()?;
    let name = String::from_utf8_lossy(input.take(name_length.into())?).into_owned();
    let extra = input.take(extra_length.into())?;
    input.take(comment_length.into())?;

    let mut wide = Input::new(zip64_field(extra), 0);
    let mut widen = |narrow: u32| if narrow == IN_EXTRA { wide.u64() } else { Ok(narrow.into()) };
    let size = widen(size)?;
    let packed = widen(packed)?;
    let header = widen(header)?;
    Ok(Entry { name, encrypted: flags & 1 != 0, compressed: method != 0 || packed != size, crc, size, header })
}

/// The 64-bit field among the extra fields of an entry, empty if there is none.
fn zip64_field(extra: &[u8]) -> &[u8] {
    let mut input = Input::new(extra, 0);
    while let (Ok(id), Ok(length)) = (input.u16(), input.u16()) {
        let Ok(field) = input.take(length.into()) else { break };
        if id == 1 {
            return field;
        }
    }
    &[]
}

/// The bytes of a member: they follow its local header, whose name and extra field can have other lengths than in the directory.
fn locate(bytes: &[u8], entry: &Entry) -> Option<Range<usize>> {
    let header = usize::try_from(entry.header).ok()?;
    let mut input = Input::new(bytes, header);
    if input.u32().ok()? != LOCAL_HEADER {
        return None;
    }
    input.take(22).ok()?;
    let (name_length, extra_length) = (input.u16().ok()?, input.u16().ok()?);
    input.take(u64::from(name_length) + u64::from(extra_length)).ok()?;
    let start = input.position();
    input.take(entry.size).ok()?;
    Some(start..input.position())
}
