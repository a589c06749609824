//! Keys for random draws that belong to a sample, a row or a token, whatever it is packed with and whichever thread draws.
//!
//! A generator with a state would make dropout depend on the order in which tokens are visited, and so on how questions are
//! packed. A draw that is a function of a key depends on the sample's place in the order of samples alone.

/// The finaliser of SplitMix64: a bijection in which every bit of `x` flips each bit of the result with a chance of about one half.
///
/// 0 stays 0, so that a consumer mixes its seed in before it draws.
#[must_use]
pub const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_the_published_finaliser() {
        // SplitMix64 seeded with 0 and 1: its state advances by the golden ratio and goes through the finaliser.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        assert_eq!(mix(GOLDEN), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(GOLDEN.wrapping_mul(2)), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(mix(0), 0);
    }

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
