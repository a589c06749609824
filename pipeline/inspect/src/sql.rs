//! SQL queries over all shards with Polars.

use std::io::Write;

use polars::error::PolarsError;
use polars::prelude::{
    DataFrame, DataType, IntoLazy, LazyFrame, NULL, PlRefPath, PolarsResult, RowIndex, ScanArgsParquet, col, lit,
};
use polars::sql::SQLContext;

use super::error::InspectError;
use super::format;
use super::json::PrintError;
use super::source::{Part, Source, polars_error};
use glm_prep::inspect::Format;

/// Name of the table in a query.
const TABLE: &str = "shards";

/// Scans all files as one frame in published order.
pub(super) fn scan(source: &Source) -> Result<LazyFrame, InspectError> {
    let frame = match source.parts.as_slice() {
        [] => Ok(DataFrame::empty().lazy()),
        [part] => scan_part(part),
        parts => scan_parts(parts),
    };
    frame.map_err(polars_error(source))
}

/// Scans the files of a data set. Concatenated frames would need Polars' 128-bit integers for `count(*)`.
fn scan_parts(parts: &[Part]) -> PolarsResult<LazyFrame> {
    let paths = parts.iter().map(path).collect::<PolarsResult<Vec<_>>>()?;
    let frame = LazyFrame::scan_parquet_files(paths.into(), ScanArgsParquet { glob: false, ..Default::default() })?;
    Ok(frame.with_column(col("split").cast(DataType::String)))
}

/// Returns the absolute path of a file, which cannot be mistaken for a URL.
fn path(part: &Part) -> PolarsResult<PlRefPath> {
    PlRefPath::try_from_path(&std::path::absolute(&part.path)?)
}

/// Scans one file.
pub(super) fn scan_part(part: &Part) -> Result<LazyFrame, PolarsError> {
    scan_part_numbered(part, None)
}

/// Scans one file with a row index as the first column. The column `split` is text, as all files of a data set have the same one.
pub(super) fn scan_part_numbered(part: &Part, row_index: Option<RowIndex>) -> Result<LazyFrame, PolarsError> {
    let mut frame = LazyFrame::scan_parquet(path(part)?, ScanArgsParquet { glob: false, row_index, ..Default::default() })?;
    let split = match part.split {
        Some(split) => lit(split.name()),
        None if frame.collect_schema()?.contains("split") => col("split").cast(DataType::String),
        None => lit(NULL).cast(DataType::String),
    };
    Ok(frame.with_column(split.alias("split")))
}

/// Runs a query and prints its result.
pub(super) fn print(source: &Source, query: &str, format: Format, out: &mut dyn Write) -> Result<(), InspectError> {
    let mut context = SQLContext::new();
    context.register(TABLE, scan(source)?);
    let frame = context.execute(query).and_then(LazyFrame::collect).map_err(|error| query_error(source, error))?;
    source.check_current()?;
    format::print(&frame, format, out).map_err(|error| match error {
        PrintError::Output(error) => InspectError::Output(error),
        PrintError::Polars(error) => query_error(source, error),
    })
}

/// Converts an error of Polars, which has no type of its own for files that do not decode.
fn query_error(source: &Source, error: PolarsError) -> InspectError {
    let is_count_of_several = error.to_string().contains("UInt128");
    match &error {
        // This build of Polars has no 128-bit integers, which it would add the counts of several frames with.
        _ if is_count_of_several => InspectError::Sql { source: error, remedy: "; write count(COLUMN) instead of count(*)" },
        PolarsError::IO { .. } => polars_error(source)(error),
        PolarsError::ComputeError(reason) if reason.contains("parquet") => polars_error(source)(error),
        PolarsError::SQLInterface(reason) if reason.starts_with("relation ") => {
            InspectError::Sql { source: error, remedy: "; the table is `shards`" }
        }
        _ => InspectError::Sql { source: error, remedy: "" },
    }
}
