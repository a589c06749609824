//! The columns of a shard, and typed access to them.

use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BooleanArray, DictionaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef};
use thiserror::Error;

use crate::encoding::Question;
use crate::vocab::TokenId;

/// Parquet key-value metadata: the contract's version, see [`crate::SCHEMA_VERSION`].
pub const METADATA_SCHEMA_VERSION: &str = "glm.schema_version";
/// Parquet key-value metadata: sha256 of the tokenizer file that the ids come from.
pub const METADATA_TOKENIZER_SHA256: &str = "glm.tokenizer_sha256";

/// The columns that training reads; the others hold text for people.
pub const TOKEN_COLUMNS: [&str; 7] =
    ["example_id", "passage_ids", "query_left_ids", "query_right_ids", "choices", "label", "context_tokens"];

/// A half-open range of Unicode code points of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CharSpan {
    /// First code point.
    pub start: usize,
    /// One behind the last code point.
    pub end: usize,
}

/// A half-open range of tokens of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenSpan {
    /// First token.
    pub start: usize,
    /// One behind the last token.
    pub end: usize,
}

fn list(name: &str, item: DataType) -> Field {
    Field::new(name, DataType::List(Arc::new(item_field(item))), false)
}

/// The field of a list's items. "element" is the name that the Parquet format asks for.
pub(crate) fn item_field(item: DataType) -> Field {
    Field::new("element", item, false)
}

/// Fields of one entry of `entities`.
pub fn entity_fields() -> Fields {
    Fields::from(vec![
        Field::new("text", DataType::Utf8, false),
        Field::new("char_start", DataType::Int32, false),
        Field::new("char_end", DataType::Int32, false),
        Field::new("token_start", DataType::Int32, false),
        Field::new("token_end", DataType::Int32, false),
    ])
}

/// Fields of one entry of `choices`.
pub fn choice_fields() -> Fields {
    Fields::from(vec![
        Field::new("text", DataType::Utf8, false),
        list("ids", DataType::Int32),
        Field::new("correct", DataType::Boolean, false),
    ])
}

/// The schema of a shard.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("example_id", DataType::Utf8, false),
        Field::new("passage_id", DataType::Int64, false),
        Field::new("question_id", DataType::Int64, false),
        Field::new_dictionary("source", DataType::Int32, DataType::Utf8, false),
        Field::new("passage", DataType::Utf8, false),
        Field::new("query", DataType::Utf8, false),
        list("passage_ids", DataType::Int32),
        list("query_left_ids", DataType::Int32),
        list("query_right_ids", DataType::Int32),
        list("entities", DataType::Struct(entity_fields())),
        list("choices", DataType::Struct(choice_fields())),
        Field::new("label", DataType::Int32, true),
        Field::new("context_tokens", DataType::Int32, false),
        Field::new("choice_tokens", DataType::Int32, false),
        Field::new("num_choices", DataType::Int32, false),
    ]))
}

/// A record batch that does not keep the contract.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ViewError {
    /// A column is not there.
    #[error("column `{0}` is missing")]
    Missing(&'static str),
    /// A column has another type than the contract says.
    #[error("column `{column}` has type {found}, expected {expected}")]
    Type {
        /// The column.
        column: &'static str,
        /// Its Arrow type.
        found: String,
        /// The type of the contract.
        expected: &'static str,
    },
    /// A value is null where the contract allows none.
    #[error("column `{0}` holds a null")]
    Null(&'static str),
}

/// A list column of token ids: the offsets of the rows and the values of all of them.
struct IdLists<'a> {
    offsets: &'a OffsetBuffer<i32>,
    values: &'a [TokenId],
}

impl<'a> IdLists<'a> {
    fn try_new(column: &'static str, array: &'a dyn Array) -> Result<Self, ViewError> {
        let lists = as_list(column, array)?;
        let values = lists.values().as_primitive_opt::<Int32Type>().ok_or_else(|| wrong_type(column, array, "list<int32>"))?;
        no_nulls(column, values)?;
        Ok(Self { offsets: lists.offsets(), values: values.values() })
    }

    fn get(&self, row: usize) -> &'a [TokenId] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// Typed access to the rows of a record batch. Nothing is copied: ids are slices of the batch's own buffers.
///
/// The batch needs the columns [`TOKEN_COLUMNS`]; the text columns may have been left out when it was read.
pub struct ClozeView<'a> {
    example_id: &'a StringArray,
    passage_ids: IdLists<'a>,
    query_left_ids: IdLists<'a>,
    query_right_ids: IdLists<'a>,
    choice_offsets: &'a OffsetBuffer<i32>,
    choice_ids: IdLists<'a>,
    choice_text: Option<&'a StringArray>,
    correct: &'a BooleanArray,
    label: &'a Int32Array,
    context_tokens: &'a Int32Array,
    rows: usize,
}

impl<'a> ClozeView<'a> {
    /// Checks the columns' types and borrows them.
    ///
    /// # Errors
    /// [`ViewError`] names the column that is missing, has another type, or holds a null.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self, ViewError> {
        let choice_lists = as_list("choices", column(batch, "choices")?)?;
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
            label: int32("label", column(batch, "label")?)?,
            context_tokens: int32("context_tokens", column(batch, "context_tokens")?)?,
            rows: batch.num_rows(),
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The row's `example_id`.
    pub fn example_id(&self, row: usize) -> &'a str {
        self.example_id.value(row)
    }

    /// The row's tokens that all choices share.
    pub fn question(&self, row: usize) -> Question<'a> {
        Question {
            passage: self.passage_ids.get(row),
            query_left: self.query_left_ids.get(row),
            query_right: self.query_right_ids.get(row),
        }
    }

    /// Index of the row's first correct choice; none in the test split.
    pub fn label(&self, row: usize) -> Option<usize> {
        (!self.label.is_null(row)).then(|| self.label.value(row) as usize)
    }

    /// The row's `context_tokens`: length of its context when nothing is truncated.
    pub fn context_tokens(&self, row: usize) -> usize {
        self.context_tokens.value(row) as usize
    }

    /// The row's choices, in order.
    pub fn choices(&self, row: usize) -> impl ExactSizeIterator<Item = ChoiceView<'a>> + '_ {
        let range = self.choice_offsets[row] as usize..self.choice_offsets[row + 1] as usize;
        range.map(|i| ChoiceView {
            text: self.choice_text.map(|text| text.value(i)),
            ids: self.choice_ids.get(i),
            correct: self.correct.value(i),
        })
    }
}

/// One choice of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChoiceView<'a> {
    /// Its text, where the text columns were read.
    pub text: Option<&'a str>,
    /// Its tokens, without end of piece.
    pub ids: &'a [TokenId],
    /// Whether it is a right answer.
    pub correct: bool,
}

/// A column of a batch by name.
///
/// # Errors
/// [`ViewError::Missing`].
pub fn column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a dyn Array, ViewError> {
    batch.column_by_name(name).map(AsRef::as_ref).ok_or(ViewError::Missing(name))
}

/// A column of strings.
///
/// # Errors
/// [`ViewError`] where it has another type or a null.
pub fn strings<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a StringArray, ViewError> {
    let typed = array.as_string_opt::<i32>().ok_or_else(|| wrong_type(name, array, "utf8"))?;
    no_nulls(name, typed)?;
    Ok(typed)
}

/// A column of 64-bit integers.
///
/// # Errors
/// [`ViewError`] where it has another type or a null.
pub fn int64<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a Int64Array, ViewError> {
    let typed = array.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(name, array, "int64"))?;
    no_nulls(name, typed)?;
    Ok(typed)
}

/// A dictionary column of strings.
///
/// # Errors
/// [`ViewError`] where it has another type.
pub fn dictionary<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a DictionaryArray<Int32Type>, ViewError> {
    array.as_dictionary_opt::<Int32Type>().ok_or_else(|| wrong_type(name, array, "dictionary<int32, utf8>"))
}

fn int32<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a Int32Array, ViewError> {
    array.as_primitive_opt::<Int32Type>().ok_or_else(|| wrong_type(name, array, "int32"))
}

fn as_list<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a ListArray, ViewError> {
    let typed = array.as_list_opt::<i32>().ok_or_else(|| wrong_type(name, array, "list"))?;
    no_nulls(name, typed)?;
    Ok(typed)
}

fn no_nulls(name: &'static str, array: &dyn Array) -> Result<(), ViewError> {
    if array.null_count() > 0 { Err(ViewError::Null(name)) } else { Ok(()) }
}

fn wrong_type(column: &'static str, array: &dyn Array, expected: &'static str) -> ViewError {
    ViewError::Type { column, found: array.data_type().to_string(), expected }
}
