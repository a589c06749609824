//! Starts and resumptions of a run, `RUNDIR/sessions.jsonl`.

use std::path::{Path, PathBuf};

use glm_schemas::manifest::TaskName;
use glm_support::files::atomic;
use glm_support::provenance::Provenance;
use serde::{Deserialize, Serialize};

use crate::device::Precision;

/// Name of the file in the run folder.
pub const SESSIONS_FILE: &str = "sessions.jsonl";

/// Line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Start time, in seconds since 1970.
    pub time: u64,
    /// Optimizer steps completed before; 0 for a new run.
    pub step: u64,
    /// Samples used before.
    pub samples: u64,
    /// Samples after which the run ends.
    pub planned_samples: u64,
    /// Name of the task.
    pub task: TaskName,
    /// Absolute path of the data set, or its URL.
    pub data: PathBuf,
    /// Fingerprint of the data set.
    pub fingerprint: String,
    /// Initial weights of the run: `random` or their path; `None` for the default.
    pub init: Option<String>,
    /// Device of rank 0.
    pub device: String,
    /// Precision of forward and backward pass.
    pub precision: Precision,
    /// Number of ranks.
    pub ranks: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// Rows to train on.
    pub train_questions: usize,
    /// Rows to evaluate on; 0 without a validation split.
    pub val_questions: usize,
    /// Program, command line and machine of rank 0; `None` for runs of earlier versions.
    #[serde(default)]
    pub provenance: Option<Provenance>,
}

impl Session {
    /// Appends the session to the file in a run folder. A new run replaces the file. Write errors are logged as warnings and never
    /// end training.
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
            tracing::warn!("cannot write {}: {error}; training continues without it", path.display());
        }
    }

    /// Returns the sessions of a run, in order; none if the file is missing. Damaged lines are skipped.
    pub fn read(folder: &Path) -> Vec<Self> {
        let text = std::fs::read_to_string(folder.join(SESSIONS_FILE)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_adds_a_line_and_a_new_run_replaces_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let session = Session {
            time: 1_800_000_000,
            step: 0,
            samples: 0,
            planned_samples: 90,
            task: TaskName::Cloze,
            data: "/data".into(),
            fingerprint: "f".into(),
            init: None,
            device: "Cpu".into(),
            precision: Precision::Fp32,
            ranks: 1,
            parameters: 10,
            train_questions: 30,
            val_questions: 0,
            provenance: Some(Provenance::of_process("glm-trainer 0.1.0".into(), 3, 2)),
        };
        let later = Session { step: 5, samples: 40, ..session.clone() };
        assert_eq!(Session::read(folder.path()), []);
        session.note(folder.path());
        later.note(folder.path());
        assert_eq!(Session::read(folder.path()), [session.clone(), later]);
        session.note(folder.path());
        assert_eq!(Session::read(folder.path()), [session]);
        // A write error does not end the run.
        Session::note(&Session::read(folder.path())[0], &folder.path().join("nowhere"));
    }
}
