//! Raw text to the tokens of a question, as the published recipe has it; shared by all programs that tokenize, so that a question
//! which somebody types is encoded as one that was ingested.
//!
//! - [`standard`]: the standard form of raw text, and where its characters went.
//! - [`sentence`]: cuts a text into sentences.
//! - [`question`]: passage, query with a blank, and choices.
//! - [`tokenize`]: text to token ids, equal to the published tokenizer.

pub mod question;
pub mod sentence;
pub mod standard;
pub mod tokenize;
