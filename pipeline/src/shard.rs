//! Parquet shards, their atomic publication ([`publish`]) and reading of published data sets.

mod error;
pub mod publish;
pub(crate) mod published;
mod writer;

pub use self::error::WriteError;
pub use self::published::DataSetError;
pub(crate) use self::writer::HashedFile;
pub use self::writer::{ROWS_PER_GROUP, ShardCompression, ShardWriter, file_name, write_file};
