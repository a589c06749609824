//! How long an all-reduce takes.

use serde::Serialize;

/// What carries bytes from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Link {
    /// Bytes a second that one sends, while it receives as many.
    pub bytes_per_second: f64,
    /// Seconds that a message takes however small it is.
    pub latency: f64,
}

/// How ranks are connected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Network {
    /// Between ranks of one machine.
    pub inside: Link,
    /// Between machines: what one machine sends with all its ranks together.
    pub between: Link,
    /// Ranks of one machine, at least 1.
    pub ranks_per_node: usize,
}

impl Link {
    /// Seconds to add `bytes` of each of `members` up by a ring, so that all have the sum: each cuts its bytes into `members`
    /// parts and sends one of them to its neighbour `2 (members - 1)` times (Patarasuk and Yuan 2009).
    pub fn ring(&self, members: usize, bytes: f64) -> f64 {
        if members < 2 {
            return 0.0;
        }
        let messages = 2.0 * (members as f64 - 1.0);
        messages / members as f64 * bytes / self.bytes_per_second + messages * self.latency
    }
}

impl Network {
    /// Seconds to add `bytes` of each of `ranks` up. Over several machines it is done in three parts, one behind the other:
    /// ranks of a machine add up and each keeps its part of the sum; ranks with the same part add up over the machines, all
    /// parts at a time; ranks of a machine exchange their parts. The first and the last are a ring inside a machine, the
    /// second is one between machines that sends all bytes through a machine's network.
    pub fn all_reduce(&self, ranks: usize, bytes: f64) -> f64 {
        let inside = ranks.min(self.ranks_per_node);
        let machines = ranks.div_ceil(self.ranks_per_node.max(1));
        self.inside.ring(inside, bytes) + self.between.ring(machines, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINK: Link = Link { bytes_per_second: 1e9, latency: 1e-3 };
    const NETWORK: Network =
        Network { inside: LINK, between: Link { bytes_per_second: 1e8, latency: 5e-3 }, ranks_per_node: 4 };

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
    }

    #[test]
    fn rings_by_hand() {
        // 4 ranks, 1 GB at 1 GB/s: 6 messages of a quarter of a second and a millisecond.
        assert!(near(LINK.ring(4, 1e9), 1.506));
        assert!(near(LINK.ring(2, 1e9), 1.002));
        assert_eq!(LINK.ring(1, 1e9), 0.0);
    }

    #[test]
    fn machines_by_hand() {
        assert_eq!(NETWORK.all_reduce(1, 1e9), 0.0);
        assert!(near(NETWORK.all_reduce(4, 1e9), 1.506));
        // Three machines: and 4/3 GB at 0.1 GB/s in 4 messages.
        assert!(near(NETWORK.all_reduce(12, 1e9), 1.506 + 40.0 / 3.0 + 0.02));
    }

    proptest! {
        #[test]
        fn more_ranks_and_more_bytes_take_longer(ranks in 1_usize..600, bytes in 0.0..1e12) {
            let time = NETWORK.all_reduce(ranks, bytes);
            prop_assert!(NETWORK.all_reduce(ranks + 1, bytes) >= time);
            prop_assert!(NETWORK.all_reduce(ranks, 2.0 * bytes) >= time);
            // However many: no more than twice the bytes through each link, but for latency.
            let messages = 2.0 * ranks as f64;
            prop_assert!(time <= 2.0 * bytes * (1e-9 + 1e-8) + messages * 6e-3);
        }

        #[test]
        fn free_links_take_no_time(ranks in 1_usize..600, bytes in 0.0..1e12) {
            let free = Link { bytes_per_second: f64::INFINITY, latency: 0.0 };
            prop_assert_eq!(Network { inside: free, between: free, ranks_per_node: 8 }.all_reduce(ranks, bytes), 0.0);
        }
    }
}
