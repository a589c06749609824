//! `glm-prep verify`: checks every byte and every row of a data set.
//!
//! - `files`: the files, on disk or in an object store.
//! - `set`: the manifest and the list of files.
//! - `shard`: size, checksum, footer and row groups of one file.
//! - `rows`: the rules for questions; `documents`: those for documents.
//! - `fault`: description and location of a fault.
//! - `error`: errors of the command.
//!
//! Several threads check the shards. The result does not depend on them: threads take the shards in order, and all shards
//! before the first one with a fault are checked.

mod documents;
mod error;
mod fault;
mod files;
mod pairs;
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
use glm_remote::{Location, find_manifest};
use glm_schemas::manifest::{MANIFEST_FILE, Split, TaskName};
use glm_support::files::progress;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

pub use error::VerifyError;
pub use fault::Fault;
use fault::{INGEST_AGAIN, Stop};
use files::Files;
use set::Set;
use shard::Checked;

use crate::shard::DataSetError;
use crate::shard::published;

/// Exit code for an unsound data set. Codes 2 and 3 mean invalid usage and an ingest with rejects.
const NOT_SOUND: u8 = 4;
/// Maximum number of attempts to check a data set in an object store that is replaced meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep verify data/record
  glm-prep verify data/record --json

Exit codes:
  0  the data set is sound
  1  the data set could not be checked, for example if a file cannot be read
  4  the data set is not sound; prints the first fault: file, row group, row,
     column, name of the row")]
pub struct VerifyArgs {
    /// Folder or URL of a data set: the one given to `ingest`, or its `shards`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Result of a check.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Folder of the shards.
    pub shards: PathBuf,
    /// True if there is no fault.
    pub sound: bool,
    /// Fingerprint of the data set; `None` if the manifest is invalid.
    pub fingerprint: Option<String>,
    /// Splits of the manifest.
    pub splits: Vec<SplitReport>,
    /// First fault.
    pub fault: Option<Fault>,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Result for a split. The numbers are those of the manifest; if `ok` is true, the shards match them. As JSON, it has only the numbers
/// that apply to the kind of the rows.
#[derive(Debug, Clone)]
pub struct SplitReport {
    /// Kind of the rows.
    pub task: TaskName,
    /// Split.
    pub split: Split,
    /// Number of Parquet files.
    pub shards: usize,
    /// Number of rows.
    pub questions: usize,
    /// Number of choices; 0 for rows without choices.
    pub choices: usize,
    /// Tokens, not truncated.
    pub tokens: usize,
    /// Size of the shards.
    pub bytes: u64,
    /// True if the split is sound; `None` if the check stopped earlier because of a fault elsewhere.
    pub ok: Option<bool>,
}

impl Serialize for SplitReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("split", &self.split)?;
        map.serialize_entry("shards", &self.shards)?;
        map.serialize_entry(self.task.rows(), &self.questions)?;
        if self.task == TaskName::Cloze {
            map.serialize_entry("choices", &self.choices)?;
        }
        map.serialize_entry("tokens", &self.tokens)?;
        map.serialize_entry("bytes", &self.bytes)?;
        map.serialize_entry("ok", &self.ok)?;
        map.end()
    }
}

/// Runs the command and prints to `out`. The exit code is 4 if the data set is not sound.
///
/// # Errors
/// [`VerifyError`] if the data set could not be checked.
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
/// [`VerifyError`] if the data set could not be checked.
pub fn check(dir: &Path, threads: NonZeroUsize) -> Result<Report, VerifyError> {
    let started = Instant::now();
    let mut report = match Location::of_path(dir)? {
        None => published::read(dir, |set| check_files(&Files::Folder(set.folder.clone()), &set.manifest, threads))?,
        Some(url) => check_store(&url, threads)?,
    };
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Checks the data set at a URL, again if an ingest replaced it meanwhile.
fn check_store(url: &Location, threads: NonZeroUsize) -> Result<Report, VerifyError> {
    for _ in 0..MAX_ATTEMPTS {
        let (store, manifest) = find_manifest(url)?;
        let progress = progress::of(!tracing::enabled!(tracing::Level::WARN));
        let result = check_files(&Files::of_store(store.clone(), progress)?, &manifest, threads);
        if store.text(MANIFEST_FILE)?.is_some_and(|text| text == manifest) {
            return result;
        }
        tracing::debug!("{url} was replaced while it was read; reading it again");
    }
    Err(DataSetError::Replaced(url.to_string().into()).into())
}

fn check_files(files: &Files, manifest: &[u8], threads: NonZeroUsize) -> Result<Report, VerifyError> {
    let shards = files.path("");
    let mut report = Report { shards, sound: false, fingerprint: None, splits: vec![], fault: None, seconds: 0.0 };
    let outcome = Set::open(manifest, files).and_then(|set| {
        report.fingerprint = Some(set.manifest.fingerprint.clone());
        report.splits = splits(&set);
        let bytes = report.splits.iter().fold(0, |sum: u64, split| sum.saturating_add(split.bytes));
        files.begin(bytes);
        let outcome = check_set(&set, threads, &mut report.splits);
        files.end();
        outcome
    });
    match outcome {
        Ok(()) => report.sound = true,
        Err(Stop::Fault(fault)) => report.fault = Some(*fault),
        Err(Stop::Error(error)) => return Err(error),
    }
    Ok(report)
}

fn splits(set: &Set<'_>) -> Vec<SplitReport> {
    let report = |(&split, content): (&Split, &glm_schemas::manifest::SplitManifest)| SplitReport {
        task: set.manifest.task,
        split,
        shards: content.shards.len(),
        questions: content.rows,
        choices: content.choices.unwrap_or(0),
        tokens: content.tokens,
        bytes: content.shards.iter().fold(0, |sum: u64, shard| sum.saturating_add(shard.bytes)),
        ok: None,
    };
    set.manifest.splits.iter().map(report).collect()
}

fn check_set(set: &Set<'_>, threads: NonZeroUsize, reports: &mut [SplitReport]) -> Result<(), Stop> {
    let outcome = set.check_files().and_then(|()| set.check_rejects()).and_then(|()| {
        let mut checked = check_shards(set, threads).into_iter();
        // The results are evaluated in order, so that the first fault does not depend on thread timing.
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

/// Checks all shards up to the first one with a fault, and possibly some after it.
fn check_shards(set: &Set<'_>, threads: NonZeroUsize) -> Vec<Result<Checked, Stop>> {
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

/// Checks the order and totals of a split over all its shards.
fn check_split(set: &Set<'_>, report: &SplitReport, shards: impl Iterator<Item = Result<Checked, Stop>>) -> Result<(), Stop> {
    let (mut choices, mut tokens, mut previous) = (0, 0, 0);
    for checked in shards {
        let checked = checked?;
        if let Some(first) = checked.first {
            if first.choices < previous {
                return Err(rows::out_of_order(first.choices, previous).at(first.location).into());
            }
            previous = checked.last_choices;
        }
        choices += checked.choices;
        tokens += checked.tokens;
    }
    for (name, found, expected) in [("choices", report.choices, choices), ("tokens", report.tokens, tokens)] {
        if found != expected {
            let found = format!("splits.{}.{name} = {found}", report.split);
            let fault = Fault::new(set.manifest_name(), found, format!("{expected}, as its shards hold"), INGEST_AGAIN);
            return Err(fault.of(report.split).into());
        }
    }
    Ok(())
}

fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if let Some(first) = report.splits.first() {
        writeln!(out, "{:<6} {:>7} {:>10} {:>15} {:>12}", "split", "shards", first.task.rows(), "bytes", "ok")?;
    }
    for split in &report.splits {
        let ok = match split.ok {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not checked",
        };
        writeln!(out, "{:<6} {:>7} {:>10} {:>15} {ok:>12}", split.split.name(), split.shards, split.questions, split.bytes)?;
    }
    match &report.fault {
        None => writeln!(out, "{} is sound, checked in {:.1} s", report.shards.display(), report.seconds),
        Some(fault) => {
            writeln!(out, "{} is not sound (after {:.1} s)", report.shards.display(), report.seconds)?;
            writeln!(out, "{fault}")
        }
    }
}
