//! Where the time of a run goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Reading, unpacking, checksums, cutting into records.
    Read,
    /// A record's JSON, or what else it is.
    Parse,
    /// Text to ids, and the bytes of a prepared row.
    Tokenize,
    /// Spans of characters to spans of tokens.
    Annotate,
    /// What is done in file order, by one thread: drawing distractors, sorting to the disk.
    Order,
    /// Rows to columns, Parquet, compression, checksums, bringing it to the disk.
    Write,
}

const STAGES: usize = 6;

/// The sums over all threads.
#[derive(Debug, Default)]
pub(super) struct Stages {
    nanoseconds: [AtomicU64; STAGES],
}

impl Stages {
    /// Adds what a thread has measured.
    pub(super) fn add(&self, clock: &Clock) {
        for (sum, part) in self.nanoseconds.iter().zip(clock.nanoseconds) {
            sum.fetch_add(part, Ordering::Relaxed);
        }
    }

    /// Seconds of every stage.
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

/// Measures one thread. A stage gets the time since the lap before.
pub(super) struct Clock {
    last: Instant,
    nanoseconds: [u64; STAGES],
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { last: Instant::now(), nanoseconds: [0; STAGES] }
    }

    /// The time since the lap before was spent on `stage`.
    pub(super) fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        self.nanoseconds[stage as usize] += (now - self.last).as_nanos() as u64;
        self.last = now;
    }

    /// The time since the lap before was spent waiting.
    pub(super) fn skip(&mut self) {
        self.last = Instant::now();
    }
}

/// Where the time of a run went: seconds summed over all threads, waiting for each other left out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StageSeconds {
    /// Reading, unpacking, checksums of the raw files, cutting into records.
    pub read: f64,
    /// Parsing records, standardising their text.
    pub parse: f64,
    /// Text to ids.
    pub tokenize: f64,
    /// Spans of characters to spans of tokens.
    pub annotate: f64,
    /// What one thread does in file order, whatever their number: drawing distractors, sorting rows to a temporary file.
    pub order: f64,
    /// Rows to columns, Parquet, compression, checksums, bringing it to the disk.
    pub write: f64,
}

/// The most memory that this process has held, where the system says so (Linux).
pub(super) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
