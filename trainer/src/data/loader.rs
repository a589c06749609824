//! Threads that read ahead: decode threads turn row groups into rows, pack threads turn rows into batches, and the consumer
//! takes steps from bounded queues, in an order that does not depend on the threads.
//!
//! ```text
//!          --(row groups wanted)--> decode threads --(rows)-->
//!   dealer                                                    dealer --(samples)--> pack threads --(steps)--> consumer
//! ```
//!
//! The dealer deals steps to the pack threads in turn, and the consumer collects them in the same turn: so order needs no
//! sorting, and every queue behind the dealer has one sender and one receiver.
//!
//! An error or a panic in any stage travels the same way, behind the steps before it. Any stage that ends closes its queues,
//! which ends its neighbours, and so all of them.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use glm_queue::{Closer, Receiver, Sender, bounded};

use super::DataError;
use super::mmap::{DecodedGroup, SplitData};
use super::pack::{Packed, Packer, Sample};
use super::prefetcher::{Decoded, Job, Prefetcher, StepSamples};
use super::sampler::{GROUPS_A_BLOCK, Order, Sampler};
use super::threads::{guarded, join, spawn};
use crate::batch::packed::Batch;

/// Where in the order of samples a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Samples of this epoch that have been used.
    pub samples: usize,
}

/// Batches of one optimizer step.
#[derive(Debug, Clone)]
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
    /// Tokens over its batches.
    pub fn tokens(&self) -> usize {
        self.batches.iter().map(|batch| batch.tokens()).sum()
    }
}

/// What a loader delivers.
#[derive(Debug, Clone)]
pub struct LoaderConfig {
    /// Order of samples.
    pub order: Order,
    /// Questions of a step, at least 1; the last of an epoch may have fewer.
    pub batch_size: usize,
    /// First epoch and sample.
    pub start: Position,
    /// The loader ends behind this many epochs (counted from epoch 0).
    pub epochs: u64,
    /// Decode threads, and as many pack threads; at least 1.
    pub threads: usize,
    /// Steps that wait ready-made at most; a pack thread keeps one at least.
    pub prefetch_steps: usize,
    /// How questions become batches.
    pub packer: Packer,
}

/// Delivers steps in order, prepared by threads of its own. Dropping it ends them.
#[derive(Debug)]
pub struct Loader {
    /// One queue a pack thread; step `n` comes out of number `n` modulo their count.
    steps: Vec<Receiver<Result<Step, DataError>>>,
    turn: usize,
    stopper: Stopper,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
}

/// Ends a loader's threads from elsewhere; what they had ready may still be delivered.
#[derive(Debug, Clone)]
pub struct Stopper {
    decoded: Closer<Decoded>,
    steps: Vec<Closer<Result<Step, DataError>>>,
}

impl Stopper {
    /// Closes the queues on which the dealer and the pack threads may sleep; the others follow.
    pub fn stop(&self) {
        self.decoded.close();
        self.steps.iter().for_each(Closer::close);
    }
}

/// Decodes the row group with this index.
type Decode = dyn Fn(usize) -> Result<Arc<DecodedGroup>, DataError> + Send + Sync;
/// Packs the samples of a step.
type Pack = dyn Fn(&[Sample]) -> Result<Packed, DataError> + Send + Sync;

/// What the stages do, so that tests can let them fail.
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
    /// [`DataError::Io`] where a thread cannot be started.
    pub fn start(data: Arc<SplitData>, fingerprint: &str, config: LoaderConfig) -> Result<Self, DataError> {
        let sampler = Sampler::new(data.group_rows(), config.order, fingerprint);
        let (packer, task) = (config.packer.clone(), Arc::clone(&config.packer.task));
        let stages = Stages {
            decode: Arc::new(move |group| data.decode(group, &*task).map(Arc::new)),
            pack: Arc::new(move |samples| packer.pack(samples)),
        };
        Self::with_stages(sampler, config, stages)
    }

    pub(super) fn with_stages(sampler: Sampler, config: LoaderConfig, stages: Stages) -> Result<Self, DataError> {
        let count = config.threads.max(1);
        // One block of jobs is under way at most, so that nobody waits to hand in a request or a result.
        let (job_sender, jobs) = bounded(GROUPS_A_BLOCK);
        let (decoded_sender, decoded) = bounded(GROUPS_A_BLOCK);
        let (hand_senders, hands): (Vec<_>, Vec<_>) = (0..count).map(|_| bounded(1)).unzip();
        let (step_senders, steps): (Vec<_>, Vec<_>) =
            (0..count).map(|_| bounded(config.prefetch_steps.div_ceil(count))).unzip();
        let stopper = Stopper { decoded: decoded.closer(), steps: steps.iter().map(Receiver::closer).collect() };
        // From here on, whatever fails drops the loader, and that ends the threads that have been started.
        let mut loader = Self { steps, turn: 0, stopper, threads: Vec::new(), waited: Duration::ZERO };
        let dealer = Prefetcher {
            sampler,
            batch_size: config.batch_size.max(1),
            start: config.start,
            epochs: config.epochs,
            jobs: job_sender,
            decoded,
            hands: hand_senders,
        };
        loader.threads.push(spawn("deal", move || dealer.run())?);
        for i in 0..count {
            let (jobs, decoded, stages) = (jobs.clone(), decoded_sender.clone(), stages.clone());
            loader.threads.push(spawn(&format!("decode-{i}"), move || decode_groups(&stages, &jobs, &decoded))?);
        }
        for (i, (hands, steps)) in hands.into_iter().zip(step_senders).enumerate() {
            let stages = stages.clone();
            loader.threads.push(spawn(&format!("pack-{i}"), move || pack_hands(&stages, &hands, &steps))?);
        }
        Ok(loader)
    }

    /// The next step; `None` behind the last epoch.
    ///
    /// # Errors
    /// [`DataError`] of whichever stage failed. All threads have ended then, and the loader delivers nothing more.
    pub fn next_step(&mut self) -> Result<Option<Step>, DataError> {
        let Some(steps) = self.steps.get(self.turn) else { return Ok(None) };
        let start = Instant::now();
        let received = steps.recv();
        self.waited += start.elapsed();
        match received {
            Some(Ok(step)) => {
                self.turn = (self.turn + 1) % self.steps.len();
                Ok(Some(step))
            }
            Some(Err(error)) => {
                self.end();
                Err(error)
            }
            None => match self.end() {
                true => Err(DataError::Panicked),
                false => Ok(None),
            },
        }
    }

    /// How long [`Self::next_step`] has waited in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// A handle that ends the threads from elsewhere; [`Self::next_step`] then ends too.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Ends the threads and waits for them; whether one of them panicked.
    fn end(&mut self) -> bool {
        self.steps.clear();
        self.stopper.stop();
        join(&mut self.threads)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.end();
    }
}

/// A decode thread. A group that never arrived would leave the dealer waiting for ever, so a panic is handed on as well.
fn decode_groups(stages: &Stages, jobs: &Receiver<Job>, decoded: &Sender<Decoded>) {
    while let Some(Job { slot, group }) = jobs.recv() {
        if decoded.send((slot, guarded(|| (stages.decode)(group)))).is_err() {
            return;
        }
    }
}

/// A pack thread. It ends with the first step that cannot be made.
fn pack_hands(stages: &Stages, hands: &Receiver<Result<StepSamples, DataError>>, steps: &Sender<Result<Step, DataError>>) {
    while let Some(hand) = hands.recv() {
        let step = hand.and_then(|hand| {
            let Packed { batches, weight, loads } = guarded(|| (stages.pack)(&hand.samples))?;
            let batches = batches.into_iter().map(Arc::new).collect();
            Ok(Step { batches, samples: hand.samples.into(), weight, loads, position: hand.position })
        });
        let failed = step.is_err();
        if steps.send(step).is_err() || failed {
            return;
        }
    }
}
