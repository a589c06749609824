//! Checks of the model on a GPU. A binary of its own with a `main` of its own: it loads libtorch_cuda before anything else, because
//! libtorch has no CUDA for the rest of a process that asked for it too early. `scripts/gpu-check` packs it for machines with a GPU;
//! run by cargo on a machine without one, it only reports that.
//!
//! Each check prints a line of JSON: its figures, each with the largest deviation that is allowed.

mod checks;
mod dropout;
mod generation;
#[path = "../support/golden.rs"]
mod golden;
#[path = "../support/generation.rs"]
mod recorded;
#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use checks::{CHECKS, Check, Checked, Setup};
use glm_trainer::data::mmap::DataSet;
use glm_trainer::device::DeviceChoice;
use golden::Golden;
use serde_json::json;
use tch::Device;

/// Options of libtest with a value, which cargo and nextest may pass on.
const LIBTEST_VALUES: [&str; 5] = ["--format", "--color", "--test-threads", "--skip", "--logfile"];

/// Command line. Names select checks as in libtest: those that contain a name, or are equal to it with `--exact`.
#[derive(Debug, Default)]
struct Arguments {
    names: Vec<String>,
    exact: bool,
    list: bool,
    ignored: bool,
    /// `cuda`: a missing GPU is an error; `cpu`: the checks run on the CPU. Default: a GPU if there is one.
    device: Option<String>,
    /// The ingested `cloze` set. Default: it is ingested by the real program.
    data: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--list" => arguments.list = true,
                "--exact" => arguments.exact = true,
                "--ignored" => arguments.ignored = true,
                "--device" => arguments.device = words.next(),
                "--data" => arguments.data = words.next().map(PathBuf::from),
                value if LIBTEST_VALUES.contains(&value) => drop(words.next()),
                option if option.starts_with("--") => {}
                _ => arguments.names.push(word),
            }
        }
        arguments
    }

    fn selects(&self, check: &Check) -> bool {
        let matches = |name: &String| if self.exact { check.name == name } else { check.name.contains(name.as_str()) };
        !self.ignored && (self.names.is_empty() || self.names.iter().any(matches))
    }

    /// The device of the checks, or the reason why there is none.
    fn device(&self) -> Result<Device, String> {
        let choice: DeviceChoice = self.device.as_deref().unwrap_or("cuda").parse().map_err(|error| format!("{error}"))?;
        choice.resolve().map_err(|error| error.to_string())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse(std::env::args().skip(1));
    let selected: Vec<&Check> = CHECKS.iter().filter(|check| arguments.selects(check)).collect();
    if arguments.list {
        selected.iter().for_each(|check| println!("{}: test", check.name));
        return ExitCode::SUCCESS;
    }
    let device = match arguments.device() {
        Ok(device) => device,
        Err(reason) if arguments.device.is_none() => {
            println!("no GPU: skipped ({reason})");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let folder = tempfile::tempdir().expect("folder");
    let data = match &arguments.data {
        Some(data) => DataSet::open(data).expect("data set"),
        None => support::data_set(folder.path()),
    };
    let setup = Setup { device, golden: Golden::open(data) };
    let failed = selected.iter().filter(|check| !passes(check, &setup)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a check and prints its line. A panic, whose message is on stderr, fails this check only.
fn passes(check: &Check, setup: &Setup) -> bool {
    let start = Instant::now();
    let checked = catch_unwind(AssertUnwindSafe(|| (check.run)(setup)));
    let seconds = start.elapsed().as_secs_f64();
    let (result, note, figures) = match checked {
        Err(_) => ("FAIL", "panicked".to_owned(), Vec::new()),
        Ok(Checked::Skipped(reason)) => ("SKIP", reason, Vec::new()),
        Ok(Checked::Figures(figures)) => {
            let failed: Vec<_> = figures.iter().filter(|(_, figure)| !figure.is_within()).collect();
            let note: Vec<_> = failed.iter().map(|(mode, figure)| format!("{mode}: {}", figure.name)).collect();
            (if failed.is_empty() { "PASS" } else { "FAIL" }, note.join("; "), figures)
        }
    };
    let figures: Vec<_> = figures
        .iter()
        .map(|(mode, figure)| {
            // JSON has no number for NaN, and `null` is not within any tolerance either.
            json!({"mode": mode, "name": figure.name, "value": figure.value, "at": figure.at, "tolerance": figure.tolerance})
        })
        .collect();
    println!("{}", json!({"check": check.name, "result": result, "note": note, "seconds": seconds, "figures": figures}));
    result != "FAIL"
}
