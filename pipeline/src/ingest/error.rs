//! Ingest errors.

use std::path::PathBuf;

use glm_schemas::manifest::{ManifestError, Split, TaskName};
use glm_text::tokenize::TokenizerError;
use thiserror::Error;

use super::options::Fraction;
use super::reject_limit::RejectLimit;
use super::stop::Stopped;
use crate::pattern::PatternError;
use crate::shard::WriteError;
use crate::source::input::InputError;
use crate::source::recognise::FormatName;

/// Error of an ingest or a merge. Nothing was published.
#[derive(Debug, Error)]
pub enum IngestError {
    /// The raw data cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The tokenizer cannot be loaded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The data set cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// More records were rejected than `--max-rejects` allows.
    #[error("{rejected} of {}{records} records were rejected, --max-rejects allows {limit}; nothing was published: {reasons}", if *stopped { "the first " } else { "" })]
    TooManyRejects {
        /// Number of records that were rejected in whole or in part.
        rejected: usize,
        /// True if reading stopped there.
        stopped: bool,
        /// Number of records that were read.
        records: usize,
        /// Maximum number of rejected records.
        limit: RejectLimit,
        /// The most frequent reasons, each with its number and its first record.
        reasons: String,
    },
    /// The raw data has no usable row.
    #[error("no {rows} found in {files}; nothing was published{}", if *rejected == 0 { String::new() } else { format!("; rejected: {reasons}") })]
    Empty {
        /// Kind of the missing file or field.
        rows: &'static str,
        /// The raw files.
        files: String,
        /// Number of records that were rejected in whole or in part.
        rejected: usize,
        /// The most frequent reasons.
        reasons: String,
    },
    /// The folder has no documents.
    #[error(
        "no documents in {}: looked for files whose names end in .jsonl, .json, .txt or .parquet, compressed or not; --train names other files",
        .0.display()
    )]
    NoDocuments(PathBuf),
    /// The folder has documents, and the task was not given.
    #[error("{file} in {} seems to hold documents ({}); `glm-prep ingest {} --task text` ingests them",
        dir.display(), format.format().signs(), dir.display())]
    Documents {
        /// The folder.
        dir: PathBuf,
        /// First file of the split.
        file: String,
        /// Format of the file.
        format: FormatName,
    },
    /// The pattern cannot be used.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A pattern and a format of its own are given, or a format that needs a pattern.
    #[error("a pattern reads lines of JSON and tables: give --pattern FILE or --task NAME without --format")]
    NoPattern,
    /// The format has data of another task.
    #[error("the format `{format}` has {}; leave out --task {}, or give --task {}", found.rows(), given.name(), found.name())]
    OtherTask {
        /// The format.
        format: FormatName,
        /// Task of the data set.
        found: TaskName,
        /// The task given.
        given: TaskName,
    },
    /// An option has no effect on the task.
    #[error("{option} has no effect on {}; leave it out{}", task.rows(), other_task(*task, *of))]
    NoEffect {
        /// The option.
        option: &'static str,
        /// Task of the option.
        of: TaskName,
        /// The task.
        task: TaskName,
    },
    /// There is a validation split already.
    #[error("{file} is a validation split; leave out --val-fraction, or take only the training split with --splits train")]
    ValGiven {
        /// A file of the validation split.
        file: String,
    },
    /// There is no training split to divide.
    #[error("--val-fraction divides the training split, and there is none; name its files with --train")]
    NoTrain,
    /// One of the splits is empty after the division.
    #[error(
        "--val-fraction {fraction} leaves no {} for the {split} split, nothing was published; there are too few {}: use another fraction or --val-seed, or name a file with --val",
        if *task == TaskName::Cloze { "question" } else { "document" }, if *task == TaskName::Cloze { "passages" } else { "documents" }
    )]
    EmptyHoldout {
        /// Kind of the rows.
        task: TaskName,
        /// The empty split.
        split: Split,
        /// The fraction.
        fraction: Fraction,
    },
    /// A part file is damaged or cannot be read.
    #[error("cannot read the part {}: {reason}; ingest that part again", path.display())]
    Part {
        /// Path of the part file.
        path: PathBuf,
        /// Description of the damage.
        reason: String,
    },
    /// There are no parts to merge.
    #[error("no parts in {}; create them with `glm-prep ingest {} --partition i/n` for every i from 0 to n - 1", .0.display(), .0.display())]
    NoParts(PathBuf),
    /// Some parts do not exist yet.
    #[error("parts are missing: {missing}; run `glm-prep ingest {} --partition i/n` for each of them, then merge again", dir.display())]
    MissingParts {
        /// The folder of the raw data.
        dir: PathBuf,
        /// The missing parts, as given to `--partition`.
        missing: String,
    },
    /// The parts come from different ingests.
    #[error("the parts in {} do not belong together: {difference}; delete that folder and create all parts again", folder.display())]
    DifferentParts {
        /// The folder of the parts.
        folder: PathBuf,
        /// Description of the difference.
        difference: String,
    },
    /// The tokenizer given to the merge is not the one of the parts.
    #[error("the parts were made with the tokenizer {parts}, not with {given}; pass the same --tokenizer")]
    OtherTokenizer {
        /// Name of the parts' tokenizer.
        parts: String,
        /// Name of the tokenizer given to the merge.
        given: String,
    },
    /// The parts were merged while one of them was prepared again.
    #[error(
        "{} is gone: it was removed, as `glm-prep merge` does when it has published the data set, while the part was prepared; \
         the data set is complete, and if the raw data has changed, all parts must be prepared again",
        .0.display()
    )]
    PartsMerged(PathBuf),
    /// The run was stopped, see [`Stop`](super::Stop).
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A bug: a worker thread panicked.
    #[error("a worker panicked on a batch of {0}; nothing was published; please report this bug with the file")]
    Panicked(String),
    /// The manifest cannot be serialized.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Advice to name the task of an option, where no task was named.
fn other_task(task: TaskName, of: TaskName) -> String {
    if task == TaskName::Cloze { format!(", or give --task {}", of.name()) } else { String::new() }
}
