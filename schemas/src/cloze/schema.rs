//! Columns of the table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use crate::column::item_field;

/// Columns read for training; the others hold text.
pub const TOKEN_COLUMNS: [&str; 7] =
    ["example_id", "passage_ids", "query_left_ids", "query_right_ids", "choices", "label", "context_tokens"];

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

fn list(name: &str, item: DataType) -> Field {
    Field::new(name, DataType::List(Arc::new(item_field(item))), false)
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
        list("ids", DataType::Int32),
        Field::new("correct", DataType::Boolean, false),
        Field::new("choice_index", DataType::Int32, false),
    ])
}

/// Schema of a shard.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("example_id", DataType::Utf8, false),
        Field::new_dictionary("split", DataType::Int32, DataType::Utf8, false),
        Field::new("source_id", DataType::Utf8, true),
        Field::new("passage_id", DataType::Int64, false),
        Field::new("question_id", DataType::Int64, false),
        Field::new_dictionary("source", DataType::Int32, DataType::Utf8, false),
        Field::new_dictionary("raw_file", DataType::Int32, DataType::Utf8, false),
        Field::new("raw_line", DataType::Int64, true),
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
        Field::new("extra", DataType::Utf8, true),
    ]))
}
