//! Columns of the table.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use crate::column::list_field;
use crate::origin::origin_fields;

/// Columns that training and evaluation read: ids and tokens. The others hold text and origins.
pub const TOKEN_COLUMNS: [&str; 12] = [
    "example_id",
    "source_id",
    "question_id",
    "group_id",
    "idx",
    "segments",
    "blank",
    "group_b",
    "choices",
    "label",
    "label_name",
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

/// Fields of an entry of `segments`.
pub fn segment_fields() -> Fields {
    Fields::from(vec![list_field("ids", DataType::Int32), Field::new("truncatable", DataType::Boolean, false)])
}

/// Fields of an entry of `choices`.
pub fn choice_fields() -> Fields {
    Fields::from(vec![
        Field::new("text", DataType::Utf8, false),
        list_field("ids", DataType::Int32),
        Field::new("correct", DataType::Boolean, false),
        Field::new("choice_index", DataType::Int32, false),
        Field::new("name", DataType::Utf8, true),
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
        Field::new("group_id", DataType::Utf8, true),
        Field::new("idx", DataType::Utf8, true),
        Field::new_dictionary("source", DataType::Int32, DataType::Utf8, false),
        raw_file,
        raw_line,
        Field::new("passage", DataType::Utf8, false),
        Field::new("query", DataType::Utf8, false),
        list_field("segments", DataType::Struct(segment_fields())),
        Field::new("blank", DataType::Int32, false),
        Field::new("group_b", DataType::Int32, false),
        list_field("entities", DataType::Struct(entity_fields())),
        list_field("choices", DataType::Struct(choice_fields())),
        Field::new("label", DataType::Int32, true),
        Field::new("label_name", DataType::Utf8, true),
        Field::new("context_tokens", DataType::Int32, false),
        Field::new("choice_tokens", DataType::Int32, false),
        Field::new("num_choices", DataType::Int32, false),
        extra,
    ]))
}
