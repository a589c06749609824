//! `glm-trainer predict --all`: the answers of several runs to the test splits of their data sets, in one archive.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{Split, TaskName};
use glm_support::files::output::{Output, is_url};
use serde::Serialize;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::submission::Submission;
use super::{PredictArgs, PredictError, answers, check_indices};
use crate::command::eval::EvalError;
use crate::command::report::{SweepSummary, run_folder, seeds};
use crate::command::scorer::Scorer;
use crate::command::setup::{SetupError, open_data};
use crate::command::weights::{Provenance, WeightArgs};
use crate::record::sessions::Session;

/// Answers in an archive.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Submitted {
    /// The archive.
    pub out: PathBuf,
    /// Its files.
    pub files: Vec<SubmittedFile>,
}

/// Answers of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubmittedFile {
    /// Name in the archive.
    pub file: &'static str,
    /// Number of questions.
    pub questions: usize,
    /// Weights and data.
    #[serde(flatten)]
    pub provenance: Provenance,
}

impl fmt::Display for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for SubmittedFile { file, questions, provenance } in &self.files {
            writeln!(f, "{file:<20}  {questions} answers by {}", provenance.weights.path.display())?;
        }
        writeln!(f, "{:<20}  {}", "archive", self.out.display())
    }
}

/// Answers the test split of each run's data set and writes an archive with a file for each.
///
/// # Errors
/// [`PredictError`].
pub(super) fn run(args: &PredictArgs) -> Result<Submitted, PredictError> {
    let mut out = Output::open(&args.out).map_err(EvalError::from)?;
    // Mistakes show before the first run answers, which can take hours.
    let jobs = jobs(&args.all)?;
    let mut files = Vec::new();
    let mut contents: Vec<Vec<u8>> = Vec::new();
    for job in &jobs {
        let (file, content) = answered(args, job)?;
        files.push(file);
        contents.push(content);
    }
    let mut archive = io::Cursor::new(Vec::new());
    pack(files.iter().map(|file| file.file).zip(&contents), &mut archive)
        .map_err(|error| EvalError::Output(out.error(error)))?;
    out.write(|file| file.write_all(archive.get_ref())).map_err(|error: io::Error| EvalError::Output(out.error(error)))?;
    Ok(Submitted { out: args.out.clone(), files })
}

/// A run whose data set has a test split and a file in a submission.
#[derive(Debug)]
struct Job {
    /// Folder of the run.
    run: PathBuf,
    /// Its data set.
    data: PathBuf,
    /// Name of the file.
    file: &'static str,
}

/// Finds the runs in folders and checks that each has a test split and a file of its own.
fn jobs(folders: &[PathBuf]) -> Result<Vec<Job>, PredictError> {
    if let Some(url) = folders.iter().find(|folder| is_url(folder)) {
        return Err(PredictError::UrlOfRun(url.clone()));
    }
    let mut jobs: Vec<Job> = Vec::new();
    for (at, folder) in folders.iter().enumerate() {
        if folders[..at].contains(folder) {
            return Err(PredictError::Twice(folder.clone()));
        }
        let job = job(chosen(folder)?)?;
        if let Some(Job { run: other, .. }) = jobs.iter().find(|other| other.file == job.file) {
            return Err(PredictError::SameFile { file: job.file, run: folder.clone(), other: other.clone() });
        }
        jobs.push(job);
    }
    Ok(jobs)
}

fn job(run: PathBuf) -> Result<Job, PredictError> {
    let Session { data, .. } = Session::read(&run).pop().ok_or_else(|| PredictError::NoRun(run.clone()))?;
    let opened = open_data(&data).map_err(EvalError::from)?;
    let manifest = opened.manifest();
    match Submission::of(manifest).file.filter(|_| manifest.task == TaskName::Cloze) {
        Some(file) => {
            opened.split(Split::Test).map_err(|error| EvalError::from(SetupError::from(error)))?;
            Ok(Job { run, data, file })
        }
        None => Err(PredictError::NotSubmitted { run, data }),
    }
}

/// The run in a folder; of a seed sweep the best run.
fn chosen(folder: &Path) -> Result<PathBuf, PredictError> {
    let Some(seeds) = seeds(folder) else { return Ok(folder.to_owned()) };
    let summary = SweepSummary::read(folder, &seeds)?;
    let best = summary.best_seed.ok_or_else(|| PredictError::NothingEvaluated(folder.to_owned()))?;
    Ok(run_folder(folder, best))
}

/// Answers the test split of the data set of a run.
fn answered(args: &PredictArgs, job: &Job) -> Result<(SubmittedFile, Vec<u8>), PredictError> {
    let weights = WeightArgs { init: job.run.clone(), checkpoint: args.checkpoint };
    let subject = Scorer::with_split(Some(job.data.clone()), Split::Test, &weights, args.device, &args.settings, &[])
        .map_err(EvalError::from)?;
    let submission = Submission::of(subject.data.manifest());
    let answers = answers(&subject)?;
    check_indices(&submission, &answers, Split::Test)?;
    let mut content = Vec::new();
    // Writing to memory does not fail.
    let _infallible = submission.write(submission.format(), &answers, &mut content);
    Ok((SubmittedFile { file: job.file, questions: answers.len(), provenance: subject.provenance }, content))
}

/// Writes an archive whose bytes depend on its files only.
fn pack<'a>(files: impl Iterator<Item = (&'static str, &'a Vec<u8>)>, archive: &mut io::Cursor<Vec<u8>>) -> io::Result<()> {
    let mut writer = ZipWriter::new(archive);
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).last_modified_time(DateTime::default());
    for (name, content) in files {
        writer.start_file(name, options)?;
        writer.write_all(content)?;
    }
    writer.finish().map(drop).map_err(io::Error::from)
}
