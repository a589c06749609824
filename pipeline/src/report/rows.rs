//! Sample rows of a split.

use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use glm_schemas::cloze::text::TextView;
use glm_schemas::cloze::{ClozeView, ViewError};
use glm_schemas::manifest::{Shard, SplitManifest};
use glm_support::page::question::Question;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::stats::StatsError;

/// Reads up to `max` questions at equal distances, starting with the first one. `blank` is the marker of the blank.
pub(super) fn sample(shards: &Path, split: &SplitManifest, blank: &str, max: usize) -> Result<Vec<Question>, StatsError> {
    sampled(shards, split, max, |batch| {
        let (view, text) = (ClozeView::try_new(batch)?, TextView::try_new(batch, blank)?);
        Ok(Question::of_row(&view, &text, 0))
    })
}

/// Reads up to `max` rows at equal distances, starting with the first one. `describe` gets batches of one row.
pub(super) fn sampled<T>(
    shards: &Path,
    split: &SplitManifest,
    max: usize,
    describe: impl Fn(&RecordBatch) -> Result<T, ViewError>,
) -> Result<Vec<T>, StatsError> {
    let mut found = Vec::new();
    for (shard, row) in locations(split, max) {
        let path = shard.path(shards);
        let damaged = |source| StatsError::Parquet { path: path.clone(), source };
        let file = File::open(&path).map_err(|source| StatsError::Read { path: path.clone(), source })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let reader = builder.with_offset(row).with_limit(1).with_batch_size(1).build().map_err(damaged)?;
        for batch in reader {
            let batch = batch.map_err(|source| StatsError::Arrow { path: path.clone(), source })?;
            if batch.num_rows() > 0 {
                found.push(describe(&batch).map_err(|source| StatsError::NotAShard { path: path.clone(), source })?);
            }
        }
    }
    Ok(found)
}

/// Returns at most `chars` characters of a text, with its line breaks, and an ellipsis if there are more.
pub(super) fn beginning(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// Returns the shards of up to `max` rows at equal distances, and the rows in them.
fn locations(split: &SplitManifest, max: usize) -> Vec<(&Shard, usize)> {
    let rows: usize = split.shards.iter().map(|shard| shard.rows).sum();
    let wanted = max.min(rows);
    let locate = |mut row: usize| {
        split.shards.iter().find_map(|shard| {
            let found = (row < shard.rows).then_some((shard, row));
            row = row.saturating_sub(shard.rows);
            found
        })
    };
    (0..wanted).filter_map(|number| locate(number * rows / wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_text_keeps_its_lines() {
        assert_eq!([beginning("é\nb", 3), beginning("é\nbc", 3), beginning("é \nb", 3)], ["é\nb", "é\nb…", "é…"]);
    }

    #[test]
    fn samples_are_spread_over_the_shards() {
        let shard = |file: &str, rows| Shard { file: file.to_owned(), rows, bytes: 0, sha256: String::new() };
        let split = SplitManifest { shards: vec![shard("a", 3), shard("b", 0), shard("c", 7)], ..SplitManifest::default() };
        let found: Vec<_> = locations(&split, 4).into_iter().map(|(shard, row)| (shard.file.as_str(), row)).collect();
        assert_eq!(found, [("a", 0), ("a", 2), ("c", 2), ("c", 4)]);
        assert_eq!(locations(&split, 99).len(), 10);
        assert_eq!(locations(&SplitManifest::default(), 4), []);
    }
}
