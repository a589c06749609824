//! Checks of values that column types do not ensure, cheap enough for every row group that is read.

use super::PairView;
use crate::column::ValueError;

impl PairView<'_> {
    /// Checks that all ids are in a vocabulary of `vocab_size` tokens, that `keep` is known, that `focus` is a token of the source, and
    /// that lengths are those of the lists.
    ///
    /// # Errors
    /// [`ValueError`] of the first column with such a value.
    pub fn check_values(&self, vocab_size: usize) -> Result<(), ValueError> {
        let lists = [
            ("prefix_ids", &self.prefix_ids),
            ("source_ids", &self.source_ids),
            ("suffix_ids", &self.suffix_ids),
            ("target_ids", &self.target_ids),
        ];
        for (column, ids) in lists {
            ids.check(column, self.len(), |row| row..row + 1, vocab_size)?;
        }
        (0..self.len()).try_for_each(|row| self.check_row(row))
    }

    /// Checks one row as [`Self::check_values`] does, except for its ids.
    ///
    /// # Errors
    /// As [`Self::check_values`].
    pub fn check_row(&self, row: usize) -> Result<(), ValueError> {
        let fault = |column, found: String, expected: String| Err(ValueError { row, column, found, expected });
        let pair = match self.pair(row) {
            Ok(pair) => pair,
            Err(error) => return fault("keep", error.to_string(), "start, end or around".to_owned()),
        };
        if let Some(focus) = pair.focus.filter(|&focus| focus >= pair.source.len()) {
            return fault("focus", focus.to_string(), format!("less than {}, the number of `source_ids`", pair.source.len()));
        }
        for (column, found, expected) in [
            ("context_tokens", self.context_tokens(row), pair.context_tokens()),
            ("target_tokens", self.target_tokens(row), pair.target.len()),
        ] {
            if found != expected {
                return fault(column, (found as i32).to_string(), format!("{expected}, as the lists of the row have"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int32Array, RecordBatch};

    use crate::origin::Origin;
    use crate::seq2seq::encoding::{Keep, Pair};
    use crate::seq2seq::{PairBatchBuilder, PairRow, PairView};

    /// Checks two rows, of which the second has `value` in `column`.
    fn check(tokens: Pair<'_>, column: Option<(&str, i32)>) -> Result<(), String> {
        let row = PairRow {
            example_id: "e",
            origin: Origin::NONE,
            group_id: None,
            source: "",
            prompt: None,
            target: None,
            references: &[],
            tokens,
        };
        let mut builder = PairBatchBuilder::new();
        builder.append(&PairRow { tokens: GOOD, ..row }).expect("row");
        builder.append(&row).expect("row");
        let mut batch = builder.finish().expect("batch");
        if let Some((name, value)) = column {
            let (at, _) = batch.schema_ref().column_with_name(name).expect("column");
            let mut columns = batch.columns().to_vec();
            let first = columns[at].slice(0, 1);
            let changed: ArrayRef = Arc::new(Int32Array::from(vec![value]));
            columns[at] = arrow_concat(&first, &changed);
            batch = RecordBatch::try_new(batch.schema(), columns).expect("same types");
        }
        PairView::try_new(&batch).expect("columns").check_values(100).map_err(|error| error.to_string())
    }

    const GOOD: Pair<'static> =
        Pair { prefix: &[99], source: &[1, 2], suffix: &[0], keep: Keep::Around, focus: Some(1), target: &[3] };

    fn arrow_concat(a: &ArrayRef, b: &ArrayRef) -> ArrayRef {
        use arrow_array::cast::AsArray;
        let values = |array: &ArrayRef| array.as_primitive::<arrow_array::types::Int32Type>().iter().collect::<Vec<_>>();
        Arc::new(Int32Array::from([values(a), values(b)].concat()))
    }

    #[test]
    fn violations_name_row_and_column() {
        assert_eq!(check(GOOD, None), Ok(()));
        let vocabulary = "expected ids from 0 to 99, the vocabulary of the manifest";
        for (pair, column, expected) in [
            (Pair { prefix: &[-1], ..GOOD }, None, format!("token id -1 in column `prefix_ids`, {vocabulary}")),
            (Pair { target: &[100], ..GOOD }, None, format!("token id 100 in column `target_ids`, {vocabulary}")),
            (
                Pair { focus: Some(2), ..GOOD },
                None,
                "2 in column `focus`, expected less than 2, the number of `source_ids`".to_owned(),
            ),
            (
                GOOD,
                Some(("context_tokens", 4)),
                "4 in column `context_tokens`, expected 5, as the lists of the row have".to_owned(),
            ),
            (
                GOOD,
                Some(("target_tokens", -1)),
                "-1 in column `target_tokens`, expected 1, as the lists of the row have".to_owned(),
            ),
        ] {
            assert_eq!(check(pair, column), Err(format!("row 1: {expected}")));
        }
    }
}
