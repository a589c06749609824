//! Polars values as JSON and as table cells.

use std::io::{self, Write};

use polars::error::PolarsError;
use polars::prelude::{AnyValue, DataFrame};
use serde_json::Value;

/// Error of printing a frame.
pub(super) enum PrintError {
    /// The output cannot be written.
    Output(io::Error),
    /// A value cannot be read.
    Polars(PolarsError),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<PolarsError> for PrintError {
    fn from(error: PolarsError) -> Self {
        Self::Polars(error)
    }
}

/// Prints every row as one JSON object per line.
pub(super) fn print_lines(frame: &DataFrame, out: &mut dyn Write) -> Result<(), PrintError> {
    for row in 0..frame.height() {
        // Key by key, because a JSON map would sort the columns by name.
        for (number, column) in frame.columns().iter().enumerate() {
            out.write_all(if number == 0 { b"{" } else { b"," })?;
            serde_json::to_writer(&mut *out, column.name().as_str()).map_err(io::Error::from)?;
            out.write_all(b":")?;
            serde_json::to_writer(&mut *out, &value(column.get(row)?)).map_err(io::Error::from)?;
        }
        out.write_all(if frame.width() == 0 { b"{}\n" } else { b"}\n" })?;
    }
    Ok(())
}

/// Converts a value to JSON. Types that JSON lacks become text, as formatted by Polars.
pub(super) fn value(any: AnyValue<'_>) -> Value {
    match any {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(value) => value.into(),
        AnyValue::UInt8(value) => value.into(),
        AnyValue::UInt16(value) => value.into(),
        AnyValue::UInt32(value) => value.into(),
        AnyValue::UInt64(value) => value.into(),
        AnyValue::Int8(value) => value.into(),
        AnyValue::Int16(value) => value.into(),
        AnyValue::Int32(value) => value.into(),
        AnyValue::Int64(value) => value.into(),
        AnyValue::Float32(value) => value.into(),
        AnyValue::Float64(value) => value.into(),
        AnyValue::List(series) => series.iter().map(value).collect(),
        AnyValue::StructOwned(parts) => {
            let (values, fields) = *parts;
            let names = fields.into_iter().map(|field| field.name.to_string());
            Value::Object(names.zip(values.into_iter().map(value)).collect())
        }
        other @ AnyValue::Struct(..) => value(other.into_static()),
        other => other.get_str().map_or_else(|| Value::String(other.to_string()), Value::from),
    }
}

/// Formats a value for a table: text without quotes, numbers with six significant digits, anything else as JSON.
pub(super) fn cell(any: AnyValue<'_>) -> String {
    match any {
        AnyValue::Float32(number) => rounded(number.into()),
        AnyValue::Float64(number) => rounded(number),
        other => exact(other),
    }
}

/// Formats a number with six significant digits.
fn rounded(number: f64) -> String {
    let digits = number.abs().log10().floor();
    if number == 0.0 || !digits.is_finite() {
        return number.to_string();
    }
    if !(-5.0..=15.0).contains(&digits) {
        return format!("{number:.5e}");
    }
    let text = format!("{number:.*}", (5 - digits as i32).max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Formats a value without loss: text without quotes, anything else as JSON.
pub(super) fn exact(any: AnyValue<'_>) -> String {
    match value(any) {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::{IntoColumn, NamedFrom, Series};
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_become_objects() {
        let text = Series::new("text".into(), ["a", "b"]).into_column();
        let number = Series::new("number".into(), [Some(1.5), None]).into_column();
        let lists = [Series::new("".into(), [1_i32, 2]), Series::new("".into(), [3_i32])];
        let list = Series::new("list".into(), lists).into_column();
        let frame = DataFrame::new(2, vec![text, number, list]).expect("frame");
        let mut printed = Vec::new();
        assert!(print_lines(&frame, &mut printed).is_ok());
        let lines: Vec<Value> = printed
            .split(|&b| b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).expect("JSON"))
            .collect();
        assert!(printed.starts_with(br#"{"text":"a","number":"#), "columns keep their order");
        assert_eq!(lines[0], json!({"text": "a", "number": 1.5, "list": [1, 2]}));
        assert_eq!(lines[1], json!({"text": "b", "number": null, "list": [3]}));
    }

    #[test]
    fn a_number_without_a_json_form_is_null() {
        assert_eq!(value(AnyValue::Float64(f64::NAN)), Value::Null);
        assert_eq!(exact(AnyValue::Float64(20.0 / 3.0)), "6.666666666666667");
        let numbers = [0.0, 2.0, -0.5, 20.0 / 3.0, 1234567.8, 0.000012345678, 1e-9, 1.5e20, 999999.96, f64::NAN];
        let cells = ["0", "2", "-0.5", "6.66667", "1234568", "0.0000123457", "1.00000e-9", "1.50000e20", "1000000", "NaN"];
        assert_eq!(numbers.map(|number| cell(AnyValue::Float64(number))), cells);
        assert_eq!(cell(AnyValue::Int64(-3)), "-3");
        assert_eq!(cell(AnyValue::String("x")), "x");
    }
}
