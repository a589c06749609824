//! Checkpoints that several ranks write together: each writes its part of the averages, and rank 0 everything else.
//!
//! Rank 0 creates the temporary folder before the others write to it, waits for the checksums of their files, and publishes the
//! checkpoint: so it is complete or does not exist, whichever rank is killed when.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::averages::{STARTS_KEY, WHOLE_FILE, part_file};
use super::locate::temporary_folder;
use super::snapshot::{MomentPart, Snapshot};
use super::tensors::{metadata, write_with_metadata};
use super::{CheckpointError, seal};
use crate::device::on_this_gpu;
use crate::distributed::{DistributedError, Exchange};

/// Connection to the ranks that write a checkpoint together. Every rank counts the checkpoints that it has started.
#[derive(Debug, Clone)]
pub struct Peers {
    exchange: Arc<Mutex<Exchange>>,
    started: u64,
}

impl Peers {
    /// Ranks behind a connection, before the first checkpoint.
    pub fn new(exchange: Exchange) -> Self {
        Self { exchange: Arc::new(Mutex::new(exchange)), started: 0 }
    }

    /// The ranks for the next checkpoint.
    #[must_use]
    pub fn of_next(&mut self) -> Self {
        self.started += 1;
        self.clone()
    }

    fn with_exchange<T>(&self, act: impl FnOnce(&Exchange, &str) -> T) -> T {
        act(&self.exchange.lock().unwrap_or_else(PoisonError::into_inner), &format!("checkpoint/{}", self.started))
    }

    /// Tells rank 0 the checksum of this rank's file, or why there is none.
    fn report(&self, outcome: &Result<String, String>) -> Result<(), DistributedError> {
        self.with_exchange(|exchange, name| exchange.publish(name, outcome))
    }

    /// Waits until the other ranks have written their files. Returns names and checksums, in the order of ranks.
    ///
    /// # Errors
    /// [`CheckpointError::Ranks`] of the first rank that has failed.
    pub(super) fn wait(&self) -> Result<Vec<(String, String)>, CheckpointError> {
        let of_rank = |exchange: &Exchange, name: &str, rank: usize| -> Result<(String, String), String> {
            let outcome: Result<String, String> = exchange.wait(name, rank).map_err(|error| error.to_string())?;
            let sum = outcome.map_err(|reason| {
                format!("rank {rank}: {reason} (with distributed.shard, every rank must have access to the folder of the run)")
            })?;
            Ok((part_file(rank, exchange.ranks()), sum))
        };
        let all = |exchange: &Exchange, name: &str| {
            (1..exchange.ranks()).map(|rank| of_rank(exchange, name, rank)).collect::<Result<Vec<_>, String>>()
        };
        self.with_exchange(all).map_err(|reason| CheckpointError::Ranks { reason })
    }
}

/// Writes the part of a rank other than 0 on a background thread, one at a time.
#[derive(Debug)]
pub struct PartWriter {
    root: PathBuf,
    peers: Peers,
    in_progress: Option<JoinHandle<()>>,
}

impl PartWriter {
    /// Writer for the run in a folder.
    pub fn new(root: PathBuf, peers: Peers) -> Self {
        Self { root, peers, in_progress: None }
    }

    /// Starts to write the part of a checkpoint whose folder rank 0 has created. Rank 0 learns of errors and reports them.
    ///
    /// # Errors
    /// [`CheckpointError::Thread`] if the thread cannot be started.
    pub fn start(&mut self, snapshot: Snapshot) -> Result<(), CheckpointError> {
        self.wait();
        let (folder, peers) = (temporary_folder(&self.root, snapshot.state.step), self.peers.of_next());
        let write = move || {
            let outcome = write_part(&folder, &snapshot).map(|(_, sum)| sum).map_err(|error| error.to_string());
            if let Err(error) = peers.report(&outcome) {
                tracing::error!("{error}");
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(on_this_gpu(write));
        self.in_progress = Some(thread.map_err(|source| CheckpointError::Thread { reason: source.to_string() })?);
        Ok(())
    }

    /// Waits for the part in progress, if any.
    pub fn wait(&mut self) {
        if let Some(thread) = self.in_progress.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes a checkpoint panicked, see the message above");
        }
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Writes the averages of a snapshot, those of all parameters or a part of them. Returns name and checksum of the file.
pub(super) fn write_part(folder: &Path, snapshot: &Snapshot) -> Result<(String, String), CheckpointError> {
    snapshot.wait()?;
    let Snapshot { moments, part, sizes, state, .. } = snapshot;
    let name = match part {
        Some(MomentPart { rank, ranks, .. }) => part_file(*rank, *ranks),
        None => WHOLE_FILE.to_owned(),
    };
    let path = folder.join(&name);
    let mut metadata = metadata(&path, sizes, state.tokenizer.as_ref())?;
    if let Some(MomentPart { starts, .. }) = part {
        let json = serde_json::to_string(starts);
        metadata.insert(STARTS_KEY, json.map_err(|source| CheckpointError::State { path: path.clone(), source })?);
    }
    write_with_metadata(&path, moments.iter().map(|(name, tensor)| (name.clone(), tensor)), &metadata)?;
    let sum = seal::sum(&path).map_err(|source| CheckpointError::Io { doing: "cannot read back", path, source })?;
    Ok((name, sum))
}
