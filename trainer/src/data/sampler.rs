//! Order of samples: a pure function of seed, epoch and data set.
//!
//! A full shuffle would decode every row group many times, or hold all of them in memory. Instead, an epoch is split into
//! blocks of [`GROUPS_PER_BLOCK`] row groups drawn at random, and the rows of each block are shuffled together. With about
//! 1,000 rows per group, this is a full shuffle for data sets of ReCoRD's size, and memory stays bounded for any size.

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

/// Row groups that are decoded together, and the order of their rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Row groups of the block.
    pub groups: Vec<usize>,
    /// Rows in the order of samples: index into `groups`, and row in that group.
    pub rows: Vec<(u32, u32)>,
}

/// The order of one split's samples.
#[derive(Debug, Clone)]
pub struct Sampler {
    group_rows: Vec<usize>,
    order: Order,
    fingerprint: String,
    groups_per_block: usize,
}

impl Sampler {
    /// Creates a sampler from the number of rows in each row group and the fingerprint of the data set.
    pub fn new(group_rows: Vec<usize>, order: Order, fingerprint: &str) -> Self {
        let groups_per_block = match order {
            // One block is read while the next one is decoded; larger blocks gain nothing without a shuffle.
            Order::Stored | Order::Subset { .. } => 2,
            Order::Shuffled { .. } => GROUPS_PER_BLOCK,
        };
        Self { group_rows, order, fingerprint: fingerprint.to_owned(), groups_per_block }
    }

    /// Number of samples per epoch.
    pub fn rows(&self) -> usize {
        let all = self.group_rows.iter().sum();
        match self.order {
            Order::Subset { count } => count.min(all),
            Order::Stored | Order::Shuffled { .. } => all,
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
        let blocks: Vec<Vec<usize>> = groups.chunks(self.groups_per_block).map(<[usize]>::to_vec).collect();
        blocks.into_iter().map(move |groups| {
            let mut rows = Vec::new();
            for (slot, &group) in (0..).zip(&groups) {
                match &drawn {
                    Some(drawn) => rows.extend(drawn[group].iter().map(|&row| (slot, row))),
                    None => rows.extend((0..group_rows[group] as u32).map(|row| (slot, row))),
                }
            }
            if let Some(random) = &mut random {
                shuffle(&mut rows, random);
            }
            Block { groups, rows }
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
            .flat_map(|block| block.rows.iter().map(|&(g, r)| (block.groups[g as usize], r)).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn stored_order_follows_the_shards() {
        let sampler = Sampler::new(vec![2, 1, 3], Order::Stored, "f");
        assert_eq!(rows(&sampler, 5), [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]);
    }

    #[test]
    fn a_subset_is_random_and_skips_groups_without_rows() {
        let sampler = Sampler::new(vec![10; 40], Order::Subset { count: 20 }, "f");
        let drawn = rows(&sampler, 0);
        assert_eq!((drawn.len(), sampler.rows()), (20, 20));
        let split_rows: Vec<usize> = drawn.iter().map(|&(group, row)| 10 * group + row as usize).collect();
        assert_eq!(split_rows, subset(400, 20));
        // Not from the start alone: some in each half.
        assert!((5..15).contains(&split_rows.iter().filter(|&&row| row < 200).count()), "{split_rows:?}");
        assert!(sampler.epoch(0).flat_map(|block| block.groups).count() <= 20);
        assert_eq!(rows(&Sampler::new(vec![3], Order::Subset { count: 20 }, "f"), 0), [(0, 0), (0, 1), (0, 2)]);
    }

    #[test]
    fn order_depends_on_seed_epoch_and_data_set() {
        let groups = vec![50; 4];
        let order = |seed, epoch, data: &str| rows(&Sampler::new(groups.clone(), Order::Shuffled { seed }, data), epoch);
        assert_eq!(order(1, 0, "f"), order(1, 0, "f"));
        assert_ne!(order(1, 0, "f"), order(2, 0, "f"));
        assert_ne!(order(1, 0, "f"), order(1, 1, "f"));
        assert_ne!(order(1, 0, "f"), order(1, 0, "g"));
    }

    #[test]
    fn permutations_are_equally_likely() {
        // 6 permutations of 3 rows over 6,000 epochs: 1,000 times each, within 6 standard deviations.
        let sampler = Sampler::new(vec![3], Order::Shuffled { seed: 7 }, "f");
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..6000 {
            *counts.entry(rows(&sampler, epoch)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|&count| (827..1173).contains(&count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn every_row_occurs_once(groups in prop::collection::vec(1_usize..9, 1..300), seed: u64, epoch in 0_u64..9) {
            let sampler = Sampler::new(groups.clone(), Order::Shuffled { seed }, "f");
            let mut seen = rows(&sampler, epoch);
            seen.sort_unstable();
            let all: Vec<_> = groups.iter().enumerate().flat_map(|(g, &n)| (0..n as u32).map(move |r| (g, r))).collect();
            prop_assert_eq!(seen, all);
        }
    }
}
