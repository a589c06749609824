//! Table of multi-token cloze questions.

pub mod builder;
pub mod encoding;
pub mod origin;
mod schema;
pub mod text;
mod view;

pub use crate::column::{METADATA_SCHEMA_VERSION, METADATA_TOKENIZER_SHA256, ViewError, column, dictionary, int64, strings};
pub use schema::{CharSpan, TOKEN_COLUMNS, TokenSpan, choice_fields, entity_fields, schema};
pub use view::{ChoiceView, ClozeView};
