//! Memory-mapped shards, decoded one row group at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{RecordBatch, RecordBatchReader, StringArray};
use bytes::Bytes;
use glm_remote::{Location, RemoteDataSet};
use glm_schemas::cloze::ViewError;
use glm_schemas::manifest::{DATA_FOLDER, MANIFEST_FILE, Manifest, SHARDS_FOLDER, Split};
use glm_support::files::progress;
use memmap2::Mmap;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::DataError;
use super::verify::{Listed, Verification, Verify};
use crate::task::Task;

/// A data set: its folder and its validated manifest.
#[derive(Debug)]
pub struct DataSet {
    folder: PathBuf,
    manifest: Manifest,
    /// Place in an object store from which shards come when a split is opened, and its URL.
    remote: Option<(RemoteDataSet, Location)>,
}

impl DataSet {
    /// Opens the data set in `path`: the folder given to `glm-prep ingest`, its subfolder `shards`, or that of the Parquet files. It can
    /// be the URL of one in an object store.
    ///
    /// # Errors
    /// [`DataError`] if there is no data set, or its manifest is invalid.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let Some(location) = Location::of_path(path)? else { return Self::open_local(path) };
        let remote = RemoteDataSet::open(&location)?;
        let local = Self::open_local(remote.folder())?;
        Ok(Self { remote: Some((remote, location)), ..local })
    }

    fn open_local(path: &Path) -> Result<Self, DataError> {
        let above = path.parent().filter(|_| path.file_name().is_some_and(|name| name == DATA_FOLDER));
        let candidates = [Some(path.join(SHARDS_FOLDER)), Some(path.to_owned()), above.map(Path::to_owned)];
        let Some(folder) = candidates.into_iter().flatten().find(|folder| folder.join(MANIFEST_FILE).is_file()) else {
            return Err(DataError::NotADataSet { path: path.to_owned() });
        };
        let file = folder.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&file).map_err(|source| DataError::Io { path: file.clone(), source })?;
        let manifest =
            Manifest::from_json(&text).map_err(|source| DataError::Manifest { source: source.at(&file), path: file })?;
        Ok(Self { folder, manifest, remote: None })
    }

    /// Folder of the manifest, or the URL of a data set in an object store.
    pub fn place(&self) -> PathBuf {
        self.remote.as_ref().map_or_else(|| self.folder.clone(), |(_, location)| location.to_string().into())
    }

    /// Manifest of the data set.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Maps the shards of a split. Their sizes are compared with the manifest.
    ///
    /// # Errors
    /// [`DataError`] if the split is missing or empty, or a shard differs from the manifest.
    pub fn split(&self, split: Split) -> Result<SplitData, DataError> {
        self.open_split(split).map(|(data, _)| data)
    }

    /// As [`Self::split`], and starts to compare the shards with their checksums on a background thread. [`SplitData::decode`] fails if
    /// that has found a damaged shard, and [`SplitData::wait_verified`] waits for it.
    ///
    /// # Errors
    /// As [`Self::split`].
    pub fn split_verified(&self, split: Split, verify: Verify) -> Result<SplitData, DataError> {
        let (mut data, shards) = self.open_split(split)?;
        if verify != Verify::Never {
            data.verification = Some(Verification::start(&self.folder, shards, verify)?);
        }
        Ok(data)
    }

    fn open_split(&self, split: Split) -> Result<(SplitData, Vec<Listed>), DataError> {
        let Some(content) = self.manifest.splits.get(&split) else {
            let found = self.manifest.splits.keys().copied().collect();
            return Err(DataError::NoSplit { path: self.place(), split, found });
        };
        if let Some((remote, _)) = &self.remote {
            remote.fetch(&[split], progress::of(!tracing::enabled!(tracing::Level::INFO)).as_ref())?;
        }
        let vocab_size = self.manifest.tokenizer.vocab_size;
        let (shards, groups) = (Vec::new(), Vec::new());
        let mut data = SplitData { split, shards, groups, rows: 0, row_samples: None, vocab_size, verification: None };
        let mut files = Vec::new();
        for listed in &content.shards {
            let (shard, file) = Shard::open(listed.path(&self.folder), listed.bytes)?;
            files.push(Listed { path: shard.path.clone(), file, sha256: listed.sha256.clone() });
            let groups: Vec<usize> = shard.metadata.metadata().row_groups().iter().map(|g| g.num_rows() as usize).collect();
            let found = groups.iter().sum();
            if found != listed.rows {
                return Err(DataError::Rows { path: shard.path, found, expected: listed.rows });
            }
            for (group, rows) in groups.into_iter().enumerate() {
                data.groups.push(RowGroup { shard: data.shards.len(), group, first_row: data.rows, rows });
                data.rows += rows;
            }
            data.shards.push(shard);
        }
        if data.rows == 0 {
            return Err(DataError::EmptySplit { path: self.place(), split });
        }
        Ok((data, files))
    }
}

/// One mapped shard.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
}

impl Shard {
    fn open(path: PathBuf, expected: u64) -> Result<(Self, File), DataError> {
        let io = |source| DataError::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(io)?;
        let found = file.metadata().map_err(io)?.len();
        if found != expected {
            return Err(DataError::Size { path, found, expected });
        }
        // SAFETY: the file is not modified while it is mapped: `glm-prep` never writes to a published shard but replaces the
        // whole folder by a rename, after which this mapping still refers to the old file. The mapping is read-only.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let bytes = Bytes::from_owner(map);
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).map_err(|source| DataError::Parquet {
            path: path.clone(),
            group: 0,
            source,
        })?;
        Ok((Self { path, bytes, metadata }, file))
    }

    fn decode(&self, group: usize, rows: usize, columns: &[&str]) -> Result<RecordBatch, ParquetError> {
        let schema = self.metadata.metadata().file_metadata().schema_descr();
        let columns = ProjectionMask::columns(schema, columns.iter().copied());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone())
            .with_projection(columns)
            .with_row_groups(vec![group])
            .with_batch_size(rows)
            .build()?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        match <[RecordBatch; 1]>::try_from(batches) {
            Ok([batch]) => Ok(batch),
            Err(batches) => Ok(arrow_select::concat::concat_batches(&schema, &batches)?),
        }
    }
}

/// Location and size of a row group.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowGroup {
    shard: usize,
    group: usize,
    first_row: usize,
    rows: usize,
}

/// The mapped shards of one split.
#[derive(Debug)]
pub struct SplitData {
    split: Split,
    shards: Vec<Shard>,
    groups: Vec<RowGroup>,
    rows: usize,
    /// Number of samples of each row; `None` if it is 1 for all.
    row_samples: Option<Arc<[u32]>>,
    /// Number of tokens of the vocabulary.
    vocab_size: usize,
    /// Comparison of the shards with their checksums, if they are verified.
    verification: Option<Verification>,
}

impl SplitData {
    /// The split that the shards belong to.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Asks the task how many samples of an epoch each row is. Without this call, a row is one sample.
    ///
    /// # Errors
    /// [`DataError`] with the shard and the row group.
    pub fn counted(mut self, task: &dyn Task) -> Result<Self, DataError> {
        let columns = task.size_columns();
        if columns.is_empty() {
            return Ok(self);
        }
        let mut samples = Vec::with_capacity(self.rows);
        for &group in &self.groups {
            let rows = self.columns(group, columns)?;
            samples.extend(task.samples(&rows).map_err(|source| self.bad_columns(group, source))?);
        }
        self.row_samples = Some(samples.into());
        Ok(self)
    }

    /// Number of samples of an epoch.
    pub fn samples(&self) -> usize {
        self.row_samples.as_ref().map_or(self.rows, |samples| samples.iter().map(|&samples| samples as usize).sum())
    }

    /// Number of samples of each row; `None` if it is 1 for all.
    pub fn row_samples(&self) -> Option<Arc<[u32]>> {
        self.row_samples.clone()
    }

    /// Number of rows in each row group, in order.
    pub fn group_rows(&self) -> Vec<usize> {
        self.groups.iter().map(|group| group.rows).collect()
    }

    /// Waits until the shards are verified, if they are.
    ///
    /// # Errors
    /// [`DataError`] with the shard that is damaged.
    pub fn wait_verified(&self) -> Result<(), DataError> {
        self.verification.as_ref().map_or(Ok(()), Verification::wait)
    }

    /// Decodes the columns of row group `index` that a task reads, and checks their values.
    ///
    /// # Errors
    /// [`DataError`] with the shard, the row group and the row.
    ///
    /// # Panics
    /// If `index` is not below the number of row groups.
    pub fn decode(&self, index: usize, task: &dyn Task) -> Result<DecodedGroup, DataError> {
        self.verification.as_ref().map_or(Ok(()), Verification::check)?;
        let RowGroup { shard, group, first_row, .. } = self.groups[index];
        let path = &self.shards[shard].path;
        let decoded = DecodedGroup::try_new(task, path, self.columns(self.groups[index], task.columns())?, first_row)?;
        let values = task.check_values(decoded.columns(), self.vocab_size);
        values.map_err(|fault| DataError::Values { path: path.clone(), group, fault })?;
        Ok(decoded)
    }

    /// Returns the `example_id` of each of the given rows of the split. Reads that column of every row group with such a row,
    /// so it is meant for a few rows in messages.
    ///
    /// # Errors
    /// [`DataError`] with the shard and the row group.
    ///
    /// # Panics
    /// If a row is out of bounds.
    pub fn example_ids(&self, rows: &[usize]) -> Result<Vec<String>, DataError> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&place| rows[place]);
        let mut ids = vec![String::new(); rows.len()];
        for places in order.chunk_by(|&a, &b| self.group_of(rows[a]) == self.group_of(rows[b])) {
            let group = self.groups[self.group_of(rows[places[0]])];
            let batch = self.columns(group, &["example_id"])?;
            let Some(column) = batch.column_by_name("example_id").and_then(|column| column.as_string_opt::<i32>()) else {
                return Err(self.bad_columns(group, ViewError::Missing("example_id")));
            };
            for &place in places {
                ids[place] = column.value(rows[place] - group.first_row).to_owned();
            }
        }
        Ok(ids)
    }

    /// Decodes columns of text of row group `index`, which no task reads.
    ///
    /// # Errors
    /// [`DataError`] with the shard and the row group.
    ///
    /// # Panics
    /// If `index` is not below the number of row groups.
    pub fn texts<const N: usize>(&self, index: usize, names: [&'static str; N]) -> Result<[StringArray; N], DataError> {
        self.verification.as_ref().map_or(Ok(()), Verification::check)?;
        let group = self.groups[index];
        let batch = self.columns(group, &names)?;
        let mut texts = Vec::with_capacity(N);
        for name in names {
            let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            texts.push(column.ok_or_else(|| self.bad_columns(group, ViewError::Missing(name)))?.clone());
        }
        <[StringArray; N]>::try_from(texts).map_err(|_| self.bad_columns(group, ViewError::Missing("text")))
    }

    /// The row groups of all shards, in order.
    pub(super) fn groups(&self) -> &[RowGroup] {
        &self.groups
    }

    /// Error for a row group whose columns violate the data contract.
    pub(super) fn bad_columns(&self, group: RowGroup, source: ViewError) -> DataError {
        DataError::Columns { path: self.shards[group.shard].path.clone(), source }
    }

    /// Index of the row group that holds a row of the split.
    fn group_of(&self, row: usize) -> usize {
        self.groups.partition_point(|group| group.first_row <= row) - 1
    }

    /// Decodes some columns of a row group.
    pub(super) fn columns(&self, group: RowGroup, columns: &[&str]) -> Result<RecordBatch, DataError> {
        let RowGroup { shard, group, rows, .. } = group;
        let shard = &self.shards[shard];
        let batch = shard.decode(group, rows, columns).map_err(|source| DataError::Parquet {
            path: shard.path.clone(),
            group,
            source,
        })?;
        match batch.num_rows() == rows {
            true => Ok(batch),
            false => Err(DataError::Rows { path: shard.path.clone(), found: batch.num_rows(), expected: rows }),
        }
    }
}

/// Decoded columns of one row group.
#[derive(Debug)]
pub struct DecodedGroup {
    columns: RecordBatch,
    first_row: usize,
}

impl DecodedGroup {
    /// Wraps rows of the shard `path` whose first row has index `first_row` in its split.
    ///
    /// # Errors
    /// [`DataError::Columns`] if the columns violate the task's contract.
    pub fn try_new(task: &dyn Task, path: &Path, columns: RecordBatch, first_row: usize) -> Result<Self, DataError> {
        task.check(&columns).map_err(|source| DataError::Columns { path: path.to_owned(), source })?;
        Ok(Self { columns, first_row })
    }

    /// Index of the group's first row in its split.
    pub fn first_row(&self) -> usize {
        self.first_row
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.num_rows()
    }

    /// The columns.
    pub fn columns(&self) -> &RecordBatch {
        &self.columns
    }
}
