//! A raw file as batches of lines.

use std::io::{self, BufRead, BufReader, Read};

use glm_schemas::manifest::hex;
use sha2::{Digest, Sha256};

/// Lines beyond this are not read whole: the passage of a record takes a few kilobytes.
pub const MAX_LINE_BYTES: usize = 16 << 20;
/// How much of such a line is kept, for the list of rejects.
const KEPT_OF_LONG_LINE: usize = 64 << 10;
/// A batch is closed when it holds this much: enough that handing it on costs nothing, and little enough to be spread.
const BATCH_BYTES: usize = 128 << 10;
const READ_BYTES: usize = 256 << 10;

/// One line, as bytes of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// Number in the file, from 1.
    pub(super) number: u64,
    start: usize,
    end: usize,
    /// Longer than [`MAX_LINE_BYTES`]; only its beginning is here.
    pub(super) too_long: bool,
}

/// Lines that travel together.
#[derive(Debug, Default)]
pub(super) struct LineBatch {
    /// Place among the batches of the file, from 0.
    pub(super) sequence: u64,
    /// Bytes of the file that it stands for, for the progress bar.
    pub(super) raw_bytes: u64,
    data: Vec<u8>,
    lines: Vec<Line>,
}

impl LineBatch {
    /// The lines and their bytes, without line ends. None is blank.
    pub(super) fn lines(&self) -> impl Iterator<Item = (Line, &[u8])> {
        self.lines.iter().map(|line| (*line, &self.data[line.start..line.end]))
    }
}

/// What a file was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileDigest {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// Reads `file` to its end, handing on batches of lines until `send` returns false. Blank lines are left out.
pub(super) fn read(file: &mut dyn Read, mut send: impl FnMut(LineBatch) -> bool) -> io::Result<FileDigest> {
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut batch = LineBatch::default();
    let mut number = 1;
    let mut start = 0;
    let mut too_long = false;
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let at_end = chunk.is_empty();
        let line_end = memchr::memchr(b'\n', chunk);
        let consumed = line_end.map_or(chunk.len(), |at| at + 1);
        let content = &chunk[..line_end.unwrap_or(chunk.len())];
        hash.update(&chunk[..consumed]);
        bytes += consumed as u64;
        batch.raw_bytes += consumed as u64;
        if !too_long {
            batch.data.extend_from_slice(content);
            too_long = batch.data.len() - start > MAX_LINE_BYTES;
            if too_long {
                batch.data.truncate(start + KEPT_OF_LONG_LINE);
            }
        }
        reader.consume(consumed);
        if line_end.is_none() && !at_end {
            continue;
        }
        batch.close_line(number, start, too_long);
        number += 1;
        start = batch.data.len();
        too_long = false;
        if (at_end && batch.raw_bytes > 0) || batch.data.len() >= BATCH_BYTES {
            let next = LineBatch { sequence: batch.sequence + 1, ..LineBatch::default() };
            if !send(std::mem::replace(&mut batch, next)) {
                break;
            }
            start = 0;
        }
        if at_end {
            break;
        }
    }
    Ok(FileDigest { bytes, sha256: hex(&hash.finalize()) })
}

impl LineBatch {
    fn close_line(&mut self, number: u64, start: usize, too_long: bool) {
        // Some editors put a byte order mark at the start of a file; no record begins with one.
        let mark = if number == 1 && self.data[start..].starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        let line = &self.data[start + mark..];
        if line.trim_ascii().is_empty() {
            self.data.truncate(start);
            return;
        }
        let carriage_return = usize::from(line.ends_with(b"\r") && !too_long);
        self.lines.push(Line { number, start: start + mark, end: self.data.len() - carriage_return, too_long });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Number, bytes, and whether it was too long.
    type ReadLine = (u64, Vec<u8>, bool);

    /// The lines, what the file was, and the bytes that the batches say they stand for.
    fn read_all(mut file: &[u8]) -> (Vec<ReadLine>, FileDigest, u64) {
        let mut lines = Vec::new();
        let mut raw = 0;
        let mut sequence = 0;
        let digest = read(&mut file, |batch| {
            assert_eq!(batch.sequence, sequence);
            sequence += 1;
            raw += batch.raw_bytes;
            lines.extend(batch.lines().map(|(line, bytes)| (line.number, bytes.to_vec(), line.too_long)));
            true
        })
        .expect("read");
        (lines, digest, raw)
    }

    #[test]
    fn lines_keep_their_numbers_and_blank_ones_are_left_out() {
        let (lines, digest, raw) = read_all(b"\xef\xbb\xbf{1}\r\n\n  \t\n{2}\n\xff{3}");
        let expected: [(u64, &[u8], bool); 3] = [(1, b"{1}", false), (4, b"{2}", false), (5, b"\xff{3}", false)];
        assert_eq!(lines, expected.map(|(number, bytes, long)| (number, bytes.to_vec(), long)));
        assert_eq!((digest.bytes, raw), (21, 21));
        assert_eq!(read_all(b"").0, []);
        assert_eq!(read_all(b"").1.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut file = vec![b'x'; MAX_LINE_BYTES + 10];
        file.extend_from_slice(b"\n{}\n");
        let (lines, digest, _) = read_all(&file);
        assert_eq!((lines[0].0, lines[0].1.len(), lines[0].2), (1, KEPT_OF_LONG_LINE, true));
        assert_eq!(lines[1], (2, b"{}".to_vec(), false));
        assert_eq!(digest.bytes, file.len() as u64);
    }

    #[test]
    fn reading_stops_when_nobody_listens() {
        let file = b"x\n".repeat(400_000);
        let mut batches = 0;
        read(&mut file.as_slice(), |_| {
            batches += 1;
            false
        })
        .expect("read");
        assert_eq!(batches, 1);
    }

    proptest! {
        #[test]
        fn no_line_is_lost(lengths in prop::collection::vec(prop_oneof![0_usize..3, 0_usize..900, 0_usize..90_000], 0..60), last_ends: bool) {
            let lines: Vec<_> = lengths.iter().zip((b'a'..=b'z').cycle()).map(|(&length, letter)| vec![letter; length]).collect();
            let mut file = lines.join(&b'\n');
            if last_ends { file.push(b'\n'); }
            let expected: Vec<_> = file.split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty())
                .map(|(at, line)| (at as u64 + 1, line.to_vec(), false)).collect();
            let (found, digest, raw) = read_all(&file);
            prop_assert!(found == expected);
            prop_assert_eq!((digest.bytes, raw), (file.len() as u64, file.len() as u64));
        }
    }
}
