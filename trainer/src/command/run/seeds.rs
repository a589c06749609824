//! `glm-trainer run --seeds`: runs that differ in their random seed only, one after the other.

use std::path::{Path, PathBuf};

use glm_remote::is_url;
use glm_support::files::atomic;

use super::RunArgs;
use crate::command::report::{ReportError, SEEDS_FILE, SweepSummary, run_folder, seeds};
use crate::command::setup::SetupError;

/// Runs of a seed sweep.
#[derive(Debug)]
pub struct SeedRuns {
    folder: PathBuf,
    /// Seed and arguments of each run.
    runs: Vec<(u64, RunArgs)>,
    /// The seeds of the folder, those of earlier commands included.
    seeds: Vec<u64>,
}

impl SeedRuns {
    /// Checks the arguments of `run --seeds` and splits them into those of one run per seed.
    ///
    /// # Errors
    /// [`SetupError`] if a setting is invalid, a seed is given twice, or the folder is that of a run.
    pub fn of(args: &RunArgs) -> Result<Self, SetupError> {
        // The command line requires it.
        let folder = args.out.clone().unwrap_or_default();
        let refuse = |text: String| Err(SetupError::Invalid(text));
        if is_url(&folder) {
            let url = folder.display();
            return refuse(format!(
                "--seeds needs a folder on disk for --out, not {url}; one run per seed can be at a URL of its own"
            ));
        }
        if ["metrics.jsonl", "config.toml"].iter().any(|file| folder.join(file).exists()) {
            let folder = folder.display();
            return refuse(format!("{folder} already holds a run with one seed; choose another folder for --seeds with --out"));
        }
        let mut all = seeds(&folder).unwrap_or_default();
        let mut runs: Vec<(u64, RunArgs)> = Vec::new();
        for &seed in &args.seeds {
            if runs.iter().any(|(known, _)| *known == seed) {
                return refuse(format!("--seeds has {seed} twice"));
            }
            if !all.contains(&seed) {
                all.push(seed);
            }
            let out = Some(run_folder(&folder, seed));
            let of_seed = RunArgs { seeds: Vec::new(), seed: Some(seed), out, ..args.clone() };
            if of_seed.clone().resolve()?.1.train.seed != seed {
                return refuse("--set train.seed and --seeds exclude each other; omit one of them".to_owned());
            }
            runs.push((seed, of_seed));
        }
        Ok(Self { folder, runs, seeds: all })
    }

    /// Folder of the sweep.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Seed and folder of each run.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = (u64, PathBuf)> {
        self.runs.iter().map(|(seed, args)| (*seed, args.out.clone().unwrap_or_default()))
    }

    /// Writes the seeds and what their runs have reached to the folder, and returns it.
    ///
    /// # Errors
    /// [`ReportError`] if a run cannot be read, or the file cannot be written.
    pub fn note(&self) -> Result<SweepSummary, ReportError> {
        let summary = SweepSummary::read(&self.folder, &self.seeds)?;
        let path = self.folder.join(SEEDS_FILE);
        let failed = |source| ReportError::Note { path: path.clone(), source };
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        let text = serde_json::to_vec_pretty(&summary).unwrap_or_default();
        atomic::write(&path, |file| {
            file.write_all(&text)?;
            file.write_all(b"\n")
        })
        .map_err(failed)?;
        Ok(summary)
    }
}
