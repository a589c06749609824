//! Time spent per stage.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

/// A stage of the pipeline, for time measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Reads, decompresses and hashes raw files and splits them into records.
    Read,
    /// Parses records and standardises their text.
    Parse,
    /// Converts text to token ids.
    Tokenize,
    /// Maps character spans to token spans.
    Annotate,
    /// Processes batches in file order, on one thread: draws distractors, sorts rows into the spool.
    Order,
    /// Encodes, compresses and hashes Parquet shards and flushes them to disk.
    Write,
}

const STAGES: usize = 6;

/// Time per stage, summed over all threads.
#[derive(Debug, Default)]
pub(super) struct Stages {
    nanoseconds: [AtomicU64; STAGES],
}

impl Stages {
    /// Adds the measurements of a thread.
    pub(super) fn add(&self, clock: &Clock) {
        for (sum, part) in self.nanoseconds.iter().zip(clock.nanoseconds) {
            sum.fetch_add(part, Ordering::Relaxed);
        }
    }

    /// Returns the time per stage in seconds.
    pub(super) fn seconds(&self) -> StageSeconds {
        let of = |stage: Stage| self.nanoseconds[stage as usize].load(Ordering::Relaxed) as f64 / 1e9;
        StageSeconds {
            read: of(Stage::Read),
            parse: of(Stage::Parse),
            tokenize: of(Stage::Tokenize),
            annotate: of(Stage::Annotate),
            order: of(Stage::Order),
            write: of(Stage::Write),
        }
    }
}

/// Stopwatch of one thread.
pub(super) struct Clock {
    last: Instant,
    nanoseconds: [u64; STAGES],
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { last: Instant::now(), nanoseconds: [0; STAGES] }
    }

    /// Adds the time since the previous lap to `stage`.
    pub(super) fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        self.nanoseconds[stage as usize] += (now - self.last).as_nanos() as u64;
        self.last = now;
    }

    /// Discards the time since the previous lap: the thread was waiting.
    pub(super) fn skip(&mut self) {
        self.last = Instant::now();
    }
}

/// Seconds per stage, summed over all threads, without the time that threads wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StageSeconds {
    /// Reading, decompressing and hashing raw files and splitting them into records.
    pub read: f64,
    /// Parsing records and standardising their text.
    pub parse: f64,
    /// Converting text to token ids.
    pub tokenize: f64,
    /// Mapping character spans to token spans.
    pub annotate: f64,
    /// Processing batches in file order, always on one thread: drawing distractors, sorting rows into a temporary file.
    pub order: f64,
    /// Encoding, compressing and hashing Parquet shards and flushing them to disk.
    pub write: f64,
}
