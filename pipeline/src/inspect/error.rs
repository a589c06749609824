//! Why nothing can be shown.

use std::io;
use std::path::PathBuf;

use glm_schemas::cloze::ViewError;
use glm_schemas::encoding::EncodingError;
use glm_schemas::manifest::{MANIFEST_FILE, ManifestError, SHARDS_FOLDER, Split};
use parquet::errors::ParquetError;
use polars::error::PolarsError;
use thiserror::Error;

use glm_text::tokenize::TokenizerError;

/// Why `inspect` failed. Every message is one sentence.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The path is wrong.
    #[error("there is no file or folder {}; give a shard, or the folder that was given to `glm-prep ingest`", path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder without a manifest.
    #[error(
        "{0} is not a data set: there is neither {0}/{MANIFEST_FILE} nor {0}/{SHARDS_FOLDER}/{MANIFEST_FILE}; `glm-prep ingest {0}` makes one out of raw data",
        path.display()
    )]
    NotADataSet {
        /// The folder.
        path: PathBuf,
    },
    /// A manifest that cannot be used.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A file of another kind.
    #[error("{} is not a Parquet file; give a shard, or the folder that was given to `glm-prep ingest`", path.display())]
    NotParquet {
        /// The file.
        path: PathBuf,
    },
    /// The data set has no such split.
    #[error("{} has no {split} split; leave --split out to see what there is", path.display())]
    NoSuchSplit {
        /// The data set or shard.
        path: PathBuf,
        /// What was asked for.
        split: Split,
    },
    /// The file system refused something.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A damaged Parquet file.
    #[error("{} is damaged: {}; `glm-prep verify` says where", path.display(), first_line(source))]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// What the Parquet reader said.
        source: ParquetError,
    },
    /// A Parquet file that is no shard.
    #[error("{} is not a shard of cloze questions: {source}; ingest the raw data again", path.display())]
    NotAShard {
        /// The file.
        path: PathBuf,
        /// What is missing or different.
        source: ViewError,
    },
    /// `--max-seq-len` is too small for a question.
    #[error("{}, question {example_id}: {source}; raise --max-seq-len", path.display())]
    DoesNotFit {
        /// The shard.
        path: PathBuf,
        /// The question.
        example_id: String,
        /// How much is needed.
        source: EncodingError,
    },
    /// The query is wrong.
    #[error("the query cannot be run: {}; `glm-prep inspect PATH` shows the columns", first_line(.0))]
    Sql(#[source] PolarsError),
    /// The condition of `--where` is wrong.
    #[error("the condition cannot be used: {}; `glm-prep inspect PATH` shows the columns", first_line(.0))]
    Condition(#[source] PolarsError),
    /// An expression that is neither true nor false.
    #[error("`{condition}` is no condition; give one that is true or false for a question, such as num_choices > 9")]
    NoCondition {
        /// What was typed.
        condition: String,
    },
    /// No question has this id.
    #[error("{} has no question {id}; {hint}", path.display())]
    NoSuchQuestion {
        /// The data set or shard.
        path: PathBuf,
        /// What was asked for.
        id: String,
        /// Which ids are close, or how to list them.
        hint: String,
    },
    /// The vocabulary cannot be had.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A vocabulary that the shards were not made with.
    #[error(
        "{} was made with another vocabulary (sha256 {expected}) than {} (sha256 {found}); its tokens would be shown wrong: give what `ingest --tokenizer` was given",
        path.display(), tokenizer.display()
    )]
    OtherTokenizer {
        /// The data set or shard.
        path: PathBuf,
        /// The vocabulary that was given.
        tokenizer: PathBuf,
        /// sha256 of the data set's vocabulary.
        expected: String,
        /// sha256 of the one that was given.
        found: String,
    },
    /// A question whose columns are not those of the contract.
    #[error("{} is not a shard of cloze questions: {reason}; ingest the raw data again", path.display())]
    BadQuestion {
        /// The data set or shard.
        path: PathBuf,
        /// What is missing or different.
        reason: String,
    },
    /// Polars cannot read the shards.
    #[error("cannot read {}: {}", path.display(), first_line(source))]
    Polars {
        /// The data set or shard.
        path: PathBuf,
        /// What Polars said.
        source: PolarsError,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Polars adds the whole query plan to some messages, from the second line on.
fn first_line(message: &impl ToString) -> String {
    message.to_string().lines().next().unwrap_or("no reason given").trim_end().to_owned()
}
