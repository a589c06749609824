//! The raw files of a folder.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::Split;
use thiserror::Error;
use zip::ZipArchive;

/// The folder that the raw data unpacks to.
const FOLDER: &str = "ReCoRD";
/// The archive that the raw data comes in.
const ARCHIVE: &str = "ReCoRD.zip";
/// An archive's member that claims more is no ReCoRD (0.2 GB) and no corpus that this program is for.
const MAX_MEMBER_BYTES: u64 = 1 << 38;

/// One raw file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What it becomes.
    pub split: Split,
    /// Path relative to the folder; a member of an archive is written as if the archive were a folder.
    pub name: String,
    /// Size, unpacked.
    pub bytes: u64,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Member { archive: PathBuf, index: usize },
}

/// Why the raw files cannot be had.
#[derive(Debug, Error)]
pub enum InputError {
    /// No such folder.
    #[error("the folder {} does not exist; give the folder that holds ReCoRD/train.jsonl", .0.display())]
    NoFolder(PathBuf),
    /// A file instead of a folder.
    #[error("{} is not a folder; give the folder that holds ReCoRD/train.jsonl", .0.display())]
    NotAFolder(PathBuf),
    /// Nothing to ingest.
    #[error(
        "no raw data in {}: looked for ReCoRD/train.jsonl and ReCoRD/val.jsonl, then train.jsonl and val.jsonl, then ReCoRD.zip",
        .0.display()
    )]
    NoData(PathBuf),
    /// A test split alone.
    #[error("{} holds {found} alone; train.jsonl or val.jsonl must be beside it", dir.display())]
    NoLabelledSplit {
        /// The folder.
        dir: PathBuf,
        /// What was found.
        found: String,
    },
    /// A file cannot be opened or read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// An archive cannot be opened, or is damaged.
    #[error("cannot read the archive {}: {reason}; fetch it again", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Finds the raw files of `dir`, in the order of [`Split::ALL`]: in `dir/ReCoRD`, else in `dir`, else in `dir/ReCoRD.zip`.
///
/// # Errors
/// [`InputError`] where there is neither a training nor a validation file.
pub fn find(dir: &Path) -> Result<Vec<Input>, InputError> {
    match std::fs::metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(InputError::NoFolder(dir.to_owned())),
        Err(source) => return Err(InputError::Read { name: dir.display().to_string(), source }),
        Ok(found) if !found.is_dir() => return Err(InputError::NotAFolder(dir.to_owned())),
        Ok(_) => {}
    }
    let mut inputs = files(&dir.join(FOLDER), &format!("{FOLDER}/"))?;
    if inputs.is_empty() {
        inputs = files(dir, "")?;
    }
    if inputs.is_empty() {
        inputs = members(&dir.join(ARCHIVE))?;
    }
    match inputs.first() {
        None => Err(InputError::NoData(dir.to_owned())),
        Some(first) if first.split == Split::Test => {
            Err(InputError::NoLabelledSplit { dir: dir.to_owned(), found: first.name.clone() })
        }
        Some(_) => Ok(inputs),
    }
}

fn files(folder: &Path, prefix: &str) -> Result<Vec<Input>, InputError> {
    let mut inputs = Vec::new();
    for split in Split::ALL {
        let path = folder.join(format!("{split}.jsonl"));
        let name = format!("{prefix}{split}.jsonl");
        match std::fs::metadata(&path) {
            Ok(found) => inputs.push(Input { split, name, bytes: found.len(), place: Place::File(path) }),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(InputError::Read { name, source }),
        }
    }
    Ok(inputs)
}

/// The members are looked up by exactly these names, so a member that would lead out of the folder is never opened.
fn members(path: &Path) -> Result<Vec<Input>, InputError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut archive = open_archive(path)?;
    let mut inputs = Vec::new();
    for prefix in [format!("{FOLDER}/"), String::new()] {
        for split in Split::ALL {
            let member = format!("{prefix}{split}.jsonl");
            let Some(index) = archive.index_for_name(&member) else { continue };
            let file = archive.by_index(index).map_err(|e| damaged(path, format!("{member}: {e}")))?;
            let bytes = file.size();
            if bytes > MAX_MEMBER_BYTES {
                return Err(damaged(path, format!("{member} claims to unpack to {bytes} bytes, more than {MAX_MEMBER_BYTES}")));
            }
            let place = Place::Member { archive: path.to_owned(), index };
            inputs.push(Input { split, name: format!("{ARCHIVE}/{member}"), bytes, place });
        }
        if !inputs.is_empty() {
            break;
        }
    }
    Ok(inputs)
}

fn open_archive(path: &Path) -> Result<ZipArchive<BufReader<File>>, InputError> {
    let file = File::open(path).map_err(|source| InputError::Read { name: path.display().to_string(), source })?;
    ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(path, e.to_string()))
}

fn damaged(path: &Path, reason: String) -> InputError {
    InputError::Archive { path: path.to_owned(), reason }
}

impl Input {
    /// Opens the file and hands its bytes, unpacked as they are read, to `consume`.
    ///
    /// # Errors
    /// [`InputError`] where it cannot be opened; what `consume` itself returns is passed on.
    pub fn read<T>(&self, consume: impl FnOnce(&mut dyn Read) -> T) -> Result<T, InputError> {
        match &self.place {
            Place::File(path) => {
                let mut file = File::open(path).map_err(|source| InputError::Read { name: self.name.clone(), source })?;
                Ok(consume(&mut file))
            }
            Place::Member { archive: path, index } => {
                let mut archive = open_archive(path)?;
                let mut file = archive.by_index(*index).map_err(|e| damaged(path, e.to_string()))?;
                // A member cannot give more than it claims; the archive's own checksum finds one that gives something else.
                Ok(consume(&mut Read::by_ref(&mut file).take(self.bytes + 1)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn zip(path: &Path, members: &[(&str, &str)]) {
        let mut archive = zip::ZipWriter::new(File::create(path).expect("create"));
        for (name, content) in members {
            archive.start_file(*name, SimpleFileOptions::default()).expect("member");
            archive.write_all(content.as_bytes()).expect("content");
        }
        archive.finish().expect("finish");
    }

    fn content(input: &Input) -> String {
        let mut text = String::new();
        input.read(|file| file.read_to_string(&mut text)).expect("open").expect("read");
        text
    }

    #[test]
    fn the_unpacked_folder_comes_first_then_the_folder_itself_then_the_archive() {
        let dir = tempfile::tempdir().expect("folder");
        zip(
            &dir.path().join(ARCHIVE),
            &[("../ReCoRD/train.jsonl", "evil"), ("ReCoRD/val.jsonl", "zipped"), ("train.jsonl", "other")],
        );
        let found = find(dir.path()).expect("archive");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].split, found[0].bytes), ("ReCoRD.zip/ReCoRD/val.jsonl", Split::Val, 6));
        assert_eq!(content(&found[0]), "zipped");

        std::fs::write(dir.path().join("train.jsonl"), "plain").expect("write");
        let found = find(dir.path()).expect("files");
        assert_eq!(found.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["train.jsonl"]);

        std::fs::create_dir(dir.path().join(FOLDER)).expect("folder");
        std::fs::write(dir.path().join("ReCoRD/val.jsonl"), "unpacked").expect("write");
        let found = find(dir.path()).expect("folder");
        assert_eq!(found.iter().map(content).collect::<Vec<_>>(), ["unpacked"]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let dir = tempfile::tempdir().expect("folder");
        let message = |path: &Path| find(path).expect_err("nothing there").to_string();
        assert!(message(dir.path()).contains("looked for ReCoRD/train.jsonl and ReCoRD/val.jsonl, then train.jsonl"));
        assert!(message(&dir.path().join("no")).ends_with("does not exist; give the folder that holds ReCoRD/train.jsonl"));
        std::fs::write(dir.path().join("test.jsonl"), "").expect("write");
        assert!(message(dir.path()).contains("holds test.jsonl alone"));
        assert!(message(&dir.path().join("test.jsonl")).contains("is not a folder"));
        std::fs::remove_file(dir.path().join("test.jsonl")).expect("remove");
        std::fs::write(dir.path().join(ARCHIVE), "no archive").expect("write");
        assert!(message(dir.path()).starts_with("cannot read the archive"));
    }
}
