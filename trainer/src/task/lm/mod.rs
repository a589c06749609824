//! Language-model evaluation: the probability that a model gives to a text.
//!
//! GLM predicts tokens of a piece only, so a text is cut into [windows](Window): their first tokens are the context, which ends in a blank,
//! and the others are the piece that fills it. [`perplexity`] cuts a long text into overlapping windows; [`lambada`] asks for the last
//! word of a passage. There is nothing to train here, so this is not a [`Task`](super::Task).

pub mod clean;
pub mod lambada;
pub mod perplexity;

use glm_schemas::vocab::TokenId;

use crate::batch::packed::Batch;

/// Tokens of a text: those before `context` are the context, the others fill the blank at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window<'a> {
    /// The tokens, without special tokens.
    pub tokens: &'a [TokenId],
    /// Number of tokens in the context.
    pub context: usize,
    /// Index of the first token whose log probability counts, at least `context`. All tokens after it count too.
    pub counted_from: usize,
}

/// Special tokens of a window: `[CLS]`, context, blank, end of the context if there is one; then the start of piece and the piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// `[CLS]`.
    pub cls: TokenId,
    /// Blank: `[gMASK]` for models with task masks, else `[MASK]`.
    pub blank: TokenId,
    /// End of the context.
    pub end: Option<TokenId>,
    /// Start of piece.
    pub sop: TokenId,
}

impl Window<'_> {
    /// Number of tokens that count.
    pub fn counted(&self) -> usize {
        self.tokens.len() - self.counted_from
    }

    /// Appends the window to a batch as one row, with one group for each token that counts. `number` is its index among the windows that
    /// are scored together.
    pub fn pack(&self, number: usize, frame: &Frame, batch: &mut Batch) {
        let (context, piece) = self.tokens.split_at(self.context);
        let mut before = Vec::with_capacity(context.len() + 3);
        before.push(frame.cls);
        before.extend_from_slice(context);
        before.push(frame.blank);
        before.extend(frame.end);
        // All tokens of the piece see each other causally, so that it begins at the start of piece.
        let (blank, piece_start) = (1 + context.len() as i64, before.len());
        batch.push_context(&before);
        let inputs = std::iter::once(&frame.sop).chain(piece);
        for ((input, &target), index) in inputs.zip(piece).zip(self.context..) {
            let block_position = 1 + (index - self.context) as i64;
            if index < self.counted_from {
                batch.push_unscored(*input, blank, block_position, piece_start);
            } else {
                let scored = batch.push_scored(*input, blank, block_position, piece_start);
                batch.push_target(scored, target, batch.targets.groups + index - self.counted_from);
            }
        }
        batch.end_row(number as u64, 0);
        batch.end_example(number, number, self.counted());
    }
}
