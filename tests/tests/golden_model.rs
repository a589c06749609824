//! Comparison of the model with outputs of the published code on the `cloze` set: scores, loss, gradients and learning curves of a
//! tiny GLM with a vocabulary of 512, in fp64, fp32 and, with fused kernels, bf16.

#[path = "support/golden.rs"]
mod golden;
mod support;

use glm_trainer::model::Kernels;
use golden::{Curve, Figure, Golden, Mode, ONE_BATCH};
use support::{data_set, tiny};
use tch::{Device, Kind};

/// Both implementations of the operations; in bf16 the fused ones only, since libtorch's deviate more, up to 6 % in the norm of a gradient.
fn modes(kind: Kind) -> impl Iterator<Item = Mode> {
    let modes = [Kernels::Auto, Kernels::Torch].map(|kernels| Mode { device: Device::Cpu, kind, kernels });
    modes.into_iter().filter(|mode| mode.kind != Kind::BFloat16 || mode.kernels == Kernels::Auto)
}

#[track_caller]
fn within(figures: &[Figure], mode: Mode) {
    for figure in figures {
        assert!(figure.is_within(), "{mode:?}: {figure:?}");
    }
}

#[test]
fn scores_of_all_choices_equal_the_published_ones() {
    let folder = tempfile::tempdir().expect("folder");
    let golden = Golden::open(data_set(folder.path()));
    let cases = [("tiny", Kind::Double), ("tiny", Kind::Float), ("tiny", Kind::BFloat16)];
    for (weights, kind) in cases.into_iter().chain([("tiny_legacy", Kind::Double)]) {
        for mode in modes(kind) {
            // A small budget (many batches, little padding) and a large one (few batches, much padding).
            for micro_batch_tokens in [600, ONE_BATCH] {
                within(&[golden.scores(mode, weights, micro_batch_tokens)], mode);
            }
        }
    }
}

#[test]
fn loss_and_gradients_equal_the_published_ones() {
    let folder = tempfile::tempdir().expect("folder");
    let golden = Golden::open(data_set(folder.path()));
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
        for mode in modes(kind) {
            for micro_batch_tokens in [1, ONE_BATCH] {
                within(&golden.gradients(mode, micro_batch_tokens), mode);
            }
        }
    }
}

#[test]
fn learning_curves_follow_the_published_ones() {
    let folder = tempfile::tempdir().expect("folder");
    let golden = Golden::open(data_set(folder.path()));
    for mode in modes(Kind::Float) {
        for curve in [Curve::FixedBatch, Curve::Cycle] {
            within(&golden.curve(mode, curve), mode);
        }
    }
}

#[test]
fn half_precision_weights_load_by_name() {
    let [full, half] = ["tiny", "tiny_fp16"].map(|weights| tiny(weights, Kind::Float, 0.0, Device::Cpu));
    for (full, half) in full.parameters().iter().zip(half.parameters().iter()) {
        let rounded = full.tensor.to_kind(Kind::Half).to_kind(Kind::Float);
        assert!(bool::try_from(rounded.eq_tensor(&half.tensor).all()).expect("one value"), "{}", full.name);
    }
}
