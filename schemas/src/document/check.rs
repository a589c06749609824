//! Checks of values that column types do not ensure, cheap enough for every row group that is read.

use super::DocumentView;
use crate::column::ValueError;

impl DocumentView<'_> {
    /// Checks that all ids are in a vocabulary of `vocab_size` tokens, that no text is empty, that ends of sentences ascend and are those of
    /// tokens, and that lengths are those of the lists.
    ///
    /// # Errors
    /// [`ValueError`] of the first column with such a value.
    pub fn check_values(&self, vocab_size: usize) -> Result<(), ValueError> {
        self.prompt_ids.check("prompt_ids", self.len(), |row| row..row + 1, vocab_size)?;
        self.ids.check("ids", self.len(), |row| row..row + 1, vocab_size)?;
        (0..self.len()).try_for_each(|row| self.check_row(row))
    }

    /// Checks the ends of sentences and the lengths of one row.
    ///
    /// # Errors
    /// As [`Self::check_values`].
    pub fn check_row(&self, row: usize) -> Result<(), ValueError> {
        let fault = |column, found: String, expected: String| Err(ValueError { row, column, found, expected });
        let tokens = self.ids(row).len();
        if tokens == 0 {
            return fault("ids", "no token".to_owned(), "at least one".to_owned());
        }
        let mut last = 0;
        for &end in self.sentence_ends(row) {
            if end <= last {
                return fault("sentence_ends", end.to_string(), format!("more than {last}: ends ascend from 1"));
            }
            last = end;
        }
        if usize::try_from(last).is_ok_and(|last| last > tokens) {
            return fault("sentence_ends", last.to_string(), format!("at most {tokens}, the number of `ids`"));
        }
        let (found, expected) = (self.num_tokens(row), self.prompt_ids(row).len() + tokens);
        if found != expected {
            return fault("num_tokens", (found as i32).to_string(), format!("{expected}, as the lists of the row have"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int32Array, RecordBatch};

    use crate::document::{DocumentBatchBuilder, DocumentRow, DocumentView};
    use crate::origin::Origin;
    use crate::vocab::TokenId;

    fn check(prompt_ids: &[TokenId], ids: &[TokenId], sentence_ends: &[i32], num_tokens: i32) -> Result<(), String> {
        let row = DocumentRow {
            example_id: "e",
            origin: Origin::NONE,
            source: "s",
            prompt: None,
            text: "",
            prompt_ids: &[1],
            ids: &[99, 0, 3],
            sentence_ends: &[1, 3],
        };
        let mut builder = DocumentBatchBuilder::new();
        builder.append(&row).expect("row");
        builder.append(&DocumentRow { prompt_ids, ids, sentence_ends, ..row }).expect("row");
        let batch = builder.finish().expect("batch");
        let (at, _) = batch.schema_ref().column_with_name("num_tokens").expect("column");
        let mut columns = batch.columns().to_vec();
        columns[at] = Arc::new(Int32Array::from(vec![4, num_tokens]));
        let batch = RecordBatch::try_new(batch.schema(), columns).expect("same types");
        DocumentView::try_new(&batch).expect("columns").check_values(100).map_err(|error| error.to_string())
    }

    #[test]
    fn values_of_ingest_are_accepted() {
        assert_eq!(check(&[], &[0, 99], &[], 2), Ok(()));
        assert_eq!(check(&[1, 2], &[3, 4], &[1, 2], 4), Ok(()));
    }

    #[test]
    fn violations_name_row_and_column() {
        let vocabulary = "expected ids from 0 to 99, the vocabulary of the manifest";
        for (prompt_ids, ids, sentence_ends, num_tokens, expected) in [
            (&[-1][..], &[1][..], &[][..], 2, format!("token id -1 in column `prompt_ids`, {vocabulary}")),
            (&[], &[1, 100], &[], 2, format!("token id 100 in column `ids`, {vocabulary}")),
            (&[1], &[], &[], 1, "no token in column `ids`, expected at least one".to_owned()),
            (&[], &[1, 2], &[0], 2, "0 in column `sentence_ends`, expected more than 0: ends ascend from 1".to_owned()),
            (&[], &[1, 2], &[2, 2], 2, "2 in column `sentence_ends`, expected more than 2: ends ascend from 1".to_owned()),
            (&[], &[1, 2], &[3], 2, "3 in column `sentence_ends`, expected at most 2, the number of `ids`".to_owned()),
            (&[1], &[2], &[], 1, "1 in column `num_tokens`, expected 2, as the lists of the row have".to_owned()),
            (&[], &[2], &[], -1, "-1 in column `num_tokens`, expected 1, as the lists of the row have".to_owned()),
        ] {
            assert_eq!(check(prompt_ids, ids, sentence_ends, num_tokens), Err(format!("row 1: {expected}")));
        }
    }
}
