//! Passages of the training data that are held out for validation.

use sha2::{Digest, Sha256};

/// Rule that holds out a share of the passages. It depends on nothing but the text of a passage and the seed, so all questions about a
/// text are in one split, in whatever order and by however many threads or machines the data is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holdout {
    seed: u64,
    /// Passages with a hash below this number are held out.
    below: f64,
}

impl Holdout {
    /// Creates the rule for a fraction between 0 and 1.
    pub(super) fn new(fraction: f64, seed: u64) -> Self {
        Self { seed, below: fraction * 2_f64.powi(64) }
    }

    /// Returns true if the passage with this hash is held out.
    pub(super) fn contains(self, passage: u64) -> bool {
        let hash = hash(&[&self.seed.to_le_bytes(), &passage.to_le_bytes()]);
        (hash as f64) < self.below
    }
}

/// Returns 64 bits of the sha256 of some bytes.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    let mut sha256 = Sha256::new();
    parts.iter().for_each(|part| sha256.update(part));
    let digest = sha256.finalize();
    digest.as_chunks::<8>().0.first().map_or(0, |head| u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_the_fraction_is_held_out_and_seeds_differ() {
        let passages: Vec<_> = (0..10_000_u32).map(|number| hash(&[&number.to_le_bytes()])).collect();
        let held_out = |fraction, seed| {
            let holdout = Holdout::new(fraction, seed);
            passages.iter().map(|&passage| holdout.contains(passage)).collect::<Vec<_>>()
        };
        for fraction in [0.1, 0.5, 0.9] {
            let count = held_out(fraction, 1).into_iter().filter(|&held| held).count() as f64;
            assert!((count / 10_000.0 - fraction).abs() < 0.02, "{count} of 10000 at {fraction}");
        }
        assert_eq!(held_out(0.1, 1), held_out(0.1, 1));
        assert_ne!(held_out(0.1, 1), held_out(0.1, 2));
    }
}
