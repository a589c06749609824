//! Checkpoint writer on a background thread.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::CheckpointError;
use super::copy::RunCopy;
use super::parts::Peers;
use super::run_folder::RunFolder;
use super::snapshot::Snapshot;
use crate::device::on_this_gpu;

/// A completed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Folder of the checkpoint.
    pub path: PathBuf,
    /// Time of writing, in parallel with training.
    pub writing: Duration,
    /// Time for which training was blocked.
    pub held_up: Duration,
}

/// Writes checkpoints on a background thread, one at a time.
#[derive(Debug)]
pub struct Background {
    folder: RunFolder,
    keep: usize,
    /// The ranks that write parts of checkpoints.
    peers: Option<Peers>,
    begun: Option<Result<(), CheckpointError>>,
    /// Copy of the run folder in an object store, if it has one.
    copy: Option<RunCopy>,
    in_progress: Option<JoinHandle<Result<Written, CheckpointError>>>,
}

impl Background {
    /// Creates a writer that keeps the latest `keep` checkpoints and the best one.
    pub fn new(folder: RunFolder, keep: usize) -> Self {
        Self { folder, keep, peers: None, begun: None, copy: None, in_progress: None }
    }

    /// Copies the run folder to an object store, after every checkpoint.
    #[must_use]
    pub fn with_copy(mut self, copy: Option<RunCopy>) -> Self {
        self.copy = copy;
        self
    }

    /// Folder of the run, or the URL of its copy.
    pub fn place(&self) -> PathBuf {
        self.copy.as_ref().map_or_else(|| self.folder.root().to_owned(), |copy| copy.url().to_string().into())
    }

    /// Waits until the run folder is copied, if it has a copy.
    ///
    /// # Errors
    /// The [`CheckpointError`] of copying it.
    pub fn finish_copy(&mut self) -> Result<(), CheckpointError> {
        self.copy.as_mut().map_or(Ok(()), RunCopy::finish)
    }

    /// Writes checkpoints together with other ranks from now on.
    pub fn join(&mut self, peers: Peers) {
        self.peers = Some(peers);
    }

    /// Creates the folder of the next checkpoint, to which other ranks write before [`Self::start`], if there are any. Call [`Self::wait`]
    /// before it. A failure is one of the checkpoint.
    pub fn begin(&mut self, step: u64) {
        self.begun = self.peers.as_ref().map(|_| self.folder.begin(step));
    }

    /// Folder of the run.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Starts to write a snapshot for which training has been blocked since `start`, after [`Self::begin`].
    ///
    /// # Errors
    /// [`CheckpointError::Thread`] if the thread cannot be started.
    pub fn start(&mut self, snapshot: Snapshot, is_best: bool, start: Instant) -> Result<(), CheckpointError> {
        let (folder, keep) = (self.folder.clone(), self.keep);
        let held_up = start.elapsed();
        let (peers, begun) = (self.peers.as_mut().map(Peers::of_next), self.begun.take());
        let write = move || {
            let start = Instant::now();
            begun.unwrap_or_else(|| folder.begin(snapshot.state.step))?;
            let path = folder.save(&snapshot, is_best, keep, peers.as_ref())?;
            Ok(Written { path, writing: start.elapsed(), held_up })
        };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(on_this_gpu(write));
        self.in_progress = Some(thread.map_err(|source| CheckpointError::Thread { reason: source.to_string() })?);
        Ok(())
    }

    /// Returns the checkpoint in progress if it is complete, without blocking.
    ///
    /// # Errors
    /// The [`CheckpointError`] of writing it.
    pub fn poll(&mut self) -> Result<Option<Written>, CheckpointError> {
        match &self.in_progress {
            Some(thread) if thread.is_finished() => self.wait(),
            _ => Ok(None),
        }
    }

    /// Waits for the checkpoint in progress, if any, and returns it.
    ///
    /// # Errors
    /// The [`CheckpointError`] of writing it.
    pub fn wait(&mut self) -> Result<Option<Written>, CheckpointError> {
        let Some(thread) = self.in_progress.take() else { return Ok(None) };
        let panicked = |_| CheckpointError::Thread { reason: "it panicked, see the message above".to_owned() };
        let written = thread.join().map_err(panicked)??;
        self.copy.iter().for_each(RunCopy::request);
        Ok(Some(written))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A run that ends early still completes its checkpoint.
        if let Err(error) = self.wait() {
            tracing::error!("{error}");
        }
    }
}
