//! Random number generator with a fixed sequence per seed, on every platform and in every version.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub(super) struct Random {
    state: u64,
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// Returns the generator of item `index` in stream `stream`. Items do not depend on each other.
    pub(super) fn for_item(seed: u64, stream: u64, index: u64) -> Self {
        let stream = mix(mix(seed.wrapping_add(GAMMA)) ^ stream.wrapping_add(1).wrapping_mul(GAMMA));
        Self { state: mix(stream ^ index.wrapping_mul(GAMMA)) }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Draws a number from 0 to `n` - 1; 0 if `n` is 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        // The bias of multiply-and-shift is n / 2^64, negligible for lists of a few hundred entries.
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Draws a number from an inclusive range.
    pub(super) fn within(&mut self, (min, max): (usize, usize)) -> usize {
        min + self.below(max.saturating_sub(min) + 1)
    }

    /// Returns true with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    /// Draws one entry of a list.
    ///
    /// # Panics
    /// If the list is empty.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Draws up to `count` different entries, in random order.
    pub(super) fn pick_some<T: Copy>(&mut self, list: &[T], count: usize) -> Vec<T> {
        let mut list = list.to_vec();
        let count = count.min(list.len());
        for i in 0..count {
            let j = i + self.below(list.len() - i);
            list.swap(i, j);
        }
        list.truncate(count);
        list
    }

    /// Shuffles a list.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            let j = self.below(i + 1);
            list.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        // First outputs of the reference implementation for the seed 1234567.
        let mut random = Random { state: 1_234_567 };
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next(), random.next(), random.next()], expected);
    }

    #[test]
    fn draws_stay_in_range_and_cover_it() {
        let mut random = Random::for_item(1, 2, 3);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|&n| n > 150), "{seen:?}");
        let hits = (0..1000).filter(|_| random.chance(0.25)).count();
        assert!((200..300).contains(&hits), "{hits}");
        assert!(!random.chance(0.0) && random.chance(1.0));
        let mut some = random.pick_some(&[1, 2, 3, 4], 9);
        some.sort_unstable();
        assert_eq!(some, [1, 2, 3, 4]);
    }

    #[test]
    fn items_streams_and_seeds_have_different_sequences() {
        let firsts = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)].map(|(s, t, i)| Random::for_item(s, t, i).next());
        for (i, a) in firsts.iter().enumerate() {
            assert!(firsts[i + 1..].iter().all(|b| a != b));
        }
    }
}
