//! The checks by name, and those that compare with outputs of the published code.

use glm_trainer::model::{Backend, Kernels};
use tch::{Device, Kind};

use crate::dropout;
use crate::generation;
use crate::golden::{Curve, Figure, Golden, Mode, ONE_BATCH};

/// Input of all checks.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Device to check.
    pub(crate) device: Device,
    /// Outputs of the published code.
    pub(crate) golden: Golden,
}

/// Result of a check.
#[derive(Debug)]
pub(crate) enum Checked {
    /// Figures, each with the mode of the model.
    Figures(Vec<(String, Figure)>),
    /// The reason why nothing was checked.
    Skipped(String),
}

/// A check.
#[derive(Debug)]
pub(crate) struct Check {
    /// Name of the check.
    pub(crate) name: &'static str,
    /// Runs it.
    pub(crate) run: fn(&Setup) -> Checked,
}

/// All checks.
pub(crate) const CHECKS: [Check; 5] = [
    Check { name: "scores", run: scores },
    Check { name: "gradients", run: gradients },
    Check { name: "curves", run: curves },
    Check { name: "dropout", run: dropout::check },
    Check { name: "generation", run: generation::check },
];

/// Implementation of the operations that a mode selects.
pub(crate) fn backend(mode: Mode) -> Backend {
    mode.model("tiny", 0.0).backend(&mode.pass())
}

/// Name of a mode in the output.
pub(crate) fn label(mode: Mode) -> String {
    let Mode { device, kind, .. } = mode;
    format!("{kind:?} on {device:?}, {:?} operations", backend(mode))
}

/// Every implementation of the operations that exists on the device, in each kind.
pub(crate) fn modes(device: Device, kinds: &[Kind]) -> Vec<Mode> {
    let mut modes = Vec::new();
    for &kind in kinds {
        let [auto, torch] = [Kernels::Auto, Kernels::Torch].map(|kernels| Mode { device, kind, kernels });
        modes.push(auto);
        if backend(auto) != backend(torch) {
            modes.push(torch);
        }
    }
    modes
}

fn scores(setup: &Setup) -> Checked {
    let mut figures = Vec::new();
    for mode in modes(setup.device, &[Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half]) {
        for micro_batch_tokens in [600, ONE_BATCH] {
            figures.push((label(mode), setup.golden.scores(mode, "tiny", micro_batch_tokens)));
        }
    }
    Checked::Figures(figures)
}

fn gradients(setup: &Setup) -> Checked {
    let mut figures = Vec::new();
    for mode in modes(setup.device, &[Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half]) {
        for micro_batch_tokens in [1, ONE_BATCH] {
            let found = setup.golden.gradients(mode, micro_batch_tokens);
            figures.extend(found.map(|figure| (label(mode), figure)));
        }
    }
    Checked::Figures(figures)
}

fn curves(setup: &Setup) -> Checked {
    let mut figures = Vec::new();
    for mode in modes(setup.device, &[Kind::Float, Kind::BFloat16, Kind::Half]) {
        for curve in [Curve::FixedBatch, Curve::Cycle] {
            let found = setup.golden.curve(mode, curve);
            figures.extend(found.map(|figure| (label(mode), figure)));
        }
    }
    Checked::Figures(figures)
}
