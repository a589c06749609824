//! Truncation of contexts, and grouping of the choices that share one.

use glm_schemas::cloze::encoding::{ChoiceEncoder, EncodingError, Question};
use serde::{Deserialize, Serialize};

use crate::batch::work::Work;

/// Truncation of a context that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncation {
    /// Each choice truncates by its own length, as published; a long question then has several contexts.
    Choice,
    /// The longest choice decides for the whole question; every question has one context.
    Question,
}

/// One row of a question in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TruncatedRow {
    /// Number of tokens that the context lacks.
    pub(super) excess: usize,
    /// Number of context tokens.
    pub(super) context: usize,
    /// Number of tokens.
    pub(super) length: usize,
    /// Number of pairs of a scored token and a token that it attends to.
    pub(super) scored_pairs: usize,
}

/// Rows of a question. Reused for all questions to keep its memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TruncatedQuestion {
    rows: Vec<TruncatedRow>,
    row_of_choice: Vec<usize>,
    lengths: Vec<usize>,
    /// Targets of all choices.
    targets: usize,
}

impl TruncatedQuestion {
    /// Computes the rows of a question whose choices have these lengths. Choices with the same context share a
    /// row; rows are in the order of their first choice.
    ///
    /// # Errors
    /// Returns an [`EncodingError`] if the question does not fit.
    pub(super) fn question(
        &mut self,
        encoder: &ChoiceEncoder,
        truncation: Truncation,
        question: &Question<'_>,
        lengths: impl Iterator<Item = usize>,
    ) -> Result<(), EncodingError> {
        self.rows.clear();
        self.row_of_choice.clear();
        self.lengths.clear();
        self.targets = 0;
        self.lengths.extend(lengths);
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        for &length in &self.lengths {
            let decides = match truncation {
                Truncation::Choice => length,
                Truncation::Question => longest,
            };
            let excess = encoder.excess(question, decides)?;
            let row = match self.rows.iter().position(|row| row.excess == excess) {
                Some(row) => row,
                None => {
                    let context = question.context_tokens() - excess;
                    // The start of piece follows the context.
                    self.rows.push(TruncatedRow { excess, context, length: context + 1, scored_pairs: context + 1 });
                    self.rows.len() - 1
                }
            };
            let (row_size, targets) = (&mut self.rows[row], encoder.targets(length));
            // The last target of a choice is not an input.
            let inputs = targets.saturating_sub(1);
            row_size.length += inputs;
            // A piece's tokens see the context, the start of piece, and the piece up to themselves.
            row_size.scored_pairs += inputs * (row_size.context + 1) + inputs * (inputs + 1) / 2;
            self.row_of_choice.push(row);
            self.targets += targets;
        }
        Ok(())
    }

    /// The rows.
    pub(super) fn rows(&self) -> &[TruncatedRow] {
        &self.rows
    }

    /// The row of a choice.
    pub(super) fn row_of(&self, choice: usize) -> usize {
        self.row_of_choice[choice]
    }

    /// Tokens of the longest row.
    pub(super) fn longest_row(&self) -> usize {
        self.rows.iter().map(|row| row.length).max().unwrap_or(0)
    }

    /// Work that the question adds to a batch, without padding, which depends on the batch.
    pub(super) fn work(&self) -> Work {
        let choices = self.row_of_choice.len();
        let mut work = Work { examples: 1, groups: choices, targets: self.targets, ..Work::default() };
        for row in &self.rows {
            work.tokens += row.length;
            work.context += row.context;
            work.scored += row.length - row.context;
            work.scored_pairs += row.scored_pairs;
            work.pairs += row.context * row.context + row.scored_pairs;
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glm_schemas::cloze::encoding::BlankPosition;
    use glm_schemas::vocab::SpecialIds;

    #[test]
    fn one_setting_gives_every_question_one_context() {
        let question = Question::about(&[1; 50], &[2; 3], &[3; 3]);
        let encoder = ChoiceEncoder::new(SpecialIds::BERT_UNCASED, 30);
        let cut = |truncation| {
            let mut cut = TruncatedQuestion::default();
            cut.question(&encoder, truncation, &question, [1, 2, 1].into_iter()).expect("fits");
            cut
        };
        let by_choice = cut(Truncation::Choice);
        assert_eq!(by_choice.row_of_choice, [0, 1, 0]);
        assert_eq!(by_choice.rows.iter().map(|row| row.length).collect::<Vec<_>>(), [31, 30]);
        let work = by_choice.work();
        assert_eq!((work.tokens, by_choice.longest_row(), work.scored, work.groups), (61, 31, 6, 3));
        let by_question = cut(Truncation::Question);
        assert_eq!(by_question.row_of_choice, [0, 0, 0]);
        assert_eq!(by_question.rows[0].excess, by_choice.rows[1].excess);
    }
    #[test]
    fn choices_of_one_token_share_the_start_of_piece() {
        let question = Question::about(&[1; 50], &[2; 3], &[3; 3]);
        let encoder = ChoiceEncoder::new(SpecialIds::BERT_UNCASED, 30).with_form(false, BlankPosition::Blank);
        let mut cut = TruncatedQuestion::default();
        cut.question(&encoder, Truncation::Choice, &question, [1, 1, 1].into_iter()).expect("fits");
        assert_eq!((cut.row_of_choice.as_slice(), cut.longest_row()), ([0, 0, 0].as_slice(), 30));
        let work = cut.work();
        assert_eq!((work.tokens, work.context, work.scored, work.groups, work.targets), (30, 29, 1, 3, 3));
        assert_eq!((work.scored_pairs, work.pairs), (30, 29 * 29 + 30));
    }
}
