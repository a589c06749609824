//! Raw files as batches of records.

use std::io::{self, BufRead};

use glm_schemas::manifest::hex;
use glm_support::files::checksum::FileDigest;
use sha2::{Digest, Sha256};

use super::frame::{Framer, RecordSink};
use crate::source::Framing;
use crate::source::unpack::fill;

/// Maximum size of a record, unless another is set; larger records are rejected. A passage with its questions takes a few kilobytes; the
/// memory for a record of questions of this size is up to about a hundred times as large, for a document up to about 14 times.
pub const MAX_RECORD_BYTES: usize = 4 << 20;
/// Bytes kept of a rejected record, for the list of rejects.
pub(super) const KEPT_OF_REJECT: usize = 4 << 10;
/// Size at which a batch is closed: large enough to make the cost of the queues negligible, small enough to balance the workers.
const BATCH_BYTES: usize = 128 << 10;

/// Position of a record in its batch and its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Number of its first line, from 1.
    pub(super) line: u64,
    /// Index among the records of the file, from 0.
    pub(super) position: u64,
    start: usize,
    end: usize,
    /// Length in the file.
    pub(super) bytes: u64,
    /// True if the record exceeds the maximum size, so that only its beginning is kept.
    pub(super) is_too_long: bool,
    /// Fault of the row of a table that the record is.
    pub(super) fault: Option<RowFault>,
}

/// Fault of a row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowFault {
    /// It has not the fields of its table.
    Fields { found: usize, expected: usize, is_csv: bool },
    /// The quotes of a field are not those of CSV.
    Quotes,
}

/// Consecutive records of a file.
#[derive(Debug, Default)]
pub(super) struct RecordBatch {
    /// Index among the batches of the split, from 0.
    pub(super) sequence: u64,
    /// Index of the file among those of the split.
    pub(super) file: usize,
    /// Number of bytes of the file that the batch covers, for the progress bar.
    pub(super) raw_bytes: u64,
    data: Vec<u8>,
    records: Vec<Record>,
}

impl RecordBatch {
    /// Number of permits that the batch takes while it is in flight: one for each [`MAX_RECORD_BYTES`], up to `most`.
    pub(super) fn permits(&self, most: usize) -> usize {
        self.data.len().div_ceil(MAX_RECORD_BYTES).clamp(1, most)
    }

    /// Returns the records and their bytes without line ends. No record is blank.
    pub(super) fn records(&self) -> impl Iterator<Item = (Record, &[u8])> {
        self.records.iter().map(|record| (*record, &self.data[record.start..record.end]))
    }
}

/// Groups the records of a split's files into batches.
pub(super) struct Batcher<F> {
    batch: RecordBatch,
    /// Start of the current record.
    start: usize,
    /// Length of the current record.
    bytes: u64,
    position: u64,
    records: u64,
    limit: u64,
    max_record_bytes: usize,
    /// That of the current record.
    fault: Option<RowFault>,
    stopped: bool,
    send: F,
}

impl<F: FnMut(RecordBatch) -> bool> Batcher<F> {
    /// Passes batches to `send` until it returns false or `limit` records are read. Only the beginning is kept of records that are longer
    /// than `max_record_bytes`.
    pub(super) fn new(limit: Option<usize>, max_record_bytes: usize, send: F) -> Self {
        let limit = limit.map_or(u64::MAX, |limit| limit as u64);
        let (batch, stopped) = (RecordBatch::default(), limit == 0);
        Self { batch, start: 0, bytes: 0, position: 0, records: 0, limit, max_record_bytes, fault: None, stopped, send }
    }

    /// Reads `file` and returns the digest of what was read; `None` if `send` returned false.
    pub(super) fn read(&mut self, number: usize, framing: Framing, file: &mut dyn BufRead) -> io::Result<Option<FileDigest>> {
        self.batch.file = number;
        self.position = 0;
        let mut framer = Framer::new(framing);
        let mut hash = Sha256::new();
        let mut bytes = 0;
        while !self.stopped {
            let chunk = fill(file)?;
            if chunk.is_empty() {
                framer.finish(self);
                self.send_batch();
                break;
            }
            let consumed = framer.feed(chunk, self);
            hash.update(&chunk[..consumed]);
            bytes += consumed as u64;
            self.batch.raw_bytes += consumed as u64;
            file.consume(consumed);
            if self.batch.data.len() >= BATCH_BYTES && self.start == self.batch.data.len() {
                self.send_batch();
            }
        }
        // With a limit, the digest covers only the bytes that were read.
        Ok(self.is_complete().then(|| FileDigest { bytes, sha256: hex(&hash.finalize()) }))
    }

    /// Maximum size of a record in bytes.
    pub(super) fn max_record_bytes(&self) -> usize {
        self.max_record_bytes
    }

    /// Begins a file whose records another reader splits.
    pub(super) fn begin(&mut self, number: usize) {
        self.batch.file = number;
        self.position = 0;
    }

    /// Adds a record of such a file, at a line and with the bytes of the file that it covers. Returns false if no more are wanted.
    pub(super) fn record(&mut self, record: &[u8], line: u64, raw_bytes: u64) -> bool {
        self.row(record, line, raw_bytes, None)
    }

    /// Adds a row as [`Self::record`] does; one with a `fault` is to be rejected.
    pub(super) fn row(&mut self, record: &[u8], line: u64, raw_bytes: u64, fault: Option<RowFault>) -> bool {
        self.batch.raw_bytes += raw_bytes;
        self.fault = fault;
        self.extend(record);
        self.close(line);
        if self.batch.data.len() >= BATCH_BYTES {
            self.send_batch();
        }
        !self.stopped
    }

    /// Ends such a file; `raw_bytes` are those of it that no record covers.
    pub(super) fn end(&mut self, raw_bytes: u64) {
        self.batch.raw_bytes += raw_bytes;
        if !self.stopped {
            self.send_batch();
        }
    }

    /// Returns true if all records were wanted, or the limit is reached.
    pub(super) fn is_complete(&self) -> bool {
        !self.stopped || self.records >= self.limit
    }

    /// Returns true if no more records are wanted.
    pub(super) fn is_done(&self) -> bool {
        self.stopped
    }

    fn send_batch(&mut self) {
        if self.batch.raw_bytes == 0 && self.batch.records.is_empty() {
            return;
        }
        let next = RecordBatch { sequence: self.batch.sequence + 1, file: self.batch.file, ..RecordBatch::default() };
        self.start = 0;
        if !(self.send)(std::mem::replace(&mut self.batch, next)) {
            self.stopped = true;
        }
    }
}

impl<F: FnMut(RecordBatch) -> bool> RecordSink for Batcher<F> {
    fn extend(&mut self, bytes: &[u8]) {
        let is_long = |bytes: u64| bytes > self.max_record_bytes as u64;
        let (was_long, is_long) = (is_long(self.bytes), is_long(self.bytes + bytes.len() as u64));
        self.bytes += bytes.len() as u64;
        if !was_long {
            self.batch.data.extend_from_slice(bytes);
        }
        if is_long {
            self.batch.data.truncate(self.start + KEPT_OF_REJECT);
        }
    }

    fn close(&mut self, line: u64) {
        let bytes = std::mem::take(&mut self.bytes);
        // Some editors write a byte order mark at the start of a file; it is not part of the record.
        let mark = if line == 1 && self.batch.data[self.start..].starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        let start = self.start + mark;
        let content = &self.batch.data[start..];
        if content.trim_ascii().is_empty() {
            self.batch.data.truncate(self.start);
            return;
        }
        let carriage_return = usize::from(content.ends_with(b"\r"));
        let end = self.batch.data.len() - carriage_return;
        let is_too_long = bytes > self.max_record_bytes as u64;
        let fault = self.fault.take();
        self.batch.records.push(Record { line, position: self.position, start, end, bytes, is_too_long, fault });
        self.start = self.batch.data.len();
        self.position += 1;
        self.records += 1;
        if self.records >= self.limit {
            self.send_batch();
            self.stopped = true;
        }
    }

    fn is_full(&self) -> bool {
        self.stopped || self.batch.data.len() >= BATCH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Line number, bytes, and true if the line is too long.
    type ReadLine = (u64, Vec<u8>, bool);

    /// Returns the lines, the digest, and the sum of the batches' raw bytes.
    fn read_all(file: &[u8]) -> (Vec<ReadLine>, FileDigest, u64) {
        read_framed(file, Framing::Lines, None)
    }

    fn read_framed(mut file: &[u8], framing: Framing, limit: Option<usize>) -> (Vec<ReadLine>, FileDigest, u64) {
        let mut lines = Vec::new();
        let mut raw = 0;
        let mut sequence = 0;
        let mut batcher = Batcher::new(limit, MAX_RECORD_BYTES, |batch: RecordBatch| {
            assert_eq!((batch.sequence, batch.file), (sequence, 3));
            sequence += 1;
            raw += batch.raw_bytes;
            lines.extend(batch.records().map(|(record, bytes)| (record.line, bytes.to_vec(), record.is_too_long)));
            true
        });
        let digest = batcher.read(3, framing, &mut file).expect("read").expect("wanted");
        drop(batcher);
        (lines, digest, raw)
    }

    #[test]
    fn lines_are_numbered_and_blank_lines_skipped() {
        let (lines, digest, raw) = read_all(b"\xef\xbb\xbf{1}\r\n\n  \t\n{2}\n\xff{3}");
        let expected: [(u64, &[u8], bool); 3] = [(1, b"{1}", false), (4, b"{2}", false), (5, b"\xff{3}", false)];
        assert_eq!(lines, expected.map(|(number, bytes, long)| (number, bytes.to_vec(), long)));
        assert_eq!((digest.bytes, raw), (21, 21));
        assert_eq!(read_all(b"").0, []);
        assert_eq!(read_all(b"").1.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn an_endless_line_does_not_grow_memory() {
        let mut file = vec![b'x'; MAX_RECORD_BYTES + 10];
        file.extend_from_slice(b"\n{}\n");
        let (lines, digest, _) = read_all(&file);
        assert_eq!((lines[0].0, lines[0].1.len(), lines[0].2), (1, KEPT_OF_REJECT, true));
        assert_eq!(lines[1], (2, b"{}".to_vec(), false));
        assert_eq!(digest.bytes, file.len() as u64);
    }

    #[test]
    fn long_records_are_kept_if_they_may_be() {
        let length = MAX_RECORD_BYTES + 10;
        let (mut file, mut found) = (vec![b'x'; length], Vec::new());
        file.extend_from_slice(b"\ny");
        let mut batcher = Batcher::new(None, length, |batch: RecordBatch| {
            found.push((batch.permits(8), batch.permits(1)));
            found.extend(batch.records().map(|(record, bytes)| (bytes.len(), usize::from(record.is_too_long))));
            true
        });
        batcher.read(0, Framing::Lines, &mut file.as_slice()).expect("read");
        drop(batcher);
        assert_eq!(found, [(2, 1), (length, 0), (1, 1), (1, 0)]);
    }

    #[test]
    fn reading_stops_when_the_receiver_stops() {
        let file = b"x\n".repeat(400_000);
        let mut batches = 0;
        let mut batcher = Batcher::new(None, MAX_RECORD_BYTES, |_| {
            batches += 1;
            false
        });
        assert_eq!(batcher.read(0, Framing::Lines, &mut file.as_slice()).expect("read"), None);
        drop(batcher);
        assert_eq!(batches, 1);
    }

    #[test]
    fn reading_stops_at_the_limit() {
        for framing in [Framing::Lines, Framing::Array("data")] {
            let file: &[u8] = if framing == Framing::Lines { b"{1}\n{2}\n{3}\n" } else { b"{\"data\": [{1},{2},{3}]}" };
            for limit in 0..3 {
                let (records, _, _) = read_framed(file, framing, Some(limit));
                assert_eq!(records.len(), limit);
            }
            assert_eq!(read_framed(file, framing, Some(9)).0.len(), 3);
        }
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
