//! Tokenization of cloze questions as in the published recipe. Both programs use it, so that a question typed by a user is
//! encoded exactly like an ingested one.
//!
//! - [`standard`]: normalization of raw text, with a map of character positions.
//! - [`sentence`]: sentence splitting.
//! - [`question`]: passage, query with a blank, and choices.
//! - [`pair`]: a source and a target, laid out as in the published recipes.
//! - [`tokenize`]: text to token ids, equal to the published tokenizer.

pub mod pair;
pub mod question;
pub mod sentence;
pub mod standard;
pub mod tokenize;
