//! Two files per split, `train.source` and `train.target`, with one text per line.

use glm_text::pair::Template;
use glm_text::standard::standardise;

use super::clean::{self, Side};
use crate::source::pair::{RawPair, References, Windows};

/// Corpus whose pairs are lines of two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corpus {
    /// Any texts, which are not changed.
    Lines,
    /// CNN/DailyMail as tokenized for the published recipe.
    CnnDm,
    /// CNN/DailyMail in plain text.
    CnnDmOriginal,
    /// Gigaword.
    Gigaword,
}

impl Corpus {
    /// Returns the pair of two lines; `target` is `None` if there is no file of targets.
    pub fn pair(self, source: &str, target: Option<&str>) -> RawPair {
        let clean = |text: &str, side| match self {
            Self::Lines => text.trim().to_owned(),
            Self::CnnDm => clean::cnn_dm(text, side),
            Self::CnnDmOriginal => standardise(text.trim()),
            Self::Gigaword => clean::gigaword(text),
        };
        let (source, target) = (clean(source, Side::Source), target.map(|target| clean(target, Side::Target)));
        let (template, references) = match self {
            Self::Lines => (Template::Continuation, References::Texts(target.iter().cloned().collect())),
            _ => (Template::Summary, References::DecodedTarget),
        };
        RawPair { id: None, template, source, prompt: String::new(), target, references, windows: Windows::One }
    }
}
