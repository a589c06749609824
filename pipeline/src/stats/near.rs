//! Near duplicates by MinHash: documents that share most of their 5-grams of tokens.
//!
//! A document has 112 hashes, each the smallest that one hash function gives to any of its 5-grams; two documents agree in one of
//! them with the probability of their Jaccard similarity J. The hashes form 14 bands of 8. Documents that agree in a whole band are
//! near duplicates, which happens with probability 1 - (1 - J^8)^14: 0.99 at J = 0.9, 0.92 at 0.8, 0.05 at 0.5.
//!
//! Each band has a table of fixed size for the bands seen before. A band overwrites another one in its slot, so memory is bounded
//! whatever the number of documents, and a copy is found with certainty only among about the last million documents.

use glm_schemas::vocab::TokenId;

/// Tokens of an n-gram.
const GRAM: usize = 5;
const BANDS: usize = 14;
const BAND_ROWS: usize = 8;
/// Number of slots of a band's table.
const SLOTS: usize = 1 << 20;

/// Documents seen before, for detection of near duplicates. Takes 56 MiB at most.
pub(super) struct NearDuplicates {
    /// Odd multipliers and summands of the hash functions.
    functions: Vec<(u64, u64)>,
    /// For every band, fingerprints of the bands seen before; 0 for none.
    tables: Vec<u32>,
    smallest: Vec<u32>,
}

impl Default for NearDuplicates {
    fn default() -> Self {
        let functions = (0..(BANDS * BAND_ROWS) as u64).map(|i| (mix(2 * i) | 1, mix(2 * i + 1)));
        Self { functions: functions.collect(), tables: vec![0; BANDS * SLOTS], smallest: vec![0; BANDS * BAND_ROWS] }
    }
}

impl NearDuplicates {
    /// Adds a document; returns true if it is a near duplicate of an earlier one.
    pub(super) fn add(&mut self, ids: &[TokenId]) -> bool {
        self.smallest.fill(u32::MAX);
        // A document of fewer tokens is one n-gram.
        for gram in ids.windows(GRAM.min(ids.len()).max(1)) {
            let hash = gram.iter().fold(0, |hash, &id| mix(hash ^ u64::from(id.cast_unsigned())));
            for (smallest, (factor, summand)) in self.smallest.iter_mut().zip(&self.functions) {
                let value = (hash.wrapping_mul(*factor).wrapping_add(*summand) >> 32) as u32;
                *smallest = value.min(*smallest);
            }
        }
        let mut found = false;
        let bands = self.smallest.chunks_exact(BAND_ROWS).zip(self.tables.chunks_exact_mut(SLOTS));
        for (band, table) in bands {
            let hash = band.iter().fold(0, |hash, &value| mix(hash ^ u64::from(value)));
            let fingerprint = ((hash >> 32) as u32).max(1);
            if let Some(slot) = table.get_mut(hash as usize % SLOTS) {
                found |= std::mem::replace(slot, fingerprint) == fingerprint;
            }
        }
        found
    }
}

/// Mixes the bits of a number (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(number: u64) -> Vec<TokenId> {
        (0..300).map(|at| 1000 + (mix(number * 1000 + at) % 20_000) as TokenId).collect()
    }

    #[test]
    fn copies_with_few_changes_are_found_and_others_are_not() {
        let mut seen = NearDuplicates::default();
        assert!((0..500).all(|number| !seen.add(&document(number))));
        // Every tenth document, with one token of 75 replaced: about 90 % of the n-grams are the same.
        let changed = |number| {
            let mut ids = document(number);
            ids.iter_mut().step_by(75).for_each(|id| *id = 999);
            ids
        };
        let found = (0..50).filter(|number| seen.add(&changed(10 * number))).count();
        assert!(found >= 45, "{found} of 50");
        let halves =
            (0..50).filter(|number| seen.add(&[&document(10 * number + 1)[..150], &document(9_000 + number)[..150]].concat()));
        assert!(halves.count() <= 3);
    }

    #[test]
    fn short_documents_are_compared_as_a_whole() {
        let mut seen = NearDuplicates::default();
        assert!(!seen.add(&[1, 2]));
        assert!(!seen.add(&[1, 3]));
        assert!(seen.add(&[1, 2]));
        assert!(!seen.add(&[]));
    }
}
