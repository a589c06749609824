//! Amount of work in a batch, and the floating point operations that it takes.

use super::packed::Batch;

/// Counts that determine the work of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Examples.
    pub examples: usize,
    /// Groups of targets.
    pub groups: usize,
    /// Tokens to predict.
    pub targets: usize,
    /// Tokens.
    pub tokens: usize,
    /// Context tokens; the start of piece is not one.
    pub context: usize,
    /// Tokens whose output is scored.
    pub scored: usize,
    /// Pairs of query and visible key.
    pub pairs: usize,
    /// Pairs of query and visible key whose query is scored.
    pub scored_pairs: usize,
    /// Tokens of the same rows padded to the longest one.
    pub padded: usize,
}

impl Work {
    /// Work of one batch.
    pub fn of(batch: &Batch) -> Self {
        let (inputs, targets) = (&batch.inputs, &batch.targets);
        let mut work = Self {
            examples: batch.examples.len(),
            groups: targets.groups,
            targets: targets.token.len(),
            tokens: inputs.tokens(),
            scored: targets.scored.len(),
            padded: inputs.rows.len() * inputs.max_row(),
            ..Self::default()
        };
        for row in &inputs.rows {
            work.context += row.context;
            work.pairs += row.context * row.context;
            let starts = &inputs.piece_start[row.start..row.start + row.length];
            for (query, piece_start) in starts.iter().enumerate().skip(row.context) {
                // The context, the start of piece, and the piece up to the query; the start of piece counts once.
                let own = query + 1 - (*piece_start as usize).max(row.context + 1).min(query + 1);
                work.scored_pairs += row.context + 1 + own;
            }
        }
        work.pairs += work.scored_pairs;
        work
    }

    /// Sum over several batches.
    pub fn of_all<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Self {
        let mut work = Self::default();
        batches.into_iter().for_each(|batch| work += Self::of(batch));
        work
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.examples += other.examples;
        self.groups += other.groups;
        self.targets += other.targets;
        self.tokens += other.tokens;
        self.context += other.context;
        self.scored += other.scored;
        self.pairs += other.pairs;
        self.scored_pairs += other.scored_pairs;
        self.padded += other.padded;
    }
}

/// Operations of a forward pass per unit of [`Work`]; a multiplication and an addition count as two. The model computes the
/// rates from its sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlopRates {
    /// Operations per token.
    pub token: f64,
    /// Operations per scored token.
    pub scored: f64,
    /// Operations per pair of query and visible key.
    pub pair: f64,
    /// Operations per such pair whose query is scored.
    pub scored_pair: f64,
}

impl FlopRates {
    /// Operations of a forward pass.
    pub fn forward(&self, work: &Work) -> f64 {
        let [n, s, p, q] = [work.tokens, work.scored, work.pairs, work.scored_pairs].map(|count| count as f64);
        self.token * n + self.scored * s + self.pair * p + self.scored_pair * q
    }

    /// Operations of a training step: the backward pass takes twice those of the forward pass.
    pub fn training(&self, work: &Work) -> f64 {
        3.0 * self.forward(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::packed::{Inputs, RowSpan, Targets};

    #[test]
    fn pairs_are_what_is_visible() {
        // Four tokens of context, the start of piece, a piece of two tokens and one of one.
        let inputs = Inputs {
            rows: vec![RowSpan { start: 0, length: 8, context: 4 }],
            ids: vec![0; 8],
            piece_start: vec![-1, -1, -1, -1, 4, 5, 5, 7],
            ..Inputs::default()
        };
        let targets = Targets { scored: vec![4, 5, 6, 7], ..Targets::default() };
        let work = Work::of(&Batch { inputs, targets, ..Batch::default() });
        assert_eq!((work.tokens, work.context, work.scored), (8, 4, 4));
        assert_eq!((work.pairs, work.scored_pairs), (16 + 5 + 6 + 7 + 6, 24));
    }
}
