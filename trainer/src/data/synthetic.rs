//! Made-up questions, as a decoded row group holds them, for the tests of this module's parts.

use std::path::Path;
use std::sync::Arc;

use glm_schemas::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
use glm_schemas::encoding::{ChoiceEncoder, Question};
use glm_schemas::vocab::{SpecialIds, TokenId};

use super::mmap::DecodedGroup;
use super::pack::{Packer, Sample, Truncation};

#[derive(Debug, Clone)]
pub(super) struct SyntheticQuestion {
    pub(super) passage: Vec<TokenId>,
    pub(super) query_left: Vec<TokenId>,
    pub(super) query_right: Vec<TokenId>,
    pub(super) choices: Vec<Vec<TokenId>>,
    pub(super) right: usize,
}

impl SyntheticQuestion {
    /// A passage of so many tokens, and so many choices of one token; the first is right.
    pub(super) fn of_length(passage: usize, choices: usize) -> Self {
        Self {
            passage: (0..passage).map(|i| 1000 + i as TokenId).collect(),
            query_left: vec![5, 6],
            query_right: vec![7],
            choices: (0..choices).map(|i| vec![2000 + i as TokenId]).collect(),
            right: 0,
        }
    }

    pub(super) fn tokens(&self) -> Question<'_> {
        Question { passage: &self.passage, query_left: &self.query_left, query_right: &self.query_right }
    }
}

/// A row group that begins its split.
pub(super) fn group(questions: &[SyntheticQuestion]) -> Arc<DecodedGroup> {
    group_at(questions, 0)
}

/// A row group whose first row has this index in its split.
pub(super) fn group_at(questions: &[SyntheticQuestion], first_row: usize) -> Arc<DecodedGroup> {
    let mut builder = ClozeBatchBuilder::new();
    for (i, question) in questions.iter().enumerate() {
        let choices: Vec<_> = question
            .choices
            .iter()
            .enumerate()
            .map(|(choice, ids)| ChoiceRow { text: "", ids, correct: choice == question.right })
            .collect();
        let row = ClozeRow {
            example_id: &format!("q{}", first_row + i),
            passage_id: 0,
            question_id: 0,
            source: "",
            passage: "",
            query: "",
            tokens: question.tokens(),
            entities: &[],
            choices: &choices,
            labelled: true,
        };
        builder.append(&row).expect("appends");
    }
    let batch = builder.finish().expect("builds");
    Arc::new(DecodedGroup::try_new(Path::new("made up"), batch, first_row).expect("keeps the contract"))
}

/// All rows of a group, numbered from `first_ordinal` on.
pub(super) fn samples(group: &Arc<DecodedGroup>, first_ordinal: u64) -> Vec<Sample> {
    (0..group.rows()).map(|row| Sample { group: Arc::clone(group), row, ordinal: first_ordinal + row as u64 }).collect()
}

/// A packer that truncates as published.
pub(super) fn packer(max_seq_len: usize, micro_batch_tokens: usize) -> Packer {
    let special = SpecialIds::BERT_UNCASED;
    let encoder = ChoiceEncoder::new(special, max_seq_len);
    Packer { encoder, special, truncation: Truncation::Choice, micro_batch_tokens, labelled: false, graded: false, share: None }
}
