//! Beam search against outputs of the published code.

use glm_trainer::generate::{BeamSettings, Context, beam_search};
use serde_json::Value;
use tch::Kind;

use crate::checks::{Checked, Setup, label, modes};
use crate::golden::Figure;
use crate::recorded::{cases, context, golden, ids, model, number, settings, special};

/// Model of the cases.
const MODEL: &str = "tiny-gen";
/// Smallest difference between candidates whose order no rounding in 32 bits changes.
const GAP: f64 = 1e-4;

/// Compares the scores of the best hypotheses in all kinds, and their tokens in 32 and 64 bits.
pub(crate) fn check(setup: &Setup) -> Checked {
    let golden = golden("beam_model.json");
    let cases: Vec<&Value> = cases(&golden).iter().filter(|case| case["model"] == MODEL).collect();
    let mut figures = Vec::new();
    for mode in modes(setup.device, &[Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half]) {
        // Half of the largest error of a log probability in 16 bits, for scores that are means of such.
        let tolerance = match mode.kind {
            Kind::Double => 1e-9,
            Kind::BFloat16 => 0.1,
            Kind::Half => 0.02,
            _ => 1e-5,
        };
        let mut scores = Figure::new("scores of generated pieces", tolerance);
        let mut tokens = Figure::new("generated pieces that differ", 0.0);
        let model = model(MODEL, mode.kind, setup.device);
        for group in cases.chunk_by(|a, b| settings(a) == settings(b)) {
            let settings: BeamSettings = settings(group[0]);
            let contexts: Vec<Context> = group.iter().map(|case| context(case)).collect();
            let found = beam_search(&model, &mode.pass(), special(MODEL), &contexts, &settings, 32).expect("search");
            for (case, found) in group.iter().zip(found) {
                let at = || format!("{settings:?} {}", case["context"]);
                let expected = number(&case["score"]);
                scores.add((found[0].score - expected).abs() / expected.abs().max(1.0), at);
                if matches!(mode.kind, Kind::Double | Kind::Float) && number(&case["min_gap"]) > GAP {
                    tokens.add(f64::from(u8::from(found[0].tokens != ids(&case["best"]))), at);
                }
            }
        }
        figures.extend([scores, tokens].map(|figure| (label(mode), figure)));
    }
    Checked::Figures(figures)
}
