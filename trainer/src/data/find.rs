//! Lookup of questions by id, with their text, for display.

use std::collections::HashSet;

use arrow_array::RecordBatch;
use glm_schemas::cloze::text::TextView;
use glm_schemas::cloze::{ClozeView, ViewError, column, strings};

use super::DataError;
use super::mmap::{RowGroup, SplitData};

const TEXT_COLUMNS: [&str; 4] = ["source", "passage", "query", "entities"];

impl SplitData {
    /// Calls `found` with each row whose id is in `ids`, in stored order. Reads the ids of all rows, and the token and text
    /// columns of the row groups with a match, one row group at a time. `blank` is the marker of the blank, from the manifest.
    ///
    /// # Errors
    /// [`DataError`] with the shard and the row group.
    pub fn find(
        &self,
        ids: &[&str],
        blank: &str,
        mut found: impl FnMut(&ClozeView<'_>, &TextView<'_>, usize),
    ) -> Result<(), DataError> {
        let mut wanted: HashSet<&str> = ids.iter().copied().collect();
        for &group in self.groups() {
            if wanted.is_empty() {
                break;
            }
            let batch = self.columns(group, &["example_id"])?;
            let rows = self.rows_with(group, &batch, &mut wanted)?;
            if rows.is_empty() {
                continue;
            }
            let columns: Vec<&str> = glm_schemas::cloze::TOKEN_COLUMNS.into_iter().chain(TEXT_COLUMNS).collect();
            let batch = self.columns(group, &columns)?;
            let invalid = |source: ViewError| self.bad_columns(group, source);
            let view = ClozeView::try_new(&batch).map_err(invalid)?;
            let text = TextView::try_new(&batch, blank).map_err(invalid)?;
            rows.into_iter().for_each(|row| found(&view, &text, row));
        }
        Ok(())
    }

    fn rows_with(&self, group: RowGroup, batch: &RecordBatch, wanted: &mut HashSet<&str>) -> Result<Vec<usize>, DataError> {
        let ids = column(batch, "example_id").and_then(|array| strings("example_id", array));
        let ids = ids.map_err(|source| self.bad_columns(group, source))?;
        Ok((0..batch.num_rows()).filter(|&row| wanted.remove(ids.value(row))).collect())
    }
}
