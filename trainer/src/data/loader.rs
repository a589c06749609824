//! Threads that read ahead: decode workers turn row groups into rows, a packer turns rows into batches, and the consumer
//! takes them from a bounded queue, in an order that does not depend on the threads.
//!
//! ```text
//! packer --(row group wanted)--> decode workers --(rows)--> packer --(steps, bounded)--> consumer
//! ```
//!
//! The queues are crossbeam's bounded channels: arrays of slots taken by atomic operations, whose waiters park. Any stage
//! that ends, by an error, a panic or because nobody wants more, closes its channels, and so ends the others.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::DataError;
use super::batch::Batch;
use super::mmap::{DecodedGroup, SplitData};
use super::pack::{PackedQuestion, Packer};
use super::sampler::{Block, Order, Sampler};

/// Where in the order of samples a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Samples of this epoch that have been used.
    pub samples: usize,
}

/// What one optimizer step works on.
#[derive(Debug)]
pub struct Step {
    /// The batches.
    pub batches: Vec<Batch>,
    /// Questions over all batches.
    pub questions: usize,
    /// Where the order of samples stands behind this step.
    pub position: Position,
}

/// What a loader delivers.
#[derive(Debug, Clone, Copy)]
pub struct LoaderConfig {
    /// Order of samples.
    pub order: Order,
    /// Questions of a step; the last of an epoch may have fewer.
    pub questions_a_step: usize,
    /// First epoch and sample.
    pub start: Position,
    /// The loader ends behind this many epochs (counted from epoch 0).
    pub epochs: u64,
    /// Decode threads, at least 1.
    pub threads: usize,
    /// Steps that wait in the queue at most.
    pub queue_steps: usize,
    /// How questions become batches.
    pub packer: Packer,
}

/// Delivers steps in order, prepared by threads of its own. Dropping it ends them.
#[derive(Debug)]
pub struct Loader {
    steps: Option<Receiver<Result<Step, DataError>>>,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
    ended: bool,
}

type Job = usize;
type Decoded = (usize, Result<Arc<DecodedGroup>, DataError>);

impl Loader {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`DataError::Io`] where a thread cannot be started.
    pub fn start(data: Arc<SplitData>, fingerprint: &str, config: LoaderConfig) -> Result<Self, DataError> {
        let sampler = Sampler::new(data.group_rows(), config.order, fingerprint);
        // Two blocks of jobs are under way at most, see `pack_steps`.
        let (job_sender, jobs) = bounded::<Job>(2 * super::sampler::GROUPS_A_BLOCK);
        let (decoded_sender, decoded) = bounded::<Decoded>(2 * super::sampler::GROUPS_A_BLOCK);
        let (step_sender, steps) = bounded(config.queue_steps.max(1));
        let mut threads = Vec::new();
        for i in 0..config.threads.max(1) {
            let (jobs, decoded_sender, data) = (jobs.clone(), decoded_sender.clone(), Arc::clone(&data));
            threads.push(spawn(format!("decode-{i}"), move || {
                for group in jobs {
                    // A group that never arrives would leave the packer waiting for ever, so even a bug is handed on.
                    let rows = catch_unwind(AssertUnwindSafe(|| data.decode(group).map(Arc::new)));
                    if decoded_sender.send((group, rows.unwrap_or(Err(DataError::Panicked)))).is_err() {
                        return;
                    }
                }
            })?);
        }
        threads.push(spawn("pack".to_owned(), move || {
            let mut groups = GroupRequests { jobs: job_sender, decoded, arrived: HashMap::new() };
            if let Err(Some(error)) = pack_steps(&sampler, &config, &mut groups, &step_sender) {
                // Nobody listening is no error: the consumer has ended first.
                let _ = step_sender.send(Err(error));
            }
        })?);
        Ok(Self { steps: Some(steps), threads, waited: Duration::ZERO, ended: false })
    }

    /// The next step; `None` behind the last epoch.
    ///
    /// # Errors
    /// [`DataError`] of whichever stage failed. The loader delivers nothing more afterwards.
    pub fn next_step(&mut self) -> Result<Option<Step>, DataError> {
        let Some(steps) = self.steps.as_ref().filter(|_| !self.ended) else { return Ok(None) };
        let start = Instant::now();
        let received = steps.recv();
        self.waited += start.elapsed();
        match received {
            Ok(Ok(step)) => Ok(Some(step)),
            Ok(Err(error)) => {
                self.ended = true;
                Err(error)
            }
            Err(_) => {
                self.ended = true;
                if self.join() { Err(DataError::Panicked) } else { Ok(None) }
            }
        }
    }

    /// How long [`Self::next_step`] has waited in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Waits for the threads; whether one of them panicked.
    fn join(&mut self) -> bool {
        self.steps = None;
        // All of them are waited for, so no `any`, which would stop at the first.
        self.threads.drain(..).filter_map(|thread| thread.join().err()).count() > 0
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.join();
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DataError> {
    let path = std::path::PathBuf::from(&name);
    std::thread::Builder::new().name(name).spawn(work).map_err(|source| DataError::Io { path, source })
}

/// Row groups that the packer has asked for and those that have arrived.
struct GroupRequests {
    jobs: Sender<Job>,
    decoded: Receiver<Decoded>,
    arrived: HashMap<usize, Arc<DecodedGroup>>,
}

/// `None`: the other side has ended, and whoever ended it has said why.
type Ended = Option<DataError>;

impl GroupRequests {
    fn request(&self, block: &Block) -> Result<(), Ended> {
        block.groups.iter().try_for_each(|&group| self.jobs.send(group).map_err(|_| None))
    }

    /// The groups of a block that was requested, in the block's order.
    fn wait_for(&mut self, block: &Block) -> Result<Vec<Arc<DecodedGroup>>, Ended> {
        block
            .groups
            .iter()
            .map(|group| {
                loop {
                    if let Some(rows) = self.arrived.remove(group) {
                        return Ok(rows);
                    }
                    let (group, rows) = self.decoded.recv().map_err(|_| Some(DataError::Panicked))?;
                    self.arrived.insert(group, rows.map_err(Some)?);
                }
            })
            .collect()
    }
}

/// Packs all epochs, one block behind the decoders.
fn pack_steps(
    sampler: &Sampler,
    config: &LoaderConfig,
    groups: &mut GroupRequests,
    steps: &Sender<Result<Step, DataError>>,
) -> Result<(), Ended> {
    let rows = sampler.rows();
    for epoch in config.start.epoch..config.epochs {
        let mut skip = if epoch == config.start.epoch { config.start.samples } else { 0 };
        let mut used = skip.min(rows);
        // Whole blocks that have been used need not be decoded.
        let mut blocks = sampler.epoch(epoch).peekable();
        while let Some(used_up) = blocks.next_if(|block| skip >= block.rows.len()) {
            skip -= used_up.rows.len();
        }
        let mut next = blocks.next();
        if let Some(block) = &next {
            groups.request(block)?;
        }
        let mut waiting: Vec<PackedQuestion> = Vec::with_capacity(config.questions_a_step);
        while let Some(block) = next {
            let decoded = groups.wait_for(&block)?;
            next = blocks.next();
            if let Some(following) = &next {
                groups.request(following)?;
            }
            let first = std::mem::take(&mut skip);
            for &(slot, row) in &block.rows[first..] {
                let group = &decoded[slot as usize];
                let view = group.view().map_err(|_| Some(DataError::Panicked))?;
                waiting.push(config.packer.read(&view, row as usize, group.first_row()).map_err(Some)?);
                used += 1;
                if waiting.len() == config.questions_a_step || used == rows {
                    let questions = waiting.len();
                    let batches = config.packer.pack(std::mem::take(&mut waiting));
                    let position = if used == rows {
                        Position { epoch: epoch + 1, samples: 0 }
                    } else {
                        Position { epoch, samples: used }
                    };
                    steps.send(Ok(Step { batches, questions, position })).map_err(|_| None)?;
                }
            }
        }
    }
    Ok(())
}
