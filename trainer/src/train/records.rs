//! Files written by a training run.

use std::path::PathBuf;

use glm_schemas::manifest::Split;

use crate::checkpoint::background::Background;
use crate::checkpoint::run_folder::RunFolder;
use crate::record::answers::{ANSWERS_FILE, Answers};
use crate::record::metrics::{EvalRecord, MetricsFile};
use crate::record::progress::Progress;

/// Checkpoints, metrics and answers of a run.
#[derive(Debug)]
pub struct Records {
    /// Checkpoints.
    pub checkpoints: Background,
    /// Metrics.
    pub metrics: MetricsFile,
}

impl Records {
    /// Folder of the run.
    pub fn folder(&self) -> &RunFolder {
        self.checkpoints.folder()
    }

    /// Logs the completion of a checkpoint. With `wait`, waits for the one in progress. A failed checkpoint does not end training:
    /// earlier ones are complete, and the next may succeed.
    pub(crate) fn follow(&mut self, progress: &Progress, wait: bool) {
        match if wait { self.checkpoints.wait() } else { self.checkpoints.poll() } {
            Ok(Some(written)) => progress.checkpoint(&written),
            Ok(None) => {}
            Err(error) => match self.folder().latest() {
                Some(path) => tracing::error!("{error}; training continues, the latest checkpoint is {}", path.display()),
                None => tracing::error!("{error}; training continues without a checkpoint"),
            },
        }
    }

    /// Waits for the checkpoint in progress, and returns the latest one.
    pub(crate) fn latest_checkpoint(&mut self, progress: &Progress) -> Option<PathBuf> {
        self.follow(progress, true);
        self.folder().latest()
    }

    /// Writes the answers of the latest evaluation. A failure does not end training.
    pub(crate) fn write_answers(&self, answers: Answers, record: &EvalRecord, split: Split) {
        let written = answers.lines(record, split.name()).map_err(|error| error.to_string());
        let written = written.and_then(|lines| self.folder().write(ANSWERS_FILE, &lines).map_err(|error| error.to_string()));
        if let Err(error) = written {
            tracing::warn!("{error}; training continues, {ANSWERS_FILE} is not that of the latest evaluation");
        }
    }
}
