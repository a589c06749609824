//! Writer of one shard: row groups, compression, checksum.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glm_schemas::SCHEMA_VERSION;
use glm_schemas::column::{METADATA_SCHEMA_VERSION, METADATA_TOKENIZER_SHA256};
use glm_schemas::manifest::{self, Shard, Split, hex};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use super::error::WriteError;
use super::table::Table;

/// Rows per row group: few enough that a reader can shuffle by whole groups.
pub const ROWS_PER_GROUP: usize = 1024;
/// Size at which a batch is written before it has a whole group of rows, so that no column exceeds 32-bit offsets.
const MAX_BATCH_BYTES: usize = 64 << 20;

/// Compression of a shard's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardCompression {
    /// Zstandard at a level from 1 (fast) to 22 (small).
    Zstd(i32),
    /// Snappy: larger files, slightly faster to read.
    Snappy,
    /// No compression.
    None,
}

impl Default for ShardCompression {
    fn default() -> Self {
        Self::Zstd(3)
    }
}

impl fmt::Display for ShardCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::Snappy => f.write_str("snappy"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for ShardCompression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || format!("invalid compression `{text}`: expected zstd, zstd:1 to zstd:22, snappy or none");
        match text {
            "zstd" => Ok(Self::default()),
            "snappy" => Ok(Self::Snappy),
            "none" => Ok(Self::None),
            _ => {
                let level = text.strip_prefix("zstd:").and_then(|level| level.parse().ok()).ok_or_else(invalid)?;
                if (1..=22).contains(&level) { Ok(Self::Zstd(level)) } else { Err(invalid()) }
            }
        }
    }
}

/// Returns the file name of a shard.
pub fn file_name(split: Split, index: usize, count: usize) -> String {
    format!("{split}-{index:05}-of-{count:05}.parquet")
}

/// Writer of one shard of a table. Its rows must be sorted by [`Table::SORTED_BY`], which the metadata records.
pub struct ShardWriter<T> {
    path: PathBuf,
    file: String,
    builder: T,
    writer: ArrowWriter<HashedFile>,
    rows: usize,
    /// Size of the rows in the builder.
    pending_bytes: usize,
    /// Size of the rows in the current row group.
    group_bytes: usize,
}

impl<T: Table> ShardWriter<T> {
    /// Creates the file `file` in `folder`.
    ///
    /// # Errors
    /// [`WriteError`] if it cannot be created.
    pub fn create(
        folder: &Path,
        file: String,
        tokenizer: &manifest::Tokenizer,
        compression: ShardCompression,
    ) -> Result<Self, WriteError> {
        let path = folder.join(&file);
        let target = HashedFile::create(&path).map_err(WriteError::io(&path))?;
        let writer = ArrowWriter::try_new(target, T::TASK.schema(), Some(properties::<T>(tokenizer, compression)?))
            .map_err(WriteError::parquet(&path))?;
        Ok(Self { path, file, builder: T::default(), writer, rows: 0, pending_bytes: 0, group_bytes: 0 })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`WriteError`] if it cannot be written.
    pub fn append(&mut self, row: &T::Row<'_>) -> Result<(), WriteError> {
        self.builder.append_row(row).map_err(WriteError::arrow(&self.path))?;
        self.rows += 1;
        let bytes = T::row_bytes(row);
        self.pending_bytes += bytes;
        self.group_bytes += bytes;
        if T::GROUP_BYTES.is_some_and(|limit| self.group_bytes >= limit) {
            self.flush()?;
            self.group_bytes = 0;
            return self.writer.flush().map_err(WriteError::parquet(&self.path));
        }
        if self.builder.rows() >= ROWS_PER_GROUP || self.pending_bytes >= MAX_BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let batch = self.builder.finish_batch().map_err(WriteError::arrow(&self.path))?;
        self.pending_bytes = 0;
        self.writer.write(&batch).map_err(WriteError::parquet(&self.path))
    }

    /// Writes the remaining rows and the footer and flushes the file to disk.
    ///
    /// # Errors
    /// [`WriteError`] if they cannot be written.
    pub fn finish(mut self) -> Result<Shard, WriteError> {
        self.flush()?;
        let file = self.writer.into_inner().map_err(WriteError::parquet(&self.path))?;
        let (bytes, sha256) = file.finish().map_err(WriteError::io(&self.path))?;
        Ok(Shard { file: self.file, rows: self.rows, bytes, sha256 })
    }
}

fn properties<T: Table>(
    tokenizer: &manifest::Tokenizer,
    compression: ShardCompression,
) -> Result<WriterProperties, WriteError> {
    let compression = match compression {
        ShardCompression::Zstd(level) => {
            Compression::ZSTD(ZstdLevel::try_new(level).map_err(WriteError::parquet(Path::new("")))?)
        }
        ShardCompression::Snappy => Compression::SNAPPY,
        ShardCompression::None => Compression::UNCOMPRESSED,
    };
    let metadata = vec![
        KeyValue::new(METADATA_SCHEMA_VERSION.to_owned(), SCHEMA_VERSION.to_string()),
        KeyValue::new(METADATA_TOKENIZER_SHA256.to_owned(), tokenizer.sha256.clone()),
    ];
    let invalid = WriteError::parquet(Path::new(""));
    let schema = ArrowSchemaConverter::new().convert(&T::TASK.schema()).map_err(invalid)?;
    let sorted_by = schema.columns().iter().position(|column| Some(column.path().string().as_str()) == T::SORTED_BY);
    let sorted_by =
        sorted_by.map(|index| vec![SortingColumn { column_idx: index as i32, descending: false, nulls_first: false }]);
    Ok(WriterProperties::builder()
        .set_sorting_columns(sorted_by)
        .set_compression(compression)
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(ColumnPath::from("source"), true)
        .set_column_dictionary_enabled(ColumnPath::from("split"), true)
        .set_column_dictionary_enabled(ColumnPath::from("raw_file"), true)
        .set_key_value_metadata(Some(metadata))
        .build())
}

/// A file whose checksum is computed while it is written.
pub(crate) struct HashedFile {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl HashedFile {
    /// Creates the file, which must not exist.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create_new(path)?, hash: Sha256::new(), bytes: 0 })
    }

    /// Flushes the file to disk; returns its size and sha256.
    pub(crate) fn finish(mut self) -> io::Result<(u64, String)> {
        self.file.flush()?;
        self.file.sync_all()?;
        Ok((self.bytes, hex(&self.hash.finalize())))
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a file and flushes it to disk.
///
/// # Errors
/// [`WriteError`] if it cannot be written.
pub fn write_file(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(WriteError::io(path))
}

#[cfg(test)]
mod tests {
    use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow, EntityRow};
    use glm_schemas::cloze::encoding::Question;
    use glm_schemas::cloze::{CharSpan, ClozeView, TokenSpan};
    use glm_schemas::origin::Origin;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    #[test]
    fn a_shard_satisfies_the_contract() {
        let dir = tempfile::tempdir().expect("folder");
        let tokenizer = manifest::Tokenizer { name: "t".into(), sha256: "ab".into(), vocab_size: 30 };
        let mut writer = ShardWriter::<ClozeBatchBuilder>::create(
            dir.path(),
            file_name(Split::Val, 0, 1),
            &tokenizer,
            ShardCompression::default(),
        )
        .expect("create");
        let entities =
            [EntityRow { text: "Bo", chars: CharSpan { start: 0, end: 2 }, tokens: Some(TokenSpan { start: 0, end: 1 }) }];
        let choices = [ChoiceRow { text: "Bo", ids: &[5], correct: true, index: 0, name: None }];
        for id in 0..ROWS_PER_GROUP as i64 + 3 {
            let row = ClozeRow {
                example_id: &format!("dev-p{id}-q0"),
                origin: Origin::NONE,
                passage_id: id,
                question_id: 0,
                group_id: None,
                idx: None,
                source: "own",
                passage: "Bo",
                query: "@placeholder",
                tokens: &Question::about(&[5], &[], &[7]),
                entities: &entities,
                choices: &choices,
                labelled: true,
                label_name: None,
                end_of_piece: true,
            };
            writer.append(&row).expect("append");
        }
        let shard = writer.finish().expect("finish");
        assert_eq!((shard.file.as_str(), shard.rows), ("val-00000-of-00001.parquet", ROWS_PER_GROUP + 3));
        let bytes = std::fs::read(dir.path().join(&shard.file)).expect("read");
        assert_eq!((shard.bytes, shard.sha256.as_str()), (bytes.len() as u64, hex(&Sha256::digest(&bytes)).as_str()));

        let file = File::open(dir.path().join(&shard.file)).expect("open");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet");
        let metadata = reader.metadata().clone();
        assert_eq!(metadata.num_row_groups(), 2);
        assert_eq!(metadata.row_group(0).num_rows(), ROWS_PER_GROUP as i64);
        for group in metadata.row_groups() {
            let [sorted_by] = group.sorting_columns().expect("sorted").as_slice() else { panic!("one column") };
            assert_eq!(group.column(sorted_by.column_idx as usize).column_path().string(), "num_choices");
            assert!(!sorted_by.descending);
        }
        let pairs = metadata.file_metadata().key_value_metadata().expect("metadata");
        for (key, value) in [(METADATA_SCHEMA_VERSION, SCHEMA_VERSION.to_string().as_str()), (METADATA_TOKENIZER_SHA256, "ab")]
        {
            assert!(pairs.iter().any(|pair| pair.key == key && pair.value.as_deref() == Some(value)), "{key}");
        }
        for column in metadata.row_group(0).columns() {
            assert!(column.statistics().is_some(), "{}", column.column_path());
            assert!(column.column_index_offset().is_some(), "{}", column.column_path());
            assert!(matches!(column.compression(), Compression::ZSTD(_)));
        }
        let mut rows = 0;
        for batch in reader.build().expect("reader") {
            let batch = batch.expect("batch");
            rows += ClozeView::try_new(&batch).expect("contract").len();
        }
        assert_eq!(rows, shard.rows);
    }
}
