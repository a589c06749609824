//! Content of a pattern file.

use std::collections::BTreeMap;

use glm_schemas::manifest::{ClozeLoss, Split};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

pub use super::text::Edit;
pub use crate::source::table::RecordForm;

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
    /// The raw files.
    #[serde(default)]
    pub files: Files,
    /// Metrics; the first one chooses the best checkpoint.
    #[serde(default = "accuracy")]
    pub metrics: Vec<String>,
    /// True if choices have any number of tokens.
    #[serde(default)]
    pub multi_token: bool,
    /// True if the end of piece is predicted after the tokens of a choice [default: as `multi_token`].
    #[serde(default)]
    pub end_of_piece: Option<bool>,
    /// Part of a context that is too long which is kept.
    #[serde(default)]
    pub keep: ContextPart,
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
    pub each: Vec<Lists>,
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

/// Part of a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextPart {
    /// Its beginning.
    #[default]
    Start,
    /// Its end.
    End,
}

/// Raw files of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// File of the training split. If no split has one, files are found by the names of splits.
    #[serde(default)]
    pub train: Option<RawFile>,
    /// File of the validation split.
    #[serde(default)]
    pub val: Option<RawFile>,
    /// File of the test split.
    #[serde(default)]
    pub test: Option<RawFile>,
    /// Form of the records [default: by the extension of each file].
    #[serde(default)]
    pub format: Option<RecordForm>,
    /// Names of the columns of tables whose first line does not have them.
    #[serde(default)]
    pub columns: Vec<String>,
}

/// Raw file of a split.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum RawFile {
    /// Its name.
    Name(String),
    /// A file in another form than those of the other splits.
    Form {
        /// Its name.
        name: String,
        /// True if the first line names the columns.
        header: bool,
    },
}

impl Files {
    /// The files by split.
    pub fn named(&self) -> impl Iterator<Item = (Split, &RawFile)> {
        let files = [(Split::Train, &self.train), (Split::Val, &self.val), (Split::Test, &self.test)];
        files.into_iter().filter_map(|(split, file)| Some((split, file.as_ref()?)))
    }

    /// Columns of the tables of a split; `None` if their first line names them.
    pub fn columns(&self, split: Split) -> Option<&[String]> {
        let has_header = self.named().any(|(of, file)| of == split && matches!(file, RawFile::Form { header: true, .. }));
        (!self.columns.is_empty() && !has_header).then_some(self.columns.as_slice())
    }
}

impl RawFile {
    /// Its name, relative to the folder of the task.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Form { name, .. } => name,
        }
    }
}

/// One of the patterns of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Context with one blank, as a template; of several, the first one whose texts the record has.
    #[serde(deserialize_with = "one_or_several")]
    pub context: Vec<String>,
    /// Templates that fill the blank, one for each label in the order of the labels.
    #[serde(default)]
    pub words: Vec<String>,
}

/// Field with a list, or fields with lists whose items belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists(pub Vec<String>);

impl<'de> Deserialize<'de> for Lists {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_several(deserializer).map(Self)
    }
}

/// A text, or a list of at least one.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(one) => Ok(vec![one]),
        other => match Vec::deserialize(other).map_err(D::Error::custom)? {
            several if several.is_empty() => Err(D::Error::custom("expected a text, or a list of at least one")),
            several => Ok(several),
        },
    }
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
    /// Takes what is in front of the first such mark; without it, the text is missing.
    #[serde(default)]
    pub before: Option<String>,
    /// Takes what is after the first such mark; without it, the text is missing.
    #[serde(default)]
    pub after: Option<String>,
    /// Changes, in order.
    #[serde(default = "standard")]
    pub edits: Vec<Edit>,
    /// Texts for the values of the field; other values are errors.
    #[serde(default)]
    pub map: BTreeMap<String, String>,
    /// Word that gets asterisks.
    #[serde(default)]
    pub mark: Option<MarkedWord>,
    /// Phrases that get a sign before and after them.
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

/// Phrase that gets a sign before and after it.
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
        /// Changes of each choice, in order.
        #[serde(default = "standard")]
        edits: Vec<Edit>,
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
