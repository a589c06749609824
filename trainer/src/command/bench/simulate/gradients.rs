//! What a backward pass goes through, which gradients it completes where, and the buckets in which they are sent.

use std::ops::Range;

use crate::batch::work::FlopRates;
use crate::model::ModelConfig;

/// Bytes of a number of a gradient.
pub(super) const GRADIENT_BYTES: u64 = 4;

/// A part of the model, as a backward pass meets it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    /// Operations of the forward pass through it; `None` where they are not counted.
    pub(super) rates: Option<FlopRates>,
    /// Numbers of each gradient that is complete behind it, in the order in which they are.
    pub(super) gradients: Vec<u64>,
}

/// The stages of a backward pass: the projection to the vocabulary, the final LayerNorm, the blocks from the last to the first,
/// the embeddings. Together their gradients are the model's parameters in reverse order.
///
/// The projection completes nothing: its weights are the word embeddings, whose gradient has another part at the other end.
pub(super) fn backward_stages(config: &ModelConfig) -> Vec<Stage> {
    let h = config.hidden as u64;
    let norm = [h, h];
    let linear = |inputs: u64, outputs: u64| [outputs, outputs * inputs];
    let block = [linear(4 * h, h), linear(h, 4 * h), norm, linear(h, h), linear(h, 3 * h), norm].concat();
    let positions = config.positions as u64 * h;
    let stage = |rates, gradients| Stage { rates, gradients };

    let mut stages = vec![stage(Some(FlopRates::of_vocabulary(config)), Vec::new()), stage(None, norm.to_vec())];
    stages.push(stage(Some(FlopRates::of_last_block(config)), block.clone()));
    stages.extend((1..config.layers).map(|_| stage(Some(FlopRates::of_block(config)), block.clone())));
    stages.push(stage(None, vec![positions, positions, config.vocab_rows as u64 * h]));
    stages
}

/// Gradients that are sent together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Which of the gradients, in the order in which they are complete.
    pub(super) gradients: Range<usize>,
    /// Bytes of them.
    pub(super) bytes: u64,
}

/// The buckets of c10d's Reducer behind its first pass, in the order in which they are sent: gradients of these sizes, in the
/// order in which they are complete, fill the first until it has `first` bytes or more, and each further one until it has
/// `others`. None is split, so a bucket may be much larger than that.
pub(super) fn buckets(sizes: &[u64], first: u64, others: u64) -> Vec<Bucket> {
    let mut buckets = Vec::new();
    let (mut start, mut bytes, mut limit) = (0, 0, first);
    for (i, size) in sizes.iter().enumerate() {
        bytes += size;
        if bytes >= limit || i + 1 == sizes.len() {
            buckets.push(Bucket { gradients: start..i + 1, bytes });
            (start, bytes, limit) = (i + 1, 0, others);
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Glm, Preset};
    use libtorch_ext::distributed::{GroupOptions, ProcessGroup, Reducer, ReducerOptions, Store, StoreOptions, available};
    use proptest::prelude::*;
    use std::rc::Rc;
    use tch::{Device, Kind, Tensor};

    fn numbers(config: &ModelConfig) -> Vec<u64> {
        backward_stages(config).into_iter().flat_map(|stage| stage.gradients).collect()
    }

    #[test]
    fn the_stages_hold_the_parameters_of_the_model_in_reverse() {
        let config = ModelConfig { hidden: 12, heads: 3, vocab_rows: 50, positions: 7, ..Preset::Tiny.config() };
        let model = Glm::new(&config, Kind::Float, Device::Cpu).expect("a model");
        let mut made: Vec<u64> = model.parameters().iter().map(|parameter| parameter.tensor.numel() as u64).collect();
        made.reverse();
        assert_eq!(numbers(&config), made);
    }

    #[test]
    fn the_stages_hold_the_operations_of_the_model() {
        let config = Preset::Large.config();
        let work =
            crate::batch::work::Work { tokens: 274, scored: 27, pairs: 60_000, scored_pairs: 7_000, ..Default::default() };
        let sum: f64 = backward_stages(&config).iter().filter_map(|stage| Some(stage.rates?.forward(&work))).sum();
        assert!((sum / work.forward_flops(&config) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_word_embeddings_come_last_and_whole() {
        let sizes: Vec<u64> = numbers(&Preset::Large.config()).iter().map(|count| count * GRADIENT_BYTES).collect();
        let buckets = buckets(&sizes, 1 << 20, 25 << 20);
        let last = buckets.last().expect("one");
        assert_eq!(last.gradients.end, sizes.len());
        assert!(last.bytes >= 30592 * 1024 * 4, "{}", last.bytes);
        assert_eq!(buckets.iter().map(|bucket| bucket.bytes).sum::<u64>(), 334_688_256 * 4);
    }

    /// c10d does not tell what its buckets hold, but how many there were.
    #[test]
    fn there_are_as_many_buckets_as_c10d_makes() {
        if available().is_err() {
            return;
        }
        let config = ModelConfig { hidden: 16, heads: 2, vocab_rows: 300, positions: 9, ..Preset::Tiny.config() };
        let sizes: Vec<u64> = numbers(&config).iter().map(|count| count * GRADIENT_BYTES).collect();
        let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store");
        for (first, others) in [(1, 1), (1 << 20, 25 << 20), (64, 3000), (1000, 5000), (4160, 4160), (9000, 2000)] {
            let name = format!("{first}-{others}");
            let options = GroupOptions { name, ..GroupOptions::default() };
            let group = Rc::new(ProcessGroup::new(&store, 0, 1, &options).expect("a group"));
            let zeros = |count: &u64| Tensor::zeros([*count as i64], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            // In the order of the model; the sum below is built in that order, so its backward pass goes the other way.
            let parameters: Vec<Tensor> = numbers(&config).iter().rev().map(zeros).collect();
            let options = ReducerOptions { first_bucket: first, bucket: others };
            let mut reducer = Reducer::new(group, &parameters.iter().collect::<Vec<_>>(), &options).expect("a reducer");
            for _ in 0..2 {
                let loss = parameters
                    .iter()
                    .fold(Tensor::zeros([], (Kind::Float, Device::Cpu)), |sum, parameter| sum + parameter.sum(Kind::Float));
                reducer.backward(&loss).expect("a pass");
            }
            let ours = buckets(&sizes, first as u64, others as u64);
            assert_eq!(reducer.buckets(), ours.len() as u64, "{first} and {others} bytes");
        }
    }

    proptest! {
        #[test]
        fn buckets_hold_everything_once_and_are_full(
            sizes in prop::collection::vec(1_u64..100, 1..60),
            first in 1_u64..200,
            others in 1_u64..200,
        ) {
            let buckets = buckets(&sizes, first, others);
            let mut next = 0;
            for (i, bucket) in buckets.iter().enumerate() {
                prop_assert_eq!(bucket.gradients.start, next);
                next = bucket.gradients.end;
                let held = &sizes[bucket.gradients.clone()];
                prop_assert_eq!(bucket.bytes, held.iter().sum::<u64>());
                let limit = if i == 0 { first } else { others };
                let without_last = bucket.bytes - held[held.len() - 1];
                prop_assert!(without_last < limit);
                prop_assert!(bucket.bytes >= limit || i + 1 == buckets.len());
            }
            prop_assert_eq!(next, sizes.len());
        }
    }
}
