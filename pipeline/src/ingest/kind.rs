//! Kinds of rows: what a task supplies to the pipeline.
//!
//! The pipeline moves records, batches and rows and knows nothing of their content. A [`RowKind`] says how a worker turns a record
//! into items (a passage with its questions, a document), how the ordered stage turns items into rows, in file order and on one
//! thread, and how a shard takes a row. To add a kind:
//!
//! 1. a table in `glm_schemas`, its name in [`TaskName`], and its [`Table`] in [`crate::shard`];
//! 2. a trait for its raw formats in [`crate::source`], and one module per format;
//! 3. one module in [`super::rows`] that implements [`RowKind`], and one line each in [`run`](super::run) and
//!    [`merge`](super::merge).

use glm_schemas::manifest::{Split, TaskName};
use glm_schemas::seq2seq::encoding::Keep;
use glm_text::tokenize::{Session, Tokenizer, TokenizerError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::options::IngestOptions;
use super::spool::SpoolWriter;
use super::stages::Clock;
use crate::pattern::PatternTask;
use crate::shard::{ShardWriter, Table, WriteError};
use crate::source::{Format, RecordError};

/// Kind of rows of a data set.
pub(super) trait RowKind: Sized + 'static {
    /// Name of the kind.
    const TASK: TaskName;
    /// True if special tokens that are written in a text become tokens, as in the published cloze recipe.
    const HAS_COMMANDS: bool;

    /// Result of a worker; a record has any number of them. Part files store it.
    type Item: Serialize + DeserializeOwned + Send;
    /// Row in the spool, as it is read again.
    type Stored: DeserializeOwned;
    /// Table of the shards.
    type Table: Table;
    /// State of the ordered stage for the whole data set.
    type DataSet;
    /// State of the ordered stage for the files of one split.
    type Files: Default;
    /// State of the ordered stage for the rows of one split.
    type Rows: Default;

    /// Returns the state of a data set without rows.
    fn data_set(options: &IngestOptions) -> Self::DataSet;

    /// Parses and tokenizes a record, independently of all others.
    ///
    /// # Errors
    /// [`PrepareError`] if the whole record is rejected or the run must end.
    fn prepare(
        context: &Context<'_>,
        session: &mut Session<'_>,
        record: &str,
        clock: &mut Clock,
    ) -> Result<Items<Self::Item>, PrepareError>;

    /// Returns what is wrong with an item, which only a damaged part file can cause.
    fn damage(item: &Self::Item) -> Option<&'static str>;

    /// Hash of the text that decides which split the item goes to.
    fn hash(item: &Self::Item) -> u64;

    /// Numbers a record without items.
    fn skip(files: &mut Self::Files);

    /// Adds the rows of an item; returns the reasons for which parts of it are rejected.
    ///
    /// # Errors
    /// [`WriteError`] if the spool cannot be written.
    fn order(
        item: &Self::Item,
        place: &Place<'_>,
        state: (&mut Self::DataSet, &mut Self::Files),
        rows: &mut SplitRows<Self>,
    ) -> Result<Vec<String>, WriteError>;

    /// Appends a row to a shard of `split`; `files` are the names of its raw files. `None` if the row is damaged.
    fn append(
        row: &Self::Stored,
        split: Split,
        files: &[String],
        writer: &mut ShardWriter<Self::Table>,
    ) -> Option<Result<(), WriteError>>;
}

/// Inputs of the worker stage that all records of a file share.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) format: &'a dyn Format,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) max_seq_len: usize,
    /// Maximum size of a record.
    pub(super) max_record_bytes: usize,
    /// Part of a long source that is kept; `None`: that of its format.
    pub(super) keep: Option<Keep>,
    /// Pattern that records fill.
    pub(super) pattern: Option<&'a PatternTask>,
    /// True if questions must have answers.
    pub(super) labelled: bool,
    /// True if the rows are for training.
    pub(super) trains: bool,
}

/// Result of a record that is not rejected as a whole.
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
    /// Number of items that the filters of the format leave out.
    pub(super) left_out: usize,
    /// Rejected parts of the record: their number, 0 if nothing else of it is kept, and the reason.
    pub(super) rejected: Option<(usize, String)>,
}

/// Reason for which a record has no items.
pub(super) enum PrepareError {
    /// The record is rejected.
    Reject(String),
    /// The run must end.
    Tokenizer(TokenizerError),
}

impl From<RecordError> for PrepareError {
    fn from(error: RecordError) -> Self {
        Self::Reject(error.to_string())
    }
}

impl From<TokenizerError> for PrepareError {
    fn from(error: TokenizerError) -> Self {
        match error {
            TokenizerError::LongWord { .. } | TokenizerError::LongText { .. } => Self::Reject(error.to_string()),
            other => Self::Tokenizer(other),
        }
    }
}

/// Place of an item in the raw data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Index of the file among those of its split.
    pub(super) file: u32,
    /// First line of the record; `None` if the format has no lines.
    pub(super) line: Option<u64>,
    /// Further fields of the record as a JSON object, if they are kept.
    pub(super) extra: Option<&'a str>,
}

/// Counts of the rows of a split. A kind of rows leaves the counts at 0 that do not apply to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RowCounts {
    /// Number of rows.
    pub(super) rows: usize,
    /// Number of tokens of all rows.
    pub(super) tokens: usize,
    /// Number of choices of all rows.
    pub(super) choices: usize,
    /// Number of rows with a single choice.
    pub(super) single_choice: usize,
    /// Number of rows in which several choices have the same tokens.
    pub(super) indistinguishable: usize,
    /// Number of rows whose passage or text is also in the training split.
    pub(super) in_train: usize,
    /// Number of passages that are also in the training split.
    pub(super) passages_in_train: usize,
    /// Number of rows that were dropped because an earlier one has the same text.
    pub(super) dropped: usize,
}

/// Rows of one split.
pub(super) struct SplitRows<R: RowKind> {
    pub(super) split: Split,
    pub(super) counts: RowCounts,
    pub(super) state: R::Rows,
    /// `None` in a dry run.
    pub(super) spool: Option<SpoolWriter>,
}

impl<R: RowKind> SplitRows<R> {
    /// Creates a split without rows; `spool` is `None` in a dry run.
    pub(super) fn new(split: Split, spool: Option<SpoolWriter>) -> Self {
        Self { split, counts: RowCounts::default(), state: R::Rows::default(), spool }
    }

    /// Adds one row. Rows are published in ascending order of `key`, and in the order in which they were added.
    pub(super) fn push(&mut self, key: usize, row: &impl Serialize) -> Result<(), WriteError> {
        self.spool.as_mut().map_or(Ok(()), |spool| spool.push(key, row))
    }
}
