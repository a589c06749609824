//! What can be wrong with raw files as a whole.

use std::io;
use std::path::PathBuf;

use glm_schemas::manifest::Split;
use thiserror::Error;

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
        "no raw data in {}: looked for ReCoRD/train.jsonl and ReCoRD/val.jsonl, then train.jsonl and val.jsonl, folders of splits \
         and archives such as ReCoRD.zip; `glm-prep fetch record {}` downloads ReCoRD, and --train, --val and --test name other files",
        .0.display(), .0.display()
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
    /// A split that is asked for is not there.
    #[error("there is no {split} split among the raw data of {}; leave it out of --splits", dir.display())]
    NoSplit {
        /// The split.
        split: Split,
        /// The folder.
        dir: PathBuf,
    },
    /// It cannot be told what is meant.
    #[error("in {}: {reason}", place.display())]
    Ambiguous {
        /// The folder or archive.
        place: PathBuf,
        /// What is not clear, and what to do.
        reason: String,
    },
    /// A name on the command line that stands for nothing.
    #[error("--{split} {pattern}: {reason}")]
    Named {
        /// The split.
        split: Split,
        /// What was typed.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be opened or read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file that became shorter or longer.
    #[error("{name} changed while it was read ({before} bytes at first, {read} were read); run it again when it is whole")]
    Changed {
        /// The file.
        name: String,
        /// Its size when it was opened.
        before: u64,
        /// What was read.
        read: u64,
    },
    /// A file without content.
    #[error("{0} is empty; fetch it again, or remove it if the split is not wanted")]
    Empty(String),
    /// A file of another kind.
    #[error("{name} {what}")]
    Wrong {
        /// The file.
        name: String,
        /// What it seems to be and what to do.
        what: String,
    },
    /// An archive cannot be opened, is damaged, or is refused.
    #[error("cannot read the archive {}: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
