//! Rows with an id.

use polars::prelude::{DataFrame, col, lit};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::closest::Closest;
use super::error::InspectError;
use super::json;
use super::source::{Source, polars_error};
use super::sql::{scan, scan_part};

/// Reads the rows with this id.
pub(super) fn find(source: &Source, id: &str) -> Result<DataFrame, InspectError> {
    let error = polars_error(source);
    if source.parts.is_empty() {
        return Err(unknown(source, id, Vec::new()));
    }
    let frame = scan(source)?.filter(col("example_id").eq(lit(id))).collect().map_err(&error)?;
    source.check_current()?;
    if frame.height() > 0 {
        return Ok(frame);
    }
    let mut closest = Closest::new(id);
    for part in &source.parts {
        let ids = scan_part(part).and_then(|frame| frame.select([col("example_id")]).collect()).map_err(&error)?;
        let ids = ids.column("example_id").and_then(|column| column.str().cloned()).map_err(&error)?;
        ids.iter().flatten().for_each(|id| closest.add(id));
    }
    Err(unknown(source, id, closest.ids()))
}

/// Word for a row.
fn row_of(source: &Source) -> &'static str {
    let rows = source.task.rows();
    rows.strip_suffix('s').unwrap_or(rows)
}

fn unknown(source: &Source, id: &str, closest: Vec<String>) -> InspectError {
    let path = source.path.display();
    let hint = match closest.as_slice() {
        [] => format!("`glm-prep inspect {path} --sql \"select example_id from shards\"` lists all ids"),
        [one] => format!("the closest is {one}"),
        [others @ .., last] => format!("the closest are {} and {last}", others.join(", ")),
    };
    InspectError::NoSuchRow { path: source.path.clone(), row: row_of(source), id: id.to_owned(), hint }
}

/// Reads the columns of one row.
pub(super) fn read<T: DeserializeOwned>(source: &Source, frame: &DataFrame, row: usize) -> Result<T, InspectError> {
    let mut columns = Map::new();
    for column in frame.columns() {
        columns.insert(column.name().to_string(), json::value(column.get(row).map_err(polars_error(source))?));
    }
    serde_json::from_value(Value::Object(columns)).map_err(|error| InspectError::BadRow {
        path: source.path.clone(),
        rows: source.task.rows(),
        reason: error.to_string(),
    })
}
