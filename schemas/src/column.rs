//! Typed access to columns of a record batch, and metadata keys, common to all tables.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, DictionaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};
use thiserror::Error;

use crate::vocab::TokenId;

/// Key of the Parquet metadata for the version of the contract, [`crate::SCHEMA_VERSION`].
pub const METADATA_SCHEMA_VERSION: &str = "glm.schema_version";
/// Key of the Parquet metadata for the sha256 of the tokenizer file.
pub const METADATA_TOKENIZER_SHA256: &str = "glm.tokenizer_sha256";

/// Violation of the contract by a record batch.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ViewError {
    /// A column is missing.
    #[error("column `{0}` is missing")]
    Missing(&'static str),
    /// A column has the wrong type.
    #[error("column `{column}` has type {found}, expected {expected}")]
    Type {
        /// Name of the column.
        column: &'static str,
        /// Arrow type found.
        found: String,
        /// Arrow type of the contract.
        expected: &'static str,
    },
    /// A column has a value that the contract excludes.
    #[error("column `{column}` holds `{found}`, expected {expected}")]
    Value {
        /// Name of the column.
        column: &'static str,
        /// Value found.
        found: String,
        /// Values of the contract.
        expected: &'static str,
    },
    /// A column that must not have nulls has one.
    #[error("column `{0}` holds a null")]
    Null(&'static str),
}

/// Value that violates the contract.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("row {row}: {found} in column `{column}`, expected {expected}")]
pub struct ValueError {
    /// Index of the row in its batch.
    pub row: usize,
    /// Name of the column.
    pub column: &'static str,
    /// The value.
    pub found: String,
    /// Values that the contract allows.
    pub expected: String,
}

/// Returns the column of this name.
///
/// # Errors
/// [`ViewError::Missing`].
pub fn column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a dyn Array, ViewError> {
    batch.column_by_name(name).map(AsRef::as_ref).ok_or(ViewError::Missing(name))
}

/// Casts a column to strings.
///
/// # Errors
/// [`ViewError`] if it has another type or a null.
pub fn strings<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a StringArray, ViewError> {
    let typed = nullable_strings(name, array)?;
    no_nulls(name, typed)?;
    Ok(typed)
}

/// Casts a column to 64-bit integers.
///
/// # Errors
/// [`ViewError`] if it has another type or a null.
pub fn int64<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a Int64Array, ViewError> {
    let typed = nullable_int64(name, array)?;
    no_nulls(name, typed)?;
    Ok(typed)
}

/// Casts a column to strings, which may be null.
pub(crate) fn nullable_strings<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a StringArray, ViewError> {
    array.as_string_opt::<i32>().ok_or_else(|| wrong_type(name, array, "utf8"))
}

/// Casts a column to 64-bit integers, which may be null.
pub(crate) fn nullable_int64<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a Int64Array, ViewError> {
    array.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(name, array, "int64"))
}

/// Casts a column to a dictionary of strings.
///
/// # Errors
/// [`ViewError`] if it has another type.
pub fn dictionary<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a DictionaryArray<Int32Type>, ViewError> {
    array.as_dictionary_opt::<Int32Type>().ok_or_else(|| wrong_type(name, array, "dictionary<int32, utf8>"))
}

/// Casts a column to 32-bit integers, which may be null.
pub(crate) fn int32<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a Int32Array, ViewError> {
    array.as_primitive_opt::<Int32Type>().ok_or_else(|| wrong_type(name, array, "int32"))
}

pub(crate) fn list<'a>(name: &'static str, array: &'a dyn Array) -> Result<&'a ListArray, ViewError> {
    let typed = array.as_list_opt::<i32>().ok_or_else(|| wrong_type(name, array, "list"))?;
    no_nulls(name, typed)?;
    Ok(typed)
}

pub(crate) fn no_nulls(name: &'static str, array: &dyn Array) -> Result<(), ViewError> {
    if array.null_count() > 0 { Err(ViewError::Null(name)) } else { Ok(()) }
}

pub(crate) fn wrong_type(column: &'static str, array: &dyn Array, expected: &'static str) -> ViewError {
    ViewError::Type { column, found: array.data_type().to_string(), expected }
}

/// Field of the items of a list. "element" is the name in the Parquet specification.
pub(crate) fn item_field(item: DataType) -> Field {
    Field::new("element", item, false)
}

/// Field of a list without nulls.
pub(crate) fn list_field(name: &str, item: DataType) -> Field {
    Field::new(name, DataType::List(Arc::new(item_field(item))), false)
}

/// Builder of a list column of 32-bit integers.
pub(crate) fn id_lists() -> ListBuilder<Int32Builder> {
    ListBuilder::new(Int32Builder::new()).with_field(item_field(DataType::Int32))
}

/// Appends a list to such a builder.
pub(crate) fn push_ids(builder: &mut ListBuilder<Int32Builder>, ids: &[TokenId]) {
    builder.values().append_slice(ids);
    builder.append(true);
}

/// List column of token ids.
pub(crate) struct IdLists<'a> {
    offsets: &'a OffsetBuffer<i32>,
    values: &'a [TokenId],
}

impl<'a> IdLists<'a> {
    pub(crate) fn try_new(column: &'static str, array: &'a dyn Array) -> Result<Self, ViewError> {
        let lists = list(column, array)?;
        let values = lists.values().as_primitive_opt::<Int32Type>().ok_or_else(|| wrong_type(column, array, "list<int32>"))?;
        no_nulls(column, values)?;
        Ok(Self { offsets: lists.offsets(), values: values.values() })
    }

    /// Ids of all lists.
    pub(crate) fn all(&self) -> &'a [TokenId] {
        // There is always one offset more than lists.
        let (first, last) = (self.offsets[0], self.offsets[self.offsets.len() - 1]);
        &self.values[first as usize..last as usize]
    }

    pub(crate) fn get(&self, row: usize) -> &'a [TokenId] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
    /// Checks that all ids are in a vocabulary of `vocab_size` tokens. `lists` gives the lists of each of the `rows`.
    ///
    /// # Errors
    /// [`ValueError`] for the first id outside of it.
    pub(crate) fn check(
        &self,
        column: &'static str,
        rows: usize,
        lists: impl Fn(usize) -> Range<usize>,
        vocab_size: usize,
    ) -> Result<(), ValueError> {
        if all_within(self.all(), vocab_size) {
            return Ok(());
        }
        for row in 0..rows {
            for list in lists(row) {
                if let Some(&id) = self.get(list).iter().find(|id| !all_within(&[**id], vocab_size)) {
                    let expected = format!("ids from 0 to {}, the vocabulary of the manifest", vocab_size.saturating_sub(1));
                    return Err(ValueError { row, column, found: format!("token id {id}"), expected });
                }
            }
        }
        Ok(())
    }
}

/// Returns true if all ids are in a vocabulary. Negative ids are large as unsigned numbers. There are no branches within the loop, so that
/// the compiler can vectorize it.
fn all_within(ids: &[TokenId], vocab_size: usize) -> bool {
    let largest = ids.iter().fold(0, |largest: u32, &id| largest.max(id.cast_unsigned()));
    ids.is_empty() || (largest as usize) < vocab_size
}
