//! Synthetic questions for tests.

use arrow_array::RecordBatch;
use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
use glm_schemas::cloze::encoding::Question;
use glm_schemas::origin::Origin;
use glm_schemas::vocab::TokenId;

#[derive(Debug, Clone)]
pub(crate) struct SyntheticQuestion {
    pub(crate) passage: Vec<TokenId>,
    pub(crate) query_left: Vec<TokenId>,
    pub(crate) query_right: Vec<TokenId>,
    pub(crate) choices: Vec<Vec<TokenId>>,
    /// Texts of the choices; choices without one have an empty text.
    pub(crate) texts: Vec<String>,
    /// True for correct choices; choices without an entry are wrong.
    pub(crate) correct: Vec<bool>,
    /// The right label of choices with names, which may be that of none.
    pub(crate) label_name: Option<&'static str>,
}

impl SyntheticQuestion {
    /// A passage of `passage` tokens and `choices` choices of one token, of which the first is correct.
    pub(crate) fn of_length(passage: usize, choices: usize) -> Self {
        Self {
            passage: (0..passage).map(|i| 1000 + i as TokenId).collect(),
            query_left: vec![5, 6],
            query_right: vec![7],
            choices: (0..choices).map(|i| vec![2000 + i as TokenId]).collect(),
            texts: Vec::new(),
            correct: if choices > 0 { vec![true] } else { Vec::new() },
            label_name: None,
        }
    }

    pub(crate) fn tokens(&self) -> Question<'_> {
        Question::about(&self.passage, &self.query_left, &self.query_right)
    }
}

/// Rows of a shard. Ids count from `first_row` on.
pub(crate) fn rows(questions: &[SyntheticQuestion], first_row: usize) -> RecordBatch {
    let mut builder = ClozeBatchBuilder::new();
    for (i, question) in questions.iter().enumerate() {
        let choices: Vec<_> = question
            .choices
            .iter()
            .enumerate()
            .map(|(choice, ids)| ChoiceRow {
                text: question.texts.get(choice).map_or("", String::as_str),
                ids,
                correct: question.correct.get(choice).copied().unwrap_or(false),
                index: choice,
                name: None,
            })
            .collect();
        let row = ClozeRow {
            example_id: &format!("q{}", first_row + i),
            origin: Origin::NONE,
            passage_id: 0,
            question_id: 0,
            group_id: None,
            idx: None,
            source: "",
            passage: "",
            query: "",
            tokens: &question.tokens(),
            entities: &[],
            choices: &choices,
            labelled: true,
            label_name: question.label_name,
            end_of_piece: true,
        };
        builder.append(&row).expect("appends");
    }
    builder.finish().expect("builds")
}
