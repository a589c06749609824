//! Encoding of a pair as model input.
//!
//! For a pair with fixed tokens `A` before and `B` after its source `s`, one of which holds the blank, and a target `t`:
//!
//! ```text
//! context = [CLS] A s' B            s' = the part of s for which there is room
//! piece   = <sop> t'                predicts  t' <eop>,  cut to the maximum target length
//! ```
//!
//! The published code pads the context to the maximum source length with tokens that everything sees, and takes the first `[MASK]`
//! of the context as the blank, even one that is written in the source; [`PairLayout::Published`] reproduces both.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::vocab::{SpecialIds, TokenId};

/// Part of a source that is kept if it is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Its start.
    Start,
    /// Its end.
    End,
    /// The part around its focus, or its start if it has none.
    Around,
}

impl Keep {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Start, Self::End, Self::Around];

    /// Name in the column `keep`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
            Self::Around => "around",
        }
    }

    /// Value with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|keep| keep.name() == name)
    }
}

/// Tokens of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Tokens before the source, without `[CLS]`.
    pub prefix: &'a [TokenId],
    /// The source, not truncated.
    pub source: &'a [TokenId],
    /// Tokens after the source.
    pub suffix: &'a [TokenId],
    /// Part of the source that is kept if it is too long.
    pub keep: Keep,
    /// Index in `source` of the token around which it is kept, for [`Keep::Around`].
    pub focus: Option<usize>,
    /// The target, without end of piece; empty if it is unknown.
    pub target: &'a [TokenId],
}

impl Pair<'_> {
    /// Number of context tokens besides the source.
    fn fixed(&self) -> usize {
        1 + self.prefix.len() + self.suffix.len()
    }

    /// Number of context tokens without truncation.
    pub fn context_tokens(&self) -> usize {
        self.fixed() + self.source.len()
    }
}

/// Layout of contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PairLayout {
    /// No padding; the blank is the mask token of the prefix or suffix.
    #[default]
    Compact,
    /// As published: padded to the maximum source length with tokens that are seen; the blank is the first mask token.
    Published,
}

/// Error of encoding a pair.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PairError {
    /// The tokens besides the source are too many.
    #[error("{fixed} tokens besides the source do not fit a source length of {max_source}; at least {fixed} are needed")]
    DoesNotFit {
        /// Number of tokens besides the source.
        fixed: usize,
        /// Maximum source length.
        max_source: usize,
    },
    /// Neither prefix nor suffix holds a mask token.
    #[error("neither `prefix_ids` nor `suffix_ids` holds the mask token {mask}")]
    NoBlank {
        /// The mask token.
        mask: TokenId,
    },
}

/// Parts of a pair that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairSize {
    /// Number of context tokens.
    pub context: usize,
    /// Number of predicted tokens, end of piece included; it is also the number of piece tokens, start of piece included.
    pub targets: usize,
    /// Number of tokens of the source that are cut.
    pub cut_source: usize,
    /// True if the target is cut; it then has no end of piece.
    pub is_target_cut: bool,
}

/// Model input for a pair, without padding behind it. All lists have one entry per position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairInput {
    /// Number of context tokens; the piece starts at this position.
    pub sep: usize,
    /// Token ids of context and piece.
    pub ids: Vec<TokenId>,
    /// Position ids: in the context the index of the token, in the piece the index of the blank.
    pub position: Vec<i32>,
    /// Block position ids: 0 in the context, 1, 2, … in the piece.
    pub block_position: Vec<i32>,
    /// Token to be predicted at each position of the piece.
    pub targets: Vec<TokenId>,
}

/// Encoder for one vocabulary and one pair of maximum lengths.
#[derive(Debug, Clone, Copy)]
pub struct PairEncoder {
    special: SpecialIds,
    /// Token of the blank in the data, and the one that the model gets in its place.
    mask: TokenId,
    max_source: usize,
    max_target: usize,
    layout: PairLayout,
}

impl PairEncoder {
    /// Creates an encoder of contexts of at most `max_source` tokens and targets of at most `max_target`, end of piece included.
    pub fn new(special: SpecialIds, max_source: usize, max_target: usize, layout: PairLayout) -> Self {
        Self { special, mask: special.mask, max_source, max_target, layout }
    }

    /// Writes `mask` in place of the blank's `[MASK]`, for models that have several mask tokens.
    #[must_use]
    pub fn with_mask(self, mask: TokenId) -> Self {
        Self { mask, ..self }
    }

    /// Maximum number of predicted tokens, end of piece included.
    pub fn max_target(&self) -> usize {
        self.max_target
    }

    /// Range of the source that is kept.
    ///
    /// # Errors
    /// [`PairError::DoesNotFit`] if the other tokens alone are too many.
    pub fn kept_source(&self, pair: &Pair<'_>) -> Result<Range<usize>, PairError> {
        let (fixed, length) = (pair.fixed(), pair.source.len());
        let max_source = self.max_source;
        let room = max_source.checked_sub(fixed).ok_or(PairError::DoesNotFit { fixed, max_source })?;
        if length <= room {
            return Ok(0..length);
        }
        Ok(match (pair.keep, pair.focus) {
            (Keep::End, _) => length - room..length,
            (Keep::Around, Some(focus)) => {
                let start = focus.saturating_sub(room / 2).min(length);
                start..(start + room).min(length)
            }
            (Keep::Start | Keep::Around, _) => 0..room,
        })
    }

    /// Measures the input of a pair.
    ///
    /// # Errors
    /// [`PairError::DoesNotFit`] if the tokens besides the source are too many.
    pub fn size(&self, pair: &Pair<'_>) -> Result<PairSize, PairError> {
        let kept = self.kept_source(pair)?;
        let context = match self.layout {
            PairLayout::Compact => pair.fixed() + kept.len(),
            PairLayout::Published => self.max_source,
        };
        let targets = pair.target.len() + 1;
        Ok(PairSize {
            context,
            targets: targets.min(self.max_target),
            cut_source: pair.source.len() - kept.len(),
            is_target_cut: targets > self.max_target,
        })
    }

    /// Appends the context to `ids` and returns the index of its blank within the context.
    ///
    /// # Errors
    /// [`PairError`] if the tokens besides the source are too many, or none of them is the mask token.
    pub fn push_context(&self, pair: &Pair<'_>, ids: &mut Vec<TokenId>) -> Result<usize, PairError> {
        let kept = self.kept_source(pair)?;
        let start = ids.len();
        ids.push(self.special.cls);
        ids.extend_from_slice(pair.prefix);
        ids.extend_from_slice(&pair.source[kept]);
        let suffix = ids.len() - start;
        ids.extend_from_slice(pair.suffix);
        // A question before the source may hold mask tokens of its own, the layout's own one follows it; in a suffix it comes first.
        let is_mask = |id: &TokenId| *id == self.special.mask;
        let in_prefix = pair.prefix.iter().rposition(is_mask).map(|at| at + 1);
        let own = in_prefix.or_else(|| pair.suffix.iter().position(is_mask).map(|at| at + suffix));
        let own = own.ok_or(PairError::NoBlank { mask: self.special.mask })?;
        ids[start + own] = self.mask;
        match self.layout {
            PairLayout::Compact => Ok(own),
            PairLayout::Published => {
                let first = ids[start..].iter().position(|&id| id == self.mask);
                ids.resize(start + self.max_source, self.special.pad);
                Ok(first.unwrap_or(own))
            }
        }
    }

    /// Iterates over the predicted tokens: the target and the end of piece, cut to the maximum length.
    pub fn targets<'a>(&self, pair: &Pair<'a>) -> impl Iterator<Item = TokenId> + use<'a> {
        pair.target.iter().copied().chain([self.special.eop]).take(self.max_target)
    }

    /// Returns the complete input of a pair.
    ///
    /// # Errors
    /// [`PairError`] if the tokens besides the source are too many, or none of them is the mask token.
    pub fn encode(&self, pair: &Pair<'_>) -> Result<PairInput, PairError> {
        let mut ids = Vec::new();
        let blank = self.push_context(pair, &mut ids)?;
        let (sep, targets) = (ids.len(), self.targets(pair).collect::<Vec<_>>());
        let length = targets.len();
        ids.push(self.special.sop);
        ids.extend_from_slice(&targets[..length.saturating_sub(1)]);
        let position = (0..sep as i32).chain(std::iter::repeat_n(blank as i32, length)).collect();
        let block_position = std::iter::repeat_n(0, sep).chain(1..=length as i32).collect();
        Ok(PairInput { sep, ids, position, block_position, targets })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPECIAL: SpecialIds = SpecialIds::BERT_UNCASED;

    fn pair(keep: Keep, focus: Option<usize>) -> Pair<'static> {
        const SOURCE: [TokenId; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
        Pair { prefix: &[], source: &SOURCE, suffix: &[103, 50], keep, focus, target: &[60, 61] }
    }

    fn context(encoder: &PairEncoder, pair: &Pair<'_>) -> (Vec<TokenId>, usize) {
        let mut ids = Vec::new();
        let blank = encoder.push_context(pair, &mut ids).expect("fits");
        (ids, blank)
    }

    #[test]
    fn the_kept_part_of_a_long_source_depends_on_the_pair() {
        let encoder = PairEncoder::new(SPECIAL, 7, 3, PairLayout::Compact);
        for (keep, focus, expected) in [
            (Keep::Start, None, [1, 2, 3, 4]),
            (Keep::End, None, [5, 6, 7, 8]),
            (Keep::Around, Some(4), [3, 4, 5, 6]),
            (Keep::Around, Some(1), [1, 2, 3, 4]),
            (Keep::Around, None, [1, 2, 3, 4]),
        ] {
            let (ids, blank) = context(&encoder, &pair(keep, focus));
            assert_eq!((&ids[1..5], &ids[5..], blank), (&expected[..], &[103, 50][..], 5));
        }
        // Near the end, the published window is shorter.
        assert_eq!(encoder.kept_source(&pair(Keep::Around, Some(7))), Ok(5..8));
    }

    #[test]
    fn a_cut_target_has_no_end_of_piece() {
        let pair = pair(Keep::Start, None);
        for (max_target, expected, is_cut) in [(3, &[60, 61, SPECIAL.eop][..], false), (2, &[60, 61], true), (1, &[60], true)] {
            let encoder = PairEncoder::new(SPECIAL, 20, max_target, PairLayout::Compact);
            assert_eq!(encoder.targets(&pair).collect::<Vec<_>>(), expected);
            let size = encoder.size(&pair).expect("fits");
            assert_eq!((size.context, size.targets, size.is_target_cut), (11, expected.len(), is_cut));
        }
    }

    #[test]
    fn masks_of_the_source_are_the_blank_only_as_published() {
        let pair = Pair { source: &[9, 103], ..pair(Keep::End, None) };
        let compact = PairEncoder::new(SPECIAL, 8, 3, PairLayout::Compact);
        assert_eq!(context(&compact, &pair), (vec![101, 9, 103, 103, 50], 3));
        let published = PairEncoder::new(SPECIAL, 8, 3, PairLayout::Published);
        assert_eq!(context(&published, &pair), (vec![101, 9, 103, 103, 50, 0, 0, 0], 2));
        // A question before the source comes before the blank.
        let asked = Pair { prefix: &[103, 7, 103, 8], suffix: &[], ..pair };
        assert_eq!(context(&compact, &asked).1, 3);
        assert_eq!(context(&compact.with_mask(30525), &asked).0, [101, 103, 7, 30525, 8, 9, 103]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let encoder = PairEncoder::new(SPECIAL, 2, 3, PairLayout::Compact);
        assert_eq!(encoder.size(&pair(Keep::Start, None)), Err(PairError::DoesNotFit { fixed: 3, max_source: 2 }));
        let encoder = PairEncoder::new(SPECIAL, 20, 3, PairLayout::Compact);
        let error = encoder.push_context(&Pair { suffix: &[1], ..pair(Keep::Start, None) }, &mut Vec::new());
        assert_eq!(error, Err(PairError::NoBlank { mask: 103 }));
    }

    proptest! {
        #[test]
        fn contexts_have_the_measured_size_and_never_exceed_the_maximum(
            source in prop::collection::vec(1000..2000_i32, 0..40), prefix in 0..5_usize, max_source in 8..30_usize,
            keep in prop::sample::select(Keep::ALL.to_vec()), focus in prop::option::of(0..50_usize), published: bool,
        ) {
            let fixed = vec![7; prefix];
            let pair = Pair { prefix: &fixed, source: &source, suffix: &[103, 0], keep, focus, target: &[] };
            let layout = if published { PairLayout::Published } else { PairLayout::Compact };
            let encoder = PairEncoder::new(SPECIAL, max_source, 4, layout);
            let mut ids = vec![5, 5];
            let blank = encoder.push_context(&pair, &mut ids).expect("fits");
            let size = encoder.size(&pair).expect("fits");
            prop_assert_eq!(ids.len() - 2, size.context);
            prop_assert!(size.context <= max_source);
            prop_assert_eq!(ids[2 + blank], 103);
            prop_assert_eq!(size.targets, 1);
        }
    }
}
