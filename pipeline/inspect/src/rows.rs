//! Schema, counts and rows, in readable form or in a format for other programs.

use std::io::{self, Write};

use glm_schemas::manifest::TaskName;
use polars::error::PolarsError;
use polars::prelude::{AnyValue, DataFrame, DataType, all, col, len};
use serde_json::Value;

use super::error::InspectError;
use super::format::Printer;
use super::json::{self, PrintError};
use super::selection::Selection;
use super::source::{Source, polars_error, print_error};
use super::sql::scan;
use glm_prep::inspect::Format;
use glm_support::command::paint::shorten;

/// Maximum length of a passage or text in the output.
const PASSAGE_CHARS: usize = 400;
/// Columns of a question in the output.
const SHOWN: [&str; 9] =
    ["split", "example_id", "source_id", "raw_file", "raw_line", "passage", "query", "choices", "context_tokens"];

/// Columns of a document in the output.
const SHOWN_OF_DOCUMENT: [&str; 9] =
    ["split", "example_id", "source_id", "raw_file", "raw_line", "source", "prompt", "text", "num_tokens"];

/// Columns of a pair in the output.
const SHOWN_OF_PAIR: [&str; 9] =
    ["split", "example_id", "source_id", "raw_file", "raw_line", "source", "prompt", "target", "context_tokens"];

/// Prints the selected rows in readable form, after the number of rows per split if `counts` is true.
pub(super) fn print(selection: &Selection<'_>, counts: bool, out: &mut dyn Write) -> Result<(), InspectError> {
    let source = selection.source;
    if source.parts.is_empty() {
        return Ok(writeln!(out, "{} has no shards", source.path.display())?);
    }
    // Nothing is printed before the first questions are read: until then, reading can start again if the data set is replaced.
    let mut header = Vec::new();
    if counts {
        print_counts(selection, &mut header)?;
    }
    let mut is_separated = counts;
    let columns = match source.task {
        TaskName::Cloze => SHOWN,
        TaskName::Text => SHOWN_OF_DOCUMENT,
        TaskName::Seq2seq => SHOWN_OF_PAIR,
    };
    selection.visit(&columns.map(col), |shown| {
        for row in 0..shown.height() {
            out.write_all(&std::mem::take(&mut header))?;
            if std::mem::replace(&mut is_separated, true) {
                writeln!(out)?;
            }
            print_row(source.task, shown, row, out).map_err(print_error(source))?;
        }
        Ok(())
    })?;
    Ok(out.write_all(&header)?)
}

/// Prints the selected questions with all columns.
pub(super) fn print_as(selection: &Selection<'_>, format: Format, out: &mut dyn Write) -> Result<(), InspectError> {
    let mut printer = Printer::new(format);
    let mut none = DataFrame::empty();
    selection.visit(&[all().as_expr()], |frame| {
        if frame.height() == 0 {
            none = frame.clone();
            return Ok(());
        }
        printer.add(frame, out).map_err(print_error(selection.source))
    })?;
    // The header, if there are no rows.
    printer.add(&none, out).and_then(|()| printer.finish(out)).map_err(print_error(selection.source))
}

/// Prints manifest and columns.
pub(super) fn print_schema(source: &Source, out: &mut dyn Write) -> Result<(), InspectError> {
    let schema = scan(source)?.collect_schema().map_err(polars_error(source))?;
    source.check_current()?;
    print_manifest(source, out)?;
    writeln!(out, "columns")?;
    for (name, kind) in schema.iter() {
        writeln!(out, "  {name:<16} {}", type_name(kind))?;
    }
    Ok(())
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
    let sum = |name: &str| col(name).sum().cast(DataType::Int64);
    let rows = selection.source.task.rows();
    let sums = match selection.source.task {
        TaskName::Cloze => vec![len(), sum("num_choices"), sum("context_tokens")],
        TaskName::Text => vec![len(), sum("num_tokens")],
        TaskName::Seq2seq => vec![len(), sum("context_tokens") + sum("target_tokens")],
    };
    let counts = selection.frame()?.group_by_stable([col("split")]).agg(sums).collect().map_err(error)?;
    selection.source.check_current()?;
    let path = selection.source.path.display();
    match selection.condition {
        Some(condition) => writeln!(out, "{path}, {rows} where {}", shorten(condition, PASSAGE_CHARS))?,
        None => writeln!(out, "{path}")?,
    }
    if counts.height() == 0 {
        writeln!(out, "  none")?;
    }
    for row in 0..counts.height() {
        let cells = counts.columns().iter().map(|column| column.get(row).map(json::cell));
        let cells: Vec<String> = cells.collect::<Result<_, _>>().map_err(error)?;
        match cells.as_slice() {
            [split, number, choices, tokens] => {
                writeln!(out, "  {split:<5} {number:>9} {rows} {choices:>10} choices {tokens:>11} context tokens")?;
            }
            [split, number, tokens] => writeln!(out, "  {split:<5} {number:>9} {rows} {tokens:>11} tokens")?,
            _ => {}
        }
    }
    Ok(())
}

fn print_row(task: TaskName, shown: &DataFrame, row: usize, out: &mut dyn Write) -> Result<(), PrintError> {
    match task {
        TaskName::Cloze => print_question(shown, row, out),
        TaskName::Text => print_document(shown, row, out),
        TaskName::Seq2seq => print_pair(shown, row, out),
    }
}

fn print_question(shown: &DataFrame, row: usize, out: &mut dyn Write) -> Result<(), PrintError> {
    let get = |name: &str| -> Result<AnyValue<'_>, PolarsError> { shown.column(name)?.get(row) };
    let [split, id, tokens] = ["split", "example_id", "context_tokens"].map(|name| get(name).map(json::cell));
    writeln!(out, "{} {}, {} context tokens", split?, id?, tokens?)?;
    let origin = ["raw_file", "raw_line", "source_id"].map(|name| get(name).map(json::cell));
    let [file, line, source_id] = origin;
    writeln!(out, "  record   {}", origin_of(&file?, &line?, &source_id?))?;
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

fn print_document(shown: &DataFrame, row: usize, out: &mut dyn Write) -> Result<(), PrintError> {
    let get = |name: &str| -> Result<String, PolarsError> { Ok(json::cell(shown.column(name)?.get(row)?)) };
    writeln!(out, "{} {}, {} tokens", get("split")?, get("example_id")?, get("num_tokens")?)?;
    writeln!(out, "  record   {}", origin_of(&get("raw_file")?, &get("raw_line")?, &get("source_id")?))?;
    for name in ["source", "prompt", "text"] {
        let text = get(name)?;
        if !text.is_empty() {
            writeln!(out, "  {name:<8} {}", shorten(&text, PASSAGE_CHARS))?;
        }
    }
    Ok(())
}

fn print_pair(shown: &DataFrame, row: usize, out: &mut dyn Write) -> Result<(), PrintError> {
    let get = |name: &str| -> Result<String, PolarsError> { Ok(json::cell(shown.column(name)?.get(row)?)) };
    writeln!(out, "{} {}, {} context tokens", get("split")?, get("example_id")?, get("context_tokens")?)?;
    writeln!(out, "  record   {}", origin_of(&get("raw_file")?, &get("raw_line")?, &get("source_id")?))?;
    for name in ["prompt", "source", "target"] {
        let text = get(name)?;
        if !text.is_empty() {
            writeln!(out, "  {name:<8} {}", shorten(&text, PASSAGE_CHARS))?;
        }
    }
    Ok(())
}

/// Describes the place of a row in the raw data; `line` and `id` may be empty.
pub(super) fn origin_of(file: &str, line: &str, id: &str) -> String {
    let line = if line.is_empty() { String::new() } else { format!(", line {line}") };
    let id = if id.is_empty() { String::new() } else { format!(", id {id}") };
    format!("{file}{line}{id}")
}
