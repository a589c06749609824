//! Parquet shards and their atomic publication ([`publish`]).

mod error;
pub mod publish;
mod writer;

pub use self::error::WriteError;
pub use self::writer::{ROWS_PER_GROUP, ShardCompression, ShardWriter, file_name, write_file};
