//! Arguments of `glm-trainer generate`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use glm_support::command::paint::ColourWhen;

use crate::command::weights::WeightArgs;
use crate::config::args::SettingArgs;
use crate::config::{Config, SettingsError};
use crate::device::{DeviceChoice, Precision};
use crate::generate::{BeamSettings, Filter, Limits, Search};

/// Temperature of sampling, as in the published program.
const TEMPERATURE: f64 = 0.9;
/// Number of tokens that sampling draws from, as in the published program.
const TOP_K: usize = 40;
/// Maximum number of tokens of a piece.
const MAX_TOKENS: usize = 128;

/// Arguments of `generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// Texts with `[MASK]` in place of each blank; without one, a blank is added at the end
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    pub texts: Vec<String>,
    /// Texts as JSON objects, {"text": "…"} with an optional "id"; `-`: standard input
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
    /// Maximum number of tokens of a piece [default: 128]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Generation")]
    pub max_tokens: Option<usize>,
    /// Number of tokens before a piece may end
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Generation")]
    pub min_tokens: usize,
    /// Size of n-grams that may not occur twice in a piece; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Generation")]
    pub no_repeat_ngram: usize,
    /// Always choose the most probable token, as --temperature 0 does
    #[arg(long, conflicts_with_all = ["beams", "temperature", "top_k", "top_p"], help_heading = "Generation")]
    pub greedy: bool,
    /// Sample with this temperature [default: 0.9]; 0: greedy
    #[arg(long, value_name = "T", allow_negative_numbers = true, help_heading = "Generation")]
    pub temperature: Option<f64>,
    /// Sample from the K most probable tokens [default: 40]; 0: from all
    #[arg(long, value_name = "K", help_heading = "Generation")]
    pub top_k: Option<usize>,
    /// Sample from the most probable tokens that together have this probability; 0: from all
    #[arg(long, value_name = "P", help_heading = "Generation")]
    pub top_p: Option<f64>,
    /// Seed of sampling
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Generation")]
    pub seed: u64,
    /// Search with this number of beams instead of sampling; 1: greedy
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=64), help_heading = "Generation")]
    pub beams: Option<usize>,
    /// Divide the score of a beam by its length to this power [default: 1]
    #[arg(long, value_name = "X", requires = "beams", allow_negative_numbers = true, help_heading = "Generation")]
    pub length_penalty: Option<f64>,
    /// Number of results per text: samples, or with --beams the best pieces for the last blank
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024), help_heading = "Generation")]
    pub num_return: usize,
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

    /// The way to choose tokens, with weights of this number of positions.
    ///
    /// # Errors
    /// Options that do not go together, with a remedy.
    pub fn search(&self, positions: usize) -> Result<Search, String> {
        let max_length = self.max_tokens.unwrap_or(MAX_TOKENS.min(positions.saturating_sub(2)));
        let limits = Limits { ngram: self.no_repeat_ngram, min_length: self.min_tokens, max_length };
        let given = Filter {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(0.0),
        };
        if let Some(beams) = self.beams.filter(|beams| *beams > 1) {
            if self.num_return > beams {
                let number = self.num_return;
                return Err(format!("--num-return {number} is more than --beams {beams}; use --beams {number}"));
            }
            if self.temperature == Some(0.0) {
                return Err("--temperature 0 is greedy search, without --beams".to_owned());
            }
            return Ok(Search::Beam(BeamSettings {
                beams,
                length_penalty: self.length_penalty.unwrap_or(1.0),
                ngram: limits.ngram,
                min_length: limits.min_length,
                max_length,
                count_start: true,
                filter: given,
            }));
        }
        if self.greedy || self.beams == Some(1) || self.temperature == Some(0.0) {
            if self.num_return > 1 {
                return Err("greedy search has one result; for --num-return use sampling or --beams".to_owned());
            }
            return Ok(Search::Greedy(limits));
        }
        let filter =
            Filter { temperature: self.temperature.unwrap_or(TEMPERATURE), top_k: self.top_k.unwrap_or(TOP_K), ..given };
        Ok(Search::Sample { filter, seed: self.seed, limits })
    }

    /// Number of samples per text.
    pub fn samples(&self) -> usize {
        if self.beams.is_some() { 1 } else { self.num_return }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: GenerateArgs,
    }

    fn search(line: &[&str]) -> Result<Search, String> {
        let args = Line::try_parse_from([&["generate", "--init", "x"], line].concat()).expect("arguments").args;
        args.search(513)
    }

    #[test]
    fn sampling_is_the_default() {
        let limits = Limits { ngram: 0, min_length: 0, max_length: 128 };
        let filter = Filter { temperature: 0.9, top_k: 40, top_p: 0.0 };
        assert_eq!(search(&[]), Ok(Search::Sample { filter, seed: 1, limits }));
        let filter = Filter { temperature: 0.5, top_k: 0, top_p: 0.9 };
        let line = ["--temperature", "0.5", "--top-k", "0", "--top-p", "0.9", "--seed", "7"];
        assert_eq!(search(&line), Ok(Search::Sample { filter, seed: 7, limits }));
    }

    #[test]
    fn greedy_search_has_three_names() {
        let limits = Limits { ngram: 3, min_length: 2, max_length: 9 };
        for name in [&["--greedy"][..], &["--temperature", "0"], &["--beams", "1"]] {
            let line = [name, &["--no-repeat-ngram", "3", "--min-tokens", "2", "--max-tokens", "9"]].concat();
            assert_eq!(search(&line), Ok(Search::Greedy(limits)));
            assert!(search(&[name, &["--num-return", "2"]].concat()).is_err_and(|error| error.contains("greedy search")));
        }
    }

    #[test]
    fn beams_take_all_settings() {
        let Ok(Search::Beam(settings)) = search(&["--beams", "4", "--length-penalty", "0.7", "--top-k", "9"]) else {
            panic!("beam search")
        };
        assert_eq!(
            (settings.beams, settings.length_penalty, settings.filter.top_k, settings.filter.temperature),
            (4, 0.7, 9, 1.0)
        );
        assert!(search(&["--beams", "2", "--num-return", "3"]).is_err_and(|error| error.contains("use --beams 3")));
        for line in [&["--greedy", "--beams", "2"][..], &["--length-penalty", "1"], &["--max-tokens", "0"]] {
            assert!(Line::try_parse_from([&["generate", "--init", "x"], line].concat()).is_err(), "{line:?}");
        }
    }
}
