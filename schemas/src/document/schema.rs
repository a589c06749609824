//! Columns of the table.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::column::list_field;
use crate::origin::origin_fields;

/// Columns that training and evaluation read: names and tokens. The others hold text and origins.
pub const TOKEN_COLUMNS: [&str; 5] = ["example_id", "prompt_ids", "ids", "sentence_ends", "num_tokens"];

/// Schema of a shard.
pub fn schema() -> SchemaRef {
    let [split, source_id, raw_file, raw_line, extra] = origin_fields();
    Arc::new(Schema::new(vec![
        Field::new("example_id", DataType::Utf8, false),
        split,
        source_id,
        Field::new_dictionary("source", DataType::Int32, DataType::Utf8, false),
        raw_file,
        raw_line,
        Field::new("prompt", DataType::Utf8, true),
        Field::new("text", DataType::Utf8, false),
        list_field("prompt_ids", DataType::Int32),
        list_field("ids", DataType::Int32),
        list_field("sentence_ends", DataType::Int32),
        Field::new("num_tokens", DataType::Int32, false),
        extra,
    ]))
}
