//! The kinds of rows, one module each.

pub(super) mod cloze;
pub(super) mod document;
mod token_ids;
