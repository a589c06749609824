//! Which choices of a question share a context, and so a row.

use glm_schemas::encoding::{ChoiceEncoder, EncodingError, Question};
use serde::{Deserialize, Serialize};

use crate::batch::work::Work;

/// How a context that is too long is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncation {
    /// For each choice by its own length, as published; a long question then has several contexts.
    Choice,
    /// For the whole question by its longest choice; every question has one context.
    Question,
}

/// One row of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CutRow {
    /// Tokens of the passage that its context keeps.
    pub(super) kept_passage: usize,
    /// Tokens of its context.
    pub(super) context: usize,
    /// All of its tokens.
    pub(super) length: usize,
    /// Pairs of a scored token and what it sees.
    pub(super) scored_pairs: usize,
}

/// A question cut into rows. It is made anew for each question, and keeps its memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cut {
    rows: Vec<CutRow>,
    row_of_choice: Vec<usize>,
    lengths: Vec<usize>,
}

impl Cut {
    /// Cuts a question whose choices have these lengths. Choices that keep the same part of the passage share a row; rows come
    /// in the order of their first choice.
    ///
    /// # Errors
    /// [`EncodingError`] where the question does not fit.
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
        self.lengths.extend(lengths);
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        for &length in &self.lengths {
            let decides = match truncation {
                Truncation::Choice => length,
                Truncation::Question => longest,
            };
            let kept_passage = encoder.kept_passage(question, decides)?;
            let row = match self.rows.iter().position(|row| row.kept_passage == kept_passage) {
                Some(row) => row,
                None => {
                    let context = question.context_tokens() - question.passage.len() + kept_passage;
                    // The start of piece stands behind the context.
                    self.rows.push(CutRow { kept_passage, context, length: context + 1, scored_pairs: context + 1 });
                    self.rows.len() - 1
                }
            };
            let cut = &mut self.rows[row];
            cut.length += length;
            // A piece's tokens see the context, the start of piece, and the piece up to themselves.
            cut.scored_pairs += length * (cut.context + 1) + length * (length + 1) / 2;
            self.row_of_choice.push(row);
        }
        Ok(())
    }

    /// The rows.
    pub(super) fn rows(&self) -> &[CutRow] {
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

    /// What the question adds to the work of a batch; what depends on the batch, its padding, is left out.
    pub(super) fn work(&self) -> Work {
        let mut work = Work { questions: 1, choices: self.row_of_choice.len(), ..Work::default() };
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
    use glm_schemas::vocab::SpecialIds;

    #[test]
    fn one_setting_gives_every_question_one_context() {
        let question = Question { passage: &[1; 50], query_left: &[2; 3], query_right: &[3; 3] };
        let encoder = ChoiceEncoder::new(SpecialIds::BERT_UNCASED, 30);
        let cut = |truncation| {
            let mut cut = Cut::default();
            cut.question(&encoder, truncation, &question, [1, 2, 1].into_iter()).expect("fits");
            cut
        };
        let by_choice = cut(Truncation::Choice);
        assert_eq!(by_choice.row_of_choice, [0, 1, 0]);
        assert_eq!(by_choice.rows.iter().map(|row| row.length).collect::<Vec<_>>(), [31, 30]);
        let work = by_choice.work();
        assert_eq!((work.tokens, by_choice.longest_row(), work.scored, work.choices), (61, 31, 6, 3));
        let by_question = cut(Truncation::Question);
        assert_eq!(by_question.row_of_choice, [0, 0, 0]);
        assert_eq!(by_question.rows[0].kept_passage, by_choice.rows[1].kept_passage);
    }
}
