//! Two files with one text per line, read together.
//!
//! The lines of both become one line of JSON, `{"source_line": "…", "target_line": "…"}`, so that everything after the reader handles
//! pairs like any other record. Line `n` of the result is line `n` of both files. Blank lines count: a pair may have an empty side.

use std::io::{self, BufRead, Read};

/// Bytes of a line that are kept; more than a record may have, so that such a line is rejected and does not grow memory.
const KEPT: usize = 8 << 20;

/// Reader of the lines of one or two files as JSON.
pub(super) struct PairedLines<'a> {
    source: Lines<'a>,
    /// `None` if targets are unknown.
    target: Option<Lines<'a>>,
    /// JSON that has not been read yet.
    ready: Vec<u8>,
    at: usize,
    ended: bool,
}

/// Lines of one file.
struct Lines<'a> {
    file: Box<dyn BufRead + 'a>,
    line: Vec<u8>,
    count: u64,
}

/// Numbers of lines of two files that must have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unequal {
    /// Lines of the file of sources.
    pub(super) source: u64,
    /// Lines of the file of targets.
    pub(super) target: u64,
}

impl<'a> Lines<'a> {
    fn new(file: Box<dyn BufRead + 'a>) -> Self {
        Self { file, line: Vec::new(), count: 0 }
    }

    /// Reads the next line without its end; returns false at the end of the file.
    fn next(&mut self) -> io::Result<bool> {
        self.line.clear();
        let mut is_empty = true;
        loop {
            let chunk = match self.file.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            is_empty = false;
            let end = memchr::memchr(b'\n', chunk);
            let room = KEPT.saturating_sub(self.line.len());
            let content = &chunk[..end.unwrap_or(chunk.len())];
            self.line.extend_from_slice(&content[..content.len().min(room)]);
            let consumed = end.map_or(chunk.len(), |end| end + 1);
            self.file.consume(consumed);
            if end.is_some() {
                break;
            }
        }
        if is_empty {
            return Ok(false);
        }
        if self.line.ends_with(b"\r") {
            self.line.pop();
        }
        if self.count == 0 && self.line.starts_with("\u{feff}".as_bytes()) {
            self.line.drain(..3);
        }
        self.count += 1;
        Ok(true)
    }

    /// Counts the lines that are left.
    fn count(&mut self) -> io::Result<u64> {
        while self.next()? {}
        Ok(self.count)
    }
}

impl<'a> PairedLines<'a> {
    /// Reads two files, or one if there are no targets.
    pub(super) fn new(source: Box<dyn BufRead + 'a>, target: Option<Box<dyn BufRead + 'a>>) -> Self {
        Self { source: Lines::new(source), target: target.map(Lines::new), ready: Vec::new(), at: 0, ended: false }
    }

    /// Checks after the end that both files have the same number of lines. Returns `Ok(None)` as well if they were not read to the end.
    ///
    /// # Errors
    /// Errors of the files.
    pub(super) fn unequal(&mut self) -> io::Result<Option<Unequal>> {
        let Some(target) = self.target.as_mut().filter(|_| self.ended) else { return Ok(None) };
        let (source, target) = (self.source.count()?, target.count()?);
        Ok((source != target).then_some(Unequal { source, target }))
    }

    /// Makes the JSON of the next lines; returns false at the end of either file.
    fn advance(&mut self) -> io::Result<bool> {
        self.ready.clear();
        self.at = 0;
        let has_source = self.source.next()?;
        let has_target = self.target.as_mut().map(Lines::next).transpose()?;
        if !has_source || has_target == Some(false) {
            self.ended = true;
            return Ok(false);
        }
        self.ready.extend_from_slice(b"{\"source_line\": ");
        push_string(&mut self.ready, &self.source.line);
        if let Some(target) = &self.target {
            self.ready.extend_from_slice(b", \"target_line\": ");
            push_string(&mut self.ready, &target.line);
        }
        self.ready.extend_from_slice(b"}\n");
        Ok(true)
    }
}

/// Appends bytes as a JSON string. Bytes that are not UTF-8 stay, to be reported with their record.
pub(crate) fn push_string(json: &mut Vec<u8>, text: &[u8]) {
    json.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
            0..0x20 => json.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => json.push(byte),
        }
    }
    json.push(b'"');
}

impl Read for PairedLines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() && (self.ended || !self.advance()?) {
            return Ok(0);
        }
        let length = buffer.len().min(self.ready.len() - self.at);
        buffer[..length].copy_from_slice(&self.ready[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(source: &str, target: Option<&str>) -> (String, Option<Unequal>) {
        let open = |text: &str| Box::new(io::Cursor::new(text.to_owned())) as Box<dyn BufRead>;
        let mut lines = PairedLines::new(open(source), target.map(open));
        let mut text = String::new();
        lines.read_to_string(&mut text).expect("text");
        (text, lines.unequal().expect("counts"))
    }

    #[test]
    fn lines_are_paired_by_number() {
        let (text, unequal) = read("\u{feff}a \"b\"\r\n\nc\\\td", Some("x\n y\n\n"));
        assert_eq!(unequal, None);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let expected = [("a \"b\"", "x"), ("", " y"), ("c\\\td", "")];
        for (line, (source, target)) in lines.iter().zip(expected) {
            assert_eq!(line, &serde_json::json!({"source_line": source, "target_line": target}));
        }
        assert_eq!(lines.len(), 3);
        assert_eq!(read("a\n", None).0, "{\"source_line\": \"a\"}\n");
    }

    #[test]
    fn unequal_numbers_of_lines_are_found() {
        assert_eq!(read("a\nb\nc\n", Some("x\n")).1, Some(Unequal { source: 3, target: 1 }));
        assert_eq!(read("a\n", Some("x\ny")).1, Some(Unequal { source: 1, target: 2 }));
        assert_eq!(read("", Some("")), (String::new(), None));
    }

    proptest! {
        #[test]
        fn no_line_is_changed(lines in prop::collection::vec("[^\r\n\u{feff}]{0,12}", 0..8)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let (json, unequal) = read(&text, Some(&text));
            prop_assert_eq!(unequal, None);
            let found: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            prop_assert_eq!(found.len(), lines.len());
            for (found, line) in found.iter().zip(&lines) {
                prop_assert_eq!(found["source_line"].as_str(), Some(line.as_str()));
                prop_assert_eq!(found["target_line"].as_str(), Some(line.as_str()));
            }
        }
    }
}
