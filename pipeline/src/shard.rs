//! Parquet shards, their atomic publication ([`publish`]) and reading of published data sets.

mod error;
pub mod publish;
pub mod published;
mod table;
pub(crate) mod upload;
mod writer;

pub use self::error::WriteError;
pub use self::published::DataSetError;
pub use self::table::Table;
pub(crate) use self::writer::HashedFile;
pub use self::writer::{ROWS_PER_GROUP, ShardCompression, ShardWriter, file_name, write_file};
