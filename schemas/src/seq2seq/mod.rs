//! Table of pairs of a source and a target, the data of sequence-to-sequence training. Nothing is cut: lengths are training settings.

mod builder;
mod check;
pub mod encoding;
#[cfg(test)]
mod encoding_tests;
mod schema;
mod view;

pub use builder::{PairBatchBuilder, PairRow};
pub use schema::{TOKEN_COLUMNS, schema};
pub use view::PairView;
