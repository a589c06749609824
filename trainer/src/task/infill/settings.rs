//! Settings of blank infilling.

use serde::{Deserialize, Serialize};

/// `[infill]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "reference.toml documents every key")]
pub struct InfillSettings {
    pub token: f64,
    pub sentence: f64,
    pub document: f64,
    pub single_span: f64,
    pub short_pieces: f64,
    pub mask_ratio: f64,
    pub mean_span: f64,
    pub min_ratio: f64,
    pub input_masking: f64,
    pub task_mask: bool,
}

impl Default for InfillSettings {
    fn default() -> Self {
        Self {
            token: 1.0,
            sentence: 0.0,
            document: 0.0,
            single_span: 0.0,
            short_pieces: 0.0,
            mask_ratio: 0.15,
            mean_span: 3.0,
            min_ratio: 0.25,
            input_masking: 0.0,
            task_mask: false,
        }
    }
}

impl InfillSettings {
    /// Returns the first setting that is out of range: its key, its value, and the rule.
    pub fn out_of_range(&self) -> Option<(&'static str, f64, &'static str)> {
        let shares = [
            ("infill.token", self.token),
            ("infill.sentence", self.sentence),
            ("infill.document", self.document),
            ("infill.single_span", self.single_span),
            ("infill.short_pieces", self.short_pieces),
            ("infill.input_masking", self.input_masking),
        ];
        let share = |share: f64| (0.0..=1.0).contains(&share);
        if let Some((key, value)) = shares.into_iter().find(|(_, value)| !share(*value)) {
            return Some((key, value, "between 0 and 1"));
        }
        let total = self.token + self.sentence + self.document;
        if (total - 1.0).abs() > 1e-6 {
            return Some(("infill.token + infill.sentence + infill.document", total, "the three shares must add up to 1"));
        }
        if !(self.mask_ratio > 0.0 && self.mask_ratio < 1.0) {
            return Some(("infill.mask_ratio", self.mask_ratio, "greater than 0 and below 1"));
        }
        if !(self.mean_span > 0.0 && self.mean_span <= 1000.0) {
            return Some(("infill.mean_span", self.mean_span, "greater than 0, and at most 1000"));
        }
        (!(0.0..1.0).contains(&self.min_ratio)).then_some(("infill.min_ratio", self.min_ratio, "at least 0 and below 1"))
    }
}
