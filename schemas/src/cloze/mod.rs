//! Table of cloze questions.

pub mod builder;
mod check;
pub mod encoding;
mod schema;
pub mod text;
mod view;

pub use crate::column::{
    METADATA_SCHEMA_VERSION, METADATA_TOKENIZER_SHA256, ValueError, ViewError, column, dictionary, int64, strings,
};
pub use schema::{CharSpan, TOKEN_COLUMNS, TokenSpan, choice_fields, entity_fields, schema, segment_fields};
pub use view::{ChoiceView, ClozeView};
