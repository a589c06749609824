//! How one choice of a question becomes model input, exactly as the published recipe does it.
//!
//! For a question with passage tokens `P`, and `L`, `R` the query's tokens before and behind the blank, and a choice with tokens `c`:
//!
//! ```text
//! context = [CLS] P[..keep] L [MASK] R [PAD]          sep = its length
//! piece   = <sop> c                                    predicts  c <eop>
//! ```
//!
//! Only the passage is truncated, from its end, and as much as that choice's own length asks for. So two choices of a long
//! question can see contexts that differ by a few tokens; [`ChoiceEncoder::kept_passage`] says what a choice keeps.

use crate::vocab::{SpecialIds, TokenId};
use thiserror::Error;

/// Tokens that a context holds besides passage and query: `[CLS]`, `[MASK]` and the end of the context.
pub const CONTEXT_OVERHEAD: usize = 3;

/// The sequence length of the published recipe.
pub const PUBLISHED_SEQUENCE_LENGTH: usize = 512;

/// The tokens of a question that all its choices share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// All tokens of the passage, not truncated.
    pub passage: &'a [TokenId],
    /// Tokens of the query before the blank.
    pub query_left: &'a [TokenId],
    /// Tokens of the query behind the blank.
    pub query_right: &'a [TokenId],
}

impl Question<'_> {
    /// Tokens of the context when nothing is truncated.
    pub fn context_tokens(&self) -> usize {
        self.passage.len() + self.query_tokens() + CONTEXT_OVERHEAD
    }

    /// Tokens of the query on both sides of the blank, the blank itself not counted.
    pub fn query_tokens(&self) -> usize {
        self.query_left.len() + self.query_right.len()
    }
}

/// Model input for one choice, without padding. All lists have one entry a position; the published code appends zeros to each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceInput {
    /// Number of context tokens: positions from `sep` on are the piece.
    pub sep: usize,
    /// Token ids of context and piece.
    pub ids: Vec<TokenId>,
    /// Position ids: own index in the context; in the piece the index of the first `[MASK]`.
    pub position: Vec<i32>,
    /// Block position ids: 0 in the context, 1, 2, … in the piece.
    pub block_position: Vec<i32>,
    /// The token that each position has to predict; 0 in the context.
    pub target: Vec<TokenId>,
    /// 1 where the target counts.
    pub loss_mask: Vec<i32>,
}

/// Why a question cannot be encoded.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EncodingError {
    /// Even with the whole passage dropped, query and choice are too long.
    #[error(
        "the query ({query} tokens) and a choice ({choice} tokens) do not fit a sequence length of {max_seq_len}; at least {needed} are needed"
    )]
    DoesNotFit {
        /// Tokens of the query.
        query: usize,
        /// Tokens of the choice.
        choice: usize,
        /// The sequence length that was asked for.
        max_seq_len: usize,
        /// The sequence length that would do.
        needed: usize,
    },
}

/// Encodes choices for one vocabulary and sequence length.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceEncoder {
    special: SpecialIds,
    max_seq_len: usize,
}

impl ChoiceEncoder {
    /// An encoder for sequences of at most `max_seq_len` tokens, context and piece together.
    pub fn new(special: SpecialIds, max_seq_len: usize) -> Self {
        Self { special, max_seq_len }
    }

    /// How many tokens of the passage a choice of `choice_len` tokens leaves room for.
    ///
    /// # Errors
    /// [`EncodingError::DoesNotFit`] where query and choice alone are too long.
    pub fn kept_passage(&self, question: &Question<'_>, choice_len: usize) -> Result<usize, EncodingError> {
        // The piece is the choice and one more token, <sop>.
        let needed = question.query_tokens() + CONTEXT_OVERHEAD + choice_len + 1;
        match self.max_seq_len.checked_sub(needed) {
            Some(room) => Ok(room.min(question.passage.len())),
            None => Err(EncodingError::DoesNotFit {
                query: question.query_tokens(),
                choice: choice_len,
                max_seq_len: self.max_seq_len,
                needed,
            }),
        }
    }

    /// Appends the context with the first `kept` passage tokens to `ids`; returns the index of its first `[MASK]`
    /// within the context.
    ///
    /// The first, because a passage may itself contain a written-out `[MASK]`, and the published code takes that one.
    pub fn push_context(&self, question: &Question<'_>, kept: usize, ids: &mut Vec<TokenId>) -> usize {
        let start = ids.len();
        ids.push(self.special.cls);
        ids.extend_from_slice(&question.passage[..kept]);
        ids.extend_from_slice(question.query_left);
        let blank = ids.len() - start;
        ids.push(self.special.mask);
        ids.extend_from_slice(question.query_right);
        ids.push(self.special.pad);
        ids[start..start + blank].iter().position(|&id| id == self.special.mask).unwrap_or(blank)
    }

    /// The whole input of one choice.
    ///
    /// # Errors
    /// [`EncodingError::DoesNotFit`] where query and choice alone are too long.
    pub fn encode(&self, question: &Question<'_>, choice: &[TokenId]) -> Result<ChoiceInput, EncodingError> {
        let kept = self.kept_passage(question, choice.len())?;
        let piece = choice.len() + 1;
        let mut ids = Vec::with_capacity(kept + question.query_tokens() + CONTEXT_OVERHEAD + piece);
        let mask_position = self.push_context(question, kept, &mut ids);
        let sep = ids.len();
        ids.push(self.special.sop);
        ids.extend_from_slice(choice);

        let position = (0..sep as i32).chain(std::iter::repeat_n(mask_position as i32, piece)).collect();
        let block_position = std::iter::repeat_n(0, sep).chain(1..=piece as i32).collect();
        let mut target = vec![0; sep];
        target.extend_from_slice(choice);
        target.push(self.special.eop);
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
    fn positions_point_at_the_first_mask_even_inside_the_passage() {
        let question = Question { passage: &[7, SPECIAL.mask, 9], query_left: &[5], query_right: &[] };
        let input = ChoiceEncoder::new(SPECIAL, 512).encode(&question, &[11]).expect("fits");
        assert_eq!(input.ids, [101, 7, 103, 9, 5, 103, 0, 30522, 11]);
        assert_eq!(input.position, [0, 1, 2, 3, 4, 5, 6, 2, 2]);
        assert_eq!(input.block_position, [0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(input.target, [0, 0, 0, 0, 0, 0, 0, 11, 30523]);
        assert_eq!(input.loss_mask, [0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn a_query_that_does_not_fit_is_an_error_that_says_what_would() {
        let question = Question { passage: &[1, 2, 3], query_left: &[4; 5], query_right: &[4; 2] };
        let error = ChoiceEncoder::new(SPECIAL, 12).encode(&question, &[9, 9]).expect_err("too long");
        assert_eq!(error, EncodingError::DoesNotFit { query: 7, choice: 2, max_seq_len: 12, needed: 13 });
        assert!(ChoiceEncoder::new(SPECIAL, 13).encode(&question, &[9, 9]).is_ok());
    }

    proptest! {
        #[test]
        fn lengths_agree_and_only_the_passage_shrinks(
            passage in tokens(60), left in tokens(10), right in tokens(10), choice in tokens(8), max in 24_usize..64,
        ) {
            let question = Question { passage: &passage, query_left: &left, query_right: &right };
            let encoder = ChoiceEncoder::new(SPECIAL, max);
            let Ok(input) = encoder.encode(&question, &choice) else {
                prop_assert!(left.len() + right.len() + choice.len() + 4 > max);
                return Ok(());
            };
            let n = input.ids.len();
            prop_assert!(n <= max);
            prop_assert!([input.position.len(), input.block_position.len(), input.target.len(), input.loss_mask.len()].iter().all(|&l| l == n));
            let kept = encoder.kept_passage(&question, choice.len()).expect("it fitted");
            // Nothing is dropped without need.
            prop_assert!(kept == passage.len() || n == max);
            prop_assert_eq!(&input.ids[1..=kept], &passage[..kept]);
            prop_assert_eq!(&input.ids[input.sep + 1..], &choice[..]);
            prop_assert_eq!(input.loss_mask.iter().sum::<i32>() as usize, choice.len() + 1);
            let mask = input.position[input.sep] as usize;
            prop_assert_eq!(input.ids.iter().position(|&id| id == SPECIAL.mask), Some(mask));
        }
    }
}
