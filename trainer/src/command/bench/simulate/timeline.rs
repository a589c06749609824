//! When ranks compute and when they send: the events of one step.

use std::ops::AddAssign;

use serde::Serialize;

use super::gradients::{Bucket, GRADIENT_BYTES, Stage, backward_stages, buckets};
use super::network::Network;
use crate::batch::work::Work;
use crate::model::ModelConfig;

/// Bytes that a forward pass in 16 bits moves for each parameter beside its products: 4 read and 2 written to cast it.
pub const FORWARD_BYTES: f64 = 6.0;
/// And a backward pass: its gradient cast to 32 bits (2, 4) and added to what is there (8, 4).
pub const BACKWARD_BYTES: f64 = 18.0;
/// And an update: gradients set to zero (4) and their norm (4), AdamW (16 read, 12 written).
pub const UPDATE_BYTES: f64 = 36.0;
/// And a reduction: copied into buckets and back.
pub const REDUCTION_BYTES: f64 = 16.0;

/// How fast one rank is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speeds {
    /// Operations a second, as [`crate::batch::work`] counts them.
    pub flops_per_second: f64,
    /// Bytes of memory read or written a second.
    pub memory_bytes_per_second: f64,
    /// Seconds that a block takes at least, forward and backward together, because its kernels are launched one by one.
    pub launch: f64,
}

/// Where the time of a step goes, in seconds. The step takes the sum of `compute`, `exposed` and `update`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct StepTime {
    /// Forward and backward passes of the slowest rank.
    pub compute: f64,
    /// Sum over all buckets of the time to reduce them.
    pub all_reduce: f64,
    /// What of it comes behind the slowest rank's last pass.
    pub exposed: f64,
    /// Norm, optimizer, and copies of gradients.
    pub update: f64,
}

impl StepTime {
    /// The whole step.
    pub fn total(&self) -> f64 {
        self.compute + self.exposed + self.update
    }

    /// The mean of so many steps whose sum this is.
    pub(super) fn mean_of(self, steps: f64) -> Self {
        let Self { compute, all_reduce, exposed, update } = self;
        Self { compute: compute / steps, all_reduce: all_reduce / steps, exposed: exposed / steps, update: update / steps }
    }
}

impl AddAssign for StepTime {
    fn add_assign(&mut self, other: Self) {
        self.compute += other.compute;
        self.all_reduce += other.all_reduce;
        self.exposed += other.exposed;
        self.update += other.update;
    }
}

/// A model whose steps are timed.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    stages: Vec<Stage>,
    /// Buckets, and the stage behind which each is complete.
    buckets: Vec<(Bucket, usize)>,
    parameters: f64,
    speeds: Speeds,
    network: Network,
}

impl Timeline {
    /// For gradients that go in buckets of these bytes.
    pub(super) fn new(config: &ModelConfig, bucket_bytes: [u64; 2], speeds: Speeds, network: Network) -> Self {
        Self::of_stages(backward_stages(config), bucket_bytes, speeds, network)
    }

    fn of_stages(stages: Vec<Stage>, [first, others]: [u64; 2], speeds: Speeds, network: Network) -> Self {
        let (mut sizes, mut stage_of) = (Vec::new(), Vec::new());
        for (number, stage) in stages.iter().enumerate() {
            sizes.extend(stage.gradients.iter().map(|count| count * GRADIENT_BYTES));
            stage_of.resize(sizes.len(), number);
        }
        let parameters = (sizes.iter().sum::<u64>() / GRADIENT_BYTES) as f64;
        let buckets = buckets(&sizes, first, others);
        let buckets = buckets.into_iter().map(|bucket| (stage_of[bucket.gradients.end - 1], bucket));
        Self { stages, buckets: buckets.map(|(stage, bucket)| (bucket, stage)).collect(), parameters, speeds, network }
    }

    /// Bytes of each bucket, in the order in which they are sent.
    pub(super) fn bucket_bytes(&self) -> impl ExactSizeIterator<Item = u64> {
        self.buckets.iter().map(|(bucket, _)| bucket.bytes)
    }

    /// A step in which each rank computes these batches, one behind the other. The last backward pass of each sends: a bucket
    /// goes when all ranks have it complete and the one before it is through.
    pub(super) fn step(&self, batches_of_rank: &[Vec<Work>]) -> StepTime {
        let mut compute = 0_f64;
        let mut complete = vec![0_f64; self.stages.len()];
        for batches in batches_of_rank {
            let of_rank = self.passes(batches);
            compute = of_rank.iter().copied().fold(compute, f64::max);
            complete.iter_mut().zip(of_rank).for_each(|(all, own)| *all = all.max(own));
        }
        let (mut all_reduce, mut sent) = (0.0, 0_f64);
        for (bucket, stage) in &self.buckets {
            let seconds = self.network.all_reduce(batches_of_rank.len(), bucket.bytes as f64);
            all_reduce += seconds;
            sent = sent.max(complete[*stage]) + seconds;
        }
        let update_bytes = UPDATE_BYTES + if batches_of_rank.len() > 1 { REDUCTION_BYTES } else { 0.0 };
        let update = update_bytes * self.parameters / self.speeds.memory_bytes_per_second;
        StepTime { compute, all_reduce, exposed: (sent - compute).max(0.0), update }
    }

    /// When a rank is through each stage of its last backward pass.
    fn passes(&self, batches: &[Work]) -> Vec<f64> {
        let mut now = 0.0;
        let mut complete = vec![0.0; self.stages.len()];
        for work in batches {
            now += self.stages.iter().map(|stage| self.seconds(stage, work, 1.0, FORWARD_BYTES)).sum::<f64>();
            for (stage, complete) in self.stages.iter().zip(&mut complete) {
                // A backward pass does twice what a forward pass does.
                now += self.seconds(stage, work, 2.0, BACKWARD_BYTES);
                *complete = now;
            }
        }
        complete
    }

    fn seconds(&self, stage: &Stage, work: &Work, passes: f64, bytes_a_parameter: f64) -> f64 {
        let parameters = stage.gradients.iter().sum::<u64>() as f64;
        let moved = bytes_a_parameter * parameters / self.speeds.memory_bytes_per_second;
        let Some(rates) = stage.rates else { return moved };
        let computed = passes * rates.forward(work) / self.speeds.flops_per_second;
        (computed + moved).max(passes / 3.0 * self.speeds.launch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::Link;
    use super::*;
    use crate::model::Preset;
    use proptest::prelude::*;

    const FREE: Link = Link { bytes_per_second: f64::INFINITY, latency: 0.0 };

    fn network(link: Link) -> Network {
        Network { inside: link, between: link, ranks_per_node: 8 }
    }

    fn speeds() -> Speeds {
        Speeds { flops_per_second: 1e14, memory_bytes_per_second: f64::INFINITY, launch: 0.0 }
    }

    fn work(tokens: usize) -> Work {
        Work { tokens, scored: tokens / 10, pairs: tokens * 200, scored_pairs: tokens * 20, ..Work::default() }
    }

    fn base(speeds: Speeds, network: Network) -> Timeline {
        Timeline::new(&Preset::Base.config(), [1 << 20, 25 << 20], speeds, network)
    }

    /// Two stages of 3 s, a third of it forward, with a gradient of 8 and of 40 bytes in a bucket each.
    #[test]
    fn a_step_by_hand() {
        let launched = |launch| Speeds { flops_per_second: f64::INFINITY, launch, ..speeds() };
        let rates = Some(crate::batch::work::FlopRates::of_block(&Preset::Tiny.config()));
        let stages = vec![Stage { rates, gradients: vec![2] }, Stage { rates, gradients: vec![10] }];
        let slow = Link { bytes_per_second: 8.0, latency: 0.5 };
        let timeline = Timeline::of_stages(stages, [1, 1], launched(3.0), network(slow));
        // Forward 2 s, backward 2 s and 2 s. Two ranks: the first bucket 1 s of bytes and 1 s of latency, from 4 s to 6 s; the
        // second, 6 s, from 6 s on.
        let step = timeline.step(&[vec![work(1)], vec![work(1)]]);
        assert_eq!((step.compute, step.all_reduce, step.exposed, step.total()), (6.0, 8.0, 6.0, 12.0));
        // Two batches on one of them: it sends in its second backward pass, and the other waits.
        let step = timeline.step(&[vec![work(1), work(1)], vec![work(1)]]);
        assert_eq!((step.compute, step.exposed), (12.0, 6.0));
        // One of them has nothing to do, and takes part.
        assert_eq!(timeline.step(&[vec![work(1)], vec![]]).exposed, 6.0);
        let alone = timeline.step(&[vec![work(1)]]);
        assert_eq!((alone.all_reduce, alone.total()), (0.0, 6.0));
    }

    #[test]
    fn an_update_moves_memory() {
        let speeds = Speeds { memory_bytes_per_second: 1e9, ..speeds() };
        let parameters = Preset::Base.config().parameters() as f64;
        let timeline = base(speeds, network(FREE));
        assert!((timeline.step(&[vec![]]).update / (36e-9 * parameters) - 1.0).abs() < 1e-12);
        assert!((timeline.step(&[vec![], vec![]]).update / (52e-9 * parameters) - 1.0).abs() < 1e-12);
        let passes = timeline.step(&[vec![Work::default()]]).compute;
        assert!((passes / (24e-9 * parameters) - 1.0).abs() < 1e-12, "each parameter is cast once a pass: {passes}");
    }

    proptest! {
        #[test]
        fn without_cost_of_sending_a_step_is_its_slowest_rank(tokens in prop::collection::vec(0_usize..5000, 1..20)) {
            let batches: Vec<Vec<Work>> = tokens.iter().map(|&tokens| vec![work(tokens)]).collect();
            let step = base(speeds(), network(FREE)).step(&batches);
            prop_assert_eq!((step.all_reduce, step.exposed), (0.0, 0.0));
            let flops = |tokens| work(tokens).training_flops(&Preset::Base.config());
            let slowest = tokens.iter().map(|&tokens| flops(tokens) / 1e14).fold(0.0, f64::max);
            prop_assert!((step.total() - slowest).abs() <= 1e-9 * slowest);
        }

        #[test]
        fn what_is_exposed_is_between_the_last_bucket_and_all(
            tokens in prop::collection::vec(prop::collection::vec(1_usize..5000, 0..4), 2..20),
            gigabytes in 0.1_f64..1000.0,
            latency in 0.0_f64..1e-3,
        ) {
            let link = Link { bytes_per_second: gigabytes * 1e9, latency };
            let batches: Vec<Vec<Work>> =
                tokens.iter().map(|batches| batches.iter().map(|&tokens| work(tokens)).collect()).collect();
            let timeline = base(speeds(), network(link));
            let step = timeline.step(&batches);
            let last = timeline.bucket_bytes().last().expect("one") as f64;
            let last = network(link).all_reduce(batches.len(), last);
            prop_assert!(step.exposed >= last * (1.0 - 1e-9), "the word embeddings are complete at the very end");
            prop_assert!(step.exposed <= step.all_reduce * (1.0 + 1e-9));
        }
    }
}
