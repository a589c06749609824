//! Checksums of the files of a checkpoint, in the format of `sha256sum`, to detect damage before a checkpoint is used.

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
    /// A file is not on the list.
    #[error("{} does not list {name}: it was truncated or modified", path.display())]
    Unlisted {
        /// The list.
        path: PathBuf,
        /// Name of the file.
        name: String,
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
    names.iter().map(|name| Ok(line(name, &sum(&folder.join(name))?))).collect()
}

/// Line of the list for a file with this checksum.
pub(super) fn line(name: &str, sum: &str) -> String {
    format!("{sum}  {name}\n")
}

/// Verifies all files on the list of a checkpoint. `expected` returns the names that a list with these names must contain.
///
/// # Errors
/// [`Damage`] of the first file that is missing or modified.
pub fn check(folder: &Path, expected: impl FnOnce(&[&str]) -> Vec<String>) -> Result<(), Damage> {
    let list = List::read(folder)?;
    let listed: Vec<&str> = list.entries.iter().map(|(name, _)| name.as_str()).collect();
    expected(&listed).iter().try_for_each(|name| list.sum_of(name).map(drop))?;
    list.entries.iter().try_for_each(|(name, expected)| check_file(&folder.join(name), expected))
}

/// Verifies these files of a folder of weights, if it has a list of checksums. Reads no other files.
///
/// # Errors
/// [`Damage`] of the first file that is modified or not on the list.
pub fn check_files(folder: &Path, files: &[PathBuf]) -> Result<(), Damage> {
    if !folder.join(SUMS_FILE).is_file() {
        return Ok(());
    }
    let list = List::read(folder)?;
    files.iter().try_for_each(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        check_file(file, list.sum_of(&name)?)
    })
}

/// List of checksums.
struct List {
    path: PathBuf,
    /// Names and checksums, in order.
    entries: Vec<(String, String)>,
}

impl List {
    fn read(folder: &Path) -> Result<Self, Damage> {
        let path = folder.join(SUMS_FILE);
        let text = fs::read_to_string(&path).map_err(|source| Damage::Unreadable { path: path.clone(), source })?;
        if text.is_empty() {
            return Err(Damage::Empty { path });
        }
        let mut entries = Vec::new();
        for (line, entry) in (1..).zip(text.lines()) {
            // A star marks binary files in lists of `sha256sum --binary`. The list is not trusted: its names must stay in the folder.
            let entry = entry.split_once("  ").or_else(|| entry.split_once(" *"));
            let Some((sum, name)) = entry.filter(|(sum, name)| sum.len() == 64 && !name.contains('/') && !name.is_empty())
            else {
                return Err(Damage::List { path, line });
            };
            entries.push((name.to_owned(), sum.to_owned()));
        }
        Ok(Self { path, entries })
    }

    fn sum_of(&self, name: &str) -> Result<&str, Damage> {
        let found = self.entries.iter().find(|(listed, _)| listed == name).map(|(_, sum)| sum.as_str());
        found.ok_or_else(|| Damage::Unlisted { path: self.path.clone(), name: name.to_owned() })
    }
}

fn check_file(file: &Path, expected: &str) -> Result<(), Damage> {
    match sum(file) {
        Ok(found) if found == expected => Ok(()),
        Ok(_) => Err(Damage::Changed { path: file.to_owned() }),
        Err(source) => Err(Damage::Unreadable { path: file.to_owned(), source }),
    }
}

/// Returns the SHA-256 of a file in hexadecimal digits.
pub(super) fn sum(path: &Path) -> io::Result<String> {
    Ok(digest(File::open(path)?)?.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_damage_is_detected() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        let check = |folder: &Path| check(folder, |_| vec!["a".to_owned(), "b".to_owned()]);
        fs::write(path("a"), "abc").expect("write");
        fs::write(path("b"), "").expect("write");
        let list = sums(folder.path(), &["a", "b"]).expect("sums");
        // Test vector of FIPS 180-2 for "abc".
        assert!(list.starts_with("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"), "{list}");
        assert!(matches!(check(folder.path()), Err(Damage::Unreadable { .. })));
        fs::write(path(SUMS_FILE), &list).expect("write");
        check(folder.path()).expect("intact");
        check_files(folder.path(), &[path("a")]).expect("intact");
        // A list that was cut at the end of a line.
        let (first, _) = list.split_at(list.find('\n').expect("two lines") + 1);
        fs::write(path(SUMS_FILE), first).expect("write");
        assert!(matches!(check(folder.path()), Err(Damage::Unlisted { name, .. }) if name == "b"));
        assert!(matches!(check_files(folder.path(), &[path("b")]), Err(Damage::Unlisted { name, .. }) if name == "b"));
        fs::write(path(SUMS_FILE), list.replace("  ", " *")).expect("write");
        check(folder.path()).expect("the format of sha256sum --binary");
        fs::write(path(SUMS_FILE), &list).expect("write");
        fs::write(path("b"), "x").expect("write");
        assert!(matches!(check(folder.path()), Err(Damage::Changed { path }) if path.ends_with("b")));
        assert!(matches!(check_files(folder.path(), &[path("b")]), Err(Damage::Changed { .. })));
        check_files(folder.path(), &[path("a")]).expect("other files are not read");
        fs::remove_file(path("b")).expect("remove");
        assert!(matches!(check(folder.path()), Err(Damage::Unreadable { path, .. }) if path.ends_with("b")));
        for bad in ["", "0  a\n", "not a list", &list.replace("  a", "  ../a")] {
            fs::write(path(SUMS_FILE), bad).expect("write");
            assert!(matches!(check(folder.path()), Err(Damage::List { .. } | Damage::Empty { .. })), "{bad}");
        }
    }
}
