//! Errors of `inspect`.

use std::io;
use std::path::PathBuf;

use glm_schemas::cloze::ViewError;
use glm_schemas::cloze::encoding::EncodingError;
use glm_schemas::manifest::Split;
use parquet::errors::ParquetError;
use polars::error::PolarsError;
use thiserror::Error;

use glm_text::tokenize::TokenizerError;

use glm_prep::shard::DataSetError;

/// Error of `inspect`. Every message is one sentence.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The path does not exist.
    #[error("there is no file or folder {}; specify a shard, or the folder given to `glm-prep ingest`", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// There is no data set, or it cannot be read.
    #[error(transparent)]
    DataSet(#[from] DataSetError),
    /// The file is not a Parquet file.
    #[error("{} is not a Parquet file; specify a shard, or the folder given to `glm-prep ingest`", path.display())]
    NotParquet {
        /// The file.
        path: PathBuf,
    },
    /// The data set has no such split.
    #[error("{} has no {split} split; omit --split to see all splits", path.display())]
    NoSuchSplit {
        /// The data set or shard.
        path: PathBuf,
        /// The split.
        split: Split,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Underlying error.
        source: io::Error,
    },
    /// A Parquet file is damaged.
    #[error("{} is damaged: {}; copy it again from its origin, or ingest the raw data again", path.display(), first_line(source))]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// Error of the Parquet reader.
        source: ParquetError,
    },
    /// A Parquet file is not a shard.
    #[error("{} is not a shard of cloze questions: {source}; ingest the raw data again", path.display())]
    NotAShard {
        /// The file.
        path: PathBuf,
        /// Underlying error.
        source: ViewError,
    },
    /// `--max-seq-len` is too small for a question.
    #[error("{}, question {example_id}: {source}; raise --max-seq-len", path.display())]
    DoesNotFit {
        /// The shard.
        path: PathBuf,
        /// The question.
        example_id: String,
        /// Underlying error.
        source: EncodingError,
    },
    /// The query is invalid.
    #[error("the query cannot be run: {}{remedy}", first_line(source))]
    Sql {
        /// Underlying error.
        source: PolarsError,
        /// Advice, after a semicolon; may be empty.
        remedy: &'static str,
    },
    /// The condition of `--where` is invalid.
    #[error("the condition is invalid: {}", first_line(.0))]
    Condition(#[source] PolarsError),
    /// The condition is not boolean.
    #[error("`{condition}` is not a condition; use an expression that is true or false, such as num_choices > 9")]
    NotACondition {
        /// The expression.
        condition: String,
    },
    /// Only questions have a fixed model input.
    #[error("{} has {rows}, which have no fixed model input: it depends on settings of training; leave out --model-input", path.display())]
    NoModelInput {
        /// The data set or shard.
        path: PathBuf,
        /// Word for its rows, in the plural.
        rows: &'static str,
    },
    /// No row has this id.
    #[error("{} has no {row} {id}; {hint}", path.display())]
    NoSuchRow {
        /// The data set or shard.
        path: PathBuf,
        /// Word for a row.
        row: &'static str,
        /// The id.
        id: String,
        /// Similar ids, or how to list all.
        hint: String,
    },
    /// The vocabulary cannot be loaded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The vocabulary is not the one that the shards were made with.
    #[error(
        "{} was made with another vocabulary (sha256 {expected}) than {} (sha256 {found}); use the file given to `ingest --tokenizer`",
        path.display(), tokenizer.display()
    )]
    OtherTokenizer {
        /// The data set or shard.
        path: PathBuf,
        /// The given vocabulary.
        tokenizer: PathBuf,
        /// sha256 of the data set's vocabulary.
        expected: String,
        /// sha256 of the given vocabulary.
        found: String,
    },
    /// The columns of a row violate the data contract.
    #[error("{} is not a shard of {rows}: {reason}; ingest the raw data again", path.display())]
    BadRow {
        /// The data set or shard.
        path: PathBuf,
        /// Word for rows.
        rows: &'static str,
        /// Description of the difference.
        reason: String,
    },
    /// Polars cannot read the shards.
    #[error("cannot read {}: {}; `glm-prep verify` finds the damaged file", path.display(), first_line(source))]
    Polars {
        /// The data set or shard.
        path: PathBuf,
        /// Underlying error.
        source: PolarsError,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Returns the first line of a message: Polars appends the whole query plan to some.
fn first_line(message: &impl ToString) -> String {
    let message = message.to_string();
    let line = message.lines().next().unwrap_or("no reason given").trim_end();
    // Polars' name of the kind of error, which the sentence after it repeats.
    line.strip_prefix("not found: ").unwrap_or(line).to_owned()
}
