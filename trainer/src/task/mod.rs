//! Training objectives.

pub mod text_match;
