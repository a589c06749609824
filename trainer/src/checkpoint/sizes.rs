//! Comparison of the sizes of weights with the settings.

use super::error::{CheckpointError, SizeMismatch, SizeRow};
use super::weights::{Sizes, Weights};
use crate::config::ModelSettings;
use crate::model::ModelConfig;

/// Derives the sizes of a model from its weights, and compares them with the settings: with a preset given on the command line, and
/// with `model.layers`, `model.hidden` and `model.heads`. The default preset and a preset in a settings file are ignored. Vocabulary
/// and positions may differ: the vocabulary is compared with the data later, and position tables are extended.
///
/// # Errors
/// [`CheckpointError::Sizes`] with a table of all sizes, or the error of [`Weights::model_config`].
pub fn checked_sizes(weights: &Weights, settings: &ModelSettings) -> Result<ModelConfig, CheckpointError> {
    let explicit = |size: usize| (size > 0).then_some(size);
    let preset = settings.preset_explicit.then(|| settings.preset.config());
    let by_preset = |size: fn(&ModelConfig) -> usize| preset.as_ref().map(size);
    let heads = explicit(settings.heads).or_else(|| by_preset(|preset| preset.heads));
    let requested = [
        ("layers", explicit(settings.layers).or_else(|| by_preset(|preset| preset.layers))),
        ("hidden", explicit(settings.hidden).or_else(|| by_preset(|preset| preset.hidden))),
        ("heads", heads),
        ("vocab", by_preset(|preset| preset.vocab_rows)),
        ("positions", by_preset(|preset| preset.positions)),
    ];
    let Sizes { layers, hidden, vocab_rows, positions } = weights.sizes()?;
    let found = [Some(layers), Some(hidden), weights.stored_heads(hidden), Some(vocab_rows), Some(positions)];
    let row = |((name, requested), found)| SizeRow {
        name,
        requested,
        found,
        must_match: matches!(name, "layers" | "hidden" | "heads"),
    };
    let rows: Vec<SizeRow> = requested.into_iter().zip(found).map(row).collect();
    match rows.iter().any(SizeRow::is_mismatch) {
        true => Err(CheckpointError::Sizes(SizeMismatch { path: weights.path().to_owned(), rows })),
        false => weights.model_config(heads),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::overrides::Layers;
    use crate::model::Preset;

    /// Two layers of width 16, in PyTorch's container, which does not specify the number of heads.
    fn golden() -> Weights {
        let file = "../tests/fixtures/golden/model/full-vocab/blocklm-tiny";
        Weights::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("golden weights")
    }

    fn settings(assignments: &[&str]) -> ModelSettings {
        let mut layers = Layers::default();
        assignments.iter().for_each(|text| layers.assignment(text).expect("a setting"));
        layers.resolve().expect("settings").model
    }

    #[test]
    fn only_an_explicit_preset_is_compared() {
        let weights = golden();
        // `large` is the default of the settings.
        assert_eq!(settings(&[]).preset, Preset::LARGE);
        let stored = checked_sizes(&weights, &settings(&["model.heads=2"])).expect("any size is accepted");
        assert_eq!((stored.layers, stored.hidden, stored.heads), (2, 16, 2));

        let requested = settings(&["model.preset=base", "model.heads=2"]);
        let error = checked_sizes(&weights, &requested).expect_err("another model").to_string();
        // The table takes precedence over heads that do not divide the width of the weights.
        assert!(
            checked_sizes(&weights, &settings(&["model.preset=base"]))
                .is_err_and(|error| error.to_string().contains("differs"))
        );
        let table = "             requested   weights\n  \
             layers            12         2   differs\n  \
             hidden           768        16   differs\n  \
             heads              2         -\n  \
             vocab          30592     30592\n  \
             positions        513       513\n";
        assert!(error.contains(table), "{error}");
        let explicit = settings(&["model.preset=base", "model.layers=2", "model.hidden=16", "model.heads=2"]);
        assert!(checked_sizes(&weights, &explicit).is_ok());
    }

    #[test]
    fn single_sizes_are_compared() {
        let error = checked_sizes(&golden(), &settings(&["model.layers=3", "model.heads=2"])).expect_err("three").to_string();
        assert!(error.contains("layers             3         2   differs\n  hidden             -        16\n"), "{error}");
    }
}
