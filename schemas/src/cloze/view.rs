//! Zero-copy access to the token ids of a record batch.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;

use super::encoding::{Question, Segment};
use crate::column::{IdLists, ViewError, column, int32, int64, list, no_nulls, nullable_strings, strings, wrong_type};
use crate::vocab::TokenId;

/// Typed access to the rows of a record batch. Ids are slices of the batch's buffers; nothing is copied.
///
/// The batch needs the columns [`TOKEN_COLUMNS`](super::TOKEN_COLUMNS); ids of the raw data and text columns are optional.
pub struct ClozeView<'a> {
    example_id: &'a StringArray,
    source_id: Option<&'a StringArray>,
    question_id: Option<&'a Int64Array>,
    group_id: Option<&'a StringArray>,
    idx: Option<&'a StringArray>,
    segment_offsets: &'a OffsetBuffer<i32>,
    pub(super) segment_ids: IdLists<'a>,
    truncatable: &'a BooleanArray,
    pub(super) blank: &'a Int32Array,
    pub(super) group_b: &'a Int32Array,
    choice_offsets: &'a OffsetBuffer<i32>,
    pub(super) choice_ids: IdLists<'a>,
    choice_text: Option<&'a StringArray>,
    pub(super) correct: &'a BooleanArray,
    choice_index: Option<&'a Int32Array>,
    choice_name: Option<&'a StringArray>,
    label: &'a Int32Array,
    label_name: Option<&'a StringArray>,
    context_tokens: &'a Int32Array,
    rows: usize,
}

impl<'a> ClozeView<'a> {
    /// Borrows the columns of a batch after checking their types.
    ///
    /// # Errors
    /// [`ViewError`] for the first column that is missing, has the wrong type, or has a null.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self, ViewError> {
        let segment_lists = list("segments", column(batch, "segments")?)?;
        let segments = segment_lists
            .values()
            .as_struct_opt()
            .ok_or_else(|| wrong_type("segments", segment_lists, "list<struct{ids, truncatable}>"))?;
        let segment_ids = segments.column_by_name("ids").ok_or(ViewError::Missing("segments.ids"))?;
        let choice_lists = list("choices", column(batch, "choices")?)?;
        let choices = choice_lists
            .values()
            .as_struct_opt()
            .ok_or_else(|| wrong_type("choices", choice_lists, "list<struct{text, ids, correct}>"))?;
        let ids = choices.column_by_name("ids").ok_or(ViewError::Missing("choices.ids"))?;
        let optional = |name| column(batch, name).ok().map(|found| nullable_strings(name, found)).transpose();
        Ok(Self {
            example_id: strings("example_id", column(batch, "example_id")?)?,
            source_id: optional("source_id")?,
            question_id: column(batch, "question_id").ok().map(|id| int64("question_id", id)).transpose()?,
            group_id: optional("group_id")?,
            idx: optional("idx")?,
            segment_offsets: segment_lists.offsets(),
            segment_ids: IdLists::try_new("segments.ids", segment_ids)?,
            truncatable: bits(segments, "truncatable", "segments.truncatable")?,
            blank: numbers(batch, "blank")?,
            group_b: numbers(batch, "group_b")?,
            choice_offsets: choice_lists.offsets(),
            choice_ids: IdLists::try_new("choices.ids", ids)?,
            choice_text: choices.column_by_name("text").map(|text| strings("choices.text", text)).transpose()?,
            correct: bits(choices, "correct", "choices.correct")?,
            choice_index: choices
                .column_by_name("choice_index")
                .map(|index| int32("choices.choice_index", index))
                .transpose()?,
            choice_name: choices.column_by_name("name").map(|name| nullable_strings("choices.name", name)).transpose()?,
            label_name: optional("label_name")?,
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

    /// Value of `source_id` in the row: the id in the raw data, if there is one and the column was read.
    pub fn source_id(&self, row: usize) -> Option<&'a str> {
        text(self.source_id, row)
    }

    /// Value of `question_id` in the row, if the column was read.
    pub fn question_id(&self, row: usize) -> Option<i64> {
        self.question_id.map(|column| column.value(row))
    }

    /// Value of `group_id` in the row: the name of the questions that are scored together, if there is one.
    pub fn group_id(&self, row: usize) -> Option<&'a str> {
        text(self.group_id, row)
    }

    /// Value of `idx` in the row: the index of the raw record, in JSON, if there is one.
    pub fn idx(&self, row: usize) -> Option<&'a str> {
        text(self.idx, row)
    }

    /// Value of `label_name` in the row: the right label as the raw data have it, if choices have names and the label is known.
    pub fn label_name(&self, row: usize) -> Option<&'a str> {
        text(self.label_name, row)
    }

    /// Tokens of the row that all its choices share.
    pub fn question(&self, row: usize) -> Question<'a> {
        let segment = |i| Segment { ids: self.segment_ids.get(i), truncatable: self.truncatable.value(i) };
        let number = |column: &Int32Array| usize::try_from(column.value(row)).unwrap_or(usize::MAX);
        let segments: Vec<_> = self.segment_range(row).map(segment).collect();
        let last = segments.len();
        Question { segments, blank: number(self.blank).min(last), group_b: number(self.group_b).min(last) }
    }

    /// Indices of the row's segments among those of all rows.
    pub(super) fn segment_range(&self, row: usize) -> Range<usize> {
        self.segment_offsets[row] as usize..self.segment_offsets[row + 1] as usize
    }

    /// Index of the row's first correct choice; `None` in the test split.
    pub fn label(&self, row: usize) -> Option<usize> {
        (!self.label.is_null(row)).then(|| self.label.value(row) as usize)
    }

    /// Value of `context_tokens` in the row: length of the context without truncation.
    pub fn context_tokens(&self, row: usize) -> usize {
        self.context_tokens.value(row) as usize
    }

    /// Indices of the row's choices among those of all rows.
    pub(super) fn choice_range(&self, row: usize) -> Range<usize> {
        self.choice_offsets[row] as usize..self.choice_offsets[row + 1] as usize
    }

    /// Choices of the row, in order.
    pub fn choices(&self, row: usize) -> impl ExactSizeIterator<Item = ChoiceView<'a>> + '_ {
        self.choice_range(row).map(|i| ChoiceView {
            text: self.choice_text.map(|text| text.value(i)),
            ids: self.choice_ids.get(i),
            correct: self.correct.value(i),
            index: self.choice_index.and_then(|index| usize::try_from(index.value(i)).ok()),
            name: text(self.choice_name, i),
        })
    }
}

fn text(column: Option<&StringArray>, row: usize) -> Option<&str> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

fn numbers<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a Int32Array, ViewError> {
    let found = int32(name, column(batch, name)?)?;
    no_nulls(name, found)?;
    Ok(found)
}

/// Field of a struct, of truth values.
fn bits<'a>(of: &'a StructArray, field: &str, name: &'static str) -> Result<&'a BooleanArray, ViewError> {
    let found = of.column_by_name(field).ok_or(ViewError::Missing(name))?;
    let bits = found.as_boolean_opt().ok_or_else(|| wrong_type(name, found, "boolean"))?;
    no_nulls(name, bits)?;
    Ok(bits)
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
    /// Label that it stands for, if it has one.
    pub name: Option<&'a str>,
}
