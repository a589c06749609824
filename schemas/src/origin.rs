//! Columns that lead back from a row to its raw record; all tables have them.

use std::sync::Arc;

use arrow_array::builder::{Int64Builder, StringBuilder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field};

use crate::column::{ViewError, column, dictionary, nullable_int64, nullable_strings, strings};
use crate::split::Split;

/// Place of a row in the raw data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Split of the row.
    pub split: Split,
    /// Id of the record in the raw data, if it has one.
    pub source_id: Option<&'a str>,
    /// Raw file, as listed in the manifest.
    pub raw_file: &'a str,
    /// First line of the raw record, from 1; `None` if the format has no lines.
    pub raw_line: Option<u64>,
    /// JSON object of further fields of the raw record, if they are kept.
    pub extra: Option<&'a str>,
}

impl Origin<'_> {
    /// Origin of rows that do not come from raw data.
    pub const NONE: Self = Self { split: Split::Test, source_id: None, raw_file: "", raw_line: None, extra: None };
}

/// Fields of the columns [`ORIGIN_COLUMNS`], in that order.
pub fn origin_fields() -> [Field; 5] {
    [
        Field::new_dictionary("split", DataType::Int32, DataType::Utf8, false),
        Field::new("source_id", DataType::Utf8, true),
        Field::new_dictionary("raw_file", DataType::Int32, DataType::Utf8, false),
        Field::new("raw_line", DataType::Int64, true),
        Field::new("extra", DataType::Utf8, true),
    ]
}

/// Builder of the columns [`ORIGIN_COLUMNS`].
#[derive(Default)]
pub(crate) struct OriginBuilder {
    split: StringDictionaryBuilder<Int32Type>,
    source_id: StringBuilder,
    raw_file: StringDictionaryBuilder<Int32Type>,
    raw_line: Int64Builder,
    extra: StringBuilder,
}

impl OriginBuilder {
    /// Appends the origin of one row.
    pub(crate) fn append(&mut self, origin: &Origin<'_>) -> Result<(), ArrowError> {
        self.split.append(origin.split.name())?;
        self.raw_file.append(origin.raw_file)?;
        self.source_id.append_option(origin.source_id);
        self.raw_line.append_option(origin.raw_line.map(|line| line as i64));
        self.extra.append_option(origin.extra);
        Ok(())
    }

    /// Returns the columns [`ORIGIN_COLUMNS`], in that order, and clears the builder.
    pub(crate) fn finish(&mut self) -> [ArrayRef; 5] {
        [
            Arc::new(self.split.finish()),
            Arc::new(self.source_id.finish()),
            Arc::new(self.raw_file.finish()),
            Arc::new(self.raw_line.finish()),
            Arc::new(self.extra.finish()),
        ]
    }
}

/// Typed access to the origins of the rows of a record batch. Nothing is copied.
///
/// The batch needs the columns [`ORIGIN_COLUMNS`].
pub struct OriginView<'a> {
    split: Names<'a>,
    source_id: &'a StringArray,
    raw_file: Names<'a>,
    raw_line: &'a Int64Array,
    extra: &'a StringArray,
}

/// Columns of an [`OriginView`].
pub const ORIGIN_COLUMNS: [&str; 5] = ["split", "source_id", "raw_file", "raw_line", "extra"];

/// Dictionary column of names.
struct Names<'a> {
    column: &'static str,
    keys: &'a DictionaryArray<Int32Type>,
    values: &'a StringArray,
}

impl<'a> Names<'a> {
    fn try_new(batch: &'a RecordBatch, name: &'static str) -> Result<Self, ViewError> {
        let keys = dictionary(name, column(batch, name)?)?;
        Ok(Self { column: name, keys, values: strings(name, keys.values().as_ref())? })
    }

    fn get(&self, row: usize) -> Result<&'a str, ViewError> {
        self.keys.key(row).map(|key| self.values.value(key)).ok_or(ViewError::Null(self.column))
    }
}

impl<'a> OriginView<'a> {
    /// Borrows the columns of a batch after checking their types.
    ///
    /// # Errors
    /// [`ViewError`] for the first column that is missing or has the wrong type.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self, ViewError> {
        Ok(Self {
            split: Names::try_new(batch, "split")?,
            source_id: nullable_strings("source_id", column(batch, "source_id")?)?,
            raw_file: Names::try_new(batch, "raw_file")?,
            raw_line: nullable_int64("raw_line", column(batch, "raw_line")?)?,
            extra: nullable_strings("extra", column(batch, "extra")?)?,
        })
    }

    /// Origin of the row.
    ///
    /// # Errors
    /// [`ViewError`] if the split is null or unknown, the file is null, or the line is negative.
    pub fn get(&self, row: usize) -> Result<Origin<'a>, ViewError> {
        let text = |column: &'a StringArray| column.is_valid(row).then(|| column.value(row));
        let split = self.split.get(row)?;
        let wrong_split = |_| ViewError::Value { column: "split", found: split.to_owned(), expected: "train, val or test" };
        let line = self.raw_line.is_valid(row).then(|| self.raw_line.value(row));
        let wrong_line = |line: i64| ViewError::Value { column: "raw_line", found: line.to_string(), expected: "at least 1" };
        Ok(Origin {
            split: split.parse().map_err(wrong_split)?,
            source_id: text(self.source_id),
            raw_file: self.raw_file.get(row)?,
            raw_line: line
                .map(|line| u64::try_from(line).ok().filter(|&n| n > 0).ok_or_else(|| wrong_line(line)))
                .transpose()?,
            extra: text(self.extra),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloze::builder::ClozeBatchBuilder;
    use crate::document::DocumentBatchBuilder;

    /// A batch of one row with these values of `split` and `raw_line`.
    fn batch(split: &str, line: i64) -> RecordBatch {
        let split: DictionaryArray<Int32Type> = [split].into_iter().collect();
        let text = || Arc::new(StringArray::from(vec![None::<&str>]));
        let columns: [(&str, Arc<dyn Array>); 5] = [
            ("split", Arc::new(split.clone())),
            ("source_id", text()),
            ("raw_file", Arc::new(split)),
            ("raw_line", Arc::new(Int64Array::from(vec![line]))),
            ("extra", text()),
        ];
        RecordBatch::try_from_iter(columns).expect("batch")
    }

    #[test]
    fn values_out_of_range_are_errors() {
        assert_eq!(OriginView::try_new(&batch("val", 3)).expect("view").get(0).expect("valid").raw_line, Some(3));
        for (split, line, message) in [
            ("dev", 1, "column `split` holds `dev`, expected train, val or test"),
            ("val", 0, "column `raw_line` holds `0`, expected at least 1"),
            ("val", -1, "column `raw_line` holds `-1`, expected at least 1"),
        ] {
            assert_eq!(
                OriginView::try_new(&batch(split, line)).expect("view").get(0).expect_err("invalid").to_string(),
                message
            );
        }
    }

    #[test]
    fn the_columns_are_those_of_the_schema() {
        assert_eq!(origin_fields().each_ref().map(|field| field.name().as_str()), ORIGIN_COLUMNS);
        let cloze = ClozeBatchBuilder::new().finish().expect("empty");
        let documents = DocumentBatchBuilder::new().finish().expect("empty");
        for batch in [cloze, documents] {
            let columns = ORIGIN_COLUMNS.map(|name| batch.schema().index_of(name).expect("column"));
            assert!(OriginView::try_new(&batch.project(&columns).expect("columns")).is_ok());
            let missing = OriginView::try_new(&batch.project(&columns[1..]).expect("columns")).err();
            assert_eq!(missing, Some(ViewError::Missing("split")));
        }
    }
}
