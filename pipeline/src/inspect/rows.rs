//! Schema, counts and questions in readable form.

use std::io::{self, Write};

use polars::error::PolarsError;
use polars::prelude::{AnyValue, DataFrame, DataType, all, col, len};
use serde_json::Value;

use super::error::InspectError;
use super::json::{self, PrintError};
use super::selection::Selection;
use super::source::Source;
use super::sql::{scan, shorten};

/// Maximum length of a passage in the output.
const PASSAGE_CHARS: usize = 400;
/// Columns of a question in the output.
const SHOWN: [&str; 6] = ["split", "example_id", "passage", "query", "choices", "context_tokens"];

/// Prints manifest, schema, row counts and the selected questions.
pub(super) fn print(selection: &Selection<'_>, out: &mut dyn Write) -> Result<(), InspectError> {
    let source = selection.source;
    print_manifest(source, out)?;
    if source.parts.is_empty() {
        writeln!(out, "  no shards")?;
        return Ok(());
    }
    let schema = scan(source)?.collect_schema().map_err(polars_error(source))?;
    writeln!(out, "schema")?;
    for (name, kind) in schema.iter() {
        writeln!(out, "  {name:<16} {}", type_name(kind))?;
    }
    print_counts(selection, out)?;
    let shown = selection.load(&SHOWN.map(col))?;
    for row in 0..shown.height() {
        print_question(&shown, row, out).map_err(print_error(source))?;
    }
    Ok(())
}

/// Prints the selected questions with all columns, one JSON object per line.
pub(super) fn print_json(selection: &Selection<'_>, out: &mut dyn Write) -> Result<(), InspectError> {
    let frame = selection.load(&[all().as_expr()])?;
    json::print_lines(&frame, out).map_err(print_error(selection.source))
}

/// Returns Polars' name of a type, including the field names of structs.
fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::List(item) => format!("list[{}]", type_name(item)),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|field| format!("{}: {}", field.name(), type_name(field.dtype()))).collect();
            format!("struct{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn print_manifest(source: &Source, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", source.path.display())?;
    let Some(manifest) = &source.manifest else { return Ok(()) };
    let tokenizer = &manifest.tokenizer;
    writeln!(out, "  written by   {}", manifest.tool)?;
    writeln!(out, "  tokenizer    {}, {} tokens", tokenizer.name, tokenizer.vocab_size)?;
    writeln!(out, "  fingerprint  {}", manifest.fingerprint)
}

fn print_counts(selection: &Selection<'_>, out: &mut dyn Write) -> Result<(), InspectError> {
    let error = |error| selection.error(error);
    let sums = [len(), col("num_choices").sum().cast(DataType::Int64), col("context_tokens").sum().cast(DataType::Int64)];
    let counts = selection.frame()?.group_by_stable([col("split")]).agg(sums).collect().map_err(error)?;
    match selection.condition {
        Some(condition) => writeln!(out, "rows where {}", shorten(condition, PASSAGE_CHARS))?,
        None => writeln!(out, "rows")?,
    }
    if counts.height() == 0 {
        writeln!(out, "  none")?;
    }
    for row in 0..counts.height() {
        let cells = counts.columns().iter().map(|column| column.get(row).map(json::cell));
        let cells: Vec<String> = cells.collect::<Result<_, _>>().map_err(error)?;
        if let [split, rows, choices, tokens] = cells.as_slice() {
            writeln!(out, "  {split:<5} {rows:>9} questions {choices:>10} choices {tokens:>11} context tokens")?;
        }
    }
    Ok(())
}

fn print_question(shown: &DataFrame, row: usize, out: &mut dyn Write) -> Result<(), PrintError> {
    let get = |name: &str| -> Result<AnyValue<'_>, PolarsError> { shown.column(name)?.get(row) };
    let [split, id, tokens] = ["split", "example_id", "context_tokens"].map(|name| get(name).map(json::cell));
    writeln!(out, "\n{} {}, {} context tokens", split?, id?, tokens?)?;
    writeln!(out, "  passage  {}", shorten(&json::cell(get("passage")?), PASSAGE_CHARS))?;
    writeln!(out, "  query    {}", json::cell(get("query")?))?;
    let choices = json::value(get("choices")?);
    for (number, choice) in choices.as_array().into_iter().flatten().enumerate() {
        let heading = if number == 0 { "choices" } else { "" };
        let mark = if choice["correct"] == Value::Bool(true) { '*' } else { ' ' };
        writeln!(out, "  {heading:<8} {mark} {}", choice["text"].as_str().unwrap_or_default())?;
    }
    Ok(())
}

pub(super) fn polars_error(source: &Source) -> impl Fn(PolarsError) -> InspectError + '_ {
    |error| InspectError::Polars { path: source.path.clone(), source: error }
}

pub(super) fn print_error(source: &Source) -> impl Fn(PrintError) -> InspectError + '_ {
    |error| match error {
        PrintError::Output(error) => InspectError::Output(error),
        PrintError::Polars(error) => polars_error(source)(error),
    }
}
