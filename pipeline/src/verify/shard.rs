//! Size, checksum, footer and row groups of one file.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema};
use glm_schemas::SCHEMA_VERSION;
use glm_schemas::cloze::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::column::{METADATA_SCHEMA_VERSION, METADATA_TOKENIZER_SHA256, ViewError};
use glm_schemas::manifest::TaskName;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::documents;
use super::error::VerifyError;
use super::fault::{COPY_AGAIN, Fault, INGEST_AGAIN, Location, Stop};
use super::pairs;
use super::rows::{Columns, Rules, out_of_order};
use super::set::{Part, Set};
use glm_support::files::checksum::digest;

/// Number of rows in memory at a time: fast to decode, and a few MB even with long passages.
const BATCH_ROWS: usize = 256;

/// Totals of a sound shard.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) choices: usize,
    pub(super) tokens: usize,
    /// First row; `None` if the shard is empty.
    pub(super) first: Option<First>,
    /// Number of choices of the last row.
    pub(super) last_choices: usize,
}

/// First row of a shard, for comparison with the last row of the shard before it.
#[derive(Debug)]
pub(super) struct First {
    pub(super) choices: usize,
    pub(super) location: Location,
}

/// Checks one shard: bytes, footer and rows.
pub(super) fn check(set: &Set<'_>, part: &Part) -> Result<Checked, Stop> {
    let file = set.files.open(&part.name())?.ok_or_else(|| part.missing())?;
    let shard = Open { set, part, file };
    shard.check_bytes()?;
    let metadata = shard.check_footer()?;
    shard.check_rows(&metadata)
}

struct Open<'a> {
    set: &'a Set<'a>,
    part: &'a Part,
    file: File,
}

/// Error of decoding a file.
enum DecodeError {
    /// The file cannot be read.
    Io(io::Error),
    /// The content is invalid.
    Content(String),
}

impl Open<'_> {
    fn fault(&self, found: impl Into<String>, expected: impl Into<String>, advice: &'static str) -> Fault {
        Fault::new(&self.part.shard.file, found, expected, advice).of(self.part.split)
    }

    fn unreadable(&self, source: io::Error) -> VerifyError {
        self.set.files.read_error(&self.part.name())(source)
    }

    fn check_bytes(&self) -> Result<(), Stop> {
        let listed = &self.part.shard;
        let found = self.file.metadata().map_err(|error| self.unreadable(error))?;
        if !found.is_file() {
            return Err(self.fault("something that is not a file", "a Parquet file", COPY_AGAIN).into());
        }
        if found.len() != listed.bytes {
            return Err(self.fault(format!("{} bytes", found.len()), format!("{} bytes", listed.bytes), COPY_AGAIN).into());
        }
        let sha256 = digest(&self.file).map_err(|error| self.unreadable(error))?.sha256;
        if sha256 != listed.sha256 {
            return Err(self.diagnose(&sha256)?.into());
        }
        Ok(())
    }

    /// Returns the fault of a wrong checksum, with the first row group that does not decode, if any.
    fn diagnose(&self, sha256: &str) -> Result<Fault, VerifyError> {
        let fault = |detail: String| {
            let found = format!("sha256 {sha256} ({detail})");
            self.fault(found, self.part.shard.sha256.clone(), COPY_AGAIN)
        };
        let metadata = match self.metadata() {
            Ok(metadata) => metadata,
            Err(DecodeError::Io(error)) => return Err(self.unreadable(error)),
            Err(DecodeError::Content(reason)) => return Ok(fault(format!("its footer cannot be read: {reason}"))),
        };
        for group in 0..metadata.metadata().num_row_groups() {
            match self.decode(&metadata, group, |_| Ok::<_, Stop>(())) {
                Ok(()) => {}
                Err(DecodeError::Io(error)) => return Err(self.unreadable(error)),
                Err(DecodeError::Content(reason)) => {
                    return Ok(fault(format!("row group {group} is the first that does not decode: {reason}")).in_group(group));
                }
            }
        }
        Ok(fault("all row groups still decode".to_owned()))
    }

    fn metadata(&self) -> Result<ArrowReaderMetadata, DecodeError> {
        catch_panics(|| ArrowReaderMetadata::load(&self.file, ArrowReaderOptions::default()))
    }

    /// Decodes one row group batch by batch, until `visit` returns an error, which the caller keeps.
    fn decode<E>(
        &self,
        metadata: &ArrowReaderMetadata,
        group: usize,
        mut visit: impl FnMut(&RecordBatch) -> Result<(), E>,
    ) -> Result<(), DecodeError> {
        let file = self.file.try_clone().map_err(DecodeError::Io)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
        let mut reader = catch_panics(|| builder.with_row_groups(vec![group]).with_batch_size(BATCH_ROWS).build())?;
        while let Some(batch) = catch_panics(|| reader.next().transpose().map_err(ParquetError::from))? {
            if visit(&batch).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn check_footer(&self) -> Result<ArrowReaderMetadata, Stop> {
        let metadata = self.metadata().map_err(|error| self.undecodable(error, None))?;
        if let Some((column, found, expected)) = difference(metadata.schema(), &self.set.manifest.task.schema()) {
            return Err(self.fault(found, expected, INGEST_AGAIN).in_column(column).into());
        }
        let footer = metadata.metadata();
        let pairs = footer.file_metadata().key_value_metadata();
        let version = SCHEMA_VERSION.to_string();
        let tokenizer = &self.set.manifest.tokenizer.sha256;
        for (key, expected) in [(METADATA_SCHEMA_VERSION, &version), (METADATA_TOKENIZER_SHA256, tokenizer)] {
            let found = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == key)).and_then(|pair| pair.value.as_ref());
            if found != Some(expected) {
                let found = found.map_or("none".to_owned(), |value| format!("{value:?}"));
                return Err(self.fault(format!("metadata {key} = {found}"), format!("{expected:?}"), INGEST_AGAIN).into());
            }
        }
        let listed = self.part.shard.rows;
        let rows = footer.file_metadata().num_rows();
        if usize::try_from(rows) != Ok(listed) {
            let expected = format!("{listed} rows, as in the manifest");
            return Err(self.fault(format!("{rows} rows"), expected, INGEST_AGAIN).into());
        }
        let max = self.set.manifest.settings.rows_per_group;
        for (group, content) in footer.row_groups().iter().enumerate() {
            if usize::try_from(content.num_rows()).map_or(true, |rows| rows > max) {
                let found = format!("{} rows", content.num_rows());
                let fault = self.fault(found, format!("at most rows_per_group = {max}"), INGEST_AGAIN);
                return Err(fault.in_group(group).into());
            }
        }
        Ok(metadata)
    }

    fn check_rows(&self, metadata: &ArrowReaderMetadata) -> Result<Checked, Stop> {
        let manifest = &self.set.manifest;
        let max_seq_len = manifest.settings.max_seq_len.unwrap_or(PUBLISHED_SEQUENCE_LENGTH);
        let rules = Rules {
            vocab_size: manifest.tokenizer.vocab_size,
            special: manifest.special_ids,
            max_seq_len,
            encoder: manifest.cloze().encoder(manifest.special_ids, max_seq_len),
            split: self.part.split,
            raw_files: manifest.raw_files.iter().map(|raw| raw.file.clone()).collect(),
        };
        let mut state = Checked { choices: 0, tokens: 0, first: None, last_choices: 0 };
        let mut start = 0;
        for (group, content) in metadata.metadata().row_groups().iter().enumerate() {
            let mut row = start;
            let mut stopped = None;
            let decoded = self.decode(metadata, group, |batch| {
                let outcome = self.check_batch(&rules, batch, group, row, &mut state);
                row += batch.num_rows();
                outcome.map_err(|stop| stopped = Some(stop))
            });
            if let Some(stop) = stopped {
                return Err(stop);
            }
            decoded.map_err(|error| self.undecodable(error, Some(group)))?;
            if usize::try_from(content.num_rows()) != Ok(row - start) {
                let expected = format!("{} rows, as in the footer", content.num_rows());
                return Err(self.fault(format!("{} rows", row - start), expected, INGEST_AGAIN).in_group(group).into());
            }
            start = row;
        }
        if start != self.part.shard.rows {
            let expected = format!("{} rows, as in the manifest", self.part.shard.rows);
            return Err(self.fault(format!("{start} rows in all row groups"), expected, INGEST_AGAIN).into());
        }
        Ok(state)
    }

    fn check_batch(
        &self,
        rules: &Rules,
        batch: &RecordBatch,
        row_group: usize,
        first_row: usize,
        state: &mut Checked,
    ) -> Result<(), Stop> {
        let wrong = |error: ViewError| {
            let fault = self.fault(error.to_string(), "the columns of the data contract", INGEST_AGAIN);
            Stop::from(fault.in_group(row_group))
        };
        let location = |row: usize, example_id: &str| Location {
            file: self.part.shard.file.clone(),
            split: self.part.split,
            row_group,
            row: first_row + row,
            example_id: example_id.to_owned(),
        };
        if self.set.manifest.task == TaskName::Text {
            let columns = documents::Columns::try_new(batch).map_err(wrong)?;
            for row in 0..batch.num_rows() {
                let checked = rules.check_document(&columns, row);
                state.tokens += checked.map_err(|violation| violation.at(location(row, columns.example_id(row))))?;
            }
            return Ok(());
        }
        if self.set.manifest.task == TaskName::Seq2seq {
            let columns = pairs::Columns::try_new(batch).map_err(wrong)?;
            for row in 0..batch.num_rows() {
                let checked = rules.check_pair(&columns, row);
                state.tokens += checked.map_err(|violation| violation.at(location(row, columns.example_id(row))))?;
            }
            return Ok(());
        }
        let columns = Columns::try_new(batch).map_err(wrong)?;
        for row in 0..batch.num_rows() {
            let location = || location(row, columns.view.example_id(row));
            let counted = rules.check(&columns, row).map_err(|violation| violation.at(location()))?;
            if counted.choices < state.last_choices {
                return Err(out_of_order(counted.choices, state.last_choices).at(location()).into());
            }
            if state.first.is_none() {
                state.first = Some(First { choices: counted.choices, location: location() });
            }
            state.last_choices = counted.choices;
            state.choices += counted.choices;
            state.tokens += counted.tokens;
        }
        Ok(())
    }

    /// Converts a decoding error of a file with the right checksum, whose content was therefore written that way.
    fn undecodable(&self, error: DecodeError, group: Option<usize>) -> Stop {
        match error {
            DecodeError::Io(error) => self.unreadable(error).into(),
            DecodeError::Content(reason) => {
                let fault = self.fault(format!("content that does not decode ({reason})"), "a Parquet file", INGEST_AGAIN);
                Fault { row_group: group, ..fault }.into()
            }
        }
    }
}

/// Calls the Parquet reader, which may panic on damaged bytes, and converts panics to errors.
fn catch_panics<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DecodeError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                // Decompressors also report invalid data as `io::Error`, but without a system error code.
                Ok(error) if error.raw_os_error().is_some() && error.kind() != io::ErrorKind::InvalidInput => {
                    DecodeError::Io(*error)
                }
                Ok(error) => DecodeError::Content(first_line(&error.to_string())),
                Err(other) => DecodeError::Content(first_line(&other.to_string())),
            },
            other => DecodeError::Content(first_line(&other.to_string())),
        }),
        Err(_) => Err(DecodeError::Content("the Parquet reader panicked".to_owned())),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("no reason given").trim_end().to_owned()
}

/// Returns the first column that differs from the data contract: name, found and expected description.
fn difference(found: &Schema, contract: &Schema) -> Option<(String, String, String)> {
    let describe = |field: Option<&Field>| match field {
        None => "no column".to_owned(),
        Some(field) => {
            let null = if field.is_nullable() { ", may be null" } else { "" };
            format!("`{}` {}{null}", field.name(), field.data_type())
        }
    };
    (0..found.fields().len().max(contract.fields().len())).find_map(|i| {
        let (there, expected) = (found.fields().get(i), contract.fields().get(i));
        let same = match (there, expected) {
            (Some(a), Some(b)) => a.name() == b.name() && a.data_type() == b.data_type() && a.is_nullable() == b.is_nullable(),
            _ => false,
        };
        let name = expected.or(there)?.name().clone();
        (!same).then(|| (name, describe(there.map(AsRef::as_ref)), describe(expected.map(AsRef::as_ref))))
    })
}
