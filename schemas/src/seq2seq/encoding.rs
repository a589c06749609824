//! Encoding of a pair as model input.
//!
//! For a pair with fixed tokens `A` before and `B` after its source `s`, one of which holds the blank, and a target `t`:
//!
//! ```text
//! context = [CLS] A s' B            s' = the part of s for which there is room
//! piece   = <sop> t'                predicts  t' <eop>,  cut to the maximum target length
//! ```
//!
//! If neither `A` nor `B` holds a blank, the mask tokens of the source are the blanks, and the target has a part for each, with an end of
//! piece between two parts. Each part is a piece of its own, and sees the pieces before it:
//!
//! ```text
//! context = [CLS] s'
//! pieces  = <sop> t1 <sop> t2 …      predict  t1 <eop> t2 <eop> …,  cut to the maximum target length
//! ```
//!
//! The published code pads the context to the maximum source length with tokens that everything sees, and takes the first `[MASK]`
//! of the context as the blank, even one that is written in the source; a context whose blanks are those of its source has no `[CLS]`.
//! [`PairLayout::Published`] reproduces all three.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::vocab::{SpecialIds, TokenId};

/// Part of a source that is kept if it is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The start.
    Start,
    /// The end.
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
    /// The target, without end of piece at its end; empty if it is unknown.
    pub target: &'a [TokenId],
}

impl Pair<'_> {
    /// Returns true if the blanks are mask tokens of the source, because there are none before and after it.
    pub fn has_blanks_in_source(&self, mask: TokenId) -> bool {
        !self.prefix.contains(&mask) && !self.suffix.contains(&mask)
    }

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
    /// There is no mask token.
    #[error(
        "neither `prefix_ids` nor `suffix_ids` holds the mask token {mask}, nor does the part of `source_ids` that is kept"
    )]
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
    /// Number of predicted tokens, ends of pieces included; it is also the number of piece tokens, starts of pieces included.
    pub targets: usize,
    /// Number of tokens of the source that are cut.
    pub cut_source: usize,
    /// True if the target is cut; it then has no end of piece.
    pub is_target_cut: bool,
}

/// Token of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceToken {
    /// Token id of the input: the start of piece, or the token that was predicted before.
    pub input: TokenId,
    /// Index of the blank in the context.
    pub blank: usize,
    /// Number of the token in its piece, from 1.
    pub block_position: usize,
    /// Token to be predicted.
    pub target: TokenId,
}

/// Model input for a pair, without padding after it. All lists have one entry per position.
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

    /// Returns true if the blanks of a pair are in its source.
    fn is_cloze(&self, pair: &Pair<'_>) -> bool {
        pair.has_blanks_in_source(self.special.mask)
    }

    /// True if the context starts with `[CLS]`.
    fn has_cls(&self, pair: &Pair<'_>) -> bool {
        self.layout == PairLayout::Compact || !self.is_cloze(pair)
    }

    /// Number of context tokens besides the source.
    fn fixed(&self, pair: &Pair<'_>) -> usize {
        pair.fixed() - usize::from(!self.has_cls(pair))
    }

    /// Range of the source that is kept.
    ///
    /// # Errors
    /// [`PairError::DoesNotFit`] if the other tokens alone are too many.
    pub fn kept_source(&self, pair: &Pair<'_>) -> Result<Range<usize>, PairError> {
        let (fixed, length) = (self.fixed(pair), pair.source.len());
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
        let targets = self.whole_targets(pair).count();
        Ok(PairSize {
            context,
            targets: targets.min(self.max_target),
            cut_source: pair.source.len() - kept.len(),
            is_target_cut: targets > self.max_target,
        })
    }

    /// Appends the context to `ids` and returns the indices of its blanks within the context.
    ///
    /// # Errors
    /// [`PairError`] if the tokens besides the source are too many, or there is no mask token.
    pub fn push_context(&self, pair: &Pair<'_>, ids: &mut Vec<TokenId>) -> Result<Vec<usize>, PairError> {
        let kept = self.kept_source(pair)?;
        let start = ids.len();
        if self.has_cls(pair) {
            ids.push(self.special.cls);
        }
        ids.extend_from_slice(pair.prefix);
        let source = ids.len() - start;
        ids.extend_from_slice(&pair.source[kept]);
        let suffix = ids.len() - start;
        ids.extend_from_slice(pair.suffix);
        let is_mask = |id: &TokenId| *id == self.special.mask;
        let mut blanks = match self.is_cloze(pair) {
            true => (source..suffix).filter(|at| is_mask(&ids[start + at])).collect(),
            false => {
                // A question before the source may hold mask tokens of its own, the layout's own one follows it; in a suffix it comes first.
                let in_prefix = pair.prefix.iter().rposition(is_mask).map(|at| at + 1);
                let own = in_prefix.or_else(|| pair.suffix.iter().position(is_mask).map(|at| at + suffix));
                own.inspect(|own| ids[start + own] = self.mask).into_iter().collect::<Vec<_>>()
            }
        };
        if blanks.is_empty() {
            return Err(PairError::NoBlank { mask: self.special.mask });
        }
        if self.layout == PairLayout::Published {
            let first = ids[start..].iter().position(|&id| id == self.mask);
            ids.resize(start + self.max_source, self.special.pad);
            if let (Some(first), false) = (first, self.is_cloze(pair)) {
                blanks = vec![first];
            }
        }
        Ok(blanks)
    }

    /// Iterates over the predicted tokens: the target and the end of piece, cut to the maximum length. Parts of the target whose blanks
    /// are cut are left out.
    pub fn targets<'a>(&self, pair: &Pair<'a>) -> impl Iterator<Item = TokenId> + use<'a> {
        self.whole_targets(pair).take(self.max_target)
    }

    fn whole_targets<'a>(&self, pair: &Pair<'a>) -> impl Iterator<Item = TokenId> + use<'a> {
        let eop = self.special.eop;
        let mut pieces = match self.is_cloze(pair) {
            true => {
                let kept = self.kept_source(pair).unwrap_or_default();
                pair.source[kept].iter().filter(|id| **id == self.special.mask).count()
            }
            // All of the target is one piece.
            false => usize::MAX,
        };
        pair.target.iter().copied().chain([eop]).take_while(move |&id| {
            let is_wanted = pieces > 0;
            pieces -= usize::from(is_wanted && id == eop && pieces < usize::MAX);
            is_wanted
        })
    }

    /// Iterates over the tokens of the pieces for `blanks`, which [`Self::push_context`] returned.
    pub fn pieces<'a>(&self, pair: &Pair<'a>, blanks: &'a [usize]) -> impl Iterator<Item = PieceToken> + use<'a> {
        let (SpecialIds { sop, eop, .. }, is_cloze) = (self.special, self.is_cloze(pair));
        let (mut input, mut block_position, mut number) = (sop, 1, 0);
        self.targets(pair).map(move |target| {
            let blank = blanks.get(number).or(blanks.last()).copied().unwrap_or(0);
            let token = PieceToken { input, blank, block_position, target };
            if is_cloze && target == eop {
                (input, block_position, number) = (sop, 1, number + 1);
            } else {
                (input, block_position) = (target, block_position + 1);
            }
            token
        })
    }

    /// Returns the complete input of a pair.
    ///
    /// # Errors
    /// [`PairError`] if the tokens besides the source are too many, or there is no mask token.
    pub fn encode(&self, pair: &Pair<'_>) -> Result<PairInput, PairError> {
        let mut ids = Vec::new();
        let blanks = self.push_context(pair, &mut ids)?;
        let sep = ids.len();
        let mut input =
            PairInput { sep, ids, position: (0..sep as i32).collect(), block_position: vec![0; sep], targets: Vec::new() };
        for token in self.pieces(pair, &blanks) {
            input.ids.push(token.input);
            input.position.push(token.blank as i32);
            input.block_position.push(token.block_position as i32);
            input.targets.push(token.target);
        }
        Ok(input)
    }
}
