//! Sorting rows by a small number without holding them.
//!
//! Rows come in file order and are wanted in the published order, sorted by number of choices and else as they came. So there is a
//! buffer for every number; a full one goes to a temporary file as one chunk, and only where each chunk lies is remembered, some
//! bytes for every 128 KiB. Reading the chunks number by number gives the order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::row;
use crate::shard::WriteError;

const CHUNK_BYTES: usize = 128 << 10;
/// With very many different numbers of choices, all buffers are emptied when together they reach this.
const MAX_BUFFERED: usize = 32 << 20;

#[derive(Default)]
struct Run {
    buffer: Vec<u8>,
    buffered_rows: usize,
    chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, Copy)]
struct Chunk {
    offset: u64,
    bytes: usize,
    rows: usize,
}

/// Takes rows in.
pub(super) struct SpoolWriter {
    file: File,
    path: PathBuf,
    written: u64,
    runs: BTreeMap<usize, Run>,
    buffered: usize,
}

impl SpoolWriter {
    /// Makes the temporary file in `folder`. It has no name there, so nothing of it is left whatever happens.
    pub(super) fn create(folder: &Path) -> Result<Self, WriteError> {
        let path = folder.join("spool");
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(WriteError::io(&path))?;
        std::fs::remove_file(&path).map_err(WriteError::io(&path))?;
        Ok(Self { file, path, written: 0, runs: BTreeMap::new(), buffered: 0 })
    }

    /// Takes a row.
    pub(super) fn push(&mut self, row: &row::RowParts<'_>) -> Result<(), WriteError> {
        let run = self.runs.entry(row.choices.len()).or_default();
        let before = run.buffer.len();
        row.put(&mut run.buffer);
        run.buffered_rows += 1;
        self.buffered += run.buffer.len() - before;
        if run.buffer.len() >= CHUNK_BYTES {
            self.buffered -= run.buffer.len();
            return run.flush(&mut self.file, &mut self.written).map_err(WriteError::io(&self.path));
        }
        if self.buffered >= MAX_BUFFERED {
            return self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.buffered = 0;
        for run in self.runs.values_mut() {
            run.flush(&mut self.file, &mut self.written).map_err(WriteError::io(&self.path))?;
            run.buffer = Vec::new();
        }
        Ok(())
    }

    /// All rows, in order.
    pub(super) fn finish(mut self) -> Result<Spool, WriteError> {
        self.flush()?;
        let chunks: Vec<_> = self.runs.into_values().flat_map(|run| run.chunks).collect();
        Ok(Spool { file: self.file, path: self.path, rows: chunks.iter().map(|chunk| chunk.rows).sum(), chunks })
    }
}

impl Run {
    fn flush(&mut self, file: &mut File, written: &mut u64) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        file.write_all(&self.buffer)?;
        self.chunks.push(Chunk { offset: *written, bytes: self.buffer.len(), rows: self.buffered_rows });
        *written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffered_rows = 0;
        Ok(())
    }
}

/// Gives rows out, sorted. Several threads may read at the same time.
pub(super) struct Spool {
    file: File,
    path: PathBuf,
    chunks: Vec<Chunk>,
    rows: usize,
}

impl Spool {
    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Hands the rows from `start` on, `count` of them, to `consume`, which may stop with an error.
    pub(super) fn read(
        &self,
        start: usize,
        count: usize,
        mut consume: impl FnMut(&[u8]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let mut skip = start;
        let mut left = count;
        let mut buffer = Vec::new();
        for chunk in &self.chunks {
            if left == 0 {
                break;
            }
            if skip >= chunk.rows {
                skip -= chunk.rows;
                continue;
            }
            buffer.resize(chunk.bytes, 0);
            self.file.read_exact_at(&mut buffer, chunk.offset).map_err(WriteError::io(&self.path))?;
            let mut rest = buffer.as_slice();
            for _ in 0..chunk.rows {
                let (row, following) = row::split_first(rest).ok_or_else(|| self.damaged())?;
                rest = following;
                if skip > 0 {
                    skip -= 1;
                } else if left > 0 {
                    left -= 1;
                    consume(row)?;
                }
            }
        }
        Ok(())
    }

    /// The error of a temporary file that does not hold what was written to it.
    pub(super) fn damaged(&self) -> WriteError {
        let reason = "the temporary file does not hold what was written to it; the disk may be failing";
        WriteError::io(&self.path)(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents(spool: &Spool, start: usize, count: usize) -> Vec<Vec<u8>> {
        let mut rows = Vec::new();
        spool
            .read(start, count, |row| {
                rows.push(row.to_vec());
                Ok(())
            })
            .expect("read");
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_come_out_sorted_stably_from_any_start(
            rows in prop::collection::vec((1_usize..5, prop_oneof![0_usize..40, 60_000_usize..90_000]), 0..30), start in 0_usize..40, count in 0_usize..40,
        ) {
            let dir = tempfile::tempdir().expect("folder");
            let mut writer = SpoolWriter::create(dir.path()).expect("create");
            prop_assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
            let mut expected = Vec::new();
            for (number, &(choices, size)) in rows.iter().enumerate() {
                let filler = vec![number as u8; size];
                let choices = vec![(&b"c"[..], false); choices];
                let id = number.to_string();
                let parts = row::RowParts { example_id: &id, passage_id: 0, question_id: 0, passage: &filler, question: &[], choices: &choices };
                writer.push(&parts).expect("push");
                let mut bytes = Vec::new();
                parts.put(&mut bytes);
                expected.push((choices.len(), bytes[4..].to_vec()));
            }
            expected.sort_by_key(|(choices, _)| *choices);
            let expected: Vec<_> = expected.into_iter().map(|(_, row)| row).collect();
            let spool = writer.finish().expect("finish");
            prop_assert_eq!(spool.rows(), expected.len());
            let end = (start + count).min(expected.len());
            prop_assert_eq!(contents(&spool, start, count), expected[start.min(end)..end].to_vec());
        }
    }
}
