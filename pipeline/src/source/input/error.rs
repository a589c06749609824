//! Errors of raw files as a whole.

use std::io;
use std::path::{Path, PathBuf};

use glm_remote::RemoteError;
use glm_schemas::manifest::Split;
use thiserror::Error;

/// Errors of [`find`](super::find) and [`read`](super::read).
#[derive(Debug, Error)]
pub enum InputError {
    /// The folder does not exist.
    #[error("the folder {} does not exist; give the folder that holds ReCoRD/train.jsonl", .0.display())]
    NoFolder(PathBuf),
    /// The path is not a folder.
    #[error("{} is not a folder; give the folder that holds ReCoRD/train.jsonl", .0.display())]
    NotAFolder(PathBuf),
    /// The folder has no raw data.
    #[error(
        "no raw data in {}: looked for ReCoRD/train.jsonl and ReCoRD/val.jsonl, then train.jsonl and val.jsonl, folders of splits \
         and archives such as ReCoRD.zip; `glm-prep fetch record {}` downloads ReCoRD, and --train, --val and --test name other files",
        .0.display(), .0.display()
    )]
    NoData(PathBuf),
    /// The folder has none of a task's files.
    #[error("no raw data in {}: looked for {files} in it, below it and in its archives, and for the files alone; --train, --val and --test name other files", dir.display())]
    NoFiles {
        /// The folder.
        dir: PathBuf,
        /// Names of the files.
        files: String,
    },
    /// The folder has raw data whose names do not contain a split.
    #[error(
        "the name of {file} in {} does not contain a split; `glm-prep ingest {} --train {} --val-fraction 0.1` makes a training and a \
         validation split of it, or rename it to train.jsonl or val.jsonl",
        dir.display(), dir.display(), dir.join(file).display()
    )]
    NoSplitInName {
        /// The folder.
        dir: PathBuf,
        /// The first such file.
        file: String,
    },
    /// There are sources without targets.
    #[error("there is no {target} beside {name}; pairs of the splits train and val need targets, line by line")]
    NoTargets {
        /// The file of sources.
        name: String,
        /// The missing file.
        target: String,
    },
    /// Files of sources and targets have different numbers of lines.
    #[error("{name} has {lines} lines, but {other} has {other_lines}; line n of one must belong to line n of the other")]
    Unequal {
        /// The file of sources.
        name: String,
        /// Number of its lines.
        lines: u64,
        /// The file of targets.
        other: String,
        /// Number of its lines.
        other_lines: u64,
    },
    /// The folder has only a test split.
    #[error("{} has only {found}; add train.jsonl or val.jsonl", dir.display())]
    NoLabelledSplit {
        /// The folder.
        dir: PathBuf,
        /// File found.
        found: String,
    },
    /// A requested split does not exist.
    #[error("there is no {split} split among the raw data of {}; leave it out of --splits", dir.display())]
    NoSplit {
        /// The split.
        split: Split,
        /// The folder.
        dir: PathBuf,
    },
    /// The choice of files is ambiguous.
    #[error("in {}: {reason}", place.display())]
    Ambiguous {
        /// The folder or archive.
        place: PathBuf,
        /// Ambiguity and remedy.
        reason: String,
    },
    /// A name on the command line has no file.
    #[error("--{split} {pattern}: {reason}")]
    Named {
        /// The split.
        split: Split,
        /// Argument.
        pattern: String,
        /// Reason.
        reason: String,
    },
    /// An object store cannot be read.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// There are no files at a URL.
    #[error(
        "there are no files at {url}; give the URL of a file or folder with raw data: names of buckets and files are case-sensitive"
    )]
    NothingAt {
        /// The URL.
        url: String,
    },
    /// A file cannot be opened or read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The size of a file changed while it was read.
    #[error(
        "{name} changed while it was read ({before} bytes at first, {read} were read); run again when the file is complete"
    )]
    Changed {
        /// The file.
        name: String,
        /// Size when it was opened.
        before: u64,
        /// Number of bytes read.
        read: u64,
    },
    /// A file is empty.
    #[error("{0} is empty; fetch it again, or remove it to ingest without this split")]
    Empty(String),
    /// A file is not raw data of a known format.
    #[error("{name} {what}")]
    Wrong {
        /// The file.
        name: String,
        /// Kind of the file, with a hint.
        what: String,
    },
    /// An archive cannot be opened, is damaged or is rejected.
    #[error("cannot read the archive {}: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Reason.
        reason: String,
    },
}

impl InputError {
    /// The error for a folder that has none of the files of a task.
    pub(super) fn no_files(dir: &Path, folder: &str, files: &[(Split, String)]) -> Self {
        let names: Vec<_> = files.iter().map(|(_, name)| format!("{folder}/{name}")).collect();
        Self::NoFiles { dir: dir.to_owned(), files: names.join(", ") }
    }
}
