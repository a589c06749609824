//! Arguments of `glm-trainer generate`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use glm_support::command::paint::ColourWhen;

use super::search::SearchArgs;
use crate::command::weights::WeightArgs;
use crate::config::args::SettingArgs;
use crate::config::{Config, SettingsError};
use crate::device::{DeviceChoice, Precision};

/// Arguments of `generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// Texts with `[MASK]` in place of each blank; without one, a blank is added at the end
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    pub texts: Vec<String>,
    /// Texts as JSON objects, {"text": "…"} with an optional "id" and settings of their own, as {"temperature": 0.5, "max_tokens": 20};
    /// `-`: standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub weights: WeightArgs,
    /// Tokenizer: a name or file as for `glm-prep ingest` [default: the built-in one of the weights, else BERT-large-uncased]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Use `[sMASK]` for sentences and `[gMASK]` for long texts as well; for weights that were trained with them
    #[arg(long)]
    pub task_mask: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub search: SearchArgs,
    /// Maximum number of texts that are decoded together
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Generation")]
    pub batch_size: usize,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Precision (train.precision)
    #[arg(long)]
    pub precision: Option<Precision>,
    /// Color generated text
    #[arg(long, alias = "colour", value_name = "WHEN", value_enum, default_value_t = ColourWhen::Auto)]
    pub color: ColourWhen,
    /// Print one JSON line per text, with token ids and their log probabilities
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

impl GenerateArgs {
    /// Resolves the settings.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn resolve(&self) -> Result<Config, SettingsError> {
        let precision = self.precision.map(|precision| precision.to_string());
        self.settings.resolve(&[("--precision", "train.precision", precision)])
    }
}
