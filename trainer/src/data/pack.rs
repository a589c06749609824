//! Packing questions into batches: context once, start of piece once, the choices' tokens behind it, lengths alike side by side.

use glm_schemas::cloze::ClozeView;
use glm_schemas::encoding::{ChoiceEncoder, EncodingError, Question};
use glm_schemas::vocab::{SpecialIds, TokenId};
use serde::{Deserialize, Serialize};

use super::DataError;
use super::batch::{Batch, QuestionInfo};

/// How a context that is too long is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncation {
    /// For each choice by its own length, as published; a long question then has several contexts.
    Choice,
    /// For the whole question by its longest choice; every question has one context.
    Question,
}

/// One row of a batch: a context and the choices that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    kept_passage: usize,
    choices: Vec<usize>,
    length: usize,
}

/// One question, cut into rows and ready to be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedQuestion {
    passage: Vec<TokenId>,
    query_left: Vec<TokenId>,
    query_right: Vec<TokenId>,
    choices: Vec<Vec<TokenId>>,
    rows: Vec<Row>,
    info: QuestionInfo,
    label: Option<usize>,
}

/// Turns rows of a shard into batches.
#[derive(Debug, Clone, Copy)]
pub struct Packer {
    /// How a choice becomes model input.
    pub encoder: ChoiceEncoder,
    /// Ids of special tokens.
    pub special: SpecialIds,
    /// How a context that is too long is cut.
    pub truncation: Truncation,
    /// Most tokens of a batch, padding included. One question is never split, so it may exceed this alone.
    pub batch_tokens: usize,
    /// Whether a question without a right answer is an error.
    pub labelled: bool,
}

impl PackedQuestion {
    fn question(&self) -> Question<'_> {
        Question { passage: &self.passage, query_left: &self.query_left, query_right: &self.query_right }
    }

    fn width(&self) -> usize {
        self.rows.iter().map(|row| row.length).max().unwrap_or(0)
    }
}

impl Packer {
    /// Reads one row of a shard. `row` counts within the view, `first_row` is the view's place in the split.
    ///
    /// # Errors
    /// [`DataError::Encoding`] where the question does not fit; [`DataError::Unlabelled`].
    pub fn read(&self, view: &ClozeView<'_>, row: usize, first_row: usize) -> Result<PackedQuestion, DataError> {
        let question = view.question(row);
        let choices: Vec<_> = view.choices(row).collect();
        let lengths: Vec<usize> = choices.iter().map(|choice| choice.ids.len()).collect();
        let label = view.label(row);
        if self.labelled && label.is_none() {
            return Err(DataError::Unlabelled { example_id: view.example_id(row).to_owned() });
        }
        let rows = self
            .rows(&question, &lengths)
            .map_err(|source| DataError::Encoding { example_id: view.example_id(row).to_owned(), source })?;
        Ok(PackedQuestion {
            rows,
            label,
            info: QuestionInfo {
                example_id: view.example_id(row).to_owned(),
                row: first_row + row,
                first_choice: 0,
                correct: choices.iter().map(|choice| choice.correct).collect(),
                mentions: choices.iter().map(|choice| occurrences(question.passage, choice.ids)).collect(),
            },
            passage: question.passage.to_vec(),
            query_left: question.query_left.to_vec(),
            query_right: question.query_right.to_vec(),
            choices: choices.iter().map(|choice| choice.ids.to_vec()).collect(),
        })
    }

    /// Choices that keep the same part of the passage share a row; rows come in the order of their first choice.
    fn rows(&self, question: &Question<'_>, lengths: &[usize]) -> Result<Vec<Row>, EncodingError> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut rows: Vec<Row> = Vec::with_capacity(1);
        for (choice, &length) in lengths.iter().enumerate() {
            let decides = match self.truncation {
                Truncation::Choice => length,
                Truncation::Question => longest,
            };
            let kept_passage = self.encoder.kept_passage(question, decides)?;
            let row = match rows.iter_mut().find(|row| row.kept_passage == kept_passage) {
                Some(row) => row,
                None => {
                    let context = question.context_tokens() - question.passage.len() + kept_passage;
                    rows.push(Row { kept_passage, choices: Vec::new(), length: context + 1 });
                    let last = rows.len() - 1;
                    &mut rows[last]
                }
            };
            row.choices.push(choice);
            row.length += length;
        }
        Ok(rows)
    }

    /// Packs questions into batches within the token budget. The longest come first, so that the largest batch shows at
    /// once whether memory suffices; equal lengths keep their order.
    pub fn pack(&self, mut questions: Vec<PackedQuestion>) -> Vec<Batch> {
        questions.sort_by_key(|question| std::cmp::Reverse(question.width()));
        let mut batches = Vec::new();
        let mut rest = questions.as_slice();
        while let Some(first) = rest.first() {
            let width = first.width();
            let mut rows = 0;
            let fit = rest
                .iter()
                .take_while(|question| {
                    rows += question.rows.len();
                    rows * width <= self.batch_tokens
                })
                .count()
                .max(1);
            batches.push(self.fill(&rest[..fit], width));
            rest = &rest[fit..];
        }
        batches
    }

    fn fill(&self, questions: &[PackedQuestion], width: usize) -> Batch {
        let rows = questions.iter().map(|question| question.rows.len()).sum::<usize>();
        let mut batch = Batch {
            rows,
            width,
            ids: Vec::with_capacity(rows * width),
            position: Vec::with_capacity(rows * width),
            block_position: Vec::with_capacity(rows * width),
            piece: Vec::with_capacity(rows * width),
            ..Batch::default()
        };
        let mut context = Vec::new();
        for question in questions {
            for row in &question.rows {
                self.push_row(&mut batch, question, row, &mut context);
            }
            let info = QuestionInfo { first_choice: batch.choices, ..question.info.clone() };
            batch.choices += question.choices.len();
            batch.label.push(question.label.unwrap_or(0) as i64);
            batch.questions.push(info);
        }
        let most = questions.iter().map(|question| question.choices.len()).max().unwrap_or(0);
        for info in &batch.questions {
            let own = info.first_choice..info.first_choice + info.correct.len();
            batch.choice_table.extend(own.map(|choice| choice as i64));
            batch.choice_table.extend(std::iter::repeat_n(batch.choices as i64, most - info.correct.len()));
        }
        batch
    }

    fn push_row(&self, batch: &mut Batch, question: &PackedQuestion, row: &Row, context: &mut Vec<TokenId>) {
        context.clear();
        let blank = self.encoder.push_context(&question.question(), row.kept_passage, context);
        batch.sep.push(context.len() as i64);
        batch.ids.extend(context.iter().map(|&id| i64::from(id)));
        batch.position.extend(0..context.len() as i64);
        batch.block_position.extend(std::iter::repeat_n(0, context.len()));
        batch.piece.extend(std::iter::repeat_n(0, context.len()));
        // <sop> sees the context and itself, so it is the same for every choice: one stands for all.
        let blank = blank as i64;
        let start_of_piece = batch.push_scored(self.special.sop, blank, 1, 1);
        for (piece, &choice) in (2..).zip(&row.choices) {
            let flat_choice = batch.choices + choice;
            let mut previous = start_of_piece;
            for (block_position, &id) in (2..).zip(&question.choices[choice]) {
                batch.push_pair(previous, id, flat_choice);
                previous = batch.push_scored(id, blank, block_position, piece);
            }
            batch.push_pair(previous, self.special.eop, flat_choice);
        }
        batch.tokens += row.length;
        let end = batch.sep.len() * batch.width;
        for column in [&mut batch.ids, &mut batch.position, &mut batch.block_position, &mut batch.piece] {
            column.resize(end, 0);
        }
    }
}

/// How often `choice` occurs in `passage`.
fn occurrences(passage: &[TokenId], choice: &[TokenId]) -> u32 {
    if choice.is_empty() {
        return 0;
    }
    passage.windows(choice.len()).filter(|window| *window == choice).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packer(max_seq_len: usize, batch_tokens: usize, truncation: Truncation) -> Packer {
        let special = SpecialIds::BERT_UNCASED;
        let encoder = ChoiceEncoder::new(special, max_seq_len);
        Packer { encoder, special, truncation, batch_tokens, labelled: false }
    }

    fn question(packer: &Packer, row: usize, parts: &[Vec<TokenId>; 3], choices: &[Vec<TokenId>]) -> PackedQuestion {
        let [passage, query_left, query_right] = parts.clone();
        let shared = Question { passage: &passage, query_left: &query_left, query_right: &query_right };
        let lengths: Vec<_> = choices.iter().map(Vec::len).collect();
        let info = QuestionInfo {
            example_id: format!("q{row}"),
            row,
            first_choice: 0,
            correct: choices.iter().map(|_| false).collect(),
            mentions: vec![0; choices.len()],
        };
        let rows = packer.rows(&shared, &lengths).expect("fits");
        PackedQuestion { rows, info, label: None, passage, query_left, query_right, choices: choices.to_vec() }
    }

    fn ids(max: usize) -> impl Strategy<Value = Vec<TokenId>> {
        prop::collection::vec(prop_oneof![30 => 1000..30000, 1 => Just(103)], 1..max)
    }

    proptest! {
        /// Whatever is packed together, each choice's context and piece are those of the published encoding of that choice.
        #[test]
        fn packing_keeps_the_published_encoding(
            questions in prop::collection::vec((ids(60), ids(6), ids(6), prop::collection::vec(ids(7), 1..6)), 1..9),
            max in 32_usize..80,
            budget in 1_usize..600,
        ) {
            let packer = packer(max, budget, Truncation::Choice);
            let packed: Vec<_> = questions.iter().enumerate()
                .map(|(i, (p, l, r, c))| question(&packer, i, &[p.clone(), l.clone(), r.clone()], c)).collect();
            let batches = packer.pack(packed);
            let mut seen = 0;
            for batch in &batches {
                prop_assert!(batch.rows * batch.width <= budget || batch.questions.len() == 1);
                for info in &batch.questions {
                    seen += 1;
                    let (passage, query_left, query_right, choices) = &questions[info.row];
                    let shared = Question { passage, query_left, query_right };
                    for (i, choice) in choices.iter().enumerate() {
                        let expected = packer.encoder.encode(&shared, choice).expect("fits");
                        let pairs: Vec<usize> = (0..batch.target.len())
                            .filter(|&pair| batch.choice_of_pair[pair] == (info.first_choice + i) as i64).collect();
                        let places: Vec<usize> = pairs.iter()
                            .map(|&pair| batch.scored[batch.scored_of_pair[pair] as usize] as usize).collect();
                        let row = places[0] / batch.width;
                        let sep = batch.sep[row] as usize;
                        prop_assert_eq!(sep, expected.sep);
                        prop_assert_eq!(places[0], row * batch.width + sep);
                        let all: Vec<usize> = (row * batch.width..row * batch.width + sep).chain(places.iter().copied()).collect();
                        let column = |values: &[i64]| all.iter().map(|&place| values[place] as i32).collect::<Vec<_>>();
                        prop_assert_eq!(column(&batch.ids), expected.ids);
                        prop_assert_eq!(column(&batch.position), expected.position);
                        prop_assert_eq!(column(&batch.block_position), expected.block_position);
                        let targets: Vec<i32> = pairs.iter().map(|&pair| batch.target[pair] as i32).collect();
                        prop_assert_eq!(&targets[..], &expected.target[sep..]);
                        // Start of piece is in piece 1; the choice's own tokens are a piece, and nobody else is in it.
                        prop_assert_eq!(batch.piece[places[0]], 1);
                        if let Some(&second) = places.get(1) {
                            let piece = batch.piece[second];
                            prop_assert!(piece > 1 && places[1..].iter().all(|&place| batch.piece[place] == piece));
                            let in_piece = batch.piece[row * batch.width..][..batch.width].iter().filter(|&&p| p == piece).count();
                            prop_assert_eq!(in_piece, places.len() - 1);
                        }
                    }
                }
            }
            prop_assert_eq!(seen, questions.len());
        }
    }

    #[test]
    fn one_setting_gives_every_question_one_context() {
        let parts = [vec![1; 50], vec![2; 3], vec![3; 3]];
        let choices = [vec![7], vec![8, 8], vec![9]];
        let by_choice = question(&packer(30, 100, Truncation::Choice), 0, &parts, &choices);
        assert_eq!(by_choice.rows.iter().map(|row| row.choices.clone()).collect::<Vec<_>>(), [vec![0, 2], vec![1]]);
        let by_question = question(&packer(30, 100, Truncation::Question), 0, &parts, &choices);
        assert_eq!(by_question.rows.len(), 1);
        assert_eq!(by_question.rows[0].kept_passage, by_choice.rows[1].kept_passage);
    }

    #[test]
    fn mentions_are_counted_by_tokens() {
        assert_eq!(occurrences(&[1, 2, 1, 2, 3], &[1, 2]), 2);
        assert_eq!(occurrences(&[1, 2], &[]), 0);
        assert_eq!(occurrences(&[1], &[1, 2]), 0);
    }
}
