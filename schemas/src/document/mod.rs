//! Table of documents, the data of blank infilling. A row is a whole document: it is never cut.

mod builder;
mod check;
mod schema;
mod view;

pub use builder::{DocumentBatchBuilder, DocumentRow};
pub use schema::{TOKEN_COLUMNS, schema};
pub use view::DocumentView;
