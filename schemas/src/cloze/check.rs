//! Checks of values that column types do not ensure, cheap enough for every row group that is read.

use super::ClozeView;
use crate::column::ValueError;

impl ClozeView<'_> {
    /// Checks that all ids are in a vocabulary of `vocab_size` tokens, that blanks are in
    /// their context, that every row has choices, that labels are first correct choices
    /// and that lengths are those of the lists.
    ///
    /// # Errors
    /// [`ValueError`] of the first column with such a value.
    pub fn check_values(&self, vocab_size: usize) -> Result<(), ValueError> {
        self.segment_ids.check("segments.ids", self.len(), |row| self.segment_range(row), vocab_size)?;
        self.choice_ids.check("choices.ids", self.len(), |row| self.choice_range(row), vocab_size)?;
        (0..self.len()).try_for_each(|row| self.check_row(row))
    }

    fn check_row(&self, row: usize) -> Result<(), ValueError> {
        let fault = |column, found: String, expected: String| Err(ValueError { row, column, found, expected });
        let segments = self.segment_range(row).len();
        for (name, column) in [("blank", self.blank), ("group_b", self.group_b)] {
            let found = column.value(row);
            if usize::try_from(found).map_or(true, |found| found > segments) {
                return fault(name, found.to_string(), format!("a number from 0 to {segments}, the number of segments"));
            }
        }
        let choices = self.choice_range(row);
        if choices.is_empty() {
            return fault("choices", "no choice".to_owned(), "at least one".to_owned());
        }
        // An unknown label is an error only where one is needed.
        if let Some(label) = self.label(row) {
            let first = choices.clone().position(|choice| self.correct.value(choice));
            if Some(label) != first {
                let expected = match first {
                    Some(first) => format!("{first}, the first correct choice"),
                    None => "null, as no choice is correct".to_owned(),
                };
                return fault("label", (label as i32).to_string(), expected);
            }
        }
        let (found, expected) = (self.context_tokens(row), self.question(row).context_tokens());
        if found != expected {
            return fault("context_tokens", (found as i32).to_string(), format!("{expected}, as the lists of the row have"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int32Type;
    use arrow_array::{Array, ArrayRef, Int32Array, ListArray, RecordBatch, StructArray};

    use super::*;
    use crate::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
    use crate::cloze::encoding::Question;
    use crate::origin::Origin;
    use crate::vocab::TokenId;

    const VOCAB: usize = 100;

    fn rows() -> RecordBatch {
        let mut builder = ClozeBatchBuilder::new();
        for row in 0..3 {
            let choice = |ids: &'static [TokenId], correct| ChoiceRow { text: "c", ids, correct, index: 0, name: None };
            builder
                .append(&ClozeRow {
                    example_id: "e",
                    origin: Origin::NONE,
                    passage_id: 0,
                    question_id: row,
                    group_id: None,
                    idx: None,
                    source: "s",
                    passage: "",
                    query: "",
                    tokens: &Question::about(&[1, 2, 99], &[4], &[5, 6]),
                    entities: &[],
                    choices: &[choice(&[7], false), choice(&[8, 0], true), choice(&[9], true)],
                    labelled: row < 2,
                    label_name: None,
                    end_of_piece: true,
                })
                .expect("row");
        }
        builder.finish().expect("batch")
    }

    fn replaced(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
        let (at, _) = batch.schema_ref().column_with_name(name).expect("column");
        let mut columns = batch.columns().to_vec();
        columns[at] = column;
        RecordBatch::try_new(batch.schema(), columns).expect("same types")
    }

    fn with_value(values: &Int32Array, at: usize, value: i32) -> ArrayRef {
        let changed = values.iter().enumerate().map(|(i, old)| if i == at { Some(value) } else { old });
        Arc::new(changed.collect::<Int32Array>())
    }

    fn with_id(lists: &ListArray, at: usize, id: i32) -> ListArray {
        let arrow_schema::DataType::List(field) = lists.data_type() else { panic!("a list") };
        let values = with_value(lists.values().as_primitive::<Int32Type>(), at, id);
        ListArray::new(Arc::clone(field), lists.offsets().clone(), values, None)
    }

    fn check(batch: &RecordBatch) -> Result<(), String> {
        ClozeView::try_new(batch).expect("columns").check_values(VOCAB).map_err(|error| error.to_string())
    }

    #[test]
    fn values_of_ingest_are_accepted() {
        assert_eq!(check(&rows()), Ok(()));
        assert_eq!(check(&rows().slice(1, 1)), Ok(()));
        assert_eq!(check(&rows().slice(0, 0)), Ok(()));
    }

    #[test]
    fn ids_outside_of_the_vocabulary_are_errors() {
        let batch = rows();
        let with_ids = |name: &str, id_at: usize, id: i32| {
            let structs = batch.column_by_name(name).expect("column").as_list::<i32>();
            let (fields, mut columns, _) = structs.values().as_struct().clone().into_parts();
            let (at, _) = fields.find("ids").expect("ids");
            columns[at] = Arc::new(with_id(columns[at].as_list(), id_at, id));
            let arrow_schema::DataType::List(field) = structs.data_type() else { panic!("a list") };
            let values = Arc::new(StructArray::new(fields, columns, None));
            let lists = ListArray::new(Arc::clone(field), structs.offsets().clone(), values, None);
            replaced(&batch, name, Arc::new(lists))
        };
        // Six ids in each row.
        for at in [12, 15, 17] {
            for id in [100, -1, i32::MIN, i32::MAX] {
                let error = check(&with_ids("segments", at, id)).expect_err("outside");
                assert_eq!(
                    error,
                    format!(
                        "row 2: token id {id} in column `segments.ids`, expected ids from 0 to 99, the vocabulary of the manifest"
                    )
                );
            }
        }
        // Four ids in each row.
        let batch = with_ids("choices", 6, 100);
        let error = check(&batch).expect_err("outside");
        assert!(error.starts_with("row 1: token id 100 in column `choices.ids`"), "{error}");
        // Rows outside of a slice are not checked.
        assert_eq!(check(&batch.slice(0, 1)), Ok(()));
    }

    #[test]
    fn labels_and_lengths_are_those_of_the_lists() {
        let batch = rows();
        let changed = |name: &str, at: usize, value: i32| {
            let values = batch.column_by_name(name).expect("column").as_primitive::<Int32Type>().clone();
            check(&replaced(&batch, name, with_value(&values, at, value)))
        };
        for label in [0, 2, 3, -1] {
            let error = changed("label", 1, label).expect_err("another choice");
            assert_eq!(error, format!("row 1: {label} in column `label`, expected 1, the first correct choice"));
        }
        assert_eq!(changed("label", 1, 1), Ok(()));
        for (name, found) in [("blank", 4), ("blank", -1), ("group_b", 4), ("group_b", i32::MIN)] {
            let error = changed(name, 2, found).expect_err("no such segment");
            assert_eq!(
                error,
                format!("row 2: {found} in column `{name}`, expected a number from 0 to 3, the number of segments")
            );
        }
        assert_eq!(changed("blank", 1, 3), Ok(()));
        let error = changed("context_tokens", 2, -5).expect_err("another length");
        assert!(error.starts_with("row 2: -5 in column `context_tokens`, expected 9"), "{error}");
    }
}
