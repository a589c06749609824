//! Zero-copy access to the token ids of a record batch.

use arrow::array::{Array, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;

use super::encoding::Question;
use crate::column::{IdLists, ViewError, column, int32, list, no_nulls, strings, wrong_type};
use crate::vocab::TokenId;

/// Typed access to the rows of a record batch. Ids are slices of the batch's buffers; nothing is copied.
///
/// The batch needs the columns [`TOKEN_COLUMNS`](super::TOKEN_COLUMNS); the text columns are optional.
pub struct ClozeView<'a> {
    example_id: &'a StringArray,
    passage_ids: IdLists<'a>,
    query_left_ids: IdLists<'a>,
    query_right_ids: IdLists<'a>,
    choice_offsets: &'a OffsetBuffer<i32>,
    choice_ids: IdLists<'a>,
    choice_text: Option<&'a StringArray>,
    correct: &'a BooleanArray,
    choice_index: Option<&'a Int32Array>,
    label: &'a Int32Array,
    context_tokens: &'a Int32Array,
    rows: usize,
}

impl<'a> ClozeView<'a> {
    /// Borrows the columns of a batch after checking their types.
    ///
    /// # Errors
    /// [`ViewError`] for the first column that is missing, has the wrong type, or has a null.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self, ViewError> {
        let choice_lists = list("choices", column(batch, "choices")?)?;
        let choices = choice_lists
            .values()
            .as_struct_opt()
            .ok_or_else(|| wrong_type("choices", choice_lists, "list<struct{text, ids, correct}>"))?;
        let ids = choices.column_by_name("ids").ok_or(ViewError::Missing("choices.ids"))?;
        let correct = choices.column_by_name("correct").ok_or(ViewError::Missing("choices.correct"))?;
        let correct_bits = correct.as_boolean_opt().ok_or_else(|| wrong_type("choices.correct", correct, "boolean"))?;
        no_nulls("choices.correct", correct_bits)?;
        Ok(Self {
            example_id: strings("example_id", column(batch, "example_id")?)?,
            passage_ids: IdLists::try_new("passage_ids", column(batch, "passage_ids")?)?,
            query_left_ids: IdLists::try_new("query_left_ids", column(batch, "query_left_ids")?)?,
            query_right_ids: IdLists::try_new("query_right_ids", column(batch, "query_right_ids")?)?,
            choice_offsets: choice_lists.offsets(),
            choice_ids: IdLists::try_new("choices.ids", ids)?,
            choice_text: choices.column_by_name("text").map(|text| strings("choices.text", text)).transpose()?,
            correct: correct_bits,
            choice_index: choices.column_by_name("choice_index").map(|index| int32("choices.choice_index", index)).transpose()?,
            label: int32("label", column(batch, "label")?)?,
            context_tokens: int32("context_tokens", column(batch, "context_tokens")?)?,
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

    /// Tokens of the row that all its choices share.
    pub fn question(&self, row: usize) -> Question<'a> {
        Question {
            passage: self.passage_ids.get(row),
            query_left: self.query_left_ids.get(row),
            query_right: self.query_right_ids.get(row),
        }
    }

    /// Index of the row's first correct choice; `None` in the test split.
    pub fn label(&self, row: usize) -> Option<usize> {
        (!self.label.is_null(row)).then(|| self.label.value(row) as usize)
    }

    /// Value of `context_tokens` in the row: length of the context without truncation.
    pub fn context_tokens(&self, row: usize) -> usize {
        self.context_tokens.value(row) as usize
    }

    /// Choices of the row, in order.
    pub fn choices(&self, row: usize) -> impl ExactSizeIterator<Item = ChoiceView<'a>> + '_ {
        let range = self.choice_offsets[row] as usize..self.choice_offsets[row + 1] as usize;
        range.map(|i| ChoiceView {
            text: self.choice_text.map(|text| text.value(i)),
            ids: self.choice_ids.get(i),
            correct: self.correct.value(i),
            index: self.choice_index.and_then(|index| usize::try_from(index.value(i)).ok()),
        })
    }
}

/// Choice of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChoiceView<'a> {
    /// Text, if the text columns were read.
    pub text: Option<&'a str>,
    /// Tokens, without end of piece.
    pub ids: &'a [TokenId],
    /// True for a correct answer.
    pub correct: bool,
    /// Index in the list of choices of the raw record, if the column was read.
    pub index: Option<usize>,
}
