//! A batch of packed questions, on the host and on the device.

use glm_schemas::vocab::TokenId;
use tch::{Device, TchError, Tensor};

/// Which question a batch's scores belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionInfo {
    /// The row's `example_id`.
    pub example_id: String,
    /// Index of the row in its split.
    pub row: usize,
    /// Index of the question's first choice among the batch's choices; the others follow.
    pub first_choice: usize,
    /// For each choice, whether it is a right answer.
    pub correct: Vec<bool>,
    /// For each choice, how often its tokens occur in the passage: the basis of the most-frequent-entity guess.
    pub mentions: Vec<u32>,
}

/// Questions packed into rows of equal width: a row is a context and the pieces of all choices that share it.
///
/// Most questions have one row. One whose choices truncate the context differently has several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Tokens of a row, padding included.
    pub width: usize,
    /// Tokens that are no padding.
    pub tokens: usize,
    /// Token ids, `rows · width`; 0 is padding.
    pub ids: Vec<i64>,
    /// Position ids, `rows · width`.
    pub position: Vec<i64>,
    /// Block position ids, `rows · width`.
    pub block_position: Vec<i64>,
    /// Which piece of its row a token belongs to: 0 for context and padding, 1 for the start of piece that all choices of the
    /// row share, from 2 on the tokens of each choice. `rows · width`.
    pub piece: Vec<i64>,
    /// Context tokens of each row; the start of piece stands right behind them.
    pub sep: Vec<i64>,
    /// Positions that predict tokens of choices, each once: indices into `rows · width`.
    pub scored: Vec<i64>,
    /// For each token of each choice, the entry of `scored` that predicts it. The start of piece predicts the first token of
    /// every choice of its row.
    pub scored_of_pair: Vec<i64>,
    /// For each token of each choice, its id.
    pub target: Vec<i64>,
    /// For each token of each choice, the choice.
    pub choice_of_pair: Vec<i64>,
    /// Number of choices over all questions.
    pub choices: usize,
    /// For each question its choices, filled up with `choices` (a choice that is not there): `questions · most choices`.
    pub choice_table: Vec<i64>,
    /// For each question the index of its first right choice; 0 where none is known.
    pub label: Vec<i64>,
    /// The questions.
    pub questions: Vec<QuestionInfo>,
}

/// A batch as tensors on the device that computes.
#[derive(Debug)]
pub struct DeviceBatch {
    /// Number of rows.
    pub rows: i64,
    /// Tokens of a row.
    pub width: i64,
    /// Number of choices over all questions.
    pub choices: i64,
    /// `[rows, width]` token ids.
    pub ids: Tensor,
    /// `[rows, width]` position ids.
    pub position: Tensor,
    /// `[rows, width]` block position ids.
    pub block_position: Tensor,
    /// `[rows, width]` piece numbers, 0 for context and padding, 1 for the start of piece.
    pub piece: Tensor,
    /// `[rows]` context tokens.
    pub sep: Tensor,
    /// `[scored]` indices into `rows · width`.
    pub scored: Tensor,
    /// `[pairs]` entries of `scored`, one for each token of each choice.
    pub scored_of_pair: Tensor,
    /// `[pairs]` tokens to predict.
    pub target: Tensor,
    /// `[pairs]` choices that the tokens belong to.
    pub choice_of_pair: Tensor,
    /// `[questions, most choices]` indices of choices; `choices` where there is none.
    pub choice_table: Tensor,
    /// `[questions]` index of the first right choice.
    pub label: Tensor,
}

impl Batch {
    /// Share of the batch's tokens that is padding, from 0 to 1.
    pub fn padding(&self) -> f64 {
        let all = self.rows * self.width;
        if all == 0 { 0.0 } else { 1.0 - self.tokens as f64 / all as f64 }
    }

    /// Appends a token whose output is scored; returns its entry in `scored`.
    pub(super) fn push_scored(&mut self, id: TokenId, position: i64, block_position: i64, piece: i64) -> i64 {
        self.scored.push(self.ids.len() as i64);
        self.ids.push(id.into());
        self.position.push(position);
        self.block_position.push(block_position);
        self.piece.push(piece);
        self.scored.len() as i64 - 1
    }

    /// Notes that entry `scored` has to predict `target`, a token of `choice`.
    pub(super) fn push_pair(&mut self, scored: i64, target: TokenId, choice: usize) {
        self.scored_of_pair.push(scored);
        self.target.push(target.into());
        self.choice_of_pair.push(choice as i64);
    }

    /// Copies the batch to a device.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn to_device(&self, device: Device) -> Result<DeviceBatch, TchError> {
        let flat = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        let grid = |values: &[i64]| flat(values)?.f_reshape([self.rows as i64, self.width as i64]);
        Ok(DeviceBatch {
            rows: self.rows as i64,
            width: self.width as i64,
            choices: self.choices as i64,
            ids: grid(&self.ids)?,
            position: grid(&self.position)?,
            block_position: grid(&self.block_position)?,
            piece: grid(&self.piece)?,
            sep: flat(&self.sep)?,
            scored: flat(&self.scored)?,
            scored_of_pair: flat(&self.scored_of_pair)?,
            target: flat(&self.target)?,
            choice_of_pair: flat(&self.choice_of_pair)?,
            choice_table: flat(&self.choice_table)?.f_reshape([self.questions.len() as i64, -1])?,
            label: flat(&self.label)?,
        })
    }
}
