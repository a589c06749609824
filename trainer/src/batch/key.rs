//! Keys for random draws that belong to a sample, a row or a token, whatever it is packed with and whichever thread draws.
//!
//! A generator with a state would make dropout depend on the order in which tokens are visited, and so on how questions are
//! packed. A draw that is a function of a key depends on the sample's place in the order of samples alone.

pub use glm_kernels::dropout::mix;

/// The key of row `row` of the sample that comes as number `ordinal` in the order of samples, counted over all epochs.
#[must_use]
pub const fn row_key(ordinal: u64, row: usize) -> u64 {
    mix(mix(ordinal) ^ row as u64)
}

/// The key of the token with this index in the row of this key.
#[must_use]
pub const fn token_key(row_key: u64, index: usize) -> u64 {
    mix(row_key ^ index as u64)
}

/// Makes keys of samples differ from those of rows.
const SAMPLE: u64 = 0x5a4d_9c1e_7f2b_8d03;

/// The key of the draws that make a sample from a row, for example what is masked. In training, `number` is the sample's number in
/// the order of samples; in evaluations it is the row's index in its split, and `part` the sample's number among those of the row.
#[must_use]
pub const fn sample_key(seed: u64, number: u64, part: u32) -> u64 {
    mix(mix(mix(seed ^ SAMPLE) ^ number) ^ part as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_neighbours_differ() {
        let mut keys: Vec<u64> = (0..40)
            .flat_map(|ordinal| (0..4).flat_map(move |row| (0..300).map(move |i| token_key(row_key(ordinal, row), i))))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 40 * 4 * 300);
    }
}
