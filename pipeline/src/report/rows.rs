//! A few questions of a split, spread over all of it.

use std::fs::File;
use std::path::Path;

use glm_page::question::Question;
use glm_schemas::cloze::ClozeView;
use glm_schemas::manifest::SplitManifest;
use glm_schemas::text::TextView;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::stats::StatsError;

/// At most `most` questions, at equal distances, the first one among them. A row is read at a time.
pub(super) fn sample(shards: &Path, split: &SplitManifest, most: usize) -> Result<Vec<Question>, StatsError> {
    let rows: usize = split.shards.iter().map(|shard| shard.rows).sum();
    let wanted = most.min(rows);
    let mut questions = Vec::with_capacity(wanted);
    for number in 0..wanted {
        let mut row = number * rows / wanted;
        for shard in &split.shards {
            if row < shard.rows {
                questions.extend(read(&shards.join(&shard.file), row)?);
                break;
            }
            row -= shard.rows;
        }
    }
    Ok(questions)
}

fn read(path: &Path, row: usize) -> Result<Option<Question>, StatsError> {
    let damaged = |source| StatsError::Parquet { path: path.to_owned(), source };
    let not_a_shard = |source| StatsError::NotAShard { path: path.to_owned(), source };
    let file = File::open(path).map_err(|source| StatsError::Read { path: path.to_owned(), source })?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
    let reader = builder.with_offset(row).with_limit(1).with_batch_size(1).build().map_err(damaged)?;
    for batch in reader {
        let batch = batch.map_err(|source| StatsError::Arrow { path: path.to_owned(), source })?;
        let (view, text) = (ClozeView::try_new(&batch).map_err(not_a_shard)?, TextView::try_new(&batch).map_err(not_a_shard)?);
        if !view.is_empty() {
            return Ok(Some(Question::of_row(&view, &text, 0)));
        }
    }
    Ok(None)
}
