//! `glm-trainer report`: a self-contained HTML page about a run.
//!
//! - `records`: parser of `metrics.jsonl`.
//! - `overview`: progress and results.
//! - `warnings`: reasons to doubt the result.
//! - `provenance`: what was trained, on what, and where.
//! - `charts`: metrics over the steps.
//! - `events`: events by step.
//! - `settings`: settings of the run.
//! - `hardest`: hardest questions of the latest evaluation.
//! - `reported`: the result as JSON.
//! - `sweep`: the runs of a seed sweep.

mod charts;
mod events;
mod hardest;
mod measurement;
mod overview;
mod provenance;
mod records;
mod reported;
mod settings;
mod sweep;
mod warnings;

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use glm_remote::cache::Cache;
use glm_remote::{Location, RemoteError, Store};
use glm_schemas::manifest::TaskName;
use glm_schemas::vocab::SpecialIds;
use glm_support::files::output::OutputError;
use glm_support::page::document::{Document, folder_name};
use glm_support::page::number::moment;
use maud::{Markup, html};
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::copy::fetch_records;
use crate::checkpoint::run_folder::RunFolder;
use crate::config::{Config, overrides::Layers};
use crate::record::sessions::Session;
use crate::task::metrics::{MetricInfo, Role, Selection};
use crate::task::{self, Words, metrics_of, words_of};
use crate::version;
pub use measurement::Measurement;
use records::{Entry, Records};
pub use reported::{Reported, ReportedRun, ReportedSweep};
use sweep::Sweep;
pub use sweep::{SEEDS_FILE, SeedResult, SweepSummary, run_folder, seeds};

const METRICS_FILE: &str = "metrics.jsonl";
const CONFIG_FILE: &str = "config.toml";
/// Name of the page in the run folder.
const REPORT_FILE: &str = "report.html";

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Run folder or its URL, as given to `run --out`, also of a run with several seeds
    #[arg(value_name = "RUNDIR")]
    pub run: PathBuf,
    /// Output file, or - for standard output [default: RUNDIR/report.html, for a URL also there]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Data set with the text of the questions, if it has moved since the run
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print the state of the run and the path of the page as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Errors of `report`.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The folder does not exist.
    #[error("folder {} does not exist; specify a run folder, as given to `glm-trainer run --out`", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is not a run folder.
    #[error(
        "{0} is not a run folder: it contains neither {METRICS_FILE} nor {CONFIG_FILE}, which `glm-trainer run --out {0}` writes",
        path.display()
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the run cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file about a seed sweep cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The page cannot be written.
    #[error(transparent)]
    Write(#[from] OutputError),
    /// A run in an object store cannot be read, or the page cannot be copied there.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The records of such a run cannot be brought to disk.
    #[error(transparent)]
    Fetch(#[from] CheckpointError),
}

/// Everything known about a run.
struct Known {
    folder: PathBuf,
    records: Records,
    sessions: Vec<Session>,
    /// The settings, or the reason why they cannot be read.
    config: Result<Config, String>,
    /// Descriptions of the metrics of the run's task; the first quality metric selects the best checkpoint.
    metrics: Vec<&'static MetricInfo>,
    /// True if a process is training in the folder.
    going_on: bool,
    /// Steps of the latest and of the best checkpoint.
    checkpoints: [Option<u64>; 2],
}

/// Writes the page of a run.
///
/// # Errors
/// Returns a [`ReportError`] if the folder is not a run folder or the page cannot be written.
pub fn run(args: &ReportArgs) -> Result<Reported, ReportError> {
    let data = args.data.as_deref();
    let Some(url) = Location::of_path(&args.run)? else {
        return of_folder(&args.run, args.out.clone().unwrap_or_else(|| args.run.join(REPORT_FILE)), data);
    };
    let folder = Cache::of_user()?.folder_of("reports", &url.to_string());
    fetch_records(&url, &folder)?;
    let page = args.out.clone().unwrap_or_else(|| folder.join(REPORT_FILE));
    let reported = of_folder(&folder, page.clone(), data)?;
    if args.out.is_none() && url.is_writable() {
        Store::open(&url)?.upload(&page, REPORT_FILE, &|_| ())?;
        tracing::info!("copied the page to {}", url.join(REPORT_FILE));
    }
    Ok(reported)
}

/// Writes the page of the run in a folder.
fn of_folder(folder: &Path, out: PathBuf, data: Option<&Path>) -> Result<Reported, ReportError> {
    if let Some(seeds) = seeds(folder) {
        let sweep = Sweep::read(folder, &seeds)?;
        sweep.page(data)?.write(&out)?;
        return Ok(Reported::Sweep(ReportedSweep { page: out, summary: sweep.summary() }));
    }
    let known = Known::read(folder)?;
    known.page(data).write(&out)?;
    Ok(Reported::Run(Box::new(known.reported(&out))))
}

impl Known {
    fn read(folder: &Path) -> Result<Self, ReportError> {
        if !folder.is_dir() {
            return Err(ReportError::NoFolder { path: folder.to_owned() });
        }
        let [metrics, config] = [METRICS_FILE, CONFIG_FILE].map(|name| folder.join(name));
        if !metrics.exists() && !config.exists() {
            return Err(ReportError::NotARun { path: folder.to_owned() });
        }
        let records = match std::fs::read(&metrics) {
            Ok(bytes) => Records::parse(&bytes),
            // The run has just started, or was moved without its metrics.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Records::default(),
            Err(source) => return Err(ReportError::Read { path: metrics, source }),
        };
        let mut layers = Layers::default();
        let config = layers.file(&config).and_then(|()| layers.resolve()).map_err(|error| error.to_string());
        let sessions = Session::read(folder);
        let task = sessions.last().map_or(TaskName::Cloze, |session| session.task);
        let metrics = match &config {
            // The special tokens do not matter.
            Ok(config) => task::open(task, config.task(SpecialIds::BERT_UNCASED)).metrics(),
            Err(_) => metrics_of(task).iter().collect(),
        };
        Ok(Self {
            folder: folder.to_owned(),
            records,
            sessions,
            config,
            metrics,
            going_on: RunFolder::is_in_use(folder),
            checkpoints: RunFolder::latest_and_best_step(folder),
        })
    }

    fn task(&self) -> TaskName {
        self.sessions.last().map_or(TaskName::Cloze, |session| session.task)
    }

    /// Descriptions of the metrics of the run's task.
    fn metrics(&self) -> &[&'static MetricInfo] {
        &self.metrics
    }

    /// Words for rows and samples of the run's task.
    fn words(&self) -> Words {
        words_of(self.task())
    }

    /// The metric that selects checkpoints.
    fn selected(&self) -> Option<&'static MetricInfo> {
        self.metrics().iter().copied().find(|info| matches!(info.role, Role::Quality { .. }))
    }

    /// The best evaluation.
    fn best(&self) -> Option<&Entry> {
        self.records.best(Selection::of(self.metrics())?, self.words().evaluated)
    }

    fn page(&self, data: Option<&Path>) -> Document {
        let mut page = Document::new("Training run", folder_name(&self.folder), self.lead());
        page.section("result", "Result", self.overview());
        page.section("charts", "Charts", self.charts());
        if self.task() == TaskName::Cloze {
            page.section("hardest", "Hardest questions", hardest::section(&self.folder, self.sessions.last(), data));
        }
        page.section("events", "Events", self.events());
        page.section("settings", "Settings", settings::section(self.config.as_ref().map_err(String::as_str)));
        page
    }

    fn lead(&self) -> Markup {
        let written =
            File::open(self.folder.join(METRICS_FILE)).and_then(|file| file.metadata()).and_then(|file| file.modified());
        let written = written.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        html! {
            p { (self.status()) }
            @if let Some(written) = written {
                p { "As of " (moment(written.as_secs())) ". Page by " (version::PROGRAM.as_str()) "." }
            }
        }
    }
}
