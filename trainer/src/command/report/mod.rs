//! `glm-trainer report`: one page about a run, to be sent to a colleague.
//!
//! - `records`: what `metrics.jsonl` says, as far as it can be read.
//! - `overview`: how far the run is and how well it does.
//! - `charts`: its numbers over the steps.
//! - `events`: what happened at which step.
//! - `settings`: what it was asked to do.
//! - `hardest`: the questions that the newest evaluation did worst on.

mod charts;
mod events;
mod hardest;
mod overview;
mod records;
mod settings;

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use glm_support::page::document::{Document, WriteError};
use maud::{Markup, html};
use thiserror::Error;

use crate::checkpoint::run_folder::RunFolder;
use crate::config::{Config, overrides::Layers};
use crate::record::sessions::Session;
use crate::task::metrics::{MetricInfo, Role, Selection};
use crate::task::{CLOZE, metrics_of};
use records::{Eval, Records};

const METRICS_FILE: &str = "metrics.jsonl";
const CONFIG_FILE: &str = "config.toml";
/// The page's name in the run's folder.
const REPORT_FILE: &str = "report.html";

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The folder of a run: what was given to `run --out`
    #[arg(value_name = "RUNDIR")]
    pub run: PathBuf,
    /// Where the page goes [default: RUNDIR/report.html]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The data set, for the texts of questions, where it is no longer where the run read it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Why there is no page.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A folder that is not there.
    #[error("there is no folder {}: name the folder of a run, the one given to `glm-trainer run --out`", path.display())]
    NoFolder {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder in which nothing was trained.
    #[error(
        "{0} is no run: there is neither {0}/{METRICS_FILE} nor {0}/{CONFIG_FILE}, which `glm-trainer run --out {0}` writes",
        path.display()
    )]
    NotARun {
        /// What was asked for.
        path: PathBuf,
    },
    /// A file of the run that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The page cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// All that is known of a run.
struct Known {
    folder: PathBuf,
    records: Records,
    sessions: Vec<Session>,
    /// The settings, or why they cannot be read.
    config: Result<Config, String>,
    /// Whether a process trains it now.
    going_on: bool,
    /// Number of the newest checkpoint's step, and of the best one's.
    checkpoints: [Option<u64>; 2],
}

/// Writes the page of a run; where it is.
///
/// # Errors
/// [`ReportError`] where the folder holds no run, or the page cannot be written.
pub fn run(args: &ReportArgs) -> Result<PathBuf, ReportError> {
    let known = Known::read(&args.run)?;
    let out = args.out.clone().unwrap_or_else(|| args.run.join(REPORT_FILE));
    known.page(args.data.as_deref()).write(&out)?;
    Ok(out)
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
            // A run that was started a moment ago, or was moved without them.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Records::default(),
            Err(source) => return Err(ReportError::Read { path: metrics, source }),
        };
        let mut layers = Layers::default();
        let config = layers.file(&config).and_then(|()| layers.resolve()).map_err(|error| error.to_string());
        Ok(Self {
            folder: folder.to_owned(),
            records,
            sessions: Session::read(folder),
            config,
            going_on: RunFolder::is_in_use(folder),
            checkpoints: RunFolder::newest_and_best_step(folder),
        })
    }

    /// Descriptions of the metrics of the run's task.
    fn metrics(&self) -> &'static [MetricInfo] {
        metrics_of(self.sessions.last().map_or(CLOZE, |session| session.task.as_str()))
    }

    /// The metric that selects checkpoints.
    fn selected(&self) -> Option<&'static MetricInfo> {
        self.metrics().iter().find(|info| matches!(info.role, Role::Quality { .. }))
    }

    /// The best evaluation.
    fn best(&self) -> Option<&Eval> {
        self.records.best(Selection::of(self.metrics())?)
    }

    fn page(&self, data: Option<&Path>) -> Document {
        let name = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        let name = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
        let mut page = Document::new(format!("Training run {name}"), self.lead());
        page.section("result", "Result", self.overview());
        page.section("charts", "Charts", self.charts());
        page.section("hardest", "Hardest questions", hardest::section(&self.folder, self.sessions.last(), data));
        page.section("events", "Events", self.events());
        page.section("settings", "Settings", settings::section(self.config.as_ref().map_err(String::as_str)));
        page.section("run", "How it was run", self.facts());
        page
    }

    fn lead(&self) -> Markup {
        let written =
            File::open(self.folder.join(METRICS_FILE)).and_then(|file| file.metadata()).and_then(|file| file.modified());
        let written = written.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        html! {
            p { (self.status()) }
            @if let Some(written) = written { p { "As of " (glm_support::page::number::moment(written.as_secs())) "." } }
        }
    }
}
