//! Typed access to columns of a record batch, and metadata keys, common to all tables.

use arrow::array::{Array, AsArray, DictionaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
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

    pub(crate) fn get(&self, row: usize) -> &'a [TokenId] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}
