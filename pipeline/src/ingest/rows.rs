//! The kinds of rows, one module each.

pub(super) mod cloze;
pub(super) mod document;
pub(super) mod example;
pub(super) mod pair;
mod token_ids;
mod train_texts;
