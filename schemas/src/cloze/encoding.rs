//! Encoding of one choice of a question as model input, as in the published recipe.
//!
//! For a question with passage tokens `P`, query tokens `L` before and `R` after the blank, and a choice with tokens `c`:
//!
//! ```text
//! context = [CLS] P[..keep] L [MASK] R [PAD]          sep = its length
//! piece   = <sop> c                                    predicts  c <eop>
//! ```
//!
//! Only the passage is truncated, at its end, and by as much as the length of the choice requires. The contexts of two choices of a
//! long question can therefore differ by a few tokens; see [`ChoiceEncoder::kept_passage`].

use thiserror::Error;

use crate::vocab::{SpecialIds, TokenId};

/// Number of tokens of a context besides passage and query: `[CLS]`, `[MASK]` and the end of the context.
pub const CONTEXT_OVERHEAD: usize = 3;

/// Sequence length of the published recipe.
pub const PUBLISHED_SEQUENCE_LENGTH: usize = 512;

/// Tokens of a question that all its choices share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// Tokens of the passage, not truncated.
    pub passage: &'a [TokenId],
    /// Tokens of the query before the blank.
    pub query_left: &'a [TokenId],
    /// Tokens of the query after the blank.
    pub query_right: &'a [TokenId],
}

impl Question<'_> {
    /// Number of context tokens without truncation.
    pub fn context_tokens(&self) -> usize {
        self.passage.len() + self.query_tokens() + CONTEXT_OVERHEAD
    }

    /// Number of query tokens on both sides of the blank, excluding the blank.
    pub fn query_tokens(&self) -> usize {
        self.query_left.len() + self.query_right.len()
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
    /// Query and choice are too long even without the passage.
    #[error(
        "the query ({query} tokens) and a choice ({choice} tokens) do not fit a sequence length of {max_seq_len}; at least {needed} are needed"
    )]
    DoesNotFit {
        /// Number of query tokens.
        query: usize,
        /// Number of choice tokens.
        choice: usize,
        /// Maximum sequence length.
        max_seq_len: usize,
        /// Sequence length that would suffice.
        needed: usize,
    },
}

/// Encoder for one vocabulary and sequence length.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceEncoder {
    special: SpecialIds,
    max_seq_len: usize,
}

impl ChoiceEncoder {
    /// Creates an encoder for sequences of at most `max_seq_len` tokens, context and piece together.
    pub fn new(special: SpecialIds, max_seq_len: usize) -> Self {
        Self { special, max_seq_len }
    }

    /// Returns the number of passage tokens that fit beside a choice of `choice_len` tokens.
    ///
    /// # Errors
    /// [`EncodingError::DoesNotFit`] if query and choice alone are too long.
    pub fn kept_passage(&self, question: &Question<'_>, choice_len: usize) -> Result<usize, EncodingError> {
        // The piece is <sop> followed by the choice.
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

    /// Appends the context with the first `kept` passage tokens to `ids` and returns the index of its first `[MASK]` within the
    /// context. Like the published code, this uses the first one even if it occurs in the text of the passage.
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

    /// Returns the complete input of one choice.
    ///
    /// # Errors
    /// [`EncodingError::DoesNotFit`] if query and choice alone are too long.
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
    fn positions_refer_to_the_first_mask_even_within_the_passage() {
        let question = Question { passage: &[7, SPECIAL.mask, 9], query_left: &[5], query_right: &[] };
        let input = ChoiceEncoder::new(SPECIAL, 512).encode(&question, &[11]).expect("fits");
        assert_eq!(input.ids, [101, 7, 103, 9, 5, 103, 0, 30522, 11]);
        assert_eq!(input.position, [0, 1, 2, 3, 4, 5, 6, 2, 2]);
        assert_eq!(input.block_position, [0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(input.target, [0, 0, 0, 0, 0, 0, 0, 11, 30523]);
        assert_eq!(input.loss_mask, [0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn a_query_that_does_not_fit_is_an_error_with_the_needed_length() {
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
