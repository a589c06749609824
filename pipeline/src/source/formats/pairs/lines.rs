//! Two files per split, `train.source` and `train.target`, with one text per line.

use glm_text::pair::Template;
use glm_text::standard::standardise;

use super::blanks;
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
    /// Texts with `[MASK]` in place of blanks, and the texts of the blanks, separated by `|`.
    Extraction,
}

impl Corpus {
    /// Returns the pair of two lines; `target` is `None` if there is no file of targets.
    ///
    /// # Errors
    /// A description of the fault.
    pub fn pair(self, source: &str, target: Option<&str>) -> Result<RawPair, String> {
        let clean = |text: &str, side| match self {
            Self::Lines | Self::Extraction => text.trim().to_owned(),
            Self::CnnDm => clean::cnn_dm(text, side),
            Self::CnnDmOriginal => standardise(text.trim()),
            Self::Gigaword => clean::gigaword(text),
        };
        let (source, target) = (clean(source, Side::Source), target.map(|target| clean(target, Side::Target)));
        let target = match (self, target) {
            (Self::Extraction, Some(target)) => Some(blanks::of_lines(&source, &target)?),
            (_, target) => target,
        };
        let (template, references) = match self {
            Self::Extraction => (Template::Blanks, References::Texts(target.iter().cloned().collect())),
            Self::Lines => (Template::Continuation, References::Texts(target.iter().cloned().collect())),
            _ => (Template::Summary, References::DecodedTarget),
        };
        Ok(RawPair { id: None, template, source, prompt: String::new(), target, references, windows: Windows::One })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blank_has_a_part_of_the_target() {
        let pair = |source, target| Corpus::Extraction.pair(source, target);
        let found = pair(" The [MASK] of [MASK]. ", Some("island | Skerra|unused")).expect("two blanks");
        assert_eq!((found.source.as_str(), found.target.as_deref()), ("The [MASK] of [MASK].", Some("island|Skerra")));
        assert_eq!((found.template, found.references), (Template::Blanks, References::Texts(vec!["island|Skerra".to_owned()])));
        assert_eq!(pair("a [MASK]", None).expect("no target").target, None);
        let error = pair("[MASK] [MASK]", Some("a")).expect_err("one part");
        assert_eq!(error, "the number of [MASK] in the source is 2, that of its targets 1");
        assert!(pair("a", Some("b")).expect_err("no blank").contains("write [MASK]"));
    }
}
