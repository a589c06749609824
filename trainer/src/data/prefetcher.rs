//! The one thread that knows the order of samples: asks for row groups ahead of need, and deals each step's samples to the
//! pack threads in turn.

use std::sync::Arc;

use glm_queue::{Receiver, Sender};

use super::DataError;
use super::loader::Position;
use super::mmap::DecodedGroup;
use super::pack::Sample;
use super::sampler::{Block, Sampler};

/// A row group to decode, and the slot of its block that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) slot: usize,
    pub(super) group: usize,
}

/// What became of a job: the slot, and the rows.
pub(super) type Decoded = (usize, Result<Arc<DecodedGroup>, DataError>);

/// The samples of one step.
#[derive(Debug)]
pub(super) struct StepSamples {
    pub(super) samples: Vec<Sample>,
    /// Where the order of samples stands behind this step.
    pub(super) position: Position,
}

/// Deals samples in order.
#[derive(Debug)]
pub(super) struct Prefetcher {
    pub(super) sampler: Sampler,
    pub(super) batch_size: usize,
    pub(super) start: Position,
    pub(super) epochs: u64,
    /// To the decode threads. There is room for all groups of a block.
    pub(super) jobs: Sender<Job>,
    /// From the decode threads.
    pub(super) decoded: Receiver<Decoded>,
    /// To the pack threads: step `n` goes to number `n` modulo their count.
    pub(super) hands: Vec<Sender<Result<StepSamples, DataError>>>,
}

/// Why a dealer stops early: `None` says that a neighbour has ended, and whoever ended it has said why.
type Ended = Option<DataError>;

/// A block and where it lies in the order of samples.
struct BlockAt {
    epoch: u64,
    /// Index in its epoch of the block's first sample.
    first: usize,
    block: Block,
}

impl Prefetcher {
    /// Deals all epochs; an error goes the way that the next step would have gone.
    pub(super) fn run(self) {
        let mut turn = 0;
        if let Err(Some(error)) = self.deal_all(&mut turn) {
            // Nobody listening is no error: the consumer has ended first.
            let _ = self.hands[turn].send(Err(error));
        }
    }

    fn deal_all(&self, turn: &mut usize) -> Result<(), Ended> {
        let rows = self.sampler.rows();
        let mut blocks = self.blocks();
        let mut next = blocks.next();
        if let Some(placed) = &next {
            self.request(&placed.block)?;
        }
        let mut samples = Vec::with_capacity(self.batch_size);
        while let Some(BlockAt { epoch, first, block }) = next {
            let groups = self.wait_for(&block)?;
            // The next block is decoded while this one is dealt, across the end of an epoch too.
            next = blocks.next();
            if let Some(placed) = &next {
                self.request(&placed.block)?;
            }
            let used = if epoch == self.start.epoch { self.start.samples.saturating_sub(first) } else { 0 };
            for (index, &(slot, row)) in (first..).zip(&block.rows).skip(used) {
                let ordinal = epoch.wrapping_mul(rows as u64).wrapping_add(index as u64);
                samples.push(Sample { group: Arc::clone(&groups[slot as usize]), row: row as usize, ordinal });
                let epoch_ends = index + 1 == rows;
                if samples.len() >= self.batch_size || epoch_ends {
                    let position = match epoch_ends {
                        true => Position { epoch: epoch + 1, samples: 0 },
                        false => Position { epoch, samples: index + 1 },
                    };
                    let hand = StepSamples { samples: std::mem::take(&mut samples), position };
                    self.hands[*turn].send(Ok(hand)).map_err(|_| None)?;
                    *turn = (*turn + 1) % self.hands.len();
                    samples.reserve(self.batch_size);
                }
            }
        }
        Ok(())
    }

    /// The blocks of all epochs that are left; those that have been used up need not be decoded.
    fn blocks(&self) -> impl Iterator<Item = BlockAt> + use<> {
        let (sampler, start) = (self.sampler.clone(), self.start);
        (start.epoch..self.epochs)
            .flat_map(move |epoch| {
                let mut behind = 0;
                sampler.epoch(epoch).map(move |block| {
                    let first = behind;
                    behind += block.rows.len();
                    BlockAt { epoch, first, block }
                })
            })
            .skip_while(move |placed| placed.epoch == start.epoch && placed.first + placed.block.rows.len() <= start.samples)
    }

    fn request(&self, block: &Block) -> Result<(), Ended> {
        block.groups.iter().enumerate().try_for_each(|(slot, &group)| self.jobs.send(Job { slot, group }).map_err(|_| None))
    }

    /// The groups of the block that was requested last, in the block's order. No other is under way.
    fn wait_for(&self, block: &Block) -> Result<Vec<Arc<DecodedGroup>>, Ended> {
        let mut slots: Vec<Option<Arc<DecodedGroup>>> = vec![None; block.groups.len()];
        for _ in &block.groups {
            let (slot, rows) = self.decoded.recv().ok_or(None)?;
            slots[slot] = Some(rows.map_err(Some)?);
        }
        slots.into_iter().map(|slot| slot.ok_or(Some(DataError::Panicked))).collect()
    }
}
