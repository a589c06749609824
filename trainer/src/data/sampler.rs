//! Order of samples: a pure function of seed, epoch and data set.
//!
//! A row is one sample of an epoch, or several if it is long: each is then another part of it, by the draws of its task.
//!
//! A full shuffle would decode every row group many times, or hold all of them in memory. Instead, an epoch is split into
//! blocks of [`GROUPS_PER_BLOCK`] row groups drawn at random, and the rows of each block are shuffled together. With about
//! 1,000 rows per group, this is a full shuffle for data sets of ReCoRD's size, and memory stays bounded for any size.

use std::sync::Arc;

use rand_mt::Mt64;
use sha2::{Digest, Sha256};

/// Position in the order of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Number of samples of this epoch that have been used.
    pub samples: usize,
}

/// Number of row groups whose rows are shuffled together.
pub const GROUPS_PER_BLOCK: usize = 128;

/// Order of the samples of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The order in the shards.
    Stored,
    /// The rows of a [`subset`], in the order in the shards.
    Subset {
        /// Number of rows.
        count: usize,
    },
    /// Random, by a seed.
    Shuffled {
        /// The seed.
        seed: u64,
    },
}

/// A sample of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Index into [`Block::groups`].
    pub slot: u32,
    /// Row in that group.
    pub row: u32,
    /// Number of the sample among those of the row, from 0.
    pub part: u32,
}

/// Row groups that are decoded together, and the order of their samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Row groups of the block.
    pub groups: Vec<usize>,
    /// The samples, in order.
    pub samples: Vec<Entry>,
}

/// The order of one split's samples.
#[derive(Debug, Clone)]
pub struct Sampler {
    group_rows: Vec<usize>,
    /// Number of samples of each row of the split; `None` if it is 1 for all.
    row_samples: Option<Arc<[u32]>>,
    order: Order,
    fingerprint: String,
    groups_per_block: usize,
}

impl Sampler {
    /// Creates a sampler from the number of rows in each row group, the number of samples of each row if there are rows with several,
    /// and the fingerprint of the data set.
    pub fn new(group_rows: Vec<usize>, row_samples: Option<Arc<[u32]>>, order: Order, fingerprint: &str) -> Self {
        let groups_per_block = match order {
            // One block is read while the next one is decoded; larger blocks gain nothing without a shuffle.
            Order::Stored | Order::Subset { .. } => 2,
            Order::Shuffled { .. } => GROUPS_PER_BLOCK,
        };
        Self { group_rows, row_samples, order, fingerprint: fingerprint.to_owned(), groups_per_block }
    }

    /// Number of samples per epoch.
    pub fn samples(&self) -> usize {
        let rows = self.group_rows.iter().sum();
        let of_row = |samples: &[u32], row: usize| samples.get(row).map_or(1, |&samples| samples as usize);
        match (&self.row_samples, self.order) {
            (None, Order::Subset { count }) => count.min(rows),
            (None, Order::Stored | Order::Shuffled { .. }) => rows,
            (Some(samples), Order::Subset { count }) => subset(rows, count).into_iter().map(|row| of_row(samples, row)).sum(),
            (Some(samples), Order::Stored | Order::Shuffled { .. }) => (0..rows).map(|row| of_row(samples, row)).sum(),
        }
    }

    /// Rows of a [`subset`] in each row group; `None` if all rows are samples.
    fn drawn_rows(&self) -> Option<Vec<Vec<u32>>> {
        let Order::Subset { count } = self.order else { return None };
        let mut drawn = subset(self.group_rows.iter().sum(), count).into_iter().peekable();
        let mut first = 0;
        let of_group = |&rows: &usize| {
            let start = first;
            first += rows;
            let mut own = Vec::new();
            while let Some(row) = drawn.next_if(|&row| row < first) {
                own.push((row - start) as u32);
            }
            own
        };
        Some(self.group_rows.iter().map(of_group).collect())
    }

    /// The blocks of an epoch, in order.
    pub fn epoch(&self, epoch: u64) -> impl Iterator<Item = Block> + use<> {
        let drawn = self.drawn_rows();
        let mut groups: Vec<usize> = (0..self.group_rows.len()).collect();
        if let Some(drawn) = &drawn {
            groups.retain(|&group| !drawn[group].is_empty());
        }
        let mut random = match self.order {
            Order::Stored | Order::Subset { .. } => None,
            Order::Shuffled { seed } => Some(generator(seed, epoch, &self.fingerprint)),
        };
        if let Some(random) = &mut random {
            shuffle(&mut groups, random);
        }
        let group_rows = self.group_rows.clone();
        let row_samples = self.row_samples.clone();
        let first_rows: Vec<usize> = match row_samples {
            Some(_) => group_rows.iter().scan(0, |next, &rows| Some(std::mem::replace(next, *next + rows))).collect(),
            None => Vec::new(),
        };
        let blocks: Vec<Vec<usize>> = groups.chunks(self.groups_per_block).map(<[usize]>::to_vec).collect();
        blocks.into_iter().map(move |groups| {
            let mut samples = Vec::new();
            for (slot, &group) in (0..).zip(&groups) {
                let parts = |row: u32| match &row_samples {
                    Some(samples) => samples.get(first_rows[group] + row as usize).map_or(1, |&parts| parts),
                    None => 1,
                };
                let of_row = |row: u32| (0..parts(row)).map(move |part| Entry { slot, row, part });
                match &drawn {
                    Some(drawn) => samples.extend(drawn[group].iter().flat_map(|&row| of_row(row))),
                    None => samples.extend((0..group_rows[group] as u32).flat_map(of_row)),
                }
            }
            if let Some(random) = &mut random {
                shuffle(&mut samples, random);
            }
            Block { groups, samples }
        })
    }
}

/// Draws `count` of `rows` rows at random, in ascending order. The draw depends on the two numbers alone, so that all evaluations of
/// all runs on a data set have the same questions.
pub fn subset(rows: usize, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..rows).collect();
    shuffle(&mut all, &mut seeded("evaluation subset"));
    all.truncate(count);
    all.sort_unstable();
    all
}

/// Random generator of one epoch. The seed is hashed, so that adjacent seeds and epochs are uncorrelated.
fn generator(seed: u64, epoch: u64, fingerprint: &str) -> Mt64 {
    seeded(&format!("sample order {seed} {epoch} {fingerprint}"))
}

fn seeded(text: &str) -> Mt64 {
    let digest = Sha256::digest(text);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    Mt64::new(u64::from_le_bytes(first))
}

/// Fisher-Yates shuffle.
fn shuffle<T>(items: &mut [T], random: &mut Mt64) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(i as u64 + 1, random) as usize);
    }
}

/// Returns a uniform number below `n`. Draws above the largest multiple of `n` are rejected to avoid bias.
fn below(n: u64, random: &mut Mt64) -> u64 {
    let limit = u64::MAX - u64::MAX % n;
    loop {
        let draw = random.next_u64();
        if draw < limit {
            return draw % n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(sampler: &Sampler, epoch: u64) -> Vec<(usize, u32)> {
        sampler
            .epoch(epoch)
            .flat_map(|block| block.samples.iter().map(|at| (block.groups[at.slot as usize], at.row)).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn stored_order_follows_the_shards() {
        let sampler = Sampler::new(vec![2, 1, 3], None, Order::Stored, "f");
        assert_eq!(rows(&sampler, 5), [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]);
    }

    #[test]
    fn a_subset_is_random_and_skips_groups_without_rows() {
        let sampler = Sampler::new(vec![10; 40], None, Order::Subset { count: 20 }, "f");
        let drawn = rows(&sampler, 0);
        assert_eq!((drawn.len(), sampler.samples()), (20, 20));
        let split_rows: Vec<usize> = drawn.iter().map(|&(group, row)| 10 * group + row as usize).collect();
        assert_eq!(split_rows, subset(400, 20));
        // Not from the start alone: some in each half.
        assert!((5..15).contains(&split_rows.iter().filter(|&&row| row < 200).count()), "{split_rows:?}");
        assert!(sampler.epoch(0).flat_map(|block| block.groups).count() <= 20);
        assert_eq!(rows(&Sampler::new(vec![3], None, Order::Subset { count: 20 }, "f"), 0), [(0, 0), (0, 1), (0, 2)]);
    }

    #[test]
    fn order_depends_on_seed_epoch_and_data_set() {
        let groups = vec![50; 4];
        let order = |seed, epoch, data: &str| rows(&Sampler::new(groups.clone(), None, Order::Shuffled { seed }, data), epoch);
        assert_eq!(order(1, 0, "f"), order(1, 0, "f"));
        assert_ne!(order(1, 0, "f"), order(2, 0, "f"));
        assert_ne!(order(1, 0, "f"), order(1, 1, "f"));
        assert_ne!(order(1, 0, "f"), order(1, 0, "g"));
    }

    #[test]
    fn permutations_are_equally_likely() {
        // 6 permutations of 3 rows over 6,000 epochs: 1,000 times each, within 6 standard deviations.
        let sampler = Sampler::new(vec![3], None, Order::Shuffled { seed: 7 }, "f");
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..6000 {
            *counts.entry(rows(&sampler, epoch)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|&count| (827..1173).contains(&count)), "{counts:?}");
    }

    #[test]
    fn long_rows_are_several_samples() {
        let samples: Arc<[u32]> = [1, 3, 2].into();
        let sampler = |order| Sampler::new(vec![2, 1], Some(Arc::clone(&samples)), order, "f");
        let stored = sampler(Order::Stored);
        let entries: Vec<_> = stored.epoch(0).flat_map(|block| block.samples).collect();
        let entry = |slot, row, part| Entry { slot, row, part };
        let expected = [entry(0, 0, 0), entry(0, 1, 0), entry(0, 1, 1), entry(0, 1, 2), entry(1, 0, 0), entry(1, 0, 1)];
        assert_eq!((stored.samples(), &entries[..]), (6, &expected[..]));
        let shuffled = sampler(Order::Shuffled { seed: 3 });
        let mut drawn: Vec<_> =
            shuffled.epoch(0).flat_map(|block| block.samples).map(|at| (at.slot, at.row, at.part)).collect();
        assert_eq!((shuffled.samples(), drawn.len()), (6, 6));
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 6);
        let subset = sampler(Order::Subset { count: 2 });
        assert_eq!(subset.epoch(0).map(|block| block.samples.len()).sum::<usize>(), subset.samples());
    }

    proptest! {
        #[test]
        fn every_row_occurs_once(groups in prop::collection::vec(1_usize..9, 1..300), seed: u64, epoch in 0_u64..9) {
            let sampler = Sampler::new(groups.clone(), None, Order::Shuffled { seed }, "f");
            let mut seen = rows(&sampler, epoch);
            seen.sort_unstable();
            let all: Vec<_> = groups.iter().enumerate().flat_map(|(g, &n)| (0..n as u32).map(move |r| (g, r))).collect();
            prop_assert_eq!(seen, all);
        }
    }
}
