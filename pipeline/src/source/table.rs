//! Tables: rows of fields, separated by tabs (TSV) or commas (CSV).

use std::io::{self, BufRead};

use csv_core::{ReadFieldResult, Reader, ReaderBuilder, Terminator};
use glm_schemas::manifest::hex;
use glm_support::files::checksum::FileDigest;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::discover;
use super::unpack::fill;

/// Bytes of a field that are read at once.
const BUFFER_BYTES: usize = 4 << 10;

/// Form of the records in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordForm {
    /// A JSON object per line.
    Jsonl,
    /// A row per line, of fields that are separated by tabs. Quotes are characters like others, as in the files of GLUE.
    Tsv,
    /// A row per line, of fields that are separated by commas. A field in quotes may hold commas and line breaks; a quote in it is
    /// written twice.
    Csv,
}

impl RecordForm {
    /// The form that the extension of a file, compressed or not, stands for.
    pub fn of_name(name: &str) -> Self {
        let plain = discover::uncompressed(name).to_ascii_lowercase();
        match plain.rsplit_once('.') {
            Some((_, "tsv")) => Self::Tsv,
            Some((_, "csv")) => Self::Csv,
            _ => Self::Jsonl,
        }
    }
}

/// Layout of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<'a> {
    /// True if fields are separated by commas, false if by tabs.
    pub is_csv: bool,
    /// Names of the columns; `None` if the first row has them.
    pub columns: Option<&'a [String]>,
    /// Columns that must be there.
    pub needed: Vec<&'a str>,
}

/// Row of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Number of its first line, from 1.
    pub(crate) line: u64,
    text: Vec<u8>,
    /// Ends of the fields in the text.
    ends: Vec<usize>,
}

impl Row {
    /// The fields, without quotes around them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end])
    }

    /// Number of fields.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Makes the fields of the last line of a file end before its carriage return.
    fn trim_line_end(&mut self) {
        let start = self.ends.iter().rev().nth(1).copied().unwrap_or(0);
        if let Some(end) = self.ends.last_mut()
            && self.text[start..*end].ends_with(b"\r")
        {
            *end -= 1;
            self.text.pop();
        }
    }
}

/// Reader of the rows of a file.
pub(crate) struct Rows<'a> {
    file: &'a mut dyn BufRead,
    reader: Reader,
    /// Bytes of a row that are kept.
    kept: usize,
    hash: Sha256,
    bytes: u64,
}

impl<'a> Rows<'a> {
    /// Reads a table. Of a row that is longer than `kept` bytes, only the beginning is kept.
    pub(crate) fn new(file: &'a mut dyn BufRead, is_csv: bool, kept: usize) -> Self {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(if is_csv { b',' } else { b'\t' }).quoting(is_csv);
        // A carriage return ends a line only before a line feed: some texts hold one.
        builder.terminator(Terminator::Any(b'\n'));
        Self { file, reader: builder.build(), kept, hash: Sha256::new(), bytes: 0 }
    }

    /// Reads the next row into `row`; returns false at the end of the file. Blank lines are skipped.
    ///
    /// # Errors
    /// Errors of the file.
    pub(crate) fn next(&mut self, row: &mut Row) -> io::Result<bool> {
        let (mut buffer, mut breaks) = ([0; BUFFER_BYTES], 0);
        row.text.clear();
        row.ends.clear();
        loop {
            let chunk = fill(&mut *self.file)?;
            let (found, taken, written) = self.reader.read_field(chunk, &mut buffer);
            let ends_line = chunk[..taken].ends_with(b"\n");
            self.hash.update(&chunk[..taken]);
            self.bytes += taken as u64;
            self.file.consume(taken);
            let piece = &buffer[..written];
            breaks += memchr::memchr_iter(b'\n', piece).count() as u64;
            row.text.extend_from_slice(&piece[..piece.len().min(self.kept.saturating_sub(row.text.len()))]);
            let is_last = match found {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => continue,
                ReadFieldResult::End => return Ok(false),
                ReadFieldResult::Field { record_end } => record_end,
            };
            if row.ends.is_empty() {
                row.line = self.reader.line() - breaks - u64::from(is_last && ends_line);
            }
            if row.ends.len() <= self.kept {
                row.ends.push(row.text.len());
            }
            if !is_last {
                continue;
            }
            row.trim_line_end();
            if row.ends == [0] {
                row.ends.clear();
                continue;
            }
            return Ok(true);
        }
    }

    /// Number of bytes that were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Digest of what was read.
    pub(crate) fn digest(self) -> FileDigest {
        FileDigest { bytes: self.bytes, sha256: hex(&self.hash.finalize()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    const KEPT: usize = 1 << 20;

    /// Line and fields of every row.
    fn rows(text: &[u8], is_csv: bool, capacity: usize, kept: usize) -> Vec<(u64, Vec<String>)> {
        let mut file = BufReader::with_capacity(capacity, text);
        let mut rows = Rows::new(&mut file, is_csv, kept);
        let (mut row, mut found) = (Row::default(), Vec::new());
        while rows.next(&mut row).expect("read") {
            assert_eq!(row.fields().count(), row.len());
            found.push((row.line, row.fields().map(|field| String::from_utf8_lossy(field).into_owned()).collect()));
        }
        assert_eq!(rows.digest(), glm_support::files::checksum::digest(text).expect("digest"));
        found
    }

    fn owned(rows: &[(u64, &[&str])]) -> Vec<(u64, Vec<String>)> {
        rows.iter().map(|(line, fields)| (*line, fields.iter().map(|&field| field.to_owned()).collect())).collect()
    }

    #[test]
    fn quotes_are_characters_in_tsv_and_none_in_csv() {
        let tsv = "\u{feff}a\tb\r\n\n\"x\t\"\"y\" z\r\n\r\n 1,2 \t\n\t\nlast\rone\tend";
        let expected = owned(&[
            (1, &["a", "b"]),
            (3, &["\"x", "\"\"y\" z"]),
            (5, &[" 1,2 ", ""]),
            (6, &["", ""]),
            (7, &["last\rone", "end"]),
        ]);
        assert_eq!(rows(tsv.as_bytes(), false, 64, KEPT), expected);
        let csv = "\n\"1\",\"a \"\"b\"\",\nc\"\r\n2,d\"e\n\"f\n\n g\",\"\"\r\n3,\"open\nto the end";
        let expected =
            owned(&[(2, &["1", "a \"b\",\nc"]), (4, &["2", "d\"e"]), (5, &["f\n\n g", ""]), (8, &["3", "open\nto the end"])]);
        assert_eq!(rows(csv.as_bytes(), true, 64, KEPT), expected);
        assert_eq!(rows(b"", true, 8, KEPT), []);
    }

    #[test]
    fn an_endless_field_does_not_grow_memory() {
        let text = format!("1,\"{}\n", "x".repeat(3 * BUFFER_BYTES));
        let found = rows(text.as_bytes(), true, 999, BUFFER_BYTES);
        assert_eq!((found.len(), found[0].0, found[0].1[1].len()), (1, 1, BUFFER_BYTES - 1));
    }

    #[test]
    fn the_extension_tells_the_form() {
        for (name, form) in [
            ("a/train.tsv", RecordForm::Tsv),
            ("TEST.CSV.gz", RecordForm::Csv),
            ("a.csv/train.jsonl", RecordForm::Jsonl),
            ("x.zip/high/1.txt", RecordForm::Jsonl),
            ("a.csv.jsonl", RecordForm::Jsonl),
            ("csv", RecordForm::Jsonl),
        ] {
            assert_eq!(RecordForm::of_name(name), form, "{name}");
        }
    }

    fn csv_field(field: &str, quoted: bool) -> String {
        if quoted || field.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.to_owned()
        }
    }

    proptest! {
        #[test]
        fn fields_survive(
            table in prop::collection::vec(prop::collection::vec(("[a\"\\\\,\t\r\n é]{0,6}", any::<bool>()), 2..5), 0..6),
            is_csv: bool, ends: bool, windows: bool, capacity in 3_usize..40,
        ) {
            let plain = |field: &str| field.replace(['\t', '\n', '\r'], " ");
            let row = |row: &Vec<(String, bool)>| -> (String, Vec<String>) {
                let fields = row.iter().map(|(field, quoted)| if is_csv {
                    // The carriage return at the end of a row cannot be told from that of its line.
                    let field = field.trim_end_matches('\r').to_owned();
                    (csv_field(&field, *quoted), field)
                } else {
                    (plain(field), plain(field))
                });
                let (raw, fields): (Vec<_>, Vec<_>) = fields.unzip();
                (raw.join(if is_csv { "," } else { "\t" }), fields)
            };
            let end = if windows { "\r\n" } else { "\n" };
            let (mut text, mut expected, mut line) = (String::new(), Vec::new(), 1);
            for (number, (raw, fields)) in table.iter().map(row).enumerate() {
                text += &raw;
                if ends || number + 1 < table.len() {
                    text += end;
                }
                expected.push((line, fields));
                line += 1 + raw.matches('\n').count() as u64;
            }
            prop_assert_eq!(rows(text.as_bytes(), is_csv, capacity, KEPT), expected);
        }

        #[test]
        fn any_bytes_are_a_table(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\n'), Just(b',')], 0..60), is_csv: bool, capacity in 3_usize..9) {
            let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
            let found = rows(&bytes, is_csv, capacity, KEPT);
            prop_assert!(found.iter().all(|(line, fields)| *line >= 1 && *line <= lines && !fields.is_empty()));
            prop_assert!(found.is_sorted_by_key(|(line, _)| *line));
        }
    }
}
