//! A batch of packed questions on the host: rows of different lengths laid end to end, without padding.

use glm_schemas::vocab::TokenId;

use super::key::{row_key, token_key};

/// What an evaluation wants to know of a question, and training does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grading {
    /// The row's `example_id`.
    pub example_id: String,
    /// The text of each choice; empty where the text columns were not read.
    pub texts: Vec<String>,
    /// For each choice, whether it is a right answer.
    pub correct: Vec<bool>,
    /// For each choice, how often its tokens occur in the passage: the basis of the most-frequent-entity guess.
    pub mentions: Vec<u32>,
}

/// Which question a batch's scores belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionInfo {
    /// Index of the question in its split.
    pub row: usize,
    /// Index of the question's first choice among the batch's choices; the others follow.
    pub first_choice: usize,
    /// Number of choices.
    pub choices: usize,
    /// Present where the packer was asked for it, see [`crate::data::pack::Packer::graded`].
    pub grading: Option<Grading>,
}

/// Where a row lies among the batch's tokens: `context` tokens of context, the start of piece, then the pieces of its choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSpan {
    /// The row's first token.
    pub start: usize,
    /// Its tokens.
    pub length: usize,
    /// How many of them are context; the start of piece is token `start + context`.
    pub context: usize,
}

/// Questions packed into rows: a row is a context and the pieces of all choices that share it.
///
/// Most questions have one row. One whose choices truncate the context differently has several. Rows lie end to end, so all
/// columns that have an entry a token are `[T]`, with `T` the tokens of all rows; there is no padding.
///
/// Who sees whom, by index inside a row: a context token sees `0..context`; the start of piece sees `0..=context`; a token `q`
/// of a choice's piece sees `0..=context` and `visible_from..=q`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The rows, in the order in which they lie.
    pub rows: Vec<RowSpan>,
    /// `[T]` token ids.
    pub ids: Vec<i64>,
    /// `[T]` position ids.
    pub position: Vec<i64>,
    /// `[T]` block position ids.
    pub block_position: Vec<i64>,
    /// `[T]` for a token of a choice's piece the index in its row of that piece's first token, for the start of piece its own
    /// index in the row, for a context token -1.
    pub visible_from: Vec<i32>,
    /// `[T]` keys for random draws, see [`super::key`].
    pub token_key: Vec<u64>,
    /// For each row, the key that its tokens' keys are made of.
    pub row_key: Vec<u64>,
    /// Tokens that predict tokens of choices, each once: indices into `[T]`.
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

impl Batch {
    /// An empty batch with room for this many tokens, `scored` of them in pieces.
    pub(super) fn with_room(tokens: usize, scored: usize) -> Self {
        Self {
            ids: Vec::with_capacity(tokens),
            position: Vec::with_capacity(tokens),
            block_position: Vec::with_capacity(tokens),
            visible_from: Vec::with_capacity(tokens),
            token_key: Vec::with_capacity(tokens),
            scored: Vec::with_capacity(scored),
            // A choice has one pair more than it has tokens, for the end of piece.
            scored_of_pair: Vec::with_capacity(2 * scored),
            target: Vec::with_capacity(2 * scored),
            choice_of_pair: Vec::with_capacity(2 * scored),
            ..Self::default()
        }
    }

    /// `T`: tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Tokens of the longest row.
    pub fn max_row(&self) -> usize {
        self.rows.iter().map(|row| row.length).max().unwrap_or(0)
    }

    /// Share of a view with rows of equal width, as [`super::device::PaddedView`] is, that would be padding: from 0 to 1.
    pub fn padding(&self) -> f64 {
        let all = self.rows.len() * self.max_row();
        if all == 0 { 0.0 } else { 1.0 - self.tokens() as f64 / all as f64 }
    }

    /// Begins a row with its context.
    pub(super) fn push_context(&mut self, context: &[TokenId]) {
        let (start, length) = (self.ids.len(), context.len());
        self.ids.extend(context.iter().map(|&id| i64::from(id)));
        self.position.extend(0..length as i64);
        self.block_position.resize(start + length, 0);
        self.visible_from.resize(start + length, -1);
        self.rows.push(RowSpan { start, length, context: length });
    }

    /// Appends a token whose output is scored to the row that was begun last; returns its entry in `scored`.
    pub(super) fn push_scored(&mut self, id: TokenId, position: i64, block_position: i64, visible_from: usize) -> i64 {
        self.scored.push(self.ids.len() as i64);
        self.ids.push(id.into());
        self.position.push(position);
        self.block_position.push(block_position);
        self.visible_from.push(visible_from as i32);
        self.scored.len() as i64 - 1
    }

    /// Notes that entry `scored` has to predict `target`, a token of `choice`.
    pub(super) fn push_pair(&mut self, scored: i64, target: TokenId, choice: usize) {
        self.scored_of_pair.push(scored);
        self.target.push(target.into());
        self.choice_of_pair.push(choice as i64);
    }

    /// Ends the row that was begun last, row `number` of the sample that comes as number `ordinal`.
    pub(super) fn end_row(&mut self, ordinal: u64, number: usize) {
        let tokens = self.ids.len();
        let Some(row) = self.rows.last_mut() else { return };
        row.length = tokens - row.start;
        let key = row_key(ordinal, number);
        self.row_key.push(key);
        self.token_key.extend((0..row.length).map(|index| token_key(key, index)));
    }

    /// Makes the table of choices, once all questions are in.
    pub(super) fn finish(mut self) -> Self {
        let most = self.questions.iter().map(|question| question.choices).max().unwrap_or(0);
        self.choice_table.reserve_exact(most * self.questions.len());
        for question in &self.questions {
            let own = question.first_choice..question.first_choice + question.choices;
            self.choice_table.extend(own.map(|choice| choice as i64));
            self.choice_table.extend(std::iter::repeat_n(self.choices as i64, most - question.choices));
        }
        self
    }
}
