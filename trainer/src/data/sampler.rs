//! The order of samples: a pure function of seed, epoch and data set.
//!
//! A full shuffle of everything would decode every row group again and again, or hold all of them. So an epoch is cut into
//! blocks of [`GROUPS_A_BLOCK`] row groups drawn at random, and the rows of a block are shuffled among each other. With
//! some 1,000 rows a group that is a full shuffle for data sets the size of ReCoRD, and memory stays bounded for any size.

use rand_mt::Mt64;
use sha2::{Digest, Sha256};

/// Row groups whose rows are shuffled together.
pub const GROUPS_A_BLOCK: usize = 128;

/// Which order an epoch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As stored.
    Stored,
    /// Shuffled by this seed.
    Shuffled {
        /// The seed.
        seed: u64,
    },
}

/// Rows of a few row groups, in the order in which they are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Row groups of the block.
    pub groups: Vec<usize>,
    /// Which row comes when: index into `groups`, and row inside that group.
    pub rows: Vec<(u32, u32)>,
}

/// The order of one split's samples.
#[derive(Debug, Clone)]
pub struct Sampler {
    group_rows: Vec<usize>,
    order: Order,
    fingerprint: String,
    groups_a_block: usize,
}

impl Sampler {
    /// `group_rows` are the rows of each row group, `fingerprint` is that of the data set.
    pub fn new(group_rows: Vec<usize>, order: Order, fingerprint: &str) -> Self {
        let groups_a_block = match order {
            // Nothing is gained by reading far ahead.
            Order::Stored => 2,
            Order::Shuffled { .. } => GROUPS_A_BLOCK,
        };
        Self { group_rows, order, fingerprint: fingerprint.to_owned(), groups_a_block }
    }

    /// Samples of an epoch.
    pub fn rows(&self) -> usize {
        self.group_rows.iter().sum()
    }

    /// The blocks of an epoch, in order.
    pub fn epoch(&self, epoch: u64) -> impl Iterator<Item = Block> + use<> {
        let mut groups: Vec<usize> = (0..self.group_rows.len()).collect();
        let mut random = match self.order {
            Order::Stored => None,
            Order::Shuffled { seed } => Some(generator(seed, epoch, &self.fingerprint)),
        };
        if let Some(random) = &mut random {
            shuffle(&mut groups, random);
        }
        let group_rows = self.group_rows.clone();
        let blocks: Vec<Vec<usize>> = groups.chunks(self.groups_a_block).map(<[usize]>::to_vec).collect();
        blocks.into_iter().map(move |groups| {
            let counts = groups.iter().map(|&group| group_rows[group] as u32);
            let mut rows: Vec<_> = counts.zip(0..).flat_map(|(count, slot)| (0..count).map(move |row| (slot, row))).collect();
            if let Some(random) = &mut random {
                shuffle(&mut rows, random);
            }
            Block { groups, rows }
        })
    }
}

/// A generator for one epoch. The seed goes through a hash, so that neighbouring seeds and epochs have nothing in common.
fn generator(seed: u64, epoch: u64, fingerprint: &str) -> Mt64 {
    let digest = Sha256::digest(format!("sample order {seed} {epoch} {fingerprint}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    Mt64::new(u64::from_le_bytes(first))
}

/// Fisher and Yates' shuffle.
fn shuffle<T>(items: &mut [T], random: &mut Mt64) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(i as u64 + 1, random) as usize);
    }
}

/// A uniform number below `n`: draws above the largest multiple of `n` are thrown away, so that none is favoured.
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
    fn stored_order_is_that_of_the_shards() {
        let sampler = Sampler::new(vec![2, 1, 3], Order::Stored, "f");
        assert_eq!(rows(&sampler, 5), [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]);
    }

    #[test]
    fn seed_epoch_and_data_set_each_change_the_order() {
        let groups = vec![50; 4];
        let order = |seed, epoch, data: &str| rows(&Sampler::new(groups.clone(), Order::Shuffled { seed }, data), epoch);
        assert_eq!(order(1, 0, "f"), order(1, 0, "f"));
        assert_ne!(order(1, 0, "f"), order(2, 0, "f"));
        assert_ne!(order(1, 0, "f"), order(1, 1, "f"));
        assert_ne!(order(1, 0, "f"), order(1, 0, "g"));
    }

    #[test]
    fn no_place_is_favoured() {
        // 6 orders of 3 rows over 6,000 epochs: each comes 1,000 times, give or take 6 standard deviations.
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
        fn every_row_comes_once(groups in prop::collection::vec(1_usize..9, 1..300), seed: u64, epoch in 0_u64..9) {
            let sampler = Sampler::new(groups.clone(), Order::Shuffled { seed }, "f");
            let mut seen = rows(&sampler, epoch);
            seen.sort_unstable();
            let all: Vec<_> = groups.iter().enumerate().flat_map(|(g, &n)| (0..n as u32).map(move |r| (g, r))).collect();
            prop_assert_eq!(seen, all);
        }
    }
}
