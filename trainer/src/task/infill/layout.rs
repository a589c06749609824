//! Layout of a masked sample: its context with mask tokens, then the tokens to predict.

use glm_schemas::vocab::{SpecialIds, TokenId};

use super::text::Span;
use crate::batch::packed::Batch;
use crate::batch::work::Work;

/// Blanks to predict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blanks {
    /// Spans, in the order in which they are predicted.
    Spans(Vec<Span>),
    /// The last tokens, as many as this; without an end of piece.
    Suffix(usize),
}

/// Row of a batch.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// Tokens of the sample.
    pub(super) ids: &'a [TokenId],
    /// Blanks to predict.
    pub(super) blanks: &'a Blanks,
    /// Token in the place of a blank.
    pub(super) mask: TokenId,
}

impl Row<'_> {
    /// Number of tokens of the context.
    fn context(&self) -> usize {
        let tokens = self.ids.len();
        match self.blanks {
            Blanks::Spans(spans) => tokens + spans.len() - spans.iter().map(Span::len).sum::<usize>(),
            Blanks::Suffix(length) => tokens - length + 1,
        }
    }

    /// Number of tokens after the context.
    fn pieces(&self) -> usize {
        match self.blanks {
            Blanks::Spans(spans) => spans.iter().map(|span| span.len() + 1).sum(),
            Blanks::Suffix(length) => *length,
        }
    }

    /// Work that the row adds to a batch; `predicted` as in [`Self::push`].
    pub(super) fn work(&self, predicted: impl Fn(usize) -> bool) -> Work {
        let (context, pieces) = (self.context(), self.pieces());
        let targets = match self.blanks {
            Blanks::Spans(_) => pieces,
            Blanks::Suffix(length) => (self.ids.len() - length..self.ids.len()).filter(|index| predicted(*index)).count(),
        };
        // Each token after the context sees the context, those before it and itself.
        let scored_pairs = pieces * context + pieces * (pieces + 1) / 2;
        let (tokens, pairs) = (context + pieces, context * context + scored_pairs);
        Work { targets, tokens, context, scored: pieces, pairs, scored_pairs, ..Work::default() }
    }

    /// Appends the row to a batch; its log probability is added to `group`. `predicted` is false for tokens of a suffix that are no
    /// targets, by their index in the sample. `hidden` is asked for every token of a span that is an input, by its index in the row, in
    /// order, and replaces it if it returns a token.
    pub(super) fn push(
        &self,
        special: SpecialIds,
        group: usize,
        predicted: impl Fn(usize) -> bool,
        mut hidden: impl FnMut(usize) -> Option<TokenId>,
        batch: &mut Batch,
    ) {
        let context = self.context();
        let mut part_a = Vec::with_capacity(context);
        match self.blanks {
            Blanks::Suffix(length) => {
                let first = self.ids.len() - length;
                part_a.extend_from_slice(&self.ids[..first]);
                part_a.push(self.mask);
                batch.push_context(&part_a);
                for (index, block_position) in (first..self.ids.len()).zip(1..) {
                    let id = if index == first { special.sop } else { self.ids[index - 1] };
                    let scored = batch.push_scored(id, first as i64, block_position, context);
                    if predicted(index) {
                        batch.push_target(scored, self.ids[index], group);
                    }
                }
            }
            Blanks::Spans(spans) => {
                // Places of the mask tokens, in the order of the spans.
                let mut places = vec![0; spans.len()];
                let mut order: Vec<usize> = (0..spans.len()).collect();
                order.sort_by_key(|&span| spans[span]);
                let mut next = 0;
                for span in order {
                    part_a.extend_from_slice(&self.ids[next..spans[span].start]);
                    places[span] = part_a.len() as i64;
                    part_a.push(self.mask);
                    next = spans[span].end;
                }
                part_a.extend_from_slice(&self.ids[next..]);
                batch.push_context(&part_a);
                let mut index = context;
                for (span, place) in spans.iter().zip(places) {
                    // All spans are one piece for attention: each token sees the spans before its own.
                    let mut previous = batch.push_scored(special.sop, place, 1, context);
                    index += 1;
                    for (&id, block_position) in self.ids[span.start..span.end].iter().zip(2..) {
                        batch.push_target(previous, id, group);
                        previous = batch.push_scored(hidden(index).unwrap_or(id), place, block_position, context);
                        index += 1;
                    }
                    batch.push_target(previous, special.eop, group);
                }
            }
        }
    }
}
