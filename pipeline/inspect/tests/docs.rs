//! The Rust examples of `docs/polars.md`, word for word; `scripts/test-docs` checks that.

#[path = "../../tests/support/mod.rs"]
mod support;

use glm_prep::ingest::IngestOptions;
use glm_prep::report::ReportArgs;
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

/// A data set with rejected records and a report, which must not be where the Parquet files are.
#[test]
fn polars_reads_the_folder_of_the_shards() {
    let passages = std::fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let with_reject = [passages.as_slice(), b"bad\n"].concat();
    let dir = support::raw_folder(&[(Split::Train, &with_reject), (Split::Val, &passages)]);
    support::run(&IngestOptions { rows_per_shard: 20.try_into().expect("some"), ..IngestOptions::new(dir.path()) })
        .expect("ingest");
    let report = ReportArgs { dir: dir.path().to_owned(), out: None, max_seq_len: None, json: false };
    glm_prep::report::run(&report, &mut Vec::new()).expect("report");
    assert_eq!(
        support::names(&dir.path().join("shards")),
        ["data", "manifest.json", "provenance.json", "rejects.jsonl", "report.html"]
    );

    let folder = dir.path().join("shards/data").display().to_string();
    let frame = LazyFrame::scan_parquet(PlRefPath::new(&folder), Default::default()).expect("a folder");
    let rows = frame.select([col("example_id")]).collect().expect("rows").height();
    let manifest = support::manifest(dir.path());
    assert_eq!(rows, manifest.splits.values().map(|split| split.rows).sum::<usize>());
    let sums = questions_by_choices(&folder).expect("a frame");
    let questions = sums.column("questions").expect("a column").u32().expect("numbers");
    assert_eq!(questions.iter().flatten().sum::<u32>() as usize, rows);
}

#[test]
fn the_examples_read_a_data_set() {
    let passages = std::fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let dir = support::raw_folder(&[(Split::Train, &passages)]);
    support::ingest_with(dir.path(), 1).expect("ingest");
    let shards = dir.path().join("shards/data");
    let counts = questions_by_choices(&shards.join("train-*.parquet").display().to_string()).expect("a frame");
    let rows: u64 = counts.column("questions").expect("a column").u32().expect("numbers").iter().flatten().map(u64::from).sum();
    let manifest = support::manifest(dir.path());
    assert_eq!(rows, manifest.splits[&Split::Train].rows as u64);
    assert!(longest_choice(&shards.join(&manifest.splits[&Split::Train].shards[0].file)).expect("a length") > 1);
}
