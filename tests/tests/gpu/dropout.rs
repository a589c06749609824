//! Comparison with the CPU while dropout is on. Fused operations of all devices drop the same elements, whatever the batches are,
//! and give the same bits again.

use glm_schemas::manifest::Split;
use glm_trainer::data::feed::DeviceStep;
use glm_trainer::data::mmap::DataSet;
use glm_trainer::model::{Kernels, Pass};
use tch::{Device, Kind, Tensor};

use crate::checks::{Checked, Setup, backend, label};
use crate::golden::{Curve, Figure, Mode, ONE_BATCH};
use crate::support::step;

const RATE: f64 = 0.1;
const SEED: u64 = 7;
const OTHER_SEED: u64 = 8;
const STEPS: usize = 10;
/// The reference.
const CPU: Mode = Mode { device: Device::Cpu, kind: Kind::Float, kernels: Kernels::Auto };
/// Factor by which the change from another seed must exceed the tolerance.
const MARGIN: f64 = 3.0;

/// Largest deviations from the reference that rounding explains.
struct Tolerances {
    losses: f64,
    gradient: f64,
}

impl Tolerances {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Half => Self { losses: 0.01, gradient: 0.01 },
            _ => Self { losses: 0.05, gradient: 0.05 },
        }
    }
}

pub(crate) fn check(setup: &Setup) -> Checked {
    let modes = [Kind::BFloat16, Kind::Half].map(|kind| Mode { device: setup.device, kind, kernels: Kernels::Auto });
    let plain = |mode: Mode| backend(Mode { kernels: Kernels::Torch, ..mode });
    let fused: Vec<Mode> = modes.into_iter().filter(|&mode| backend(mode) != plain(mode)).collect();
    if fused.is_empty() {
        return Checked::Skipped("there are no fused operations for bf16 and fp16 on this device".to_owned());
    }
    let data = &setup.golden.data;
    let (expected, other) = (losses(CPU, data, SEED), losses(CPU, data, OTHER_SEED));
    let (gradient, other_gradient) = (gradient(CPU, data, SEED, ONE_BATCH), gradient(CPU, data, OTHER_SEED, ONE_BATCH));
    let mut figures = Vec::new();
    for mode in fused {
        let tolerances = Tolerances::of(mode.kind);
        let mut add = |name, tolerance, value| {
            let mut figure = Figure::new(name, tolerance);
            figure.add(value, String::new);
            figures.push((label(mode), figure));
        };
        let seed_ratio = |tolerance: f64, changed: f64| tolerance / changed;

        let found = losses(mode, data, SEED);
        add("losses of 10 steps, to the CPU in fp32", tolerances.losses, distance(&found, &expected));
        if mode.kind == Kind::BFloat16 {
            let rounded = losses(Mode { kind: mode.kind, ..CPU }, data, SEED);
            add("losses of 10 steps, to the CPU in bf16", tolerances.losses, distance(&found, &rounded));
        }
        let changed = distance(&other, &expected);
        add("tolerance of the losses, to the change by another seed", 1.0 / MARGIN, seed_ratio(tolerances.losses, changed));

        let found = self::gradient(mode, data, SEED, ONE_BATCH);
        add("gradient, to the CPU in fp32", tolerances.gradient, difference(&found, &gradient));
        let changed = difference(&other_gradient, &gradient);
        add("tolerance of the gradient, to the change by another seed", 1.0 / MARGIN, seed_ratio(tolerances.gradient, changed));
        let again = self::gradient(mode, data, SEED, ONE_BATCH);
        add("gradient, again", 0.0, difference(&again, &found));
        let packed = self::gradient(mode, data, SEED, 700);
        add("gradient, in smaller batches", tolerances.gradient, difference(&packed, &found));
    }
    Checked::Figures(figures)
}

/// Losses of training steps with dropout.
fn losses(mode: Mode, data: &DataSet, seed: u64) -> Vec<f64> {
    let mut stepper = mode.stepper(data, RATE, seed);
    let mut losses = Vec::with_capacity(STEPS);
    for i in 0..STEPS {
        let step = step(data, Split::Train, &Curve::Cycle.rows(i), ONE_BATCH);
        let step = DeviceStep::on(&step, mode.device, stepper.backend().layout()).expect("step");
        losses.push(stepper.step(&step, false).expect("step").read().expect("report").loss);
    }
    losses
}

/// Gradient of a step of 24 questions with dropout.
fn gradient(mode: Mode, data: &DataSet, seed: u64, micro_batch_tokens: usize) -> Tensor {
    let rows: Vec<usize> = (0..24).collect();
    let step = step(data, Split::Train, &rows, micro_batch_tokens);
    let model = mode.model("tiny", RATE);
    let pass = Pass { dropout: Some(seed), ..mode.pass() };
    let (_, scale) = mode.backward(&model, &step, &pass);
    model.parameters().gradients().to_device(Device::Cpu).to_kind(Kind::Double) / scale
}

/// Largest difference of two losses, relative to the loss, or to 1 if that is larger.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    let mut figure = Figure::new("", 0.0);
    for (found, expected) in found.iter().zip(expected) {
        figure.add((found - expected).abs() / expected.max(1.0), String::new);
    }
    figure.value
}

/// Norm of a difference, relative to the norm of `expected`.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.norm().double_value(&[]);
    norm(&(found - expected)) / norm(expected)
}
