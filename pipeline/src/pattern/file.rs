//! Content of a pattern file.

use std::collections::BTreeMap;

use glm_schemas::manifest::ClozeLoss;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

pub use super::text::Edit;

/// Content of a pattern file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PatternFile {
    /// One line for lists of patterns.
    #[serde(default)]
    pub about: String,
    /// Folder of the raw files, as in the archives of SuperGLUE.
    #[serde(default)]
    pub folder: Option<String>,
    /// Metrics; the first one chooses the best checkpoint.
    #[serde(default = "accuracy")]
    pub metrics: Vec<String>,
    /// True if choices have any number of tokens, behind which the end of piece is predicted.
    #[serde(default)]
    pub multi_token: bool,
    /// Loss.
    #[serde(default)]
    pub loss: ClozeLoss,
    /// Power of the number of tokens by which scores are divided.
    #[serde(default)]
    pub length_penalty: f64,
    /// Number of the pattern that is used unless another one is given.
    #[serde(default)]
    pub pattern: usize,
    /// Lists, each inside the one before it, whose items are examples.
    #[serde(default)]
    pub each: Vec<String>,
    /// Two texts that every training example exchanges once more, with the other of two labels.
    #[serde(default)]
    pub mirror: Option<[String; 2]>,
    /// Texts by name. A name that is not here is the field of this name, in standard form.
    #[serde(default)]
    pub texts: BTreeMap<String, TextSource>,
    /// Label.
    pub label: LabelSource,
    /// Choices that the example brings; without them, those are the words of the pattern.
    #[serde(default)]
    pub choices: Option<ChoiceSource>,
    /// Fields with ids.
    #[serde(default)]
    pub ids: Ids,
    /// The patterns.
    pub patterns: Vec<Pattern>,
}

fn accuracy() -> Vec<String> {
    vec!["accuracy".to_owned()]
}

/// One of the patterns of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Context with one blank, as a template.
    pub context: String,
    /// What fills the blank for each label, in the order of the labels, as templates.
    #[serde(default)]
    pub words: Vec<String>,
}

/// Source of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextSource {
    /// Template of other texts.
    Template(String),
    /// Field of the record.
    Field(FieldText),
}

/// Text of a field.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldText {
    /// Name of the field, with dots for nested ones.
    pub field: String,
    /// Changes, in order.
    #[serde(default = "standard")]
    pub edits: Vec<Edit>,
    /// Texts for the values of the field; other values are errors.
    #[serde(default)]
    pub map: BTreeMap<String, String>,
    /// Word that gets asterisks.
    #[serde(default)]
    pub mark: Option<MarkedWord>,
    /// Phrases that get a sign before and behind them.
    #[serde(default)]
    pub enclose: Vec<EnclosedPhrase>,
}

fn standard() -> Vec<Edit> {
    vec![Edit::Std]
}

/// Word that gets asterisks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkedWord {
    /// Field with the word.
    pub word: String,
    /// Field with its index among the words of the text, counted from 0.
    pub index: String,
}

/// Phrase that gets a sign before and behind it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnclosedPhrase {
    /// Field with the phrase.
    pub phrase: String,
    /// Field with the index of its first character in the text, counted from 0.
    pub at: String,
    /// The sign.
    pub with: String,
}

impl<'de> Deserialize<'de> for TextSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(template) => Ok(Self::Template(template)),
            other => FieldText::deserialize(other).map(Self::Field).map_err(D::Error::custom),
        }
    }
}

/// Label of an example.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSource {
    /// Name of the field.
    #[serde(default = "label")]
    pub field: String,
    /// Labels, in order; upper and lower case are the same. Without names, a label is the number of a choice.
    #[serde(default)]
    pub names: Vec<String>,
    /// The only label that training keeps.
    #[serde(default)]
    pub train: Option<String>,
}

fn label() -> String {
    "label".to_owned()
}

/// Choices that an example brings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum ChoiceSource {
    /// A list of choices in a field; the label is the number of the right one, or its name.
    List {
        /// Name of the field.
        list: String,
    },
    /// An answer that is right if the example has the second of two labels, and other answers that are never right.
    Answer {
        /// Template of the answer.
        answer: String,
        /// Field with a list of the others.
        #[serde(default)]
        others: Option<String>,
    },
}

/// Fields with ids: whole numbers, or texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    /// Id of the record [default: `idx` or `id`].
    #[serde(default)]
    pub idx: Option<String>,
    /// Id of the question; its examples are scored together.
    #[serde(default)]
    pub question: Option<String>,
    /// Id of the answer.
    #[serde(default)]
    pub answer: Option<String>,
}
