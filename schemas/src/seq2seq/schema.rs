//! Columns of the table.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::column::list_field;
use crate::origin::origin_fields;

/// Columns that training and evaluation read: names, tokens, and the texts that predictions are shown and compared with. The others
/// hold further text and origins.
pub const TOKEN_COLUMNS: [&str; 13] = [
    "example_id",
    "source_id",
    "group_id",
    "source",
    "references",
    "prefix_ids",
    "source_ids",
    "suffix_ids",
    "target_ids",
    "keep",
    "focus",
    "context_tokens",
    "target_tokens",
];

/// Schema of a shard.
pub fn schema() -> SchemaRef {
    let [split, source_id, raw_file, raw_line, extra] = origin_fields();
    Arc::new(Schema::new(vec![
        Field::new("example_id", DataType::Utf8, false),
        split,
        source_id,
        Field::new("group_id", DataType::Utf8, true),
        raw_file,
        raw_line,
        Field::new("source", DataType::Utf8, false),
        Field::new("prompt", DataType::Utf8, true),
        Field::new("target", DataType::Utf8, true),
        list_field("references", DataType::Utf8),
        list_field("prefix_ids", DataType::Int32),
        list_field("source_ids", DataType::Int32),
        list_field("suffix_ids", DataType::Int32),
        list_field("target_ids", DataType::Int32),
        Field::new_dictionary("keep", DataType::Int32, DataType::Utf8, false),
        Field::new("focus", DataType::Int32, true),
        Field::new("context_tokens", DataType::Int32, false),
        Field::new("target_tokens", DataType::Int32, false),
        extra,
    ]))
}
