//! Training by several processes at once.

pub mod failure;
pub mod launcher;
