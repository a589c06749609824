//! Pairs of a source and a target.

use glm_text::pair::Template;

/// Texts of a pair with its layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawPair {
    /// Id in the raw data, if it has one.
    pub id: Option<String>,
    /// Layout of the context.
    pub template: Template,
    /// Source.
    pub source: String,
    /// Question or answer that is part of the context; empty if the template has none.
    pub prompt: String,
    /// Target; `None` if it is unknown.
    pub target: Option<String>,
    /// Texts that predictions are compared with.
    pub references: References,
    /// True if a question is asked of overlapping windows of the source.
    pub windows: Windows,
}

/// Texts that predictions are compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum References {
    /// These texts.
    Texts(Vec<String>),
    /// The target as the tokenizer decodes it, like a prediction: lower case, with spaces around punctuation.
    DecodedTarget,
}

/// Windows of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// The source is one; if it is too long, it is cut.
    One,
    /// Overlapping windows; those without the answer have the target `N/A`.
    All,
    /// Overlapping windows; in the training split, those without the answer are left out.
    Answered,
}
