//! SQL queries over all shards with Polars.

use std::io::Write;

use polars::error::PolarsError;
use polars::prelude::{
    DataFrame, DataType, IntoLazy, LazyFrame, NULL, PlRefPath, RowIndex, ScanArgsParquet, UnionArgs, col, concat, lit,
};
use polars::sql::SQLContext;

use super::error::InspectError;
use super::json::{self, PrintError};
use super::source::{Part, Source};

/// Name of the table in a query.
const TABLE: &str = "shards";
/// Maximum length of a text in a table.
const CELL_CHARS: usize = 48;

/// Scans all files as one frame in published order.
pub(super) fn scan(source: &Source) -> Result<LazyFrame, InspectError> {
    let frames: Result<Vec<LazyFrame>, PolarsError> = source.parts.iter().map(scan_part).collect();
    let polars_error = |error| InspectError::Polars { path: source.path.clone(), source: error };
    match frames.map_err(polars_error)?.as_slice() {
        [] => Ok(DataFrame::empty().lazy()),
        frames => concat(frames, UnionArgs::default()).map_err(polars_error),
    }
}

/// Scans one file.
pub(super) fn scan_part(part: &Part) -> Result<LazyFrame, PolarsError> {
    scan_part_numbered(part, None)
}

/// Scans one file with a row index as the first column. The column `split` is text, as all files of a data set have the same one.
pub(super) fn scan_part_numbered(part: &Part, row_index: Option<RowIndex>) -> Result<LazyFrame, PolarsError> {
    // An absolute path cannot be mistaken for a URL; glob patterns are not expanded.
    let path = PlRefPath::try_from_path(&std::path::absolute(&part.path)?)?;
    let mut frame = LazyFrame::scan_parquet(path, ScanArgsParquet { glob: false, row_index, ..Default::default() })?;
    let split = match part.split {
        Some(split) => lit(split.name()),
        None if frame.collect_schema()?.contains("split") => col("split").cast(DataType::String),
        None => lit(NULL).cast(DataType::String),
    };
    Ok(frame.with_column(split.alias("split")))
}

/// Runs a query and prints its result as a table or as JSON lines.
pub(super) fn print(source: &Source, query: &str, as_json: bool, out: &mut dyn Write) -> Result<(), InspectError> {
    let mut context = SQLContext::new();
    context.register(TABLE, scan(source)?);
    let frame = context.execute(query).and_then(LazyFrame::collect).map_err(InspectError::Sql)?;
    let printed = if as_json { json::print_lines(&frame, out) } else { print_table(&frame, out) };
    printed.map_err(|error| match error {
        PrintError::Output(error) => InspectError::Output(error),
        PrintError::Polars(error) => InspectError::Sql(error),
    })
}

/// Prints all rows as a table. (Polars' own table omits rows in the middle.)
fn print_table(frame: &DataFrame, out: &mut dyn Write) -> Result<(), PrintError> {
    let mut table: Vec<Vec<String>> = vec![frame.columns().iter().map(|column| column.name().to_string()).collect()];
    for row in 0..frame.height() {
        let cells: Result<Vec<_>, PolarsError> = frame.columns().iter().map(|column| column.get(row).map(json::cell)).collect();
        table.push(cells?.iter().map(|cell| shorten(cell, CELL_CHARS)).collect());
    }
    let widths: Vec<usize> =
        (0..frame.width()).map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let rule = widths.iter().map(|&width| "-".repeat(width)).collect();
    table.insert(1, rule);
    for row in &table {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Shortens a text to one line of at most `chars` characters.
pub(crate) fn shorten(text: &str, chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= chars {
        return line;
    }
    let mut cut: String = line.chars().take(chars.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shorten("a  b\n c", 9), "a b c");
        assert_eq!(shorten("ééééé", 4), "ééé…");
        assert_eq!(shorten("ab cd", 4), "ab…");
        assert_eq!(shorten("", 0), "");
    }
}
