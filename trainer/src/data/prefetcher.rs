//! Prefetch thread: requests row groups ahead of time and sends the samples of each step to the pack threads in round-robin
//! order.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};

use super::DataError;
use super::mmap::DecodedGroup;
use super::pack::Sample;
use super::sampler::Position;
use super::sampler::{Block, Entry, Sampler};

/// A row group to decode, and its index in its block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) slot: usize,
    pub(super) group: usize,
}

/// Result of a job: its slot, and the rows.
pub(super) type Decoded = (usize, Result<Arc<DecodedGroup>, DataError>);

/// Samples of one step.
#[derive(Debug)]
pub(super) struct StepSamples {
    pub(super) samples: Vec<Sample>,
    /// Position in the order of samples after this step.
    pub(super) position: Position,
}

/// State of the prefetch thread.
#[derive(Debug)]
pub(super) struct Prefetcher {
    pub(super) sampler: Sampler,
    pub(super) batch_size: usize,
    pub(super) start: Position,
    pub(super) epochs: u64,
    /// To the decode threads. It has room for all groups of a block.
    pub(super) jobs: Sender<Job>,
    /// From the decode threads.
    pub(super) decoded: Receiver<Decoded>,
    /// To the pack threads: step `n` is sent on channel `n` modulo their number.
    pub(super) samples: Vec<Sender<Result<StepSamples, DataError>>>,
}

/// Reason for stopping early; `None` if another thread has ended, which reports the reason itself.
type Ended = Option<DataError>;

/// A block and its place in the order of samples.
struct BlockAt {
    epoch: u64,
    /// Index in its epoch of the block's first sample.
    first: usize,
    block: Block,
}

impl Prefetcher {
    /// Sends the samples of all epochs; an error takes the place of the next step.
    pub(super) fn run(self) {
        let mut turn = 0;
        if let Err(Some(error)) = self.send_all(&mut turn) {
            // If the receiver is gone, the consumer has ended first and needs no error.
            let _ = self.samples[turn].send(Err(error));
        }
    }

    fn send_all(&self, turn: &mut usize) -> Result<(), Ended> {
        let count = self.sampler.samples();
        let mut blocks = self.blocks();
        let mut next = blocks.next();
        if let Some(at) = &next {
            self.request(&at.block)?;
        }
        let mut samples = Vec::with_capacity(self.batch_size);
        while let Some(BlockAt { epoch, first, block }) = next {
            let groups = self.wait_for(&block)?;
            // The next block, possibly of the next epoch, is decoded while the samples of this one are sent.
            next = blocks.next();
            if let Some(at) = &next {
                self.request(&at.block)?;
            }
            let used = if epoch == self.start.epoch { self.start.samples.saturating_sub(first) } else { 0 };
            for (index, &Entry { slot, row, part }) in (first..).zip(&block.samples).skip(used) {
                let ordinal = epoch.wrapping_mul(count as u64).wrapping_add(index as u64);
                samples.push(Sample { group: Arc::clone(&groups[slot as usize]), row: row as usize, part, ordinal });
                let epoch_ends = index + 1 == count;
                if samples.len() >= self.batch_size || epoch_ends {
                    let position = match epoch_ends {
                        true => Position { epoch: epoch + 1, samples: 0 },
                        false => Position { epoch, samples: index + 1 },
                    };
                    let step = StepSamples { samples: std::mem::take(&mut samples), position };
                    self.samples[*turn].send(Ok(step)).map_err(|_| None)?;
                    *turn = (*turn + 1) % self.samples.len();
                    samples.reserve(self.batch_size);
                }
            }
        }
        Ok(())
    }

    /// The remaining blocks of all epochs. Blocks before the start position are skipped without being decoded.
    fn blocks(&self) -> impl Iterator<Item = BlockAt> + use<> {
        let (sampler, start) = (self.sampler.clone(), self.start);
        (start.epoch..self.epochs)
            .flat_map(move |epoch| {
                let mut before = 0;
                sampler.epoch(epoch).map(move |block| {
                    let first = before;
                    before += block.samples.len();
                    BlockAt { epoch, first, block }
                })
            })
            .skip_while(move |at| at.epoch == start.epoch && at.first + at.block.samples.len() <= start.samples)
    }

    fn request(&self, block: &Block) -> Result<(), Ended> {
        block.groups.iter().enumerate().try_for_each(|(slot, &group)| self.jobs.send(Job { slot, group }).map_err(|_| None))
    }

    /// Returns the groups of the block that was requested last, in the block's order. No other block is in flight.
    fn wait_for(&self, block: &Block) -> Result<Vec<Arc<DecodedGroup>>, Ended> {
        let mut slots: Vec<Option<Arc<DecodedGroup>>> = vec![None; block.groups.len()];
        for _ in &block.groups {
            let (slot, rows) = self.decoded.recv().map_err(|_| None)?;
            slots[slot] = Some(rows.map_err(Some)?);
        }
        slots.into_iter().map(|slot| slot.ok_or(Some(DataError::Panicked))).collect()
    }
}
