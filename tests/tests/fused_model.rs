//! Tests of the fused operations that golden outputs do not cover: dropout and 16-bit precision.

mod support;

use glm_schemas::manifest::Split;
use glm_trainer::data::loader::Step;
use glm_trainer::model::{Glm, Kernels, Pass};
use support::{data_set, scaled_backward, step, tiny};
use tch::{Device, Kind, Tensor, no_grad};

/// Pass with dropout.
fn training(kind: Kind, seed: u64) -> Pass {
    Pass { kind, dropout: Some(seed), kernels: Kernels::Auto }
}

/// Accumulates the gradients of a step in the parameters and returns its loss.
fn backward(model: &Glm, step: &Step, pass: &Pass) -> f64 {
    scaled_backward(model, step, pass, None)
}

fn gradient(model: &Glm) -> Tensor {
    model.parameters().gradients().to_kind(Kind::Double)
}

fn norm(x: &Tensor) -> f64 {
    x.norm().double_value(&[])
}

#[test]
fn with_dropout_the_gradient_matches_finite_differences() {
    let folder = tempfile::tempdir().expect("folder");
    let data = data_set(folder.path());
    let step = step(&data, Split::Train, &[1, 2, 14, 24, 34], 1200);
    let model = tiny("tiny", Kind::Double, 0.1, Device::Cpu);
    let pass = training(Kind::Double, 7);
    backward(&model, &step, &pass);
    let found = gradient(&model).shallow_clone().copy();
    let mut values: Vec<Tensor> = model.parameters().groups().iter().map(|group| group.values.shallow_clone()).collect();
    tch::manual_seed(1);
    for direction in 0..4 {
        let along: Vec<Tensor> = values.iter().map(|values| values.randn_like() / (values.numel() as f64).sqrt()).collect();
        let mut loss_at = |size: f64| {
            let mut go = |size: f64| {
                for (values, along) in values.iter_mut().zip(&along) {
                    let _moved = no_grad(|| values.g_add_(&(along * size)));
                }
            };
            go(size);
            let loss = backward(&model, &step, &pass);
            go(-size);
            loss
        };
        let slope = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5;
        let expected = (Tensor::cat(&along, 0) * &found).sum(Kind::Double).double_value(&[]);
        assert!((slope - expected).abs() < 1e-5 * expected.abs().max(1e-3), "direction {direction}: {expected}, slope {slope}");
    }
}

#[test]
fn dropout_does_not_depend_on_packing() {
    let folder = tempfile::tempdir().expect("folder");
    let data = data_set(folder.path());
    let model = tiny("tiny", Kind::Double, 0.1, Device::Cpu);
    let orders: Vec<usize> = (0..24).collect();
    let run = |micro_batch_tokens: usize, seed: u64| {
        let loss = backward(&model, &step(&data, Split::Train, &orders, micro_batch_tokens), &training(Kind::Double, seed));
        (loss, gradient(&model).copy())
    };
    let (loss, whole) = run(20000, 3);
    for micro_batch_tokens in [1, 700, 3000] {
        let (other, parts) = run(micro_batch_tokens, 3);
        assert!((loss - other).abs() < 1e-12 * loss, "{micro_batch_tokens} tokens per batch: loss {other}, expected {loss}");
        assert!(norm(&(&whole - &parts)) < 1e-11 * norm(&whole), "{micro_batch_tokens} tokens per batch");
    }
    let (other, gradients) = run(20000, 4);
    assert!((loss - other).abs() > 1e-4 * loss && norm(&(&whole - &gradients)) > 1e-2 * norm(&whole), "another seed");
    let (undropped, _) = {
        let step = step(&data, Split::Train, &orders, 20000);
        (backward(&model, &step, &Pass::evaluation(Kind::Double, Kernels::Auto)), ())
    };
    assert!((undropped - loss).abs() > 1e-4 * loss, "dropout has no effect");
}

#[test]
fn bf16_stays_within_its_rounding_error() {
    let folder = tempfile::tempdir().expect("folder");
    let data = data_set(folder.path());
    let model = tiny("tiny", Kind::Float, 0.1, Device::Cpu);
    let orders: Vec<usize> = (0..12).collect();
    let run = |kind: Kind, kernels: Kernels, dropout: Option<u64>| {
        let pass = Pass { kind, dropout, kernels };
        let loss = backward(&model, &step(&data, Split::Train, &orders, 4000), &pass);
        (loss, gradient(&model).copy())
    };
    // The relative precision is 2⁻⁸, with about a hundred roundings of either sign between input and loss.
    for dropout in [None, Some(5)] {
        let (loss, exact) = run(Kind::Float, Kernels::Auto, dropout);
        let (half_loss, half) = run(Kind::BFloat16, Kernels::Auto, dropout);
        assert!((loss - half_loss).abs() < 0.01 * loss, "{dropout:?}: {half_loss}, expected {loss}");
        assert!(norm(&(&exact - &half)) < 0.05 * norm(&exact), "{dropout:?}: {}", norm(&(&exact - &half)) / norm(&exact));
    }
    // The error is no larger than that of libtorch's own operations in the same precision.
    let (_, exact) = run(Kind::Float, Kernels::Auto, None);
    let (_, fused) = run(Kind::BFloat16, Kernels::Auto, None);
    let (_, plain) = run(Kind::BFloat16, Kernels::Torch, None);
    assert!(norm(&(&exact - &fused)) < 1.1 * norm(&(&exact - &plain)));
}
