//! Output formats of rows: table, CSV, JSON lines.

use std::io::Write;

use glm_prep::inspect::Format;
use glm_support::command::paint::shorten;
use polars::error::PolarsError;
use polars::prelude::DataFrame;

use super::json::{self, PrintError};

/// Maximum length of a text in a table.
const CELL_CHARS: usize = 48;

/// Printer of frames with the same columns, one after another.
pub(super) struct Printer {
    format: Format,
    has_header: bool,
    /// Rows of a table: its columns are as wide as their widest cell.
    table: Vec<Vec<String>>,
}

impl Printer {
    pub(super) fn new(format: Format) -> Self {
        Self { format, has_header: false, table: Vec::new() }
    }

    /// Prints the rows of a frame; the first frame may have no rows.
    pub(super) fn add(&mut self, frame: &DataFrame, out: &mut dyn Write) -> Result<(), PrintError> {
        let is_first = !std::mem::replace(&mut self.has_header, true);
        let names = || frame.columns().iter().map(|column| column.name().to_string());
        match self.format {
            Format::Json => return json::print_lines(frame, out),
            Format::Csv if is_first => print_line(names(), out)?,
            Format::Table if is_first => self.table.push(names().collect()),
            Format::Csv | Format::Table => {}
        }
        for row in 0..frame.height() {
            let cells = frame.columns().iter().map(|column| column.get(row));
            if self.format == Format::Csv {
                let cells: Result<Vec<_>, PolarsError> = cells.map(|cell| cell.map(json::exact)).collect();
                print_line(cells?.into_iter(), out)?;
            } else {
                let cells: Result<Vec<_>, PolarsError> = cells.map(|cell| cell.map(json::cell)).collect();
                self.table.push(cells?.iter().map(|cell| shorten(cell, CELL_CHARS)).collect());
            }
        }
        Ok(())
    }

    /// Prints what is left. (Polars' own table omits rows in the middle.)
    pub(super) fn finish(mut self, out: &mut dyn Write) -> Result<(), PrintError> {
        let Some(header) = self.table.first() else { return Ok(()) };
        let width = |column: usize| self.table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        self.table.insert(1, widths.iter().map(|&width| "-".repeat(width)).collect());
        for row in &self.table {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            writeln!(out, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Prints a whole frame.
pub(super) fn print(frame: &DataFrame, format: Format, out: &mut dyn Write) -> Result<(), PrintError> {
    let mut printer = Printer::new(format);
    printer.add(frame, out)?;
    printer.finish(out)
}

/// Prints a line of CSV (RFC 4180, with `\n` as the end of line).
fn print_line(cells: impl Iterator<Item = String>, out: &mut dyn Write) -> Result<(), PrintError> {
    let quoted = |cell: String| match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    };
    Ok(writeln!(out, "{}", cells.map(quoted).collect::<Vec<_>>().join(","))?)
}

#[cfg(test)]
mod tests {
    use polars::prelude::{IntoColumn, NamedFrom, Series};

    use super::*;

    fn frame() -> DataFrame {
        let text = Series::new("text".into(), ["a \"b\", c", "two\nlines"]).into_column();
        let number = Series::new("number".into(), [Some(20.0 / 3.0), None]).into_column();
        let lists = [Series::new("".into(), [1_i32, 2]), Series::new("".into(), [3_i32])];
        DataFrame::new(2, vec![text, number, Series::new("list".into(), lists).into_column()]).expect("frame")
    }

    fn printed(frame: &DataFrame, format: Format) -> String {
        let mut out = Vec::new();
        assert!(print(frame, format, &mut out).is_ok());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn frames_are_printed_in_every_format() {
        let csv = "text,number,list\n\"a \"\"b\"\", c\",6.666666666666667,\"[1,2]\"\n\"two\nlines\",,[3]\n";
        assert_eq!(printed(&frame(), Format::Csv), csv);
        let table =
            "text       number   list\n---------  -------  -----\na \"b\", c   6.66667  [1,2]\ntwo lines           [3]\n";
        assert_eq!(printed(&frame(), Format::Table), table);
        assert_eq!(printed(&frame(), Format::Json).lines().count(), 2);
        let none = frame().head(Some(0));
        assert_eq!(printed(&none, Format::Csv), "text,number,list\n");
        assert_eq!(printed(&none, Format::Table), "text  number  list\n----  ------  ----\n");
        assert_eq!(printed(&none, Format::Json), "");
    }

    #[test]
    fn frames_of_one_output_have_one_header() {
        let mut out = Vec::new();
        let mut printer = Printer::new(Format::Csv);
        for _ in 0..2 {
            assert!(printer.add(&frame().select(["number"]).expect("column"), &mut out).is_ok());
        }
        assert!(printer.finish(&mut out).is_ok());
        assert_eq!(String::from_utf8(out).expect("text"), "number\n6.666666666666667\n\n6.666666666666667\n\n");
    }
}
