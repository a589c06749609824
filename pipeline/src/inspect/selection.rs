//! Which questions are shown.
//!
//! Where a condition or chance decides, the numbers of the rows are found first, from the columns that the condition names
//! alone; then those rows are read, a block of a shard at a time. So what is in memory depends on what is shown, not on what
//! is in the shards.

use std::collections::HashSet;

use polars::error::PolarsError;
use polars::prelude::{DataFrame, DataType, Expr, IdxCa, IdxSize, LazyFrame, PolarsResult, RowIndex, col, len};
use polars::sql::sql_expr;
use rand_mt::Mt64;

use super::InspectError;
use super::source::{Part, Source};
use super::sql::{scan, scan_part, scan_part_numbered};

/// The column that numbers the rows of a shard; no column of a shard may be called so.
const ROW: &str = "__row";
/// Rows of a shard that are read together. The least that the Parquet reader decodes is of this order.
const BLOCK_ROWS: usize = 1024;

/// How many questions, and which of those that the condition holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// The first, in published order.
    First(usize),
    /// Random ones, in published order.
    Random {
        /// How many.
        rows: usize,
        /// What the draw depends on, besides the number of rows to draw from.
        seed: u64,
    },
}

/// Which questions are shown.
pub(super) struct Selection<'a> {
    /// Where they are.
    pub(super) source: &'a Source,
    /// The condition as it was typed.
    pub(super) condition: Option<&'a str>,
    expression: Option<Expr>,
    pick: Pick,
}

impl<'a> Selection<'a> {
    /// Reads the condition and checks it against the columns.
    pub(super) fn new(source: &'a Source, condition: Option<&'a str>, pick: Pick) -> Result<Self, InspectError> {
        let expression = condition.map(sql_expr).transpose().map_err(InspectError::Condition)?;
        let selection = Self { source, condition, expression, pick };
        if let Some(expression) = &selection.expression
            && !source.parts.is_empty()
        {
            let mut frame = scan(source)?.select([expression.clone().alias(ROW)]);
            let schema = frame.collect_schema().map_err(InspectError::Condition)?;
            if schema.get(ROW) != Some(&DataType::Boolean) {
                return Err(InspectError::NoCondition { condition: condition.unwrap_or_default().to_owned() });
            }
        }
        Ok(selection)
    }

    /// All questions that the condition holds for, nothing read yet.
    pub(super) fn frame(&self) -> Result<LazyFrame, InspectError> {
        Ok(self.filtered(scan(self.source)?))
    }

    /// The chosen questions with these columns.
    pub(super) fn load(&self, columns: &[Expr]) -> Result<DataFrame, InspectError> {
        let error = |error| self.error(error);
        if let (Pick::First(rows), None) = (self.pick, &self.expression) {
            // More rows than Polars can count are not there.
            let rows = IdxSize::try_from(rows).unwrap_or(IdxSize::MAX);
            return scan(self.source)?.limit(rows).select(columns).collect().map_err(error);
        }
        let chosen = self.chosen().map_err(error)?;
        let mut frame = scan(self.source)?.limit(0).select(columns).collect().map_err(error)?;
        for (part, rows) in self.source.parts.iter().zip(&chosen) {
            for block in rows.chunk_by(|&a, &b| a as usize / BLOCK_ROWS == b as usize / BLOCK_ROWS) {
                frame.vstack_mut_owned(read_block(part, block, columns).map_err(error)?).map_err(error)?;
            }
        }
        Ok(frame)
    }

    /// What an error of Polars means here: but for files that cannot be read, it is the condition's.
    pub(super) fn error(&self, error: PolarsError) -> InspectError {
        match (&self.expression, error) {
            (Some(_), error) if !matches!(error, PolarsError::IO { .. }) => InspectError::Condition(error),
            (_, source) => InspectError::Polars { path: self.source.path.clone(), source },
        }
    }

    fn filtered(&self, frame: LazyFrame) -> LazyFrame {
        match &self.expression {
            Some(expression) => frame.filter(expression.clone()),
            None => frame,
        }
    }

    /// For every shard the numbers of the chosen rows, ascending.
    fn chosen(&self) -> PolarsResult<Vec<Vec<IdxSize>>> {
        match self.pick {
            Pick::First(rows) => {
                let mut left = rows;
                let mut chosen = Vec::with_capacity(self.source.parts.len());
                for part in &self.source.parts {
                    let rows = if left == 0 { Vec::new() } else { self.passing(part, left)?.numbers() };
                    left -= rows.len();
                    chosen.push(rows);
                }
                Ok(chosen)
            }
            Pick::Random { rows, seed } => {
                let passing = self.source.parts.iter().map(|part| self.passing(part, usize::MAX));
                Ok(draw(&passing.collect::<PolarsResult<Vec<_>>>()?, rows, seed))
            }
        }
    }

    /// The first rows of a shard that the condition holds for, at most `most`.
    fn passing(&self, part: &Part, most: usize) -> PolarsResult<Passing> {
        if self.expression.is_none() {
            let rows = scan_part(part)?.select([len().alias(ROW)]).collect()?;
            return Ok(Passing::All(rows.column(ROW)?.idx()?.get(0).unwrap_or(0).min(limit(most))));
        }
        let index = RowIndex { name: ROW.into(), offset: 0 };
        let frame = self.filtered(scan_part_numbered(part, Some(index))?).select([col(ROW)]).limit(limit(most));
        let frame = frame.collect()?;
        Ok(Passing::Some(frame.column(ROW)?.idx()?.into_no_null_iter().collect()))
    }
}

fn limit(rows: usize) -> IdxSize {
    IdxSize::try_from(rows).unwrap_or(IdxSize::MAX)
}

/// Rows of a shard.
enum Passing {
    /// The first ones.
    All(IdxSize),
    /// Those with these numbers, ascending.
    Some(Vec<IdxSize>),
}

impl Passing {
    fn len(&self) -> usize {
        match self {
            Self::All(rows) => *rows as usize,
            Self::Some(rows) => rows.len(),
        }
    }

    fn numbers(self) -> Vec<IdxSize> {
        match self {
            Self::All(rows) => (0..rows).collect(),
            Self::Some(rows) => rows,
        }
    }

    fn number(&self, place: usize) -> IdxSize {
        match self {
            Self::All(_) => place as IdxSize,
            Self::Some(rows) => rows[place],
        }
    }
}

/// Draws rows, each as likely as any other, and says which of every shard.
fn draw(shards: &[Passing], rows: usize, seed: u64) -> Vec<Vec<IdxSize>> {
    let total: usize = shards.iter().map(Passing::len).sum();
    let mut places: Vec<usize> = distinct(total, rows.min(total), seed).into_iter().collect();
    places.sort_unstable();
    let mut places = places.into_iter().peekable();
    let mut first = 0;
    let mut chosen = Vec::with_capacity(shards.len());
    for shard in shards {
        let end = first + shard.len();
        let mut numbers = Vec::new();
        while let Some(place) = places.next_if(|&place| place < end) {
            numbers.push(shard.number(place - first));
        }
        chosen.push(numbers);
        first = end;
    }
    chosen
}

/// `count` different numbers below `total`, which is no less (R. Floyd's algorithm: no list of all numbers).
fn distinct(total: usize, count: usize, seed: u64) -> HashSet<usize> {
    let mut random = Mt64::new(seed);
    let mut chosen = HashSet::with_capacity(count);
    for last in total - count..total {
        // The bias of multiply-and-shift is total / 2^64.
        let drawn = ((u128::from(random.next_u64()) * (last as u128 + 1)) >> 64) as usize;
        if !chosen.insert(drawn) {
            chosen.insert(last);
        }
    }
    chosen
}

/// Reads rows that are near each other.
fn read_block(part: &Part, rows: &[IdxSize], columns: &[Expr]) -> PolarsResult<DataFrame> {
    let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { return Ok(DataFrame::empty()) };
    let block = scan_part(part)?.slice(i64::from(first), last - first + 1).select(columns).collect()?;
    let places: Vec<IdxSize> = rows.iter().map(|&row| row - first).collect();
    block.take(&IdxCa::from_vec(ROW.into(), places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_of_different_rows_and_fixed_by_its_seed() {
        for total in [1_usize, 5, 100] {
            for count in [0, 1, total / 2, total] {
                let drawn = distinct(total, count, 7);
                assert_eq!(drawn.len(), count);
                assert!(drawn.iter().all(|&number| number < total));
                assert_eq!(drawn, distinct(total, count, 7));
            }
        }
        assert_ne!(distinct(1000, 5, 1), distinct(1000, 5, 2));
    }

    #[test]
    fn every_row_is_as_likely() {
        let mut hits = [0_u32; 10];
        for seed in 0..3000 {
            for number in distinct(10, 3, seed) {
                hits[number] += 1;
            }
        }
        // 900 expected, standard deviation 25.
        assert!(hits.iter().all(|&hits| (780..1020).contains(&hits)), "{hits:?}");
    }

    #[test]
    fn rows_are_those_of_their_shard() {
        let shards = [Passing::All(2), Passing::Some(vec![]), Passing::Some(vec![4, 7, 9])];
        assert_eq!(draw(&shards, 9, 0), [vec![0, 1], vec![], vec![4, 7, 9]]);
        let three: usize = draw(&shards, 3, 0).iter().map(Vec::len).sum();
        assert_eq!(three, 3);
    }
}
