//! Multi-threaded data loader: decode threads turn row groups into rows, pack threads turn rows into batches, and the consumer
//! takes steps from bounded channels, in an order that does not depend on the threads.
//!
//! ```text
//!              --(row groups to decode)--> decode threads --(rows)-->
//!   prefetcher                                                       prefetcher --(samples)--> pack threads --(steps)--> consumer
//! ```
//!
//! The prefetcher sends steps to the pack threads in round-robin order, and the consumer receives from them in the same order,
//! so steps need no sorting, and every channel after the prefetcher has one sender and one receiver.
//!
//! An error or a panic in a stage is delivered in place of the step it belongs to, after all earlier steps. A stage that ends
//! drops its ends of the channels, so its neighbours fail to send or receive and end too.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::DataError;
use super::mmap::{DecodedGroup, SplitData};
use super::pack::{Packed, Packer, Sample};
use super::prefetcher::{Decoded, Job, Prefetcher, StepSamples};
use super::sampler::{GROUPS_PER_BLOCK, Order, Position, Sampler};
use super::threads::{guarded, join, spawn};
use crate::batch::packed::Batch;

/// Batches of one optimizer step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Batches of this rank.
    pub batches: Vec<Arc<Batch>>,
    /// Samples of all ranks, in order.
    pub samples: Arc<[Sample]>,
    /// Sum of the samples' weights over all ranks, by which the sum of losses is divided.
    pub weight: f64,
    /// Operations of a forward pass over each rank's samples; empty if there is only one rank.
    pub loads: Vec<u64>,
    /// Position in the order of samples after this step.
    pub position: Position,
}

impl Step {
    /// Number of tokens in its batches.
    pub fn tokens(&self) -> usize {
        self.batches.iter().map(|batch| batch.tokens()).sum()
    }
}

/// Settings of a loader.
#[derive(Debug, Clone)]
pub struct LoaderConfig {
    /// Order of samples.
    pub order: Order,
    /// Samples per step, at least 1; the last step of an epoch may have fewer.
    pub batch_size: usize,
    /// Position of the first sample.
    pub start: Position,
    /// Number of epochs, counted from epoch 0, after which the loader ends.
    pub epochs: u64,
    /// Number of decode threads, and of pack threads; at least 1.
    pub threads: usize,
    /// Maximum number of finished steps that wait for the consumer; at least one per pack thread.
    pub prefetch_steps: usize,
    /// Packs questions into batches.
    pub packer: Packer,
}

/// Delivers steps in order, prepared by background threads. Dropping it ends the threads.
#[derive(Debug)]
pub struct Loader {
    /// One channel per pack thread; step `n` arrives on channel `n` modulo their number.
    steps: Vec<Receiver<Result<Step, DataError>>>,
    turn: usize,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
}

/// Decodes the row group with this index.
type Decode = dyn Fn(usize) -> Result<Arc<DecodedGroup>, DataError> + Send + Sync;
/// Packs the samples of a step.
type Pack = dyn Fn(&[Sample]) -> Result<Packed, DataError> + Send + Sync;

/// Work of the decode and pack threads; replaceable, so that tests can inject faults.
#[derive(Clone)]
pub(super) struct Stages {
    pub(super) decode: Arc<Decode>,
    pub(super) pack: Arc<Pack>,
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stages")
    }
}

impl Loader {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`DataError::Io`] if a thread cannot be started.
    pub fn start(data: Arc<SplitData>, fingerprint: &str, config: LoaderConfig) -> Result<Self, DataError> {
        let sampler = Sampler::new(data.group_rows(), data.row_samples(), config.order, fingerprint);
        let (packer, task) = (config.packer.clone(), Arc::clone(&config.packer.task));
        let stages = Stages {
            decode: Arc::new(move |group| data.decode(group, &*task).map(Arc::new)),
            pack: Arc::new(move |samples| packer.pack(samples)),
        };
        Self::with_stages(sampler, config, stages)
    }

    pub(super) fn with_stages(sampler: Sampler, config: LoaderConfig, stages: Stages) -> Result<Self, DataError> {
        let count = config.threads.max(1);
        // At most one block of jobs is in flight, so sending a job or its result never blocks.
        let (job_sender, jobs) = bounded(GROUPS_PER_BLOCK);
        let (decoded_sender, decoded) = bounded(GROUPS_PER_BLOCK);
        let (sample_senders, samples): (Vec<_>, Vec<_>) = (0..count).map(|_| bounded(1)).unzip();
        // A capacity of 0 would make a pack thread wait for the consumer before it packs its next step.
        let capacity = config.prefetch_steps.div_ceil(count).max(1);
        let (step_senders, steps): (Vec<_>, Vec<_>) = (0..count).map(|_| bounded(capacity)).unzip();
        // If a thread cannot be started, dropping the loader ends those that run already.
        let mut loader = Self { steps, turn: 0, threads: Vec::new(), waited: Duration::ZERO };
        let prefetcher = Prefetcher {
            sampler,
            batch_size: config.batch_size.max(1),
            start: config.start,
            epochs: config.epochs,
            jobs: job_sender,
            decoded,
            samples: sample_senders,
        };
        loader.threads.push(spawn("prefetch", move || prefetcher.run())?);
        for i in 0..count {
            let (jobs, decoded, stages) = (jobs.clone(), decoded_sender.clone(), stages.clone());
            loader.threads.push(spawn(&format!("decode-{i}"), move || decode_groups(&stages, &jobs, &decoded))?);
        }
        for (i, (samples, steps)) in samples.into_iter().zip(step_senders).enumerate() {
            let stages = stages.clone();
            loader.threads.push(spawn(&format!("pack-{i}"), move || pack_steps(&stages, &samples, &steps))?);
        }
        Ok(loader)
    }

    /// Returns the next step, or `None` after the last epoch.
    ///
    /// # Errors
    /// [`DataError`] of the stage that failed. All threads have ended by then, and later calls return `None`.
    pub fn next_step(&mut self) -> Result<Option<Step>, DataError> {
        let Some(steps) = self.steps.get(self.turn) else { return Ok(None) };
        let start = Instant::now();
        let received = steps.recv();
        self.waited += start.elapsed();
        match received {
            Ok(Ok(step)) => {
                self.turn = (self.turn + 1) % self.steps.len();
                Ok(Some(step))
            }
            Ok(Err(error)) => {
                self.end();
                Err(error)
            }
            Err(_) => match self.end() {
                true => Err(DataError::Panicked),
                false => Ok(None),
            },
        }
    }

    /// Total time that [`Self::next_step`] has waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Ends the threads and waits for them. Returns true if one of them panicked.
    fn end(&mut self) -> bool {
        self.steps.clear();
        join(&mut self.threads)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.end();
    }
}

/// Decode thread. Without the result of a job the prefetcher would wait for ever, so a panic is sent as an error.
fn decode_groups(stages: &Stages, jobs: &Receiver<Job>, decoded: &Sender<Decoded>) {
    for Job { slot, group } in jobs {
        if decoded.send((slot, guarded(|| (stages.decode)(group)))).is_err() {
            return;
        }
    }
}

/// Pack thread. It ends after the first step that fails.
fn pack_steps(stages: &Stages, samples: &Receiver<Result<StepSamples, DataError>>, steps: &Sender<Result<Step, DataError>>) {
    for received in samples {
        let step = received.and_then(|StepSamples { samples, position }| {
            let Packed { batches, weight, loads } = guarded(|| (stages.pack)(&samples))?;
            let batches = batches.into_iter().map(Arc::new).collect();
            Ok(Step { batches, samples: samples.into(), weight, loads, position })
        });
        let failed = step.is_err();
        if steps.send(step).is_err() || failed {
            return;
        }
    }
}
