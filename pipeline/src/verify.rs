//! `glm-prep verify`: checks every byte and every row of a data set.
//!
//! - `set`: the manifest, and which files are there.
//! - `shard`: size, checksum, footer and row groups of one file.
//! - `rows`: the rules that every row keeps.
//! - `fault`: what is wrong, and exactly where.
//!
//! Shards are checked by several threads, but what is reported does not depend on them: threads take the shards in order and
//! none is left out before the first one that has a fault.

mod fault;
mod rows;
mod set;
mod shard;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Args;
use glm_schemas::manifest::{MANIFEST_FILE, SHARDS_FOLDER, Split};
use serde::Serialize;
use thiserror::Error;

pub use fault::Fault;
use fault::{INGEST_AGAIN, Stop};
use set::Set;
pub(crate) use set::find_manifest;
use shard::Checked;

/// Exit code of a data set that is not sound. 2 and 3 are taken: wrong usage, and an ingest with rejects.
const NOT_SOUND: u8 = 4;

/// The arguments.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep verify data/record
  glm-prep verify data/record --json

Exit codes:
  0  the data set is sound
  1  it could not be checked, for example because a file cannot be read
  4  it is not sound; the first fault is named: file, row group, row, column,
     question")]
pub struct VerifyArgs {
    /// The folder of a data set: the one given to `ingest`, or its `shards`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Why a data set could not be checked. That it is not sound is no error but a [`Fault`].
#[derive(Debug, Error)]
pub enum VerifyError {
    /// A folder without a manifest.
    #[error(
        "{0} is not a data set: there is neither {0}/{MANIFEST_FILE} nor {0}/{SHARDS_FOLDER}/{MANIFEST_FILE}; `glm-prep ingest {0}` makes one out of raw data",
        path.display()
    )]
    NotADataSet {
        /// The folder.
        path: PathBuf,
    },
    /// The file system refused something.
    #[error("cannot read {}: {source}; nothing is known about the data set until it can be read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The folder of the shards.
    pub shards: PathBuf,
    /// Whether there is no fault.
    pub sound: bool,
    /// Fingerprint of the data set; none where the manifest cannot be used.
    pub fingerprint: Option<String>,
    /// The splits of the manifest.
    pub splits: Vec<SplitReport>,
    /// The first fault.
    pub fault: Option<Fault>,
    /// Wall time.
    pub seconds: f64,
}

/// What was found in a split. The numbers are those of the manifest, which the shards have where `ok` is true.
#[derive(Debug, Clone, Serialize)]
pub struct SplitReport {
    /// The split.
    pub split: Split,
    /// Number of Parquet files.
    pub shards: usize,
    /// Number of questions.
    pub rows: usize,
    /// Number of choices.
    pub choices: usize,
    /// Context and piece tokens, nothing truncated.
    pub tokens: usize,
    /// Size of the shards.
    pub bytes: u64,
    /// Whether it is sound; none where the check stopped before its end for a fault elsewhere.
    pub ok: Option<bool>,
}

/// Checks a data set and prints what was found. The exit code is 4 where it is not sound.
///
/// # Errors
/// [`VerifyError`] where it could not be checked.
pub fn run(args: &VerifyArgs, out: &mut dyn Write) -> Result<ExitCode, VerifyError> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let report = check(&args.dir, threads)?;
    if args.json {
        serde_json::to_writer(&mut *out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&report, out)?;
    }
    out.flush()?;
    Ok(if report.sound { ExitCode::SUCCESS } else { ExitCode::from(NOT_SOUND) })
}

/// Checks a data set with `threads` threads.
///
/// # Errors
/// [`VerifyError`] where it could not be checked.
pub fn check(dir: &Path, threads: NonZeroUsize) -> Result<Report, VerifyError> {
    let started = Instant::now();
    let (folder, manifest) = find_manifest(dir)?;
    let mut report =
        Report { shards: folder.clone(), sound: false, fingerprint: None, splits: vec![], fault: None, seconds: 0.0 };
    let outcome = Set::open(folder, &manifest).and_then(|set| {
        report.fingerprint = Some(set.manifest.fingerprint.clone());
        report.splits = splits(&set);
        check_set(&set, threads, &mut report.splits)
    });
    match outcome {
        Ok(()) => report.sound = true,
        Err(Stop::Fault(fault)) => report.fault = Some(*fault),
        Err(Stop::Error(error)) => return Err(error),
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn splits(set: &Set) -> Vec<SplitReport> {
    let report = |(&split, content): (&Split, &glm_schemas::manifest::SplitManifest)| SplitReport {
        split,
        shards: content.shards.len(),
        rows: content.rows,
        choices: content.choices,
        tokens: content.tokens,
        bytes: content.shards.iter().fold(0, |sum: u64, shard| sum.saturating_add(shard.bytes)),
        ok: None,
    };
    set.manifest.splits.iter().map(report).collect()
}

fn check_set(set: &Set, threads: NonZeroUsize, reports: &mut [SplitReport]) -> Result<(), Stop> {
    let outcome = set.check_files().and_then(|()| {
        let mut checked = check_shards(set, threads).into_iter();
        // From here on in order, so what is found first does not depend on who found it when.
        for report in &mut *reports {
            check_split(set, report, checked.by_ref().take(report.shards))?;
            report.ok = Some(true);
        }
        Ok(())
    });
    if let Err(Stop::Fault(fault)) = &outcome {
        reports.iter_mut().filter(|report| fault.split == Some(report.split)).for_each(|report| report.ok = Some(false));
    }
    outcome
}

/// What was found in every shard, up to the first that has a fault and perhaps some behind it.
fn check_shards(set: &Set, threads: NonZeroUsize) -> Vec<Result<Checked, Stop>> {
    let next = AtomicUsize::new(0);
    let first_bad = AtomicUsize::new(usize::MAX);
    let found = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = set.parts.get(index).filter(|_| index < first_bad.load(Ordering::Relaxed)) else { return };
            let outcome = shard::check(set, part);
            if outcome.is_err() {
                first_bad.fetch_min(index, Ordering::Relaxed);
            }
            found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(index, outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(set.parts.len()) {
            scope.spawn(work);
        }
    });
    found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_values().collect()
}

/// What only all shards of a split together can show.
fn check_split(set: &Set, report: &SplitReport, shards: impl Iterator<Item = Result<Checked, Stop>>) -> Result<(), Stop> {
    let (mut choices, mut tokens, mut most) = (0, 0, 0);
    for checked in shards {
        let checked = checked?;
        if let Some(first) = checked.first {
            if first.choices < most {
                return Err(rows::out_of_order(first.choices, most).at(first.place).into());
            }
            most = checked.most_choices;
        }
        choices += checked.choices;
        tokens += checked.tokens;
    }
    for (name, found, expected) in [("choices", report.choices, choices), ("tokens", report.tokens, tokens)] {
        if found != expected {
            let found = format!("splits.{}.{name} = {found}", report.split);
            let fault = Fault::new(set.manifest_name(), found, format!("{expected}, which its shards hold"), INGEST_AGAIN);
            return Err(fault.of(report.split).into());
        }
    }
    Ok(())
}

fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if !report.splits.is_empty() {
        writeln!(out, "{:<6} {:>7} {:>10} {:>15} {:>12}", "split", "shards", "rows", "bytes", "ok")?;
    }
    for split in &report.splits {
        let ok = match split.ok {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not checked",
        };
        writeln!(out, "{:<6} {:>7} {:>10} {:>15} {ok:>12}", split.split.name(), split.shards, split.rows, split.bytes)?;
    }
    match &report.fault {
        None => writeln!(out, "{} is sound, checked in {:.1} s", report.shards.display(), report.seconds),
        Some(fault) => {
            writeln!(out, "{} is not sound (after {:.1} s)", report.shards.display(), report.seconds)?;
            writeln!(out, "{fault}")
        }
    }
}
