//! Tables of a packed batch for kernels that compute one block of a row at a time.
//!
//! The batch gets a row of padding at its end, which makes the number of tokens, and that of scored tokens, a multiple of 64 or more:
//! cuBLAS spends 0.4 ms of the host's time on every product of a new shape, which is most of a small step. No token of another
//! row sees the padding, and no target depends on it, so its gradients are zero.

use tch::{TchError, Tensor};

use super::packed::Batch;

/// Queries that a program of the attention kernels computes.
pub const QUERY_BLOCK: usize = 64;
/// Keys whose gradients a program of the attention kernels computes.
pub const KEY_BLOCK: usize = 64;
/// Tokens whose gradients a program adds up for a row of an embedding table.
const CHUNK: usize = 32;
/// Multiples of the number of tokens, by the largest number that they apply to: a few percent of it.
const TOKEN_MULTIPLES: [(usize, usize); 3] = [(4096, 64), (16384, 128), (usize::MAX, 256)];
/// The same for scored tokens.
const SCORED_MULTIPLES: [(usize, usize); 2] = [(512, 32), (usize::MAX, 128)];

/// Tables of the attention kernels for one choice of queries.
#[derive(Debug)]
pub struct QueryTables {
    /// `[rows, 6]`: first token, tokens, context tokens, first query, queries, first query that is not in the context.
    pub rows: Tensor,
    /// `[programs, 2]`: row, first query of the block within the row.
    pub query_blocks: Tensor,
    /// `[programs, 2]`: row, first key of the block within the row.
    pub key_blocks: Tensor,
    /// Index within the row of each query `[queries]`.
    pub token: Tensor,
    /// Index within the row of the first token of each query's piece, -1 in the context `[queries]`.
    pub piece: Tensor,
    /// Dropout key of each query `[queries]`.
    pub key: Tensor,
}

/// Tables for the gradients of the three embedding tables.
#[derive(Debug)]
pub struct EmbeddingTables {
    /// Tokens of the batch, sorted by the row that they take: of words, then positions, then block positions `[3 T]`.
    pub token: Tensor,
    /// `[chunks, 2]`: first entry of `token`, number of entries.
    pub chunks: Tensor,
    /// `[rows taken, 3]` of each table: its row, first chunk, number of chunks.
    pub rows: [Tensor; 3],
}

/// Tables for log probabilities of targets.
#[derive(Debug)]
pub struct TargetTables {
    /// First entry of `group_targets` of each group, and the end `[groups + 1]`.
    pub group_first: Tensor,
    /// `[targets, 2]`, by group: entry of the scored tokens, token to predict.
    pub group_targets: Tensor,
    /// First entry of `scored_targets` of each scored token, and the end `[scored + 1]`.
    pub scored_first: Tensor,
    /// `[targets, 2]`, by scored token: token to predict, group.
    pub scored_targets: Tensor,
}

/// All tables on the device.
#[derive(Debug)]
pub struct BlockTables {
    /// Attention of all tokens.
    pub all: QueryTables,
    /// Attention of the scored tokens.
    pub scored: QueryTables,
    /// Gradients of embeddings.
    pub embeddings: EmbeddingTables,
    /// Targets.
    pub targets: TargetTables,
}

impl QueryTables {
    /// Handles to the same tables, for a backward pass.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            rows: self.rows.shallow_clone(),
            query_blocks: self.query_blocks.shallow_clone(),
            key_blocks: self.key_blocks.shallow_clone(),
            token: self.token.shallow_clone(),
            piece: self.piece.shallow_clone(),
            key: self.key.shallow_clone(),
        }
    }
}

impl BlockTables {
    /// Handles to the same tables, for a backward pass.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            all: self.all.share(),
            scored: self.scored.share(),
            embeddings: self.embeddings.share(),
            targets: self.targets.share(),
        }
    }
}

impl TargetTables {
    /// Handles to the same tables, for a backward pass.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            group_first: self.group_first.shallow_clone(),
            group_targets: self.group_targets.shallow_clone(),
            scored_first: self.scored_first.shallow_clone(),
            scored_targets: self.scored_targets.shallow_clone(),
        }
    }
}

impl EmbeddingTables {
    /// Handles to the same tables, for a backward pass.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            token: self.token.shallow_clone(),
            chunks: self.chunks.shallow_clone(),
            rows: self.rows.each_ref().map(Tensor::shallow_clone),
        }
    }
}

fn round_up(count: usize, multiples: &[(usize, usize)]) -> usize {
    let multiple = multiples.iter().find(|(largest, _)| count <= *largest).map_or(1, |(_, multiple)| *multiple);
    count.next_multiple_of(multiple)
}

/// The batch with a row of padding at its end. It has a context token at least, so that its softmax is defined.
pub(super) fn pad(batch: &Batch) -> Batch {
    let (tokens, scored) = (batch.tokens(), batch.targets.scored.len());
    let mut padded = batch.clone();
    if tokens == 0 {
        return padded;
    }
    let more_scored = round_up(scored, &SCORED_MULTIPLES) - scored;
    let more = round_up(tokens + more_scored + 1, &TOKEN_MULTIPLES) - tokens;
    let context = more - more_scored;
    padded.push_context(&vec![0; context]);
    for index in context..more {
        padded.push_scored(0, 0, 0, index);
    }
    padded.end_row(0, 0);
    padded
}

/// The tables on the host, in the order of the fields above.
#[derive(Debug)]
pub(super) struct BlockColumns(Vec<Vec<i64>>);

impl BlockColumns {
    pub(super) fn new(batch: &Batch) -> Self {
        let [all_rows, all_queries, all_keys, all_token, all_piece, all_key] = query_columns(batch, false);
        let [rows, queries, keys, token, piece, key] = query_columns(batch, true);
        let inputs = &batch.inputs;
        let (mut order, mut chunks) = (Vec::with_capacity(3 * inputs.tokens()), Vec::new());
        let [words, positions, block_positions] = inputs.lookups().map(|taken| rows_taken(taken, &mut order, &mut chunks));
        let [group_first, group_targets, scored_first, scored_targets] = target_columns(batch);
        Self(vec![
            all_rows,
            all_queries,
            all_keys,
            all_token,
            all_piece,
            all_key,
            rows,
            queries,
            keys,
            token,
            piece,
            key,
            order,
            chunks,
            words,
            positions,
            block_positions,
            group_first,
            group_targets,
            scored_first,
            scored_targets,
        ])
    }

    pub(super) fn all(&self) -> &[Vec<i64>] {
        &self.0
    }

    /// Makes the tables from the columns on the device, which `next` returns one after the other.
    pub(super) fn on_device(&self, mut next: impl FnMut(&[i64]) -> Result<Tensor, TchError>) -> Result<BlockTables, TchError> {
        let mut columns = self.0.iter();
        let mut next = || match columns.next() {
            Some(column) => next(column),
            None => Err(TchError::Shape("a table is missing".to_owned())),
        };
        Ok(BlockTables {
            all: query_tables(&mut next)?,
            scored: query_tables(&mut next)?,
            embeddings: EmbeddingTables { token: next()?, chunks: next()?, rows: [next()?, next()?, next()?] },
            targets: TargetTables {
                group_first: next()?,
                group_targets: next()?,
                scored_first: next()?,
                scored_targets: next()?,
            },
        })
    }
}

fn query_tables(mut next: impl FnMut() -> Result<Tensor, TchError>) -> Result<QueryTables, TchError> {
    Ok(QueryTables { rows: next()?, query_blocks: next()?, key_blocks: next()?, token: next()?, piece: next()?, key: next()? })
}

/// Columns of [`QueryTables`], with all tokens or only the scored ones as queries. Scored tokens follow the context.
fn query_columns(batch: &Batch, only_scored: bool) -> [Vec<i64>; 6] {
    let inputs = &batch.inputs;
    let mut scored = batch.targets.scored.iter().map(|token| *token as usize).peekable();
    let [mut rows, mut query_blocks, mut key_blocks, mut token, mut piece, mut key]: [Vec<i64>; 6] = Default::default();
    for (number, row) in inputs.rows.iter().enumerate() {
        let first_query = token.len();
        if only_scored {
            let own = std::iter::from_fn(|| scored.next_if(|token| *token < row.start + row.length));
            token.extend(own.map(|token| (token - row.start) as i64));
        } else {
            token.extend(0..row.length as i64);
        }
        for index in &token[first_query..] {
            let at = row.start + *index as usize;
            piece.push(inputs.piece_start[at].into());
            key.push(inputs.token_key[at].cast_signed());
        }
        let queries = token.len() - first_query;
        let in_context = token[first_query..].iter().filter(|index| (**index as usize) < row.context).count();
        rows.extend([row.start, row.length, row.context, first_query, queries, in_context].map(|number| number as i64));
        query_blocks.extend((0..queries).step_by(QUERY_BLOCK).flat_map(|first| [number as i64, first as i64]));
        key_blocks.extend((0..row.length).step_by(KEY_BLOCK).flat_map(|first| [number as i64, first as i64]));
    }
    [rows, query_blocks, key_blocks, token, piece, key]
}

/// Appends the tokens, sorted by the row that they take, to `order`, and the chunks of each row to `chunks`. Returns the rows.
fn rows_taken(taken: &[i64], order: &mut Vec<i64>, chunks: &mut Vec<i64>) -> Vec<i64> {
    let before = order.len();
    order.extend(0..taken.len() as i64);
    // Stable: a row adds its tokens up in their own order.
    order[before..].sort_by_key(|token| taken[*token as usize]);
    let mut rows = Vec::new();
    let mut next = before;
    for same in order[before..].chunk_by(|a, b| taken[*a as usize] == taken[*b as usize]) {
        let first_chunk = chunks.len() / 2;
        for chunk in same.chunks(CHUNK) {
            chunks.extend([next as i64, chunk.len() as i64]);
            next += chunk.len();
        }
        rows.extend([taken[same[0] as usize], first_chunk as i64, (chunks.len() / 2 - first_chunk) as i64]);
    }
    rows
}

/// Columns of [`TargetTables`].
fn target_columns(batch: &Batch) -> [Vec<i64>; 4] {
    let targets = &batch.targets;
    let by = |key: &[i64], count: usize, pair: &dyn Fn(usize) -> [i64; 2]| {
        let mut order: Vec<usize> = (0..key.len()).collect();
        order.sort_by_key(|target| key[*target]);
        let mut first = vec![0; count + 1];
        key.iter().for_each(|key| first[*key as usize + 1] += 1);
        for i in 0..count {
            first[i + 1] += first[i];
        }
        (first, order.into_iter().flat_map(pair).collect())
    };
    let (group_first, group_targets) =
        by(&targets.group, targets.groups, &|target| [targets.scored_index[target], targets.token[target]]);
    let (scored_first, scored_targets) =
        by(&targets.scored_index, targets.scored.len(), &|target| [targets.token[target], targets.group[target]]);
    [group_first, group_targets, scored_first, scored_targets]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_in_one_chunk_of_the_row_that_it_takes() {
        let taken: Vec<i64> = (0..200).map(|i| if i % 2 == 0 { 7 } else { i % 5 }).collect();
        let (mut order, mut chunks) = (vec![-1; 3], vec![0, 3]);
        let rows = rows_taken(&taken, &mut order, &mut chunks);
        let mut seen = vec![0; 200];
        for row in rows.chunks(3) {
            for chunk in row[1]..row[1] + row[2] {
                let [first, count] = [chunks[2 * chunk as usize], chunks[2 * chunk as usize + 1]];
                assert!(count as usize <= CHUNK && count > 0);
                for token in &order[first as usize..(first + count) as usize] {
                    assert_eq!(taken[*token as usize], row[0]);
                    seen[*token as usize] += 1;
                }
            }
        }
        assert_eq!(seen, [1; 200]);
        assert_eq!(rows.chunks(3).map(|row| row[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 7]);
    }

    #[test]
    fn padding_is_a_row_that_nothing_else_sees() {
        let mut batch = Batch::default();
        batch.push_context(&[5; 100]);
        let scored = batch.push_scored(90, 3, 1, 100);
        batch.push_target(scored, 4, 0);
        batch.end_row(7, 0);
        batch.end_example(0, 0, 1);
        let padded = pad(&batch);
        assert_eq!((padded.tokens(), padded.targets.scored.len()), (192, 32));
        let (rows, starts) = (&padded.inputs.rows, &padded.inputs.piece_start);
        assert_eq!(
            (rows.len(), rows[0], rows[1].start, rows[1].length, rows[1].context),
            (2, batch.inputs.rows[0], 101, 91, 60)
        );
        assert!((60..91).all(|index| starts[101 + index] == index as i32), "each is a piece of its own");
        assert_eq!((padded.targets.token, padded.targets.groups), (batch.targets.token, 1));
        assert_eq!(pad(&Batch::default()), Batch::default());
    }

    #[test]
    fn scored_queries_begin_behind_the_context() {
        let mut batch = Batch::default();
        for ordinal in 0..2 {
            batch.push_context(&[5; 70]);
            let scored = batch.push_scored(90, 3, 1, 70);
            batch.push_target(scored, 4, ordinal);
            batch.push_target(scored, 6, ordinal);
            batch.push_scored(91, 3, 2, 71);
            batch.end_row(ordinal as u64, 0);
            batch.end_example(0, 0, 1);
        }
        let [rows, query_blocks, key_blocks, token, piece, _] = query_columns(&batch, false);
        assert_eq!(rows, [0, 72, 70, 0, 72, 70, 72, 72, 70, 72, 72, 70]);
        assert_eq!(query_blocks, [0, 0, 0, 64, 1, 0, 1, 64]);
        assert_eq!((key_blocks, token.len(), &piece[69..72]), (query_blocks, 144, &[-1, 70, 71][..]));
        let [rows, query_blocks, _, token, piece, _] = query_columns(&batch, true);
        assert_eq!(rows, [0, 72, 70, 0, 2, 0, 72, 72, 70, 2, 2, 0]);
        assert_eq!((query_blocks, token, piece), (vec![0, 0, 1, 0], vec![70, 71, 70, 71], vec![70, 71, 70, 71]));
        let [group_first, group_targets, scored_first, scored_targets] = target_columns(&batch);
        assert_eq!((group_first, group_targets), (vec![0, 2, 4], vec![0, 4, 0, 6, 2, 4, 2, 6]));
        assert_eq!((scored_first, scored_targets), (vec![0, 2, 2, 4, 4], vec![4, 0, 6, 0, 4, 1, 6, 1]));
    }
}
