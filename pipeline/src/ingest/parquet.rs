//! Rows of Parquet files as records.

use std::fs::File;
use std::io::{self, BufRead, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeStringArray, downcast_integer_array};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use glm_schemas::manifest::hex;
use glm_support::files::checksum::FileDigest;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use sha2::{Digest, Sha256};

use super::records::{Batcher, RecordBatch};
use crate::source::input::{InputError, ReadError};
use crate::source::unpack::fill;

/// Rows that are decoded at once: few, as each can be a book.
const ROWS: usize = 64;
/// Default name of the column of the text.
const TEXT: &str = "text";
/// Columns that are read if the file has them, besides that of the text.
const OPTIONAL: [&str; 3] = ["prompt", "id", "source"];

/// Columns to read.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// Column of the text; `None` for `text`.
    pub(super) text: Option<&'a str>,
    /// Name of the file, for messages.
    pub(super) name: &'a str,
}

/// Reads a Parquet file and passes each row to `batcher` as a JSON object with the fields `text`, `prompt`, `id` and `source`.
///
/// The footer of the file, at its end, is needed first. A file that is not at `path` as it is, because it is compressed, part of an
/// archive or a stream, is therefore copied to a temporary file.
pub(super) fn read<F: FnMut(RecordBatch) -> bool>(
    batcher: &mut Batcher<F>,
    number: usize,
    path: Option<&Path>,
    stream: &mut dyn BufRead,
    columns: Columns<'_>,
) -> Result<Option<FileDigest>, ReadError> {
    let direct = path.map(File::open).transpose()?.map(is_parquet).transpose()?.flatten();
    let mut copy = if direct.is_some() { None } else { Some(temporary()?) };
    let digest = drain(stream, copy.as_mut())?;
    let file = match (direct, copy) {
        (Some(file), _) | (None, Some(file)) => file,
        (None, None) => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
    };
    let wrong = |what: String| ReadError::File(InputError::Wrong { name: columns.name.to_owned(), what });
    let damaged = |error: &dyn std::fmt::Display| {
        wrong(format!(
            "cannot be read as Parquet ({error}); if it is not damaged, write it with the compression zstd or snappy"
        ))
    };
    let metadata = metadata(&file).map_err(|error| damaged(&error))?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let text = columns.text.unwrap_or(TEXT);
    check(builder.schema(), text).map_err(wrong)?;
    let names = [text].into_iter().chain(OPTIONAL.into_iter().filter(|name| *name != text && has_text(builder.schema(), name)));
    let mask = ProjectionMask::columns(builder.parquet_schema(), names);
    let rows = builder.metadata().file_metadata().num_rows();
    let reader = builder.with_projection(mask).with_batch_size(ROWS).build().map_err(|error| damaged(&error))?;

    batcher.begin(number);
    let mut record = 0;
    let mut covered = 0;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(&error))?;
        let mut fields = Vec::new();
        for (name, column) in [TEXT].into_iter().chain(OPTIONAL).zip([text].into_iter().chain(OPTIONAL)) {
            let is_text = name != TEXT && column == text;
            if let Some(values) = batch.column_by_name(column).filter(|_| !is_text) {
                fields.push((name, strings(values).ok_or_else(|| wrong(format!("has a column `{column}` without text")))?));
            }
        }
        for row in 0..batch.num_rows() {
            record += 1;
            let until = digest.bytes * record / u64::try_from(rows).unwrap_or(1).max(1);
            let json = object(&fields, row);
            if !batcher.record(json.as_bytes(), record, until.saturating_sub(covered)) {
                return Ok(batcher.is_complete().then_some(digest));
            }
            covered = until;
        }
    }
    batcher.end(digest.bytes.saturating_sub(covered));
    Ok(batcher.is_complete().then_some(digest))
}

/// Returns the file, at its beginning, if it is Parquet as it is.
fn is_parquet(mut file: File) -> io::Result<Option<File>> {
    let mut head = [0; 4];
    let is = io::Read::read_exact(&mut file, &mut head).is_ok() && head == *b"PAR1";
    file.rewind()?;
    Ok(is.then_some(file))
}

/// Creates a temporary file. It is unlinked at once, so nothing is left of it after a crash.
fn temporary() -> io::Result<File> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("glm-prep-{}-{number}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Reads a stream to its end, for its digest, and copies it.
fn drain(stream: &mut dyn BufRead, mut copy: Option<&mut File>) -> io::Result<FileDigest> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        let chunk = fill(stream)?;
        if chunk.is_empty() {
            return Ok(FileDigest { bytes, sha256: hex(&hash.finalize()) });
        }
        hash.update(chunk);
        if let Some(copy) = &mut copy {
            copy.write_all(chunk)?;
        }
        let length = chunk.len();
        bytes += length as u64;
        stream.consume(length);
    }
}

fn has_text(schema: &Schema, name: &str) -> bool {
    schema.field_with_name(name).is_ok_and(|field| is_text(field.data_type()) || field.data_type().is_integer())
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8)
}

/// Reads the footer. Columns of text have the type [`DataType::LargeUtf8`], whatever the program that wrote them held in memory.
fn metadata(file: &File) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let found = ArrowReaderMetadata::load(file, options.clone())?;
    let wide = |field: &FieldRef| match field.data_type() {
        DataType::Utf8 => Arc::new(Field::clone(field).with_data_type(DataType::LargeUtf8)),
        _ => Arc::clone(field),
    };
    let schema = Schema::new(found.schema().fields().iter().map(wide).collect::<Fields>());
    ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options.with_schema(Arc::new(schema)))
}

/// Checks that the column of the text exists and holds text.
fn check(schema: &Schema, text: &str) -> Result<(), String> {
    let found = schema.field_with_name(text).ok().map(|field| field.data_type());
    if found.is_some_and(is_text) {
        return Ok(());
    }
    let columns: Vec<_> =
        schema.fields().iter().filter(|field| is_text(field.data_type())).map(|field| field.name().as_str()).collect();
    let instead = match columns.as_slice() {
        [] => "it has no column of text".to_owned(),
        columns => format!("name the column of the text with --column: {}", columns.join(", ")),
    };
    match found {
        Some(kind) => Err(format!("has a column `{text}` of type {kind}, not of text; {instead}")),
        None => Err(format!("has no column `{text}`; {instead}")),
    }
}

/// Returns a column of text or integers as text.
fn strings(values: &ArrayRef) -> Option<LargeStringArray> {
    let values = values.as_ref();
    downcast_integer_array!(
        values => Some(values.iter().map(|value| value.map(|value| value.to_string())).collect()),
        _ => values.as_string_opt::<i64>().cloned(),
    )
}

/// Returns a row as a JSON object, without nulls.
fn object(fields: &[(&str, LargeStringArray)], row: usize) -> String {
    let field = |(name, values): &(&str, LargeStringArray)| {
        values.is_valid(row).then(|| format!("\"{name}\":{}", serde_json::Value::from(values.value(row))))
    };
    let fields: Vec<_> = fields.iter().filter_map(field).collect();
    format!("{{{}}}", fields.join(","))
}
