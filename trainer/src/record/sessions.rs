//! When and how a run was started, and gone on with: `RUNDIR/sessions.jsonl`.

use std::path::{Path, PathBuf};

use glm_support::files::atomic;
use serde::{Deserialize, Serialize};

use crate::device::Precision;

/// The file's name in the run's folder.
pub const SESSIONS_FILE: &str = "sessions.jsonl";

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// When it began, in seconds since 1970.
    pub time: u64,
    /// Optimizer steps completed before: 0 where the run is new.
    pub step: u64,
    /// Questions used before.
    pub samples: u64,
    /// Questions after which the run is at its end.
    pub planned_samples: u64,
    /// Name of the task.
    pub task: String,
    /// The data set's folder, absolute.
    pub data: PathBuf,
    /// Its fingerprint.
    pub fingerprint: String,
    /// What the run began with: `random`, or where its weights came from; `None` for the default.
    pub init: Option<String>,
    /// The device of the first rank.
    pub device: String,
    /// Format of forward and backward pass.
    pub precision: Precision,
    /// Processes that train together.
    pub ranks: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// Questions to train on.
    pub train_questions: usize,
    /// Questions to evaluate on; 0 where there is no such split.
    pub val_questions: usize,
}

impl Session {
    /// Adds the line to the file in a run's folder. Where the run is new the file begins anew. Training never ends for the sake of
    /// this file: what cannot be written is warned of.
    pub fn note(&self, folder: &Path) {
        let path = folder.join(SESSIONS_FILE);
        let before = if self.samples == 0 { Vec::new() } else { std::fs::read(&path).unwrap_or_default() };
        let Ok(line) = serde_json::to_vec(self) else { return };
        let written = atomic::write(&path, |file| {
            file.write_all(&before)?;
            file.write_all(&line)?;
            file.write_all(b"\n")
        });
        if let Err(error) = written {
            tracing::warn!("cannot write {}: {error}; training goes on without it", path.display());
        }
    }

    /// The sessions of a run, in order; none where the file is missing. Lines that are damaged are left out.
    pub fn read(folder: &Path) -> Vec<Self> {
        let text = std::fs::read_to_string(folder.join(SESSIONS_FILE)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_goes_on_has_a_line_more_and_a_new_one_begins_anew() {
        let folder = tempfile::tempdir().expect("folder");
        let session = Session {
            time: 1_800_000_000,
            step: 0,
            samples: 0,
            planned_samples: 90,
            task: "cloze".into(),
            data: "/data".into(),
            fingerprint: "f".into(),
            init: None,
            device: "Cpu".into(),
            precision: Precision::Fp32,
            ranks: 1,
            parameters: 10,
            train_questions: 30,
            val_questions: 0,
        };
        let later = Session { step: 5, samples: 40, ..session.clone() };
        assert_eq!(Session::read(folder.path()), []);
        session.note(folder.path());
        later.note(folder.path());
        assert_eq!(Session::read(folder.path()), [session.clone(), later]);
        session.note(folder.path());
        assert_eq!(Session::read(folder.path()), [session]);
        // A file that cannot be written ends nothing.
        Session::note(&Session::read(folder.path())[0], &folder.path().join("nowhere"));
    }
}
