//! Whether weights have the sizes that were asked for.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::CheckpointError;
use super::weights::{Sizes, Weights};
use crate::config::ModelSettings;
use crate::model::ModelConfig;

/// Weights of another size than was asked for.
#[derive(Debug, Error)]
pub struct SizeMismatch {
    path: PathBuf,
    rows: Vec<Row>,
}

/// A size, and what it was asked to be and is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    name: &'static str,
    /// None where any will do.
    asked: Option<usize>,
    /// None where weights do not tell.
    found: Option<usize>,
    /// Whether the model could not be the same.
    matters: bool,
}

impl Row {
    fn differs(&self) -> bool {
        self.asked.zip(self.found).is_some_and(|(asked, found)| asked != found)
    }
}

impl fmt::Display for SizeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |size: Option<usize>| size.map_or("-".to_owned(), |size| size.to_string());
        writeln!(f, "the weights in {} are of another model than was asked for:", self.path.display())?;
        writeln!(f, "  {:<10} {:>9} {:>9}", "", "asked for", "weights")?;
        for row in &self.rows {
            let mark = if row.differs() && row.matters { "   differs" } else { "" };
            writeln!(f, "  {:<10} {:>9} {:>9}{mark}", row.name, number(row.asked), number(row.found))?;
        }
        write!(f, "leave out --preset and --set model.* to take the sizes of the weights, or say other weights with --init")
    }
}

/// Reads the sizes off the weights, and compares them with those that were asked for: by a preset that was said on the command
/// line, and by `model.layers`, `model.hidden` and `model.heads`. A preset that was not said, or stands in a file of settings,
/// does not count. Vocabulary and positions may differ: the vocabulary is compared with that of the data, and position
/// tables are extended.
///
/// # Errors
/// [`CheckpointError::Sizes`] with a table of all sizes, or what [`Weights::model_config`] fails with.
pub fn checked_sizes(weights: &Weights, settings: &ModelSettings) -> Result<ModelConfig, CheckpointError> {
    let said = |size: usize| (size > 0).then_some(size);
    let preset = settings.preset_explicit.then(|| settings.preset.config());
    let by_preset = |size: fn(&ModelConfig) -> usize| preset.as_ref().map(size);
    let heads = said(settings.heads).or_else(|| by_preset(|preset| preset.heads));
    let asked = [
        ("layers", said(settings.layers).or_else(|| by_preset(|preset| preset.layers))),
        ("hidden", said(settings.hidden).or_else(|| by_preset(|preset| preset.hidden))),
        ("heads", heads),
        ("vocab", by_preset(|preset| preset.vocab_rows)),
        ("positions", by_preset(|preset| preset.positions)),
    ];
    let Sizes { layers, hidden, vocab_rows, positions } = weights.sizes()?;
    let found = [Some(layers), Some(hidden), weights.stated_heads(hidden), Some(vocab_rows), Some(positions)];
    let rows: Vec<Row> = asked
        .into_iter()
        .zip(found)
        .map(|((name, asked), found)| Row { name, asked, found, matters: matches!(name, "layers" | "hidden" | "heads") })
        .collect();
    match rows.iter().any(|row| row.matters && row.differs()) {
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

    /// Two layers of width 16, in PyTorch's container, which does not tell the number of heads.
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
    fn a_preset_counts_where_it_was_said() {
        let weights = golden();
        // `large` is the default of the settings.
        assert_eq!(settings(&[]).preset, Preset::LARGE);
        let stored = checked_sizes(&weights, &settings(&["model.heads=2"])).expect("any size will do");
        assert_eq!((stored.layers, stored.hidden, stored.heads), (2, 16, 2));

        let asked = settings(&["model.preset=base", "model.heads=2"]);
        let error = checked_sizes(&weights, &asked).expect_err("another model").to_string();
        // Heads that do not go with the width of the weights are no reason to tell of them instead.
        assert!(
            checked_sizes(&weights, &settings(&["model.preset=base"]))
                .is_err_and(|error| error.to_string().contains("differs"))
        );
        let table = "             asked for   weights\n  \
             layers            12         2   differs\n  \
             hidden           768        16   differs\n  \
             heads              2         -\n  \
             vocab          30592     30592\n  \
             positions        513       513\n";
        assert!(error.contains(table), "{error}");
        let said = settings(&["model.preset=base", "model.layers=2", "model.hidden=16", "model.heads=2"]);
        assert!(checked_sizes(&weights, &said).is_ok());
    }

    #[test]
    fn single_sizes_count_by_themselves() {
        let error = checked_sizes(&golden(), &settings(&["model.layers=3", "model.heads=2"])).expect_err("three").to_string();
        assert!(error.contains("layers             3         2   differs\n  hidden             -        16\n"), "{error}");
    }
}
