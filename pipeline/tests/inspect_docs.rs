//! The Rust examples of `docs/polars.md`, word for word; `scripts/test-docs` checks that.

mod support;

use glm_schemas::cloze::{ClozeView, TOKEN_COLUMNS};
use glm_schemas::manifest::Split;
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
use polars::prelude::{LazyFrame, PlRefPath, col, len};

fn questions_by_choices(pattern: &str) -> polars::prelude::PolarsResult<polars::prelude::DataFrame> {
    LazyFrame::scan_parquet(PlRefPath::new(pattern), Default::default())?
        .group_by([col("num_choices")])
        .agg([len().alias("questions"), col("context_tokens").mean()])
        .sort(["num_choices"], Default::default())
        .collect()
}

fn longest_choice(shard: &std::path::Path) -> Result<usize, Box<dyn std::error::Error>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(shard)?)?;
    let columns = ProjectionMask::columns(builder.parquet_schema(), TOKEN_COLUMNS);
    let mut longest = 0;
    for batch in builder.with_projection(columns).build()? {
        let batch = batch?;
        let view = ClozeView::try_new(&batch)?;
        for row in 0..view.len() {
            longest = view.choices(row).map(|choice| choice.ids.len()).max().unwrap_or(0).max(longest);
        }
    }
    Ok(longest)
}

#[test]
fn the_examples_read_a_data_set() {
    let passages = std::fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let dir = support::raw_folder(&[(Split::Train, &passages)]);
    support::ingest_with(dir.path(), 1).expect("ingest");
    let shards = dir.path().join("shards");
    let counts = questions_by_choices(&shards.join("train-*.parquet").display().to_string()).expect("a frame");
    let rows: u64 = counts.column("questions").expect("a column").u32().expect("numbers").iter().flatten().map(u64::from).sum();
    let manifest = support::manifest(dir.path());
    assert_eq!(rows, manifest.splits[&Split::Train].rows as u64);
    assert!(longest_choice(&shards.join(&manifest.splits[&Split::Train].shards[0].file)).expect("a length") > 1);
}
