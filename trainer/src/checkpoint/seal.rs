//! Checksums of the files of a checkpoint, in the format of `sha256sum`, to detect damage before a run resumes from it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use glm_support::files::checksum::digest;
use thiserror::Error;

/// List of checksums; `sha256sum -c SHA256SUMS` verifies it.
pub const SUMS_FILE: &str = "SHA256SUMS";

/// Damage of a checkpoint.
#[derive(Debug, Error)]
pub enum Damage {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The list of checksums is malformed.
    #[error("{}, line {line}: expected a checksum and a file name", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Number of the line, counting from 1.
        line: usize,
    },
    /// The list is empty.
    #[error("{} is empty", path.display())]
    Empty {
        /// The list.
        path: PathBuf,
    },
    /// A file does not match its checksum.
    #[error("{} does not match its checksum in {SUMS_FILE}: it was truncated or modified", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// Computes the list of checksums of these files in `folder`.
///
/// # Errors
/// An [`io::Error`] if a file cannot be read.
pub fn sums(folder: &Path, names: &[&str]) -> io::Result<String> {
    names.iter().map(|name| Ok(format!("{}  {name}\n", sum(&folder.join(name))?))).collect()
}

/// Verifies all files on the list of a checkpoint.
///
/// # Errors
/// [`Damage`] of the first file that is missing or modified.
pub fn check(folder: &Path) -> Result<(), Damage> {
    let path = folder.join(SUMS_FILE);
    let text = fs::read_to_string(&path).map_err(|source| Damage::Unreadable { path: path.clone(), source })?;
    if text.is_empty() {
        return Err(Damage::Empty { path });
    }
    for (line, entry) in (1..).zip(text.lines()) {
        // The list is not trusted: its names must stay in the folder.
        let entry = entry.split_once("  ").filter(|(sum, name)| sum.len() == 64 && !name.contains('/') && !name.is_empty());
        let Some((expected, name)) = entry else { return Err(Damage::List { path, line }) };
        let file = folder.join(name);
        match sum(&file) {
            Ok(found) if found == expected => {}
            Ok(_) => return Err(Damage::Changed { path: file }),
            Err(source) => return Err(Damage::Unreadable { path: file, source }),
        }
    }
    Ok(())
}

/// Returns the SHA-256 of a file in hexadecimal digits.
fn sum(path: &Path) -> io::Result<String> {
    Ok(digest(File::open(path)?)?.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_damage_is_detected() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "abc").expect("write");
        fs::write(path("b"), "").expect("write");
        let list = sums(folder.path(), &["a", "b"]).expect("sums");
        // Test vector of FIPS 180-2 for "abc".
        assert!(list.starts_with("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"), "{list}");
        assert!(matches!(check(folder.path()), Err(Damage::Unreadable { .. })));
        fs::write(path(SUMS_FILE), &list).expect("write");
        check(folder.path()).expect("intact");
        fs::write(path("b"), "x").expect("write");
        assert!(matches!(check(folder.path()), Err(Damage::Changed { path }) if path.ends_with("b")));
        fs::remove_file(path("b")).expect("remove");
        assert!(matches!(check(folder.path()), Err(Damage::Unreadable { path, .. }) if path.ends_with("b")));
        for bad in ["", "0  a\n", "not a list", &list.replace("  a", "  ../a")] {
            fs::write(path(SUMS_FILE), bad).expect("write");
            assert!(matches!(check(folder.path()), Err(Damage::List { .. } | Damage::Empty { .. })), "{bad}");
        }
    }
}
