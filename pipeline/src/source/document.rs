//! Documents.

/// Document of a text corpus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Id in the raw data, if it has one.
    pub id: Option<String>,
    /// Name of the corpus; empty if unknown.
    pub source: String,
    /// Context that is never predicted.
    pub prompt: Option<String>,
    /// Text; not blank.
    pub text: String,
}
