//! External stable sort of rows by a key: a small number, such as the number of choices.
//!
//! Rows arrive in file order and are published sorted by key. The writer keeps one buffer per key and appends full buffers to a
//! temporary file as chunks. Only the location of each chunk stays in memory, a few bytes per 128 KiB. Reading the chunks key by key
//! yields the published order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::shard::WriteError;

const CHUNK_BYTES: usize = 128 << 10;
/// Limit of all buffers together; at this size all of them are flushed. Reached only with very many different keys.
const MAX_BUFFERED: usize = 32 << 20;

/// The rows with one key.
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

/// Collects rows.
pub(super) struct SpoolWriter {
    file: File,
    path: PathBuf,
    written: u64,
    runs: BTreeMap<usize, Run>,
    buffered: usize,
}

impl SpoolWriter {
    /// Creates the temporary file in `folder`. The file is unlinked at once, so nothing is left of it after a crash.
    pub(super) fn create(folder: &Path) -> Result<Self, WriteError> {
        let path = folder.join("spool");
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(WriteError::io(&path))?;
        std::fs::remove_file(&path).map_err(WriteError::io(&path))?;
        Ok(Self { file, path, written: 0, runs: BTreeMap::new(), buffered: 0 })
    }

    /// Adds one row.
    pub(super) fn push(&mut self, key: usize, row: &impl Serialize) -> Result<(), WriteError> {
        let run = self.runs.entry(key).or_default();
        let before = run.buffer.len();
        run.buffer = postcard::to_extend(row, std::mem::take(&mut run.buffer))
            .map_err(io::Error::other)
            .map_err(WriteError::io(&self.path))?;
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

    /// Returns all rows in published order.
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

/// Sorted rows. Several threads can read at the same time.
pub(super) struct Spool {
    file: File,
    path: PathBuf,
    chunks: Vec<Chunk>,
    rows: usize,
}

impl Spool {
    /// Returns the number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Passes `count` rows from row `start` on to `consume`, which can stop with an error.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        start: usize,
        count: usize,
        mut consume: impl FnMut(T) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let mut skip = start;
        let mut left = count;
        let mut buffer = Vec::new();
        for chunk in &self.chunks {
            if skip >= chunk.rows {
                skip -= chunk.rows;
                continue;
            }
            if left == 0 {
                break;
            }
            buffer.resize(chunk.bytes, 0);
            self.file.read_exact_at(&mut buffer, chunk.offset).map_err(WriteError::io(&self.path))?;
            let mut rest = buffer.as_slice();
            for _ in 0..chunk.rows.min(skip + left) {
                let (row, following) = postcard::take_from_bytes(rest).map_err(|_| self.damaged())?;
                rest = following;
                if skip > 0 {
                    skip -= 1;
                } else {
                    left -= 1;
                    consume(row)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the error for content that differs from what was written.
    pub(super) fn damaged(&self) -> WriteError {
        let reason = "the temporary file does not contain what was written to it; the disk may be failing";
        WriteError::io(&self.path)(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Row = (usize, String);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_are_sorted_stably_and_read_from_any_start(
            rows in prop::collection::vec((1_usize..5, prop_oneof![0_usize..40, 60_000_usize..90_000]), 0..30), start in 0_usize..40, count in 0_usize..40,
        ) {
            let dir = tempfile::tempdir().expect("folder");
            let mut writer = SpoolWriter::create(dir.path()).expect("create");
            prop_assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
            let row = |(number, &(key, bytes)): (usize, &(usize, usize))| (key, (number, "x".repeat(bytes)));
            let mut expected: Vec<(usize, Row)> = rows.iter().enumerate().map(row).collect();
            for (key, row) in &expected {
                writer.push(*key, row).expect("push");
            }
            expected.sort_by_key(|(key, _)| *key);
            let spool = writer.finish().expect("finish");
            prop_assert_eq!(spool.rows(), expected.len());
            let mut found = 0;
            spool.read(start, count, |row: Row| {
                assert_eq!(row, expected[start + found].1);
                found += 1;
                Ok(())
            }).expect("read");
            prop_assert_eq!(found, count.min(expected.len().saturating_sub(start)));
        }
    }

    #[test]
    fn damaged_content_is_an_error() {
        let dir = tempfile::tempdir().expect("folder");
        let mut writer = SpoolWriter::create(dir.path()).expect("create");
        writer.push(2, &(1_usize, "x".repeat(10))).expect("push");
        let spool = writer.finish().expect("finish");
        spool.file.write_all_at(&[0xff; 4], 0).expect("overwrite");
        let error = spool.read(0, 1, |_: Row| Ok(())).expect_err("damaged").to_string();
        assert!(error.contains("the disk may be failing"), "{error}");
    }
}
