//! How many floating point operations a batch needs, of tokens that carry information only.

use crate::batch::packed::Batch;
use crate::model::ModelConfig;

/// What a batch consists of, as far as work goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Questions.
    pub questions: usize,
    /// Choices.
    pub choices: usize,
    /// Tokens.
    pub tokens: usize,
    /// Those of contexts, without the starts of pieces.
    pub context: usize,
    /// Tokens whose output is scored.
    pub scored: usize,
    /// Pairs of query and visible key.
    pub pairs: usize,
    /// Such pairs whose query is scored.
    pub scored_pairs: usize,
    /// Tokens that rows of equal width would have.
    pub padded: usize,
}

impl Work {
    /// That of a batch.
    pub fn of(batch: &Batch) -> Self {
        let mut work = Self {
            questions: batch.questions.len(),
            choices: batch.choices,
            tokens: batch.tokens(),
            scored: batch.scored.len(),
            padded: batch.rows.len() * batch.max_row(),
            ..Self::default()
        };
        for row in &batch.rows {
            work.context += row.context;
            work.pairs += row.context * row.context;
            for (query, from) in batch.visible_from[row.start..row.start + row.length].iter().enumerate().skip(row.context) {
                // The context, the start of piece, and what a piece has up to the query; the start of piece counts once.
                let own = query + 1 - (*from as usize).max(row.context + 1).min(query + 1);
                work.scored_pairs += row.context + 1 + own;
            }
        }
        work.pairs += work.scored_pairs;
        work
    }

    /// That of all these batches together.
    pub fn of_all<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Self {
        let mut work = Self::default();
        batches.into_iter().for_each(|batch| work += Self::of(batch));
        work
    }

    /// Operations of a forward pass, see [`FlopRates`].
    pub fn forward_flops(&self, config: &ModelConfig) -> f64 {
        FlopRates::of(config).forward(self)
    }

    /// Operations of a training step: the backward pass does twice what the forward pass does.
    pub fn training_flops(&self, config: &ModelConfig) -> f64 {
        3.0 * self.forward_flops(config)
    }
}

/// Operations of a forward pass for each thing that a [`Work`] counts: a multiplication and an addition count as two.
///
/// With width h, vocabulary V, n tokens of which s are scored, and p pairs of query and visible key of which q have a
/// scored query: a block does `24 h² n` in its products (query, key, value 6, dense 2, feed-forward 16) and `4 h p` in
/// attention. The last one needs keys and values of all tokens, the rest for scored ones: `4 h² n + 20 h² s + 4 h q`. The
/// vocabulary takes `2 h V s`. Embeddings, LayerNorm, GELU and softmax are not counted, as is usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlopRates {
    token: f64,
    scored: f64,
    pair: f64,
    scored_pair: f64,
}

impl FlopRates {
    /// Those of a model of these sizes.
    pub fn of(config: &ModelConfig) -> Self {
        let others = config.layers as f64 - 1.0;
        let (block, last, words) = (Self::of_block(config), Self::of_last_block(config), Self::of_vocabulary(config));
        Self {
            token: others * block.token + last.token,
            scored: others * block.scored + last.scored + words.scored,
            pair: others * block.pair + last.pair,
            scored_pair: others * block.scored_pair + last.scored_pair,
        }
    }

    /// Those of one block that is not the last.
    pub fn of_block(config: &ModelConfig) -> Self {
        let h = config.hidden as f64;
        Self { token: 24.0 * h * h, scored: 0.0, pair: 4.0 * h, scored_pair: 0.0 }
    }

    /// Those of the last block.
    pub fn of_last_block(config: &ModelConfig) -> Self {
        let h = config.hidden as f64;
        Self { token: 4.0 * h * h, scored: 20.0 * h * h, pair: 0.0, scored_pair: 4.0 * h }
    }

    /// Those of the projection to the vocabulary.
    pub fn of_vocabulary(config: &ModelConfig) -> Self {
        let [h, words] = [config.hidden, config.vocab_rows].map(|size| size as f64);
        Self { token: 0.0, scored: 2.0 * h * words, pair: 0.0, scored_pair: 0.0 }
    }

    /// Operations of a forward pass.
    pub fn forward(&self, work: &Work) -> f64 {
        let [n, s, p, q] = [work.tokens, work.scored, work.pairs, work.scored_pairs].map(|count| count as f64);
        self.token * n + self.scored * s + self.pair * p + self.scored_pair * q
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.questions += other.questions;
        self.choices += other.choices;
        self.tokens += other.tokens;
        self.context += other.context;
        self.scored += other.scored;
        self.pairs += other.pairs;
        self.scored_pairs += other.scored_pairs;
        self.padded += other.padded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::packed::RowSpan;
    use crate::model::Preset;

    #[test]
    fn pairs_are_what_is_visible() {
        // Four tokens of context, the start of piece, a piece of two tokens and one of one.
        let batch = Batch {
            rows: vec![RowSpan { start: 0, length: 8, context: 4 }],
            ids: vec![0; 8],
            visible_from: vec![-1, -1, -1, -1, 4, 5, 5, 7],
            scored: vec![4, 5, 6, 7],
            ..Batch::default()
        };
        let work = Work::of(&batch);
        assert_eq!((work.tokens, work.context, work.scored), (8, 4, 4));
        assert_eq!((work.pairs, work.scored_pairs), (16 + 5 + 6 + 7 + 6, 24));
    }

    #[test]
    fn a_question_of_real_length_costs_what_the_documentation_says() {
        // 247 tokens of context and 27 of pieces.
        let work = Work { tokens: 274, scored: 27, pairs: 274 * 251, scored_pairs: 27 * 251, ..Work::default() };
        let flops = work.training_flops(&Preset::Large.config());
        assert!((flops / 5.1e11 - 1.0).abs() < 0.05, "{flops:e}");
    }
}
