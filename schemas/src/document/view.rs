//! Zero-copy access to the documents of a record batch.

use arrow_array::types::Int32Type;
use arrow_array::{Array, DictionaryArray, Int32Array, RecordBatch, StringArray};

use crate::column::{IdLists, ViewError, column, dictionary, int32, no_nulls, nullable_strings, strings};
use crate::vocab::TokenId;

/// Typed access to the rows of a record batch. Ids are slices of the batch's buffers; nothing is copied.
///
/// The batch needs the columns [`TOKEN_COLUMNS`](super::TOKEN_COLUMNS); ids of the raw data and text columns are optional.
pub struct DocumentView<'a> {
    example_id: &'a StringArray,
    source_id: Option<&'a StringArray>,
    source: Option<(&'a DictionaryArray<Int32Type>, &'a StringArray)>,
    prompt: Option<&'a StringArray>,
    text: Option<&'a StringArray>,
    pub(super) prompt_ids: IdLists<'a>,
    pub(super) ids: IdLists<'a>,
    sentence_ends: IdLists<'a>,
    num_tokens: &'a Int32Array,
    rows: usize,
}

impl<'a> DocumentView<'a> {
    /// Borrows the columns of a batch after checking their types.
    ///
    /// # Errors
    /// [`ViewError`] for the first column that is missing, has the wrong type, or has a null.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self, ViewError> {
        let optional = |name| column(batch, name).ok();
        let source = optional("source").map(|source| dictionary("source", source)).transpose()?;
        let num_tokens = int32("num_tokens", column(batch, "num_tokens")?)?;
        no_nulls("num_tokens", num_tokens)?;
        Ok(Self {
            example_id: strings("example_id", column(batch, "example_id")?)?,
            source_id: optional("source_id").map(|id| nullable_strings("source_id", id)).transpose()?,
            source: source.map(|keys| strings("source", keys.values().as_ref()).map(|names| (keys, names))).transpose()?,
            prompt: optional("prompt").map(|prompt| nullable_strings("prompt", prompt)).transpose()?,
            text: optional("text").map(|text| strings("text", text)).transpose()?,
            prompt_ids: IdLists::try_new("prompt_ids", column(batch, "prompt_ids")?)?,
            ids: IdLists::try_new("ids", column(batch, "ids")?)?,
            sentence_ends: IdLists::try_new("sentence_ends", column(batch, "sentence_ends")?)?,
            num_tokens,
            rows: batch.num_rows(),
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Value of `example_id` in the row.
    pub fn example_id(&self, row: usize) -> &'a str {
        self.example_id.value(row)
    }

    /// Value of `source_id` in the row: the id in the raw data, if there is one and the column was read.
    pub fn source_id(&self, row: usize) -> Option<&'a str> {
        self.source_id.filter(|column| column.is_valid(row)).map(|column| column.value(row))
    }

    /// Name of the row's corpus, if the column was read.
    pub fn source(&self, row: usize) -> Option<&'a str> {
        self.source.and_then(|(keys, names)| keys.key(row).map(|key| names.value(key)))
    }

    /// Text of the row's prompt, if it has one and the column was read.
    pub fn prompt(&self, row: usize) -> Option<&'a str> {
        self.prompt.filter(|column| column.is_valid(row)).map(|column| column.value(row))
    }

    /// Text of the row, if the column was read.
    pub fn text(&self, row: usize) -> Option<&'a str> {
        self.text.map(|column| column.value(row))
    }

    /// Tokens of the row's prompt; empty without one.
    pub fn prompt_ids(&self, row: usize) -> &'a [TokenId] {
        self.prompt_ids.get(row)
    }

    /// Tokens of the row's text, without `[CLS]` and end of text.
    pub fn ids(&self, row: usize) -> &'a [TokenId] {
        self.ids.get(row)
    }

    /// Exclusive ends of the sentences in [`Self::ids`], ascending. What follows the last end is an unfinished sentence.
    pub fn sentence_ends(&self, row: usize) -> &'a [i32] {
        self.sentence_ends.get(row)
    }

    /// Value of `num_tokens` in the row: tokens of prompt and text.
    pub fn num_tokens(&self, row: usize) -> usize {
        self.num_tokens.value(row) as usize
    }
}
