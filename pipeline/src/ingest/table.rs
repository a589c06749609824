//! Rows of tables as records.

use std::io::BufRead;

use glm_support::files::checksum::FileDigest;

use super::records::{Batcher, RecordBatch, RowFault};
use crate::source::input::{InputError, ReadError};
use crate::source::push_string;
use crate::source::table::{Row, Rows, Table};

/// Maximum number of columns in a message.
const SHOWN_COLUMNS: usize = 20;

/// Reads a table and passes each row to `batcher` as a JSON object of texts, with the names of its columns. `name` is that of the file.
///
/// # Errors
/// [`ReadError`] if the file cannot be read, has not the columns that it needs, or has a quote that is not closed: how many rows follow it
/// is unknown then.
pub(super) fn read<F: FnMut(RecordBatch) -> bool>(
    batcher: &mut Batcher<F>,
    number: usize,
    file: &mut dyn BufRead,
    table: &Table<'_>,
    name: &str,
) -> Result<Option<FileDigest>, ReadError> {
    let is_csv = table.is_csv;
    let mut rows = Rows::new(file, is_csv, batcher.max_record_bytes());
    let mut row = Row::default();
    batcher.begin(number);
    let mut covered = 0;
    let columns = match table.columns {
        Some(columns) => columns.to_vec(),
        None if rows.next(&mut row)? => row.fields().map(|field| String::from_utf8_lossy(field).trim().to_owned()).collect(),
        None => Vec::new(),
    };
    check(table, &columns, name)?;
    if let Some(twice) = table.needed.iter().find(|&&needed| columns.iter().filter(|&column| column == needed).count() > 1) {
        let what = format!("has two columns `{twice}`; rename or remove one of them");
        return Err(ReadError::File(InputError::Wrong { name: name.to_owned(), what }));
    }
    let keys: Vec<Vec<u8>> = columns.iter().map(|column| key(column)).collect();
    let mut json = Vec::new();
    while !batcher.is_done() && rows.next(&mut row)? {
        let is_open = row.is_misquoted && (row.has_breaks || rows.is_at_end()?);
        if is_open {
            let what = format!(
                "has a field in quotes, in the row of line {}, that is not closed, or holds a quote that is not written twice",
                row.line
            );
            return Err(ReadError::File(InputError::Wrong { name: name.to_owned(), what }));
        }
        json.clear();
        json.push(b'{');
        for (at, (key, field)) in keys.iter().zip(row.fields()).enumerate() {
            if at > 0 {
                json.push(b',');
            }
            json.extend_from_slice(key);
            push_string(&mut json, field);
        }
        // Fields without a column are kept for the list of rejected records.
        for (at, field) in row.fields().enumerate().skip(keys.len()) {
            json.extend_from_slice(if at > 0 { b"," } else { b"" });
            json.extend_from_slice(format!("\"column {}\":", at + 1).as_bytes());
            push_string(&mut json, field);
        }
        json.push(b'}');
        let (found, expected) = (row.len(), columns.len());
        let fault = match row.is_misquoted {
            true => Some(RowFault::Quotes),
            false => (found != expected).then_some(RowFault::Fields { found, expected, is_csv }),
        };
        batcher.row(&json, row.line, rows.bytes() - covered, fault);
        covered = rows.bytes();
    }
    let digest = rows.digest();
    batcher.end(digest.bytes - covered);
    Ok(batcher.is_complete().then_some(digest))
}

/// A column as the key of a JSON object.
fn key(column: &str) -> Vec<u8> {
    let mut key = Vec::new();
    push_string(&mut key, column.as_bytes());
    key.push(b':');
    key
}

/// Checks that a table has the columns that are needed.
fn check(table: &Table<'_>, columns: &[String], name: &str) -> Result<(), ReadError> {
    let Some(missing) = table.needed.iter().find(|needed| !columns.iter().any(|column| column == *needed)) else {
        return Ok(());
    };
    let shown: Vec<_> = columns.iter().take(SHOWN_COLUMNS).map(String::as_str).collect();
    let source = if table.columns.is_some() { "`files.columns` of the pattern file names" } else { "its first line names" };
    // Zeros of UTF-16 would not show.
    let shown = shown.join(", ").replace('\0', "");
    let what = format!("has no column `{missing}`, which the pattern needs; {source} {shown}{}", hint(columns, table.is_csv));
    Err(ReadError::File(InputError::Wrong { name: name.to_owned(), what }))
}

/// Cause, and remedy, of a first line that is a single field.
fn hint(columns: &[String], is_csv: bool) -> &'static str {
    match columns {
        [all] if all.contains('\0') => {
            ". It seems to be text in UTF-16; convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`"
        }
        [all] if is_csv && all.contains(';') => ". Fields must be separated by commas, not by semicolons",
        [all] if is_csv && all.contains('\t') => ". Fields must be separated by commas, not by tabs",
        [all] if !is_csv && all.contains(',') => ". Fields must be separated by tabs, not by commas",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_separators_and_utf_16_are_named() {
        let hint = |first: &str, is_csv| hint(&[first.to_owned()], is_csv);
        assert!(hint("text;label", true).contains("not by semicolons"));
        assert!(hint("text\tlabel", true).contains("not by tabs"));
        assert!(hint("text,label", false).contains("not by commas"));
        assert!(hint("t\0e\0x\0t\0", true).contains("iconv -f UTF-16"));
        assert_eq!(hint("text", true), "");
    }
}
