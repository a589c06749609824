//! Progress of long jobs: a bar on a terminal, log lines elsewhere.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Receiver of progress updates; called from several threads.
pub trait Progress: Sync {
    /// A part of the job begins, for example "reading ReCoRD/train.jsonl". `total` is its size in `unit`, 0 if unknown.
    fn begin(&self, part: &str, total: u64, unit: Unit);
    /// `amount` more of the part is done.
    fn advance(&self, amount: u64);
    /// The part is complete.
    fn end(&self);
}

/// Unit of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Rows of shards.
    Rows,
}

/// Discards all updates.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// Minimum interval between two lines of a part.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Minimum duration of a part whose end is worth a line.
const SHORT_PART: Duration = Duration::from_secs(2);

/// Returns a bar if standard error is a terminal, else lines; nothing is shown if `quiet`.
pub fn of(quiet: bool) -> Box<dyn Progress> {
    match (quiet, io::stderr().is_terminal()) {
        (true, _) => Box::new(Silent),
        (false, true) => Box::new(Bar::default()),
        (false, false) => Box::new(Lines::default()),
    }
}

/// A progress bar on a terminal.
#[derive(Default)]
struct Bar {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    fn with(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

impl Progress for Bar {
    fn begin(&self, part: &str, total: u64, unit: Unit) {
        let template = match unit {
            Unit::Bytes if total == 0 => "{msg} {spinner} {bytes} {bytes_per_sec}",
            Unit::Bytes => "{msg} [{wide_bar}] {percent:>3} %, {bytes_per_sec}, {eta} left",
            Unit::Rows => "{msg} [{wide_bar}] {human_pos}/{human_len} rows, {eta} left",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_message(part.to_owned());
        self.with(|slot| *slot = Some(bar));
    }

    fn advance(&self, amount: u64) {
        self.with(|slot| slot.iter().for_each(|bar| bar.inc(amount)));
    }

    fn end(&self) {
        self.with(|slot| slot.take().iter().for_each(ProgressBar::finish));
    }
}

/// Plain lines on standard error, for log files.
#[derive(Default)]
struct Lines {
    state: Mutex<Option<Part>>,
}

struct Part {
    name: String,
    total: u64,
    done: u64,
    unit: Unit,
    started: Instant,
    printed: Instant,
}

impl Part {
    fn print(&self) {
        let percent = match self.total {
            0 => String::new(),
            total => format!("{:.0}% ", (100.0 * self.done as f64 / total as f64).min(100.0)),
        };
        let amount = match self.unit {
            Unit::Bytes => format!("{:.1} MB", self.done as f64 / 1e6),
            Unit::Rows => format!("{} rows", self.done),
        };
        eprintln!("{}: {percent}({amount}) after {:.1} s", self.name, self.started.elapsed().as_secs_f64());
    }
}

impl Progress for Lines {
    fn begin(&self, part: &str, total: u64, unit: Unit) {
        let now = Instant::now();
        let part = Part { name: part.to_owned(), total, done: 0, unit, started: now, printed: now };
        *self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(part);
    }

    fn advance(&self, amount: u64) {
        if let Some(part) = &mut *self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            part.done += amount;
            if part.printed.elapsed() >= LINE_INTERVAL {
                part.printed = Instant::now();
                part.print();
            }
        }
    }

    fn end(&self) {
        if let Some(part) = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
            && part.started.elapsed() >= SHORT_PART
        {
            part.print();
        }
    }
}
