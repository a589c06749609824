//! Encoding of one choice of a question as model input, as in the published recipes.
//!
//! A question is a context of segments with one blank, and choices. For segments `S`, of which the blank stands before number `b`,
//! and a choice with tokens `c`:
//!
//! ```text
//! context = [CLS] S[..b] [MASK] S[b..] [PAD]          sep = its length
//! piece   = <sop> c                                    predicts  c <eop>
//! ```
//!
//! In tasks whose choices are single tokens, no end of piece is predicted: `c` has one token, and the piece is `<sop>` alone. Choices of
//! several tokens can be scored without an end of piece as well: the piece is then `<sop>` and all tokens of `c` but the last.
//!
//! Only truncatable segments are cut, by as much as the length of the choice requires. The contexts of two choices of a long question
//! can therefore differ by a few tokens; see [`ChoiceEncoder::excess`]. The published code removes one token after the other: of the
//! groups A and B, the one with more truncatable tokens loses the next, B if they have equally many; inside a group, the last token of
//! the last segment that has one left. [`Question::kept`] computes the result from the lengths. A data set can keep the end of its contexts
//! instead: groups then lose the first token of the first segment that has one left.

use thiserror::Error;

use crate::vocab::{SpecialIds, TokenId};

/// Number of tokens of a context besides its segments: `[CLS]`, `[MASK]` and the end of the context.
pub const CONTEXT_OVERHEAD: usize = 3;

/// Sequence length of the published recipe.
pub const PUBLISHED_SEQUENCE_LENGTH: usize = 512;

/// Part of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Tokens.
    pub ids: &'a [TokenId],
    /// True if tokens at its end may be left out to fit the sequence length.
    pub truncatable: bool,
}

impl<'a> Segment<'a> {
    /// A segment that is never cut.
    pub fn fixed(ids: &'a [TokenId]) -> Self {
        Self { ids, truncatable: false }
    }

    /// A segment that may be cut.
    pub fn truncatable(ids: &'a [TokenId]) -> Self {
        Self { ids, truncatable: true }
    }
}

/// Tokens of a question that all its choices share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question<'a> {
    /// The context in order, without the blank.
    pub segments: Vec<Segment<'a>>,
    /// The blank stands before the segment with this number; at the end if it is the number of segments.
    pub blank: usize,
    /// First segment of group B; the number of segments if there is one group.
    pub group_b: usize,
}

impl<'a> Question<'a> {
    /// A passage that may be truncated, and a query with a blank: the form of ReCoRD.
    pub fn about(passage: &'a [TokenId], query_left: &'a [TokenId], query_right: &'a [TokenId]) -> Self {
        let segments = vec![Segment::truncatable(passage), Segment::fixed(query_left), Segment::fixed(query_right)];
        Self { segments, blank: 2, group_b: 3 }
    }

    /// Number of context tokens without truncation.
    pub fn context_tokens(&self) -> usize {
        self.segments.iter().map(|segment| segment.ids.len()).sum::<usize>() + CONTEXT_OVERHEAD
    }

    /// Number of truncatable tokens in the groups A and B.
    pub fn truncatable_tokens(&self) -> [usize; 2] {
        let (a, b) = self.segments.split_at(self.group_b.min(self.segments.len()));
        [a, b].map(|group| group.iter().filter(|segment| segment.truncatable).map(|segment| segment.ids.len()).sum())
    }

    /// Number of tokens of the segments that are never cut, excluding the blank.
    pub fn fixed_tokens(&self) -> usize {
        self.segments.iter().filter(|segment| !segment.truncatable).map(|segment| segment.ids.len()).sum()
    }

    /// Returns what every segment keeps if `excess` tokens are removed in all, at most as many as can be: from the ends of the groups, or with
    /// `keep_end` from their beginnings.
    pub fn kept(&self, excess: usize, keep_end: bool) -> impl Iterator<Item = &'a [TokenId]> + '_ {
        let [a, b] = self.truncatable_tokens();
        // What the longer group has more comes off it alone; the rest alternates between both, starting with B.
        let longer = excess.min(a.abs_diff(b));
        let rest = excess - longer;
        let (from_a, from_b) =
            if a > b { (longer + rest / 2, rest.div_ceil(2)) } else { (rest / 2, longer + rest.div_ceil(2)) };
        // Tokens of each group up to the cut.
        let mut until = if keep_end { [from_a, from_b] } else { [a.saturating_sub(from_a), b.saturating_sub(from_b)] };
        self.segments.iter().enumerate().map(move |(number, segment)| {
            if !segment.truncatable {
                return segment.ids;
            }
            let until = &mut until[usize::from(number >= self.group_b)];
            let cut = segment.ids.len().min(*until);
            *until -= cut;
            let (before, after) = segment.ids.split_at(cut);
            if keep_end { after } else { before }
        })
    }
}

/// Model input for one choice, without padding. All lists have one entry per position; the published code pads each with zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceInput {
    /// Number of context tokens; the piece starts at this position.
    pub sep: usize,
    /// Token ids of context and piece.
    pub ids: Vec<TokenId>,
    /// Position ids: in the context the index of the token, in the piece the index of the first `[MASK]`.
    pub position: Vec<i32>,
    /// Block position ids: 0 in the context, 1, 2, … in the piece.
    pub block_position: Vec<i32>,
    /// Token to be predicted at each position; 0 in the context.
    pub target: Vec<TokenId>,
    /// 1 at positions whose target counts, otherwise 0.
    pub loss_mask: Vec<i32>,
}

/// Error of encoding a question.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EncodingError {
    /// Query and choice are too long even if everything is cut that may be.
    #[error(
        "the query ({query} tokens) and a choice ({choice} tokens) do not fit a sequence length of {max_seq_len}; at least {needed} are needed"
    )]
    DoesNotFit {
        /// Number of tokens of the segments that are never cut.
        query: usize,
        /// Number of choice tokens.
        choice: usize,
        /// Maximum sequence length.
        max_seq_len: usize,
        /// Sequence length that would suffice.
        needed: usize,
    },
}

/// Position that the tokens of a piece get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BlankPosition {
    /// That of the first `[MASK]` of the context, even if it is part of a text; as published for ReCoRD.
    #[default]
    FirstMask,
    /// That of the blank.
    Blank,
}

/// Encoder for one vocabulary and sequence length.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceEncoder {
    special: SpecialIds,
    max_seq_len: usize,
    end_of_piece: bool,
    position: BlankPosition,
    keep_end: bool,
}

impl ChoiceEncoder {
    /// Creates an encoder for sequences of at most `max_seq_len` tokens, context and piece together, in the form of ReCoRD: an end of
    /// piece is predicted, and the piece has the position of the first `[MASK]`.
    pub fn new(special: SpecialIds, max_seq_len: usize) -> Self {
        Self { special, max_seq_len, end_of_piece: true, position: BlankPosition::FirstMask, keep_end: false }
    }

    /// Returns the same encoder in another form: whether an end of piece is predicted, and the position of the piece.
    #[must_use]
    pub fn with_form(self, end_of_piece: bool, position: BlankPosition) -> Self {
        Self { end_of_piece, position, ..self }
    }

    /// Returns the same encoder for contexts of which the end is kept, or not.
    #[must_use]
    pub fn with_kept_end(self, keep_end: bool) -> Self {
        Self { keep_end, ..self }
    }

    /// Returns true if an end of piece is predicted after the tokens of a choice.
    pub fn end_of_piece(&self) -> bool {
        self.end_of_piece
    }

    /// Number of tokens that a choice of `choice_len` tokens predicts.
    pub fn targets(&self, choice_len: usize) -> usize {
        choice_len + usize::from(self.end_of_piece)
    }

    /// Returns the number of context tokens that have to be removed to fit a choice of `choice_len` tokens. Choices of a question with
    /// the same number have the same context.
    ///
    /// # Errors
    /// [`EncodingError::DoesNotFit`] if more have to be removed than may be.
    pub fn excess(&self, question: &Question<'_>, choice_len: usize) -> Result<usize, EncodingError> {
        // A piece has as many tokens as it predicts.
        let all = question.context_tokens() + self.targets(choice_len);
        let excess = all.saturating_sub(self.max_seq_len);
        let truncatable: usize = question.truncatable_tokens().iter().sum();
        if excess > truncatable {
            let (query, needed) = (question.fixed_tokens(), all - truncatable);
            return Err(EncodingError::DoesNotFit { query, choice: choice_len, max_seq_len: self.max_seq_len, needed });
        }
        Ok(excess)
    }

    /// Appends the context without `excess` of its tokens to `ids` and returns the position of the piece, an index in the context.
    pub fn push_context(&self, question: &Question<'_>, excess: usize, ids: &mut Vec<TokenId>) -> usize {
        let start = ids.len();
        let mut blank = None;
        ids.push(self.special.cls);
        for (number, kept) in question.kept(excess, self.keep_end).enumerate() {
            if number == question.blank {
                blank = Some(ids.len() - start);
                ids.push(self.special.mask);
            }
            ids.extend_from_slice(kept);
        }
        let blank = blank.unwrap_or_else(|| {
            ids.push(self.special.mask);
            ids.len() - start - 1
        });
        ids.push(self.special.pad);
        match self.position {
            BlankPosition::Blank => blank,
            BlankPosition::FirstMask => {
                ids[start..start + blank].iter().position(|&id| id == self.special.mask).unwrap_or(blank)
            }
        }
    }

    /// Returns the complete input of one choice.
    ///
    /// # Errors
    /// [`EncodingError::DoesNotFit`] if more has to be cut than may be.
    pub fn encode(&self, question: &Question<'_>, choice: &[TokenId]) -> Result<ChoiceInput, EncodingError> {
        let excess = self.excess(question, choice.len())?;
        let piece = self.targets(choice.len());
        let mut ids = Vec::with_capacity(question.context_tokens() - excess + piece);
        let mask_position = self.push_context(question, excess, &mut ids);
        let sep = ids.len();
        let mut target = vec![0; sep];
        target.extend_from_slice(choice);
        if self.end_of_piece {
            target.push(self.special.eop);
        }
        ids.extend([self.special.sop].into_iter().chain(target[sep..].iter().copied()).take(piece));

        let position = (0..sep as i32).chain(std::iter::repeat_n(mask_position as i32, piece)).collect();
        let block_position = std::iter::repeat_n(0, sep).chain(1..=piece as i32).collect();
        let mut loss_mask = vec![0; sep];
        loss_mask.resize(sep + piece, 1);
        Ok(ChoiceInput { sep, ids, position, block_position, target, loss_mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPECIAL: SpecialIds = SpecialIds::BERT_UNCASED;

    fn tokens(max: usize) -> impl Strategy<Value = Vec<TokenId>> {
        prop::collection::vec(prop_oneof![20 => 1000..30000, 1 => Just(SPECIAL.mask)], 0..max)
    }

    #[test]
    fn positions_refer_to_the_first_mask_or_to_the_blank() {
        let question = Question::about(&[7, SPECIAL.mask, 9], &[5], &[]);
        let encoder = ChoiceEncoder::new(SPECIAL, 512);
        let input = encoder.encode(&question, &[11]).expect("fits");
        assert_eq!(input.ids, [101, 7, 103, 9, 5, 103, 0, 30522, 11]);
        assert_eq!(input.position, [0, 1, 2, 3, 4, 5, 6, 2, 2]);
        assert_eq!(input.block_position, [0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(input.target, [0, 0, 0, 0, 0, 0, 0, 11, 30523]);
        assert_eq!(input.loss_mask, [0, 0, 0, 0, 0, 0, 0, 1, 1]);
        let single = encoder.with_form(false, BlankPosition::Blank).encode(&question, &[11]).expect("fits");
        assert_eq!(single.ids, [101, 7, 103, 9, 5, 103, 0, 30522]);
        assert_eq!((single.position[7], single.target[7], single.loss_mask[7]), (5, 11, 1));
    }

    #[test]
    fn a_choice_of_several_tokens_needs_no_end_of_piece() {
        let segments = vec![Segment::truncatable(&[5, 6, 7, 8]), Segment::truncatable(&[9])];
        let question = Question { segments, blank: 1, group_b: 2 };
        let encoder = ChoiceEncoder::new(SPECIAL, 8).with_form(false, BlankPosition::Blank).with_kept_end(true);
        let input = encoder.encode(&question, &[11, 12]).expect("fits");
        assert_eq!(input.ids, [101, 7, 8, 103, 9, 0, 30522, 11]);
        assert_eq!((&input.target[6..], &input.loss_mask[6..]), (&[11, 12][..], &[1, 1][..]));
        assert_eq!((&input.position[6..], &input.block_position[6..]), (&[3, 3][..], &[1, 2][..]));
    }

    #[test]
    fn a_query_that_does_not_fit_is_an_error_with_the_needed_length() {
        let question = Question::about(&[1, 2, 3], &[4; 5], &[4; 2]);
        let error = ChoiceEncoder::new(SPECIAL, 12).encode(&question, &[9, 9]).expect_err("too long");
        assert_eq!(error, EncodingError::DoesNotFit { query: 7, choice: 2, max_seq_len: 12, needed: 13 });
        assert!(ChoiceEncoder::new(SPECIAL, 13).encode(&question, &[9, 9]).is_ok());
    }

    /// Removes one token after the other, as the published code does.
    fn one_by_one(question: &Question<'_>, excess: usize, keep_end: bool) -> Vec<Vec<TokenId>> {
        let mut kept: Vec<Vec<TokenId>> = question.segments.iter().map(|segment| segment.ids.to_vec()).collect();
        let left = |kept: &[Vec<TokenId>], b: bool| -> Vec<usize> {
            let of = |&i: &usize| question.segments[i].truncatable && (i >= question.group_b) == b && !kept[i].is_empty();
            (0..kept.len()).filter(of).flat_map(|i| vec![i; kept[i].len()]).collect()
        };
        for _ in 0..excess {
            let (a, b) = (left(&kept, false), left(&kept, true));
            let group = if a.len() > b.len() { a } else { b };
            let loses = &mut kept[*(if keep_end { group.first() } else { group.last() }).expect("a token")];
            loses.remove(if keep_end { 0 } else { loses.len() - 1 });
        }
        kept
    }

    proptest! {
        #[test]
        fn truncation_is_that_of_the_published_loop(
            segments in prop::collection::vec((tokens(12), any::<bool>()), 0..6), group_b in 0_usize..7, excess in 0_usize..60,
        ) {
            let segments: Vec<_> = segments.iter().map(|(ids, truncatable)| Segment { ids, truncatable: *truncatable }).collect();
            let question = Question { blank: 0, group_b: group_b.min(segments.len()), segments };
            let excess = excess.min(question.truncatable_tokens().iter().sum());
            for keep_end in [false, true] {
                let kept: Vec<_> = question.kept(excess, keep_end).map(<[TokenId]>::to_vec).collect();
                prop_assert_eq!(kept, one_by_one(&question, excess, keep_end));
            }
        }

        #[test]
        fn lengths_agree_and_only_the_passage_shrinks(
            passage in tokens(60), left in tokens(10), right in tokens(10), choice in tokens(8), max in 24_usize..64,
        ) {
            let question = Question::about(&passage, &left, &right);
            let encoder = ChoiceEncoder::new(SPECIAL, max);
            let Ok(input) = encoder.encode(&question, &choice) else {
                prop_assert!(left.len() + right.len() + choice.len() + 4 > max);
                return Ok(());
            };
            let n = input.ids.len();
            prop_assert!(n <= max);
            prop_assert!([input.position.len(), input.block_position.len(), input.target.len(), input.loss_mask.len()].iter().all(|&l| l == n));
            let kept = passage.len() - encoder.excess(&question, choice.len()).expect("it fitted");
            // The passage is truncated only if necessary.
            prop_assert!(kept == passage.len() || n == max);
            prop_assert_eq!(&input.ids[1..=kept], &passage[..kept]);
            prop_assert_eq!(&input.ids[input.sep + 1..], &choice[..]);
            prop_assert_eq!(input.loss_mask.iter().sum::<i32>() as usize, choice.len() + 1);
            let mask = input.position[input.sep] as usize;
            prop_assert_eq!(input.ids.iter().position(|&id| id == SPECIAL.mask), Some(mask));
        }
    }
}
