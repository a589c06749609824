//! Incremental splitting of files into records.

use crate::source::Framing;

/// Receiver of the records that a [`Framer`] finds.
pub(super) trait RecordSink {
    /// Appends bytes to the current record.
    fn extend(&mut self, bytes: &[u8]);
    /// Ends the current record, which began on line `line`. A blank record is dropped.
    fn close(&mut self, line: u64);
    /// Returns true if no more records are wanted for now.
    fn is_full(&self) -> bool;
}

/// Incremental splitter: takes the content of a file in pieces of any size.
pub(super) struct Framer {
    line: u64,
    state: State,
}

enum State {
    Lines,
    Document,
    Blocks(Block),
    Array(Array),
}

#[derive(Default)]
struct Block {
    /// First line of the block.
    start: u64,
    /// True if any line of the block is not blank.
    begun: bool,
    /// True if the current line is blank so far.
    blank_line: bool,
}

impl Framer {
    pub(super) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Lines => State::Lines,
            Framing::Document => State::Document,
            Framing::Blocks => State::Blocks(Block { start: 1, begun: false, blank_line: true }),
            Framing::Array(name) => State::Array(Array { name, ..Array::default() }),
            // Rows of Parquet are read by `parquet`; here such a file would be one record.
            Framing::Parquet => State::Document,
        };
        Self { line: 1, state }
    }

    /// Processes a piece of the file and returns the number of bytes consumed; stops early if `records` is full.
    pub(super) fn feed(&mut self, chunk: &[u8], records: &mut impl RecordSink) -> usize {
        match &mut self.state {
            State::Lines => {
                let mut taken = 0;
                while taken < chunk.len() {
                    let rest = &chunk[taken..];
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        records.extend(rest);
                        return chunk.len();
                    };
                    records.extend(&rest[..end]);
                    records.close(self.line);
                    self.line += 1;
                    taken += end + 1;
                    if records.is_full() {
                        break;
                    }
                }
                taken
            }
            State::Document => {
                records.extend(chunk);
                chunk.len()
            }
            State::Blocks(block) => {
                let mut taken = 0;
                while taken < chunk.len() {
                    let rest = &chunk[taken..];
                    let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                    let (piece, is_whole) = (&rest[..end], rest[..end].ends_with(b"\n"));
                    taken += end;
                    block.blank_line &= piece.trim_ascii().is_empty();
                    if !block.blank_line && !block.begun {
                        (block.begun, block.start) = (true, self.line);
                    }
                    if block.begun {
                        records.extend(piece);
                    }
                    if !is_whole {
                        continue;
                    }
                    self.line += 1;
                    if std::mem::replace(&mut block.blank_line, true) && block.begun {
                        block.begun = false;
                        records.close(block.start);
                        if records.is_full() {
                            break;
                        }
                    }
                }
                taken
            }
            State::Array(array) => array.feed(chunk, &mut self.line, records),
        }
    }

    /// Ends the last record at the end of the file.
    pub(super) fn finish(&mut self, records: &mut impl RecordSink) {
        match &mut self.state {
            State::Lines => records.close(self.line),
            State::Document => records.close(1),
            State::Blocks(block) => records.close(block.start),
            State::Array(array) => array.finish(records),
        }
    }
}

/// Position in a document `{…, "data": [record, record, …], …}`, for an array of any name. Only strings and brackets are parsed; the parser of the records
/// validates their JSON.
#[derive(Default)]
struct Array {
    /// Key of the array.
    name: &'static str,
    /// Number of open brackets.
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Beginning of the latest string at depth 1, which may be a key.
    key: Vec<u8>,
    in_data: bool,
    /// True once the array has ended.
    seen: bool,
    /// First line of the current record, if inside one.
    record: Option<u64>,
    /// True once the document has a character that is not white space.
    any: bool,
}

impl Array {
    fn feed(&mut self, chunk: &[u8], line: &mut u64, records: &mut impl RecordSink) -> usize {
        // Start of the record's bytes in this chunk.
        let mut start = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            self.any |= !byte.is_ascii_whitespace();
            *line += u64::from(byte == b'\n');
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ if self.depth == 1 && self.key.len() <= self.name.len() => self.key.push(byte),
                    _ => {}
                }
                continue;
            }
            if self.in_data && self.depth == 2 {
                let ends = byte == b',' || byte == b']';
                match (self.record, ends) {
                    (None, false) if !byte.is_ascii_whitespace() => (self.record, start) = (Some(*line), at),
                    (Some(began), true) => {
                        self.record = None;
                        records.extend(&chunk[start..at]);
                        records.close(began);
                    }
                    _ => {}
                }
                if byte == b']' {
                    (self.in_data, self.seen) = (false, true);
                }
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.key.clear();
                }
                b'{' | b'[' => {
                    self.in_data |= byte == b'[' && self.depth == 1 && self.key == self.name.as_bytes();
                    self.depth += 1;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b',' if self.depth == 1 => self.key.clear(),
                _ => {}
            }
            if self.record.is_none() && records.is_full() {
                return at + 1;
            }
        }
        if self.record.is_some() {
            records.extend(&chunk[start..]);
        }
        chunk.len()
    }

    /// Ends the document. An incomplete record, or a document without `data`, becomes a record that its parser rejects.
    fn finish(&mut self, records: &mut impl RecordSink) {
        if let Some(began) = self.record.take() {
            records.close(began);
        } else if self.any && !self.seen && !self.in_data {
            records.extend(format!("(the document has no array `{}`)", self.name).as_bytes());
            records.close(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Collected {
        open: Vec<u8>,
        closed: Vec<(u64, String)>,
    }

    impl RecordSink for Collected {
        fn extend(&mut self, bytes: &[u8]) {
            self.open.extend_from_slice(bytes);
        }

        fn close(&mut self, line: u64) {
            let text = String::from_utf8(std::mem::take(&mut self.open)).expect("text");
            if !text.trim().is_empty() {
                self.closed.push((line, text));
            }
        }

        fn is_full(&self) -> bool {
            false
        }
    }

    fn framed(framing: Framing, pieces: &[&str]) -> Vec<(u64, String)> {
        let mut framer = Framer::new(framing);
        let mut collected = Collected::default();
        for piece in pieces {
            assert_eq!(framer.feed(piece.as_bytes(), &mut collected), piece.len());
        }
        framer.finish(&mut collected);
        collected.closed
    }

    fn owned(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|&(line, text)| (line, text.to_owned())).collect()
    }

    const DATA: &str = "{\"version\": \"[1,\\\"data\\\"\", \"x\": {\"data\": [7]}, \"data\":\n [{\"a\": \"}],\\\\\"},\n {\"b\": [1, 2]}\n, 3 ], \"y\": [4]}";

    #[test]
    fn the_elements_of_data_are_records() {
        let expected = owned(&[(2, "{\"a\": \"}],\\\\\"}"), (3, "{\"b\": [1, 2]}\n"), (4, "3 ")]);
        assert_eq!(framed(Framing::Array("data"), &[DATA]), expected);
        assert_eq!(framed(Framing::Array("data"), &["{\"data\": []}"]), []);
        assert_eq!(framed(Framing::Array("data"), &["{\"data\": [{\"cut"]), owned(&[(1, "{\"cut")]));
        assert_eq!(framed(Framing::Array("data"), &["{\"date\": [1]}"])[0].1, "(the document has no array `data`)");
        assert_eq!(framed(Framing::Array("data"), &[" \n"]), []);
    }

    #[test]
    fn blocks_are_separated_by_blank_lines() {
        let text = "\n1 a\n2 b\n\n \n\n1 c\r\n2 d";
        assert_eq!(framed(Framing::Blocks, &[text]), owned(&[(2, "1 a\n2 b\n\n"), (7, "1 c\r\n2 d")]));
        assert_eq!(framed(Framing::Document, &["{\n", "}"]), owned(&[(1, "{\n}")]));
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_records(cuts in prop::collection::vec(0_usize..120, 0..8), which in 0_usize..4) {
            let framing = [Framing::Lines, Framing::Document, Framing::Blocks, Framing::Array("data")][which];
            let text = if which == 3 { DATA } else { "\n1 a\n2 b\n\n \n\n1 c\r\n2 d\n" };
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(framed(framing, &pieces), framed(framing, &[text]));
        }
    }
}
