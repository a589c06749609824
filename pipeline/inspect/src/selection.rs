//! Selection of questions.
//!
//! With a condition or a random sample, the row numbers are determined first, reading only the columns of the condition; then
//! these rows are read block by block. Memory use depends on the number of selected rows, not on the size of the shards.

use std::collections::HashSet;

use polars::error::PolarsError;
use polars::prelude::{DataFrame, DataType, Expr, IdxCa, IdxSize, LazyFrame, PolarsResult, RowIndex, col, len};
use polars::sql::sql_expr;
use rand_mt::Mt64;

use super::error::InspectError;
use super::source::{Part, Source};
use super::sql::{scan, scan_part, scan_part_numbered};

/// Name of the row index column, which no column of a shard may have.
const ROW: &str = "__row";
/// Number of rows read together, close to the minimum that the Parquet reader decodes.
const BLOCK_ROWS: usize = 1024;

/// Questions to pick among those that match the condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// The first ones, in published order.
    First(usize),
    /// A random sample, in published order.
    Random {
        /// Number of questions.
        rows: usize,
        /// Seed of the sample.
        seed: u64,
    },
}

/// Selected questions of a data set.
pub(super) struct Selection<'a> {
    /// Files to select from.
    pub(super) source: &'a Source,
    /// The condition given by the user.
    pub(super) condition: Option<&'a str>,
    expression: Option<Expr>,
    pick: Pick,
}

impl<'a> Selection<'a> {
    /// Parses the condition and checks it against the schema.
    pub(super) fn new(source: &'a Source, condition: Option<&'a str>, pick: Pick) -> Result<Self, InspectError> {
        let expression = condition.map(sql_expr).transpose().map_err(InspectError::Condition)?;
        let selection = Self { source, condition, expression, pick };
        if let Some(expression) = &selection.expression
            && !source.parts.is_empty()
        {
            let mut frame = scan(source)?.select([expression.clone().alias(ROW)]);
            let schema = frame.collect_schema().map_err(InspectError::Condition)?;
            if schema.get(ROW) != Some(&DataType::Boolean) {
                return Err(InspectError::NotACondition { condition: condition.unwrap_or_default().to_owned() });
            }
        }
        Ok(selection)
    }

    /// Lazy frame of all questions that match the condition.
    pub(super) fn frame(&self) -> Result<LazyFrame, InspectError> {
        Ok(self.filtered(scan(self.source)?))
    }

    /// Reads these columns of the selected questions and passes them to `visit`: first a frame without rows, then shard by shard.
    pub(super) fn visit(
        &self,
        columns: &[Expr],
        mut visit: impl FnMut(&DataFrame) -> Result<(), InspectError>,
    ) -> Result<(), InspectError> {
        let error = |error| self.error(error);
        let none = scan(self.source)?.limit(0).select(columns).collect().map_err(error)?;
        let mut left = match (self.pick, &self.expression) {
            (Pick::First(rows), None) => Some(rows),
            _ => None,
        };
        let chosen = if left.is_none() { self.chosen().map_err(error)? } else { Vec::new() };
        self.source.check_current()?;
        visit(&none)?;
        for (number, part) in self.source.parts.iter().enumerate() {
            let frame = match &mut left {
                Some(0) => break,
                Some(left) => {
                    let frame = scan_part(part).and_then(|frame| frame.limit(limit(*left)).select(columns).collect());
                    let frame = frame.map_err(error)?;
                    *left -= frame.height();
                    frame
                }
                None => read_rows(part, &chosen[number], columns, &none).map_err(error)?,
            };
            self.source.check_current()?;
            visit(&frame)?;
        }
        Ok(())
    }

    /// Converts an error of Polars: unless a file cannot be read, the condition caused it.
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

    /// Returns the numbers of the selected rows of every shard, ascending.
    fn chosen(&self) -> PolarsResult<Vec<Vec<IdxSize>>> {
        match self.pick {
            Pick::First(rows) => {
                let mut left = rows;
                let mut chosen = Vec::with_capacity(self.source.parts.len());
                for part in &self.source.parts {
                    let rows = if left == 0 { Vec::new() } else { self.matching(part, left)?.numbers() };
                    left -= rows.len();
                    chosen.push(rows);
                }
                Ok(chosen)
            }
            Pick::Random { rows, seed } => {
                let matching = self.source.parts.iter().map(|part| self.matching(part, usize::MAX));
                Ok(draw(&matching.collect::<PolarsResult<Vec<_>>>()?, rows, seed))
            }
        }
    }

    /// Returns the first `max_rows` rows of a shard that match the condition.
    fn matching(&self, part: &Part, max_rows: usize) -> PolarsResult<Matching> {
        if self.expression.is_none() {
            let rows = scan_part(part)?.select([len().alias(ROW)]).collect()?;
            return Ok(Matching::First(rows.column(ROW)?.idx()?.get(0).unwrap_or(0).min(limit(max_rows))));
        }
        let index = RowIndex { name: ROW.into(), offset: 0 };
        let frame = self.filtered(scan_part_numbered(part, Some(index))?).select([col(ROW)]).limit(limit(max_rows));
        let frame = frame.collect()?;
        Ok(Matching::Rows(frame.column(ROW)?.idx()?.into_no_null_iter().collect()))
    }
}

/// Converts a number of rows; Polars cannot count more than `IdxSize::MAX`.
fn limit(rows: usize) -> IdxSize {
    IdxSize::try_from(rows).unwrap_or(IdxSize::MAX)
}

/// Matching rows of a shard.
enum Matching {
    /// The first rows of the shard, by count.
    First(IdxSize),
    /// Row numbers, ascending.
    Rows(Vec<IdxSize>),
}

impl Matching {
    fn len(&self) -> usize {
        match self {
            Self::First(rows) => *rows as usize,
            Self::Rows(rows) => rows.len(),
        }
    }

    fn numbers(self) -> Vec<IdxSize> {
        match self {
            Self::First(rows) => (0..rows).collect(),
            Self::Rows(rows) => rows,
        }
    }

    fn number(&self, index: usize) -> IdxSize {
        match self {
            Self::First(_) => index as IdxSize,
            Self::Rows(rows) => rows[index],
        }
    }
}

/// Draws a uniform sample of the matching rows of all shards and returns the row numbers per shard.
fn draw(shards: &[Matching], rows: usize, seed: u64) -> Vec<Vec<IdxSize>> {
    let total: usize = shards.iter().map(Matching::len).sum();
    let mut drawn: Vec<usize> = distinct(total, rows.min(total), seed).into_iter().collect();
    drawn.sort_unstable();
    let mut drawn = drawn.into_iter().peekable();
    let mut first = 0;
    let mut chosen = Vec::with_capacity(shards.len());
    for shard in shards {
        let end = first + shard.len();
        let mut numbers = Vec::new();
        while let Some(index) = drawn.next_if(|&index| index < end) {
            numbers.push(shard.number(index - first));
        }
        chosen.push(numbers);
        first = end;
    }
    chosen
}

/// Draws `count` distinct numbers below `total`, which must not be less (R. Floyd's algorithm, which needs no list of all
/// numbers).
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

/// Reads rows of a shard, block by block; `none` is a frame of these columns without rows.
fn read_rows(part: &Part, rows: &[IdxSize], columns: &[Expr], none: &DataFrame) -> PolarsResult<DataFrame> {
    let mut frame = none.clone();
    for block in rows.chunk_by(|&a, &b| a as usize / BLOCK_ROWS == b as usize / BLOCK_ROWS) {
        frame.vstack_mut_owned(read_block(part, block, columns)?)?;
    }
    Ok(frame)
}

/// Reads nearby rows of a shard.
fn read_block(part: &Part, rows: &[IdxSize], columns: &[Expr]) -> PolarsResult<DataFrame> {
    let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { return Ok(DataFrame::empty()) };
    let block = scan_part(part)?.slice(i64::from(first), last - first + 1).select(columns).collect()?;
    let indices: Vec<IdxSize> = rows.iter().map(|&row| row - first).collect();
    block.take(&IdxCa::from_vec(ROW.into(), indices))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_distinct_and_depends_on_its_seed() {
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
    fn all_rows_are_equally_likely() {
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
    fn rows_are_numbered_per_shard() {
        let shards = [Matching::First(2), Matching::Rows(vec![]), Matching::Rows(vec![4, 7, 9])];
        assert_eq!(draw(&shards, 9, 0), [vec![0, 1], vec![], vec![4, 7, 9]]);
        let three: usize = draw(&shards, 3, 0).iter().map(Vec::len).sum();
        assert_eq!(three, 3);
    }
}
