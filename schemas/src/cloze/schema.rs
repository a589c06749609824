//! Columns of the table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use crate::column::list_field;
use crate::origin::origin_fields;

/// Columns that training and evaluation read: ids and tokens. The others hold text and origins.
pub const TOKEN_COLUMNS: [&str; 9] = [
    "example_id",
    "source_id",
    "question_id",
    "passage_ids",
    "query_left_ids",
    "query_right_ids",
    "choices",
    "label",
    "context_tokens",
];

/// Half-open range of Unicode code points of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CharSpan {
    /// First code point.
    pub start: usize,
    /// End, exclusive.
    pub end: usize,
}

/// Half-open range of tokens of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenSpan {
    /// First token.
    pub start: usize,
    /// End, exclusive.
    pub end: usize,
}

/// Fields of an entry of `entities`.
pub fn entity_fields() -> Fields {
    Fields::from(vec![
        Field::new("text", DataType::Utf8, false),
        Field::new("char_start", DataType::Int32, false),
        Field::new("char_end", DataType::Int32, false),
        Field::new("token_start", DataType::Int32, false),
        Field::new("token_end", DataType::Int32, false),
    ])
}

/// Fields of an entry of `choices`.
pub fn choice_fields() -> Fields {
    Fields::from(vec![
        Field::new("text", DataType::Utf8, false),
        list_field("ids", DataType::Int32),
        Field::new("correct", DataType::Boolean, false),
        Field::new("choice_index", DataType::Int32, false),
    ])
}

/// Schema of a shard.
pub fn schema() -> SchemaRef {
    let [split, source_id, raw_file, raw_line, extra] = origin_fields();
    Arc::new(Schema::new(vec![
        Field::new("example_id", DataType::Utf8, false),
        split,
        source_id,
        Field::new("passage_id", DataType::Int64, false),
        Field::new("question_id", DataType::Int64, false),
        Field::new_dictionary("source", DataType::Int32, DataType::Utf8, false),
        raw_file,
        raw_line,
        Field::new("passage", DataType::Utf8, false),
        Field::new("query", DataType::Utf8, false),
        list_field("passage_ids", DataType::Int32),
        list_field("query_left_ids", DataType::Int32),
        list_field("query_right_ids", DataType::Int32),
        list_field("entities", DataType::Struct(entity_fields())),
        list_field("choices", DataType::Struct(choice_fields())),
        Field::new("label", DataType::Int32, true),
        Field::new("context_tokens", DataType::Int32, false),
        Field::new("choice_tokens", DataType::Int32, false),
        Field::new("num_choices", DataType::Int32, false),
        extra,
    ]))
}
