//! Options of the search for pieces, and those of single texts.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::Value;

use crate::generate::{BeamSettings, Filter, Limits, Search};

/// Temperature of sampling, as in the published program.
const TEMPERATURE: f64 = 0.9;
/// Number of tokens that sampling draws from, as in the published program.
const TOP_K: usize = 40;
/// Maximum number of tokens of a piece.
const MAX_TOKENS: usize = 128;
/// Largest number of beams.
const MAX_BEAMS: u64 = 64;
/// Largest number of results per text.
const MAX_RETURN: u64 = 1024;

/// Options of the search for pieces.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(next_help_heading = "Generation")]
pub struct SearchArgs {
    /// Maximum number of tokens of a piece [default: 128]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_tokens: Option<usize>,
    /// Number of tokens before a piece may end
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub min_tokens: usize,
    /// Size of n-grams that may not occur twice in a piece; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub no_repeat_ngram: usize,
    /// Always choose the most probable token, as --temperature 0 does
    #[arg(long, conflicts_with_all = ["beams", "temperature", "top_k", "top_p"])]
    pub greedy: bool,
    /// Sample with this temperature [default: 0.9]; 0: greedy
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Sample from the K most probable tokens [default: 40]; 0: from all
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Sample from the most probable tokens that together have this probability; 0: from all
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Seed of sampling
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Search with this number of beams instead of sampling; 1: greedy
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_BEAMS))]
    pub beams: Option<usize>,
    /// Divide the score of a beam by its length to this power [default: 1]
    #[arg(long, value_name = "X", requires = "beams", allow_negative_numbers = true)]
    pub length_penalty: Option<f64>,
    /// Number of results per text: samples, or with --beams the best pieces for the last blank
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_RETURN))]
    pub num_return: usize,
}

/// Names of the settings that a text can have, those of the options with underscores.
const NAMES: [&str; 11] = [
    "max_tokens",
    "min_tokens",
    "no_repeat_ngram",
    "greedy",
    "temperature",
    "top_k",
    "top_p",
    "seed",
    "beams",
    "length_penalty",
    "num_return",
];

impl SearchArgs {
    /// The options with the settings of a text in place of theirs.
    ///
    /// # Errors
    /// A description of the first setting that is unknown or out of range, or of settings that exclude each other.
    pub fn with(&self, settings: &[(String, Value)]) -> Result<Self, String> {
        let mut own = self.clone();
        let sets = |names: &[&str]| settings.iter().find(|(name, _)| names.contains(&name.as_str())).map(|(name, _)| name);
        let choices = ["temperature", "top_k", "top_p", "beams"];
        // A way to choose tokens replaces that of the options.
        if sets(&choices).is_some() {
            own.greedy = false;
        }
        for (name, value) in settings {
            let number = || value.as_f64().ok_or_else(|| format!("`{name}` is {value}; it must be a number"));
            let whole = |least: u64, most: u64| match value.as_u64() {
                Some(number) if (least..=most).contains(&number) => Ok(number),
                _ if most == u64::MAX => Err(format!("`{name}` is {value}; it must be a whole number, {least} or more")),
                _ => Err(format!("`{name}` is {value}; it must be a whole number from {least} to {most}")),
            };
            let count = |least: u64, most: u64| whole(least, most).map(|number| usize::try_from(number).unwrap_or(usize::MAX));
            match name.as_str() {
                "max_tokens" => own.max_tokens = Some(count(1, u64::MAX)?),
                "min_tokens" => own.min_tokens = count(0, u64::MAX)?,
                "no_repeat_ngram" => own.no_repeat_ngram = count(0, u64::MAX)?,
                "greedy" => {
                    own.greedy = value.as_bool().ok_or_else(|| format!("`greedy` is {value}; it must be true or false"))?;
                }
                "temperature" => own.temperature = Some(number()?),
                "top_k" => own.top_k = Some(count(0, u64::MAX)?),
                "top_p" => own.top_p = Some(number()?),
                "seed" => own.seed = whole(0, u64::MAX)?,
                "beams" => own.beams = Some(count(1, MAX_BEAMS)?),
                "length_penalty" => own.length_penalty = Some(number()?),
                "num_return" => own.num_return = count(1, MAX_RETURN)?,
                _ => return Err(format!("unknown setting `{name}`; a text can have {}", NAMES.join(", "))),
            }
        }
        if own.greedy {
            if let Some(name) = sets(&choices) {
                return Err(format!("`greedy` and `{name}` exclude each other"));
            }
            (own.temperature, own.top_k, own.top_p, own.beams, own.length_penalty) = (None, None, None, None, None);
        }
        if own.beams.is_none() && sets(&["length_penalty"]).is_some() {
            return Err("`length_penalty` is a setting of beam search; set `beams` as well".to_owned());
        }
        Ok(own)
    }

    /// The way to choose tokens, with weights of this number of positions.
    ///
    /// # Errors
    /// Options that do not go together, with a remedy.
    pub fn resolve(&self, positions: usize) -> Result<Search, String> {
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
        args: SearchArgs,
    }

    fn args(line: &[&str]) -> SearchArgs {
        Line::try_parse_from([&["generate"], line].concat()).expect("arguments").args
    }

    fn search(line: &[&str]) -> Result<Search, String> {
        args(line).resolve(513)
    }

    /// The search for a text with these settings, given options.
    fn own(line: &[&str], settings: &str) -> Result<Search, String> {
        let settings: Value = serde_json::from_str(settings).expect("JSON");
        let settings = settings.as_object().expect("object").clone().into_iter().collect::<Vec<_>>();
        args(line).with(&settings)?.resolve(513)
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
            assert!(Line::try_parse_from([&["generate"], line].concat()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn settings_of_a_text_replace_the_options() {
        for (line, settings, equal) in [
            (&["--seed", "3"][..], "{}", &["--seed", "3"][..]),
            (&["--seed", "3"], r#"{"seed": 9, "temperature": 0.5}"#, &["--seed", "9", "--temperature", "0.5"]),
            (&["--greedy"], r#"{"top_p": 0.9}"#, &["--top-p", "0.9"]),
            (&["--greedy"], r#"{"max_tokens": 5}"#, &["--greedy", "--max-tokens", "5"]),
            (&["--beams", "4", "--length-penalty", "0.5"], r#"{"greedy": true}"#, &["--greedy"]),
            (&["--top-k", "7"], r#"{"temperature": 0}"#, &["--greedy"]),
            (
                &["--min-tokens", "2", "--no-repeat-ngram", "3"],
                r#"{"beams": 3, "length_penalty": 0, "min_tokens": 1, "no_repeat_ngram": 0, "num_return": 2, "top_k": 5}"#,
                &["--beams", "3", "--length-penalty", "0", "--min-tokens", "1", "--num-return", "2", "--top-k", "5"],
            ),
        ] {
            assert_eq!(own(line, settings), search(equal), "{line:?} {settings}");
        }
    }

    #[test]
    fn invalid_settings_of_a_text_are_described() {
        for (settings, message) in [
            (r#"{"max_length": 5}"#, "unknown setting `max_length`; a text can have max_tokens, min_tokens,"),
            (r#"{"temperature": "warm"}"#, "`temperature` is \"warm\"; it must be a number"),
            (r#"{"seed": -1}"#, "`seed` is -1; it must be a whole number, 0 or more"),
            (r#"{"max_tokens": 0}"#, "`max_tokens` is 0; it must be a whole number, 1 or more"),
            (r#"{"beams": 65}"#, "`beams` is 65; it must be a whole number from 1 to 64"),
            (r#"{"top_k": 1.5}"#, "`top_k` is 1.5; it must be a whole number, 0 or more"),
            (r#"{"greedy": 1}"#, "`greedy` is 1; it must be true or false"),
            (r#"{"greedy": true, "top_k": 4}"#, "`greedy` and `top_k` exclude each other"),
            (r#"{"length_penalty": 1}"#, "`length_penalty` is a setting of beam search"),
            (r#"{"beams": 2, "num_return": 3}"#, "--num-return 3 is more than --beams 2"),
        ] {
            let error = own(&[], settings).expect_err(message);
            assert!(error.starts_with(message), "{error}");
        }
        for name in NAMES {
            let error = args(&[]).with(&[(name.to_owned(), Value::Null)]).expect_err(name);
            assert!(error.starts_with(&format!("`{name}` is null; it must be")), "{error}");
        }
    }
}
