//! The container of PyTorch 1.6 and later: a zip file with `NAME/data.pkl`, `NAME/data/KEY` for each storage, `NAME/version` and,
//! since 2.1, `NAME/byteorder`.

use std::ops::Range;

use super::storage::{Checksums, Storage, verify};
use super::zip_directory::{Directory, ZipFault, read_directory};

/// The parts of a checkpoint in the zip container.
#[derive(Debug)]
pub(super) struct TorchZip {
    directory: Directory,
    /// First part of all names, with its slash.
    prefix: String,
    checksums: Checksums,
    /// Where the pickle is.
    pub(super) pickle: Range<usize>,
}

impl TorchZip {
    /// Finds the parts and compares the pickle's checksum; those of the storages are compared when they are read.
    pub(super) fn open(bytes: &[u8], checksums: Checksums) -> Result<Self, ZipFault> {
        let directory = read_directory(bytes)?;
        let mut pickles = directory.keys().filter_map(|name| name.strip_suffix("data.pkl")).filter(|prefix| is_prefix(prefix));
        let Some(prefix) = pickles.next().map(str::to_owned) else {
            return Err(fault("data.pkl", "is missing: a zip file that was not made by torch.save"));
        };
        if pickles.next().is_some() {
            return Err(fault("data.pkl", "occurs in several folders"));
        }
        if directory.contains_key(&format!("{prefix}constants.pkl")) {
            return Err(fault("constants.pkl", "belongs to a TorchScript program, which holds code, not only weights"));
        }
        if let Some(member) = directory.get(&format!("{prefix}byteorder")) {
            match bytes.get(member.range.clone()) {
                Some(b"little") => {}
                _ => return Err(fault("byteorder", "is not 'little': the file is from a big-endian machine")),
            }
        }
        let name = format!("{prefix}data.pkl");
        let Some(pickle) = directory.get(&name) else { return Err(fault("data.pkl", "is missing")) };
        if checksums == Checksums::Verify {
            verify(&name, bytes.get(pickle.range.clone()).unwrap_or_default(), pickle.crc)?;
        }
        let pickle = pickle.range.clone();
        Ok(Self { directory, prefix, checksums, pickle })
    }

    /// The storage with that key.
    pub(super) fn storage(&self, key: &str) -> Option<Storage> {
        let name = format!("{}data/{key}", self.prefix);
        let member = self.directory.get(&name)?.clone();
        Some(Storage::member(name, member, self.checksums))
    }
}

/// At the top, or in a folder at the top.
fn is_prefix(prefix: &str) -> bool {
    prefix.is_empty() || prefix.find('/') == Some(prefix.len() - 1)
}

fn fault(member: &str, why: &str) -> ZipFault {
    ZipFault { member: member.to_owned(), why: why.to_owned() }
}
