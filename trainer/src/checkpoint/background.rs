//! Writing checkpoints while training goes on.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::CheckpointError;
use super::run_folder::RunFolder;
use super::snapshot::Snapshot;

/// A checkpoint that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its folder.
    pub path: PathBuf,
    /// How long writing took, beside training.
    pub writing: Duration,
    /// How long training stood still for it.
    pub held_up: Duration,
}

/// Writes one checkpoint at a time, on a thread of its own.
#[derive(Debug)]
pub struct Background {
    folder: RunFolder,
    keep: usize,
    under_way: Option<JoinHandle<Result<Written, CheckpointError>>>,
}

impl Background {
    /// For a run's folder in which the newest `keep` checkpoints and the best stay.
    pub fn new(folder: RunFolder, keep: usize) -> Self {
        Self { folder, keep, under_way: None }
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Starts to write a snapshot for which training has stood still since `start`. One before it has to be finished first:
    /// see [`Self::wait`].
    ///
    /// # Errors
    /// [`CheckpointError::Thread`] where no thread can be started.
    pub fn start(&mut self, snapshot: Snapshot, is_best: bool, start: Instant) -> Result<(), CheckpointError> {
        let (folder, keep) = (self.folder.clone(), self.keep);
        let held_up = start.elapsed();
        let write = move || {
            let start = Instant::now();
            let path = folder.save(&snapshot, is_best, keep)?;
            Ok(Written { path, writing: start.elapsed(), held_up })
        };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(write);
        self.under_way = Some(thread.map_err(|source| CheckpointError::Thread { reason: source.to_string() })?);
        Ok(())
    }

    /// What became of the one under way, if it is done.
    ///
    /// # Errors
    /// The [`CheckpointError`] of writing it.
    pub fn poll(&mut self) -> Result<Option<Written>, CheckpointError> {
        match &self.under_way {
            Some(thread) if thread.is_finished() => self.wait(),
            _ => Ok(None),
        }
    }

    /// Waits for the one under way, if there is one.
    ///
    /// # Errors
    /// The [`CheckpointError`] of writing it.
    pub fn wait(&mut self) -> Result<Option<Written>, CheckpointError> {
        let Some(thread) = self.under_way.take() else { return Ok(None) };
        let panicked = |_| CheckpointError::Thread { reason: "it panicked; the message above says where".to_owned() };
        thread.join().map_err(panicked)?.map(Some)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Whoever leaves early still leaves a whole checkpoint behind.
        if let Err(error) = self.wait() {
            tracing::error!("{error}");
        }
    }
}
