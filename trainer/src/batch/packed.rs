//! Packed batch on the host: rows of different lengths laid end to end, without padding.

use glm_schemas::vocab::TokenId;

use super::key::{row_key, token_key};

/// Position of one row among the tokens of a batch.
///
/// A row has `context` tokens of context, then the start of piece, then the tokens of its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSpan {
    /// Index of the row's first token in the batch.
    pub start: usize,
    /// Number of tokens.
    pub length: usize,
    /// Number of context tokens; the start of piece is token `start + context`.
    pub context: usize,
}

/// Input of the model. `T` is the number of tokens of all rows.
///
/// Attention, by index within a row: a context token sees `0..context`; the start of piece sees `0..=context`; token `q` of a
/// piece sees `0..=context` and `piece_start..=q`. If all pieces of a row start at the end of the context, this is GLM's
/// causal mask over several spans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Rows in the order in which they lie in the batch.
    pub rows: Vec<RowSpan>,
    /// Token ids `[T]`.
    pub ids: Vec<i64>,
    /// Position ids `[T]`.
    pub position: Vec<i64>,
    /// Block position ids `[T]`.
    pub block_position: Vec<i64>,
    /// Index within the row of the first token of the token's piece `[T]`; -1 for context tokens.
    pub piece_start: Vec<i32>,
    /// Random key per token `[T]`, see [`super::key`].
    pub token_key: Vec<u64>,
    /// Random key per row, from which the keys of its tokens are derived.
    pub row_key: Vec<u64>,
}

/// Tokens to predict, and the groups over which their log probabilities are summed.
///
/// All columns but `scored` have one entry per target token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Indices into `[T]` of the tokens whose output is projected to the vocabulary `[scored]`, ascending.
    pub scored: Vec<i64>,
    /// Entry of `scored` that predicts the target. One entry may predict several targets: the start of piece predicts the
    /// first token of every choice of its row.
    pub scored_index: Vec<i64>,
    /// Token id to predict.
    pub token: Vec<i64>,
    /// Group to which the target's log probability is added.
    pub group: Vec<i64>,
    /// Number of groups.
    pub groups: usize,
}

/// One example of a batch: a row of a shard, and its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// Index of the row in its split.
    pub row: usize,
    /// Index among the step's samples.
    pub sample: usize,
    /// First group; the others follow.
    pub first_group: usize,
    /// Number of groups.
    pub groups: usize,
}

/// Batch of packed examples: input of the model, targets, and the columns that the task's loss needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Input of the model.
    pub inputs: Inputs,
    /// Tokens to predict.
    pub targets: Targets,
    /// Examples, in the order of their groups.
    pub examples: Vec<Example>,
    /// Columns that the task's loss needs; they are copied to the device with the batch.
    pub task_columns: Vec<Vec<i64>>,
}

impl Inputs {
    /// `T`, the number of tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Rows of the tables of words, positions and block positions that the tokens look up, `[T]` each.
    pub fn lookups(&self) -> [&[i64]; 3] {
        [&self.ids, &self.position, &self.block_position]
    }

    /// Number of tokens of the longest row.
    pub fn max_row(&self) -> usize {
        self.rows.iter().map(|row| row.length).max().unwrap_or(0)
    }
}

impl Batch {
    /// Returns an empty batch with capacity for `tokens` tokens and `targets` targets.
    pub(crate) fn with_capacity(tokens: usize, targets: usize) -> Self {
        let inputs = Inputs {
            ids: Vec::with_capacity(tokens),
            position: Vec::with_capacity(tokens),
            block_position: Vec::with_capacity(tokens),
            piece_start: Vec::with_capacity(tokens),
            token_key: Vec::with_capacity(tokens),
            ..Inputs::default()
        };
        let targets = Targets {
            scored: Vec::with_capacity(targets),
            scored_index: Vec::with_capacity(targets),
            token: Vec::with_capacity(targets),
            group: Vec::with_capacity(targets),
            groups: 0,
        };
        Self { inputs, targets, ..Self::default() }
    }

    /// `T`, the number of tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.inputs.tokens()
    }

    /// Starts a row with its context.
    pub(crate) fn push_context(&mut self, context: &[TokenId]) {
        let inputs = &mut self.inputs;
        let (start, length) = (inputs.ids.len(), context.len());
        inputs.ids.extend(context.iter().map(|&id| i64::from(id)));
        inputs.position.extend(0..length as i64);
        inputs.block_position.resize(start + length, 0);
        inputs.piece_start.resize(start + length, -1);
        inputs.rows.push(RowSpan { start, length, context: length });
    }

    /// Appends a token of a piece to the current row, whose output predicts nothing that counts.
    pub(crate) fn push_unscored(&mut self, id: TokenId, position: i64, block_position: i64, piece_start: usize) {
        let inputs = &mut self.inputs;
        inputs.ids.push(id.into());
        inputs.position.push(position);
        inputs.block_position.push(block_position);
        inputs.piece_start.push(piece_start as i32);
    }

    /// Appends a token of a piece whose output is scored to the current row; returns its entry in [`Targets::scored`].
    pub(crate) fn push_scored(&mut self, id: TokenId, position: i64, block_position: i64, piece_start: usize) -> i64 {
        self.targets.scored.push(self.inputs.ids.len() as i64);
        self.push_unscored(id, position, block_position, piece_start);
        self.targets.scored.len() as i64 - 1
    }

    /// Adds a target: entry `scored` predicts `token`, whose log probability is added to `group`.
    pub(crate) fn push_target(&mut self, scored: i64, token: TokenId, group: usize) {
        self.targets.scored_index.push(scored);
        self.targets.token.push(token.into());
        self.targets.group.push(group as i64);
    }

    /// Ends the current row, which is row `number` of the sample with number `ordinal`.
    pub(crate) fn end_row(&mut self, ordinal: u64, number: usize) {
        let inputs = &mut self.inputs;
        let tokens = inputs.ids.len();
        let Some(row) = inputs.rows.last_mut() else { return };
        row.length = tokens - row.start;
        let key = row_key(ordinal, number);
        inputs.row_key.push(key);
        inputs.token_key.extend((0..row.length).map(|index| token_key(key, index)));
    }

    /// Adds an example with the next `groups` groups.
    pub(crate) fn end_example(&mut self, row: usize, sample: usize, groups: usize) {
        self.examples.push(Example { row, sample, first_group: self.targets.groups, groups });
        self.targets.groups += groups;
    }
}
