//! Named models: the published ones, and a small one.

use std::fmt;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use glm_schemas::vocab::{SpecialIds, embedding_rows};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::config::ModelConfig;

/// Vocabulary of published weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vocabulary {
    /// WordPiece of BERT-large-uncased, built in.
    Bert,
    /// Byte-level BPE of GPT-2, built in.
    Gpt2,
    /// Byte-level BPE of RoBERTa.
    Roberta,
    /// SentencePiece model of Chinese.
    Chinese,
}

impl Vocabulary {
    /// Name in manifests and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert-large-uncased",
            Self::Gpt2 => "gpt2",
            Self::Roberta => "roberta",
            Self::Chinese => "cog-pretrain",
        }
    }

    /// Returns the vocabulary with this name in manifests.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Bert, Self::Gpt2, Self::Roberta, Self::Chinese].into_iter().find(|vocabulary| vocabulary.name() == name)
    }

    /// Ids of the special tokens.
    pub fn special_ids(self) -> SpecialIds {
        match self {
            Self::Bert => SpecialIds::BERT_UNCASED,
            Self::Gpt2 => SpecialIds::GPT2,
            Self::Roberta => SpecialIds::ROBERTA,
            Self::Chinese => SpecialIds::CHINESE,
        }
    }

    /// Value of `--tokenizer` for the model.
    pub fn tokenizer(self) -> &'static str {
        match self {
            Self::Bert => "built in, the default",
            Self::Gpt2 => "built in: gpt2",
            Self::Roberta => "vocab.json, with merges.txt",
            Self::Chinese => "cog-pretrain.model",
        }
    }

    /// Rows of the word embeddings of published weights.
    pub fn rows(self) -> usize {
        embedding_rows(self.special_ids().masks().block as usize + 1)
    }
}

/// Named model size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Name in settings, on the command line and in messages.
    pub name: &'static str,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Hidden size.
    pub hidden: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Maximum sequence length.
    pub seq_len: usize,
    /// Vocabulary of the published weights.
    pub vocabulary: Vocabulary,
    /// Published weights; `None` if there are none.
    pub weights: Option<PublishedWeights>,
}

/// Published weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PublishedWeights {
    /// File name of the archive.
    pub archive: &'static str,
    /// Folder in the archive.
    pub folder: &'static str,
    /// Name on Hugging Face; `None` if they are not there.
    pub hugging_face: Option<&'static str>,
}

impl PublishedWeights {
    /// Name for `glm-trainer fetch`: that of the archive, without `.tar.bz2`.
    pub fn name(&self) -> &'static str {
        self.archive.strip_suffix(".tar.bz2").unwrap_or(self.archive)
    }

    /// Returns true if `name` is that of the weights, of their archive or folder, or theirs on Hugging Face.
    pub fn is_named(&self, name: &str) -> bool {
        [self.name(), self.archive, self.folder].contains(&name) || self.hugging_face == Some(name)
    }
}

/// All named models. To add one, add a row.
pub const PRESETS: [Preset; 11] = {
    use Vocabulary::{Bert, Chinese, Gpt2, Roberta};
    [
        preset("large", [24, 1024, 16], 512, Bert, published("glm-large-blank.tar.bz2", "blocklm-large-blank", None)),
        preset("base", [12, 768, 12], 512, Bert, published("glm-base-blank.tar.bz2", "blocklm-base-blank", None)),
        preset("tiny", [3, 128, 4], 512, Bert, None),
        preset("doc", [24, 1024, 16], 512, Bert, published("glm-large-generation.tar.bz2", "blocklm-large-generation", None)),
        preset("410m", [30, 1024, 16], 512, Bert, published("glm-1.25-generation.tar.bz2", "blocklm-1.25-generation", None)),
        preset(
            "515m",
            [30, 1152, 18],
            512,
            Bert,
            published("glm-1.5-generation.tar.bz2", "blocklm-1.5-generation", Some("THUDM/glm-515m")),
        ),
        preset(
            "roberta-large",
            [24, 1024, 16],
            512,
            Roberta,
            published("glm-roberta-large-blank.tar.bz2", "blocklm-roberta-large-blank", Some("THUDM/glm-roberta-large")),
        ),
        preset(
            "large-chinese",
            [24, 1024, 16],
            1024,
            Chinese,
            published("glm-large-chinese.tar.bz2", "blocklm-large-chinese", Some("THUDM/glm-large-chinese")),
        ),
        preset("2b", [36, 2048, 32], 1024, Gpt2, published("glm-2b.tar.bz2", "blocklm-2b-512", Some("THUDM/glm-2b"))),
        preset("10b", [48, 4096, 64], 1024, Gpt2, published("glm-10b-1024.tar.bz2", "glm-10b-1024", Some("THUDM/glm-10b"))),
        preset(
            "10b-chinese",
            [48, 4096, 64],
            1024,
            Chinese,
            published("glm-10b-chinese.tar.bz2", "blocklm-10b-chinese07-08-15-28", Some("THUDM/glm-10b-chinese")),
        ),
    ]
};

const fn preset(
    name: &'static str,
    [layers, hidden, heads]: [usize; 3],
    seq_len: usize,
    vocabulary: Vocabulary,
    weights: Option<PublishedWeights>,
) -> Preset {
    Preset { name, layers, hidden, heads, seq_len, vocabulary, weights }
}

const fn published(
    archive: &'static str,
    folder: &'static str,
    hugging_face: Option<&'static str>,
) -> Option<PublishedWeights> {
    Some(PublishedWeights { archive, folder, hugging_face })
}

impl Preset {
    /// GLM-large.
    pub const LARGE: Self = PRESETS[0];
    /// GLM-base.
    pub const BASE: Self = PRESETS[1];
    /// A small model, which trains on a laptop in minutes.
    pub const TINY: Self = PRESETS[2];

    /// Returns the model configuration, with default rates.
    pub fn config(self) -> ModelConfig {
        ModelConfig {
            layers: self.layers,
            hidden: self.hidden,
            heads: self.heads,
            vocab_rows: self.vocabulary.rows(),
            positions: self.seq_len + 1,
            dropout: 0.1,
            attention_dropout: 0.1,
            layernorm_eps: 1e-5,
            init_std: 0.02,
        }
    }

    /// Returns the preset with these sizes, if there is one. Presets with equal sizes have equal numbers of heads.
    pub fn with_sizes(layers: usize, hidden: usize) -> Option<Self> {
        PRESETS.into_iter().find(|preset| (preset.layers, preset.hidden) == (layers, hidden))
    }

    /// Returns the preset with this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        PRESETS.into_iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
    }

    /// Weights that a run starts from by default: the published ones, except for the sizes that train from random weights in hours or
    /// days, base and tiny.
    pub fn default_weights(self) -> Option<PublishedWeights> {
        self.weights.filter(|_| self != Self::BASE)
    }
}

impl PublishedWeights {
    /// Returns the published weights with a name: of the preset, the weights, their archive or folder, or on Hugging Face.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = PRESETS.into_iter().filter_map(|preset| Some((preset, preset.weights?)));
        all.find(|(preset, weights)| preset.name.eq_ignore_ascii_case(name) || weights.is_named(name))
            .map(|(_, weights)| weights)
    }
}

impl ValueEnum for Preset {
    fn value_variants<'a>() -> &'a [Self] {
        &PRESETS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let Self { name, layers, hidden, heads, .. } = self;
        let millions = self.config().parameters() / 1_000_000;
        let help = format!("{layers} layers, hidden size {hidden}, {heads} heads, {millions} million parameters");
        Some(PossibleValue::new(*name).help(help))
    }
}

impl Serialize for Preset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Preset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let names = PRESETS.map(|preset| preset.name).join(", ");
            D::Error::custom(format!("unknown preset `{name}`, expected one of {names}"))
        })
    }
}

/// The table of all presets, with what their published weights are called.
#[derive(Debug, Clone, Copy)]
pub struct PresetTable;

impl PresetTable {
    const HEADINGS: [&str; 9] =
        ["preset", "layers", "hidden", "heads", "parameters", "length", "vocabulary", "rows", "published weights"];

    fn cells() -> impl Iterator<Item = [String; 9]> {
        PRESETS.into_iter().map(|preset| {
            let config = preset.config();
            let millions = config.parameters() as f64 / 1e6;
            let weights = preset.weights.map_or("-".to_owned(), |weights| match weights.hugging_face {
                Some(name) => format!("{}, {name}", weights.archive),
                None => weights.archive.to_owned(),
            });
            [
                preset.name.to_owned(),
                config.layers.to_string(),
                config.hidden.to_string(),
                config.heads.to_string(),
                if millions < 1000.0 { format!("{millions:.0}M") } else { format!("{:.1}B", millions / 1e3) },
                preset.seq_len.to_string(),
                preset.vocabulary.name().to_owned(),
                config.vocab_rows.to_string(),
                weights,
            ]
        })
    }

    /// Returns the table in Markdown.
    pub fn markdown(self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = row(&Self::HEADINGS.map(str::to_owned));
        text += &row(&Self::HEADINGS.map(|_| "---".to_owned()));
        Self::cells().for_each(|cells| text += &row(&cells));
        text
    }
}

impl Serialize for PresetTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row {
            name: &'static str,
            parameters: usize,
            vocabulary: &'static str,
            weights: Option<PublishedWeights>,
            model: ModelConfig,
        }
        serializer.collect_seq(PRESETS.iter().map(|preset| Row {
            name: preset.name,
            parameters: preset.config().parameters(),
            vocabulary: preset.vocabulary.name(),
            weights: preset.weights,
            model: preset.config(),
        }))
    }
}

impl fmt::Display for PresetTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = Self::HEADINGS.map(str::to_owned);
        for [name, layers, hidden, heads, parameters, length, vocabulary, rows, weights] in
            std::iter::once(headings).chain(Self::cells())
        {
            writeln!(
                f,
                "{name:<13}  {layers:>6}  {hidden:>6}  {heads:>5}  {parameters:>10}  {length:>6}  {vocabulary:<18}  {rows:>5}  {weights}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes() {
        assert_eq!(Preset::LARGE.config().parameters(), 334_688_256);
        let billions = |name: &str| Preset::named(name).expect("a preset").config().parameters() as f64 / 1e9;
        for (name, expected) in [
            ("base", 0.110),
            ("doc", 0.335),
            ("410m", 0.410),
            ("515m", 0.515),
            ("roberta-large", 0.355),
            ("2B", 1.920),
            ("10b", 9.879),
            ("10b-chinese", 9.878),
        ] {
            assert!((billions(name) / expected - 1.0).abs() < 0.01, "{name}: {}", billions(name));
        }
        let rows = PRESETS.map(|preset| preset.config().vocab_rows);
        assert_eq!(rows, [30592, 30592, 30592, 30592, 30592, 30592, 50304, 50048, 50304, 50304, 50048]);
    }

    #[test]
    fn presets_are_found_by_name_and_by_both_sizes() {
        for preset in PRESETS {
            let name = serde_json::to_value(preset).expect("name");
            assert_eq!((name.as_str(), serde_json::from_value(name.clone()).ok()), (Some(preset.name), Some(preset)));
            assert_eq!(Preset::from_str(preset.name, false), Ok(preset));
            assert_eq!(Preset::from_str(&preset.name.to_uppercase(), true), Ok(preset));
            let same_sizes = Preset::with_sizes(preset.layers, preset.hidden).expect("a preset");
            assert_eq!(same_sizes.heads, preset.heads);
            assert_eq!(preset.config().validate(), Ok(()));
        }
        assert_eq!(Preset::with_sizes(2, 1024), None);
        let error = serde_json::from_str::<Preset>("\"huge\"").expect_err("unknown").to_string();
        assert!(error.starts_with("unknown preset `huge`, expected one of large, base, tiny"), "{error}");
    }

    #[test]
    fn the_documentation_has_the_table() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/models.md");
        let text = std::fs::read_to_string(page).expect("docs/models.md");
        assert!(text.contains(&PresetTable.markdown()), "update docs/models.md: glm-trainer presets --markdown");
    }

    #[test]
    fn weights_have_several_names() {
        let expected = Preset::named("2b").expect("a preset").weights;
        for name in ["2b", "2B", "glm-2b", "glm-2b.tar.bz2", "blocklm-2b-512", "THUDM/glm-2b"] {
            assert_eq!(PublishedWeights::named(name), expected, "{name}");
        }
        assert_eq!(PublishedWeights::named("tiny"), None);
        assert_eq!(PublishedWeights::named("runs/own"), None);
        assert_eq!((Preset::BASE.default_weights(), Preset::TINY.default_weights()), (None, None));
        assert!(Preset::LARGE.default_weights().is_some());
    }
}
