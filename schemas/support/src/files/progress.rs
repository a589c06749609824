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
    /// Questions.
    Questions,
    /// Tokens.
    Tokens,
    /// Samples of documents.
    Samples,
}

impl Unit {
    /// Formats an amount, and the total if it is known: `12.3 of 282.0 MB`, `1200 of 10000 questions`.
    fn format(self, amount: u64, total: Option<u64>) -> String {
        let (divisor, unit) = match self {
            Self::Bytes if total.unwrap_or(amount) < 1_000_000 => (1e3, "kB"),
            Self::Bytes => (1e6, "MB"),
            Self::Rows => (1.0, "rows"),
            Self::Questions => (1.0, "questions"),
            Self::Tokens => (1.0, "tokens"),
            Self::Samples => (1.0, "samples"),
        };
        let number = |amount: u64| match self {
            Self::Bytes => format!("{:.1}", amount as f64 / divisor),
            Self::Rows | Self::Questions | Self::Tokens | Self::Samples => amount.to_string(),
        };
        match total {
            Some(total) => format!("{} of {} {unit}", number(amount), number(total)),
            None => format!("{} {unit}", number(amount)),
        }
    }
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
            Unit::Questions => "{msg} [{wide_bar}] {human_pos}/{human_len} questions, {eta} left",
            Unit::Tokens => "{msg} [{wide_bar}] {human_pos}/{human_len} tokens, {eta} left",
            Unit::Samples => "{msg} [{wide_bar}] {human_pos}/{human_len} samples, {eta} left",
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
    /// Line of a part in progress, with the time left if the total is known.
    fn line(&self, elapsed: Duration) -> String {
        let Self { name, total, done, unit, .. } = self;
        if *total == 0 {
            return format!("{name}: {}", unit.format(*done, None));
        }
        let share = (*done as f64 / *total as f64).clamp(0.0, 1.0);
        let left = match share {
            share if share > 0.0 => format!(", {} left", duration(elapsed.as_secs_f64() * (1.0 - share) / share)),
            _ => String::new(),
        };
        format!("{name}: {:.0} % ({}){left}", 100.0 * share, unit.format(*done, Some(*total)))
    }

    /// Line of a completed part.
    fn last_line(&self, elapsed: Duration) -> String {
        format!("{}: {} in {:.1} s", self.name, self.unit.format(self.done, None), elapsed.as_secs_f64())
    }
}

/// Formats seconds: `42 s`, `3 min 20 s`, `2 h 5 min`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
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
                eprintln!("{}", part.line(part.started.elapsed()));
            }
        }
    }

    fn end(&self) {
        if let Some(part) = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
            && part.started.elapsed() >= SHORT_PART
        {
            eprintln!("{}", part.last_line(part.started.elapsed()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_totals_and_the_time_left() {
        let part = |unit, done, total| {
            let now = Instant::now();
            Part { name: "part".to_owned(), total, done, unit, started: now, printed: now }
        };
        let after = Duration::from_secs;
        let questions = part(Unit::Questions, 1200, 10_000);
        assert_eq!(questions.line(after(30)), "part: 12 % (1200 of 10000 questions), 3 min 40 s left");
        assert_eq!(questions.last_line(after(30)), "part: 1200 questions in 30.0 s");
        assert_eq!(part(Unit::Bytes, 500, 33_000).line(after(1)), "part: 2 % (0.5 of 33.0 kB), 1 min 5 s left");
        assert_eq!(part(Unit::Bytes, 2_000_000, 0).line(after(1)), "part: 2.0 MB");
        assert_eq!(part(Unit::Rows, 0, 7).line(after(1)), "part: 0 % (0 of 7 rows)");
        assert_eq!(duration(7500.0), "2 h 5 min");
    }
}
