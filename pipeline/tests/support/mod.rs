//! Test folders with raw data, ingest runs, and access to their output.

#![allow(dead_code)] // every test file uses only some of these functions

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type};
use glm_prep::ingest::{self, IngestError, IngestOptions, MergeOptions, RejectLimit, Silent, Stop, Summary};
use glm_prep::pattern::PatternTask;
use glm_prep::shard::publish::PROVENANCE_FILE;
use glm_prep::source::recognise::FormatName;
use glm_schemas::manifest::{IngestSettings, Manifest, Split};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Root of the repository.
pub(crate) fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("Cargo.lock").exists()).expect("the workspace").to_owned()
}

/// Creates a folder with `ReCoRD/{split}.jsonl` for every given split.
pub(crate) fn raw_folder(files: &[(Split, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    fs::create_dir(dir.path().join("ReCoRD")).expect("folder");
    for (split, content) in files {
        fs::write(dir.path().join(format!("ReCoRD/{split}.jsonl")), content).expect("write");
    }
    dir
}

/// Settings of a data set written by a test.
pub(crate) fn settings() -> IngestSettings {
    IngestSettings {
        max_seq_len: Some(512),
        rows_per_shard: 3,
        rows_per_group: 1024,
        compression: "zstd:3".into(),
        limit: None,
        max_record_bytes: None,
        format: "record".into(),
        max_distractors: Some(9),
        distractor_seed: Some(42),
        column: None,
        dedup: None,
        keep: None,
        task_mask: false,
        val_fraction: None,
        val_seed: None,
        pattern: None,
        keep_fields: false,
    }
}

/// Repeats ReCoRD lines with new passage and question numbers in every repetition.
pub(crate) fn renumbered(lines: &[u8], times: i64) -> Vec<u8> {
    let lines: Vec<serde_json::Value> =
        serde_json::Deserializer::from_slice(lines).into_iter().map(|line| line.expect("json")).collect();
    let mut all = Vec::new();
    for time in 0..times {
        for mut line in lines.clone() {
            line["idx"] = (line["idx"].as_i64().expect("idx") + 10_000 * time).into();
            for question in line["qas"].as_array_mut().expect("questions") {
                question["idx"] = (question["idx"].as_i64().expect("idx") + 100_000 * time).into();
            }
            all.extend(line.to_string().into_bytes());
            all.push(b'\n');
        }
    }
    all
}

/// Ingests with `threads` threads and any number of rejects.
pub(crate) fn ingest_with(dir: &Path, threads: usize) -> Result<Summary, IngestError> {
    let threads = NonZeroUsize::new(threads).expect("some");
    run(&IngestOptions { threads, max_rejects: RejectLimit::Percent(100.0), ..IngestOptions::new(dir) })
}

/// Ingests a whole data set.
pub(crate) fn run(options: &IngestOptions) -> Result<Summary, IngestError> {
    ingest::run(options, &Silent).map(|outcome| outcome.done().expect("not a part"))
}

/// Options for a task of patterns.
pub(crate) fn pattern_options(dir: &Path, pattern: PatternTask) -> IngestOptions {
    let mut options = IngestOptions { format: FormatName::named("pattern"), ..IngestOptions::new(dir) };
    options.selection.task = Some(pattern.raw_files());
    options.pattern = Some(Arc::new(pattern));
    options
}

/// Ingests as one process after another, each a part, and merges them.
pub(crate) fn run_in_parts(options: &IngestOptions) {
    for part in ["0/2", "1/2"] {
        let partition = Some(part.parse().expect("a part"));
        ingest::run(&IngestOptions { partition, ..options.clone() }, &Silent).expect("a part");
    }
    let IngestOptions { dir, threads, max_rejects, .. } = options.clone();
    let merge = MergeOptions { dir, tokenizer: None, threads, max_rejects, stop: Stop::default() };
    ingest::merge(&merge, &Silent).expect("merged");
}

/// Writes files in a folder, and the folders above them.
pub(crate) fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, content).expect("write");
    }
}

/// Reads the list of rejected records: `FILE, line N: REASON`.
pub(crate) fn rejects(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("shards/rejects.jsonl")).expect("rejects");
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("json");
        let text = |name: &str| value[name].as_str().expect("a text").to_owned();
        format!("{}, line {}: {}", text("file"), value["line"], text("reason"))
    };
    text.lines().map(line).collect()
}

/// Reads the manifest.
pub(crate) fn manifest(dir: &Path) -> Manifest {
    Manifest::from_json(&fs::read_to_string(dir.join("shards/manifest.json")).expect("manifest")).expect("manifest")
}

/// Reads all record batches of a split, shard by shard.
pub(crate) fn batches(dir: &Path, split: Split) -> Vec<RecordBatch> {
    let manifest = manifest(dir);
    let files = manifest.splits[&split].shards.iter().map(|shard| shard.path(&dir.join("shards")));
    files.flat_map(|path| read_parquet(&path)).collect()
}

/// Reads all rows of a data set without the columns that name their raw files and lines.
pub(crate) fn rows_without_places(dir: &Path) -> Vec<RecordBatch> {
    let splits = manifest(dir).splits.into_keys();
    let batches = splits.flat_map(|split| batches(dir, split));
    let without = |batch: RecordBatch| {
        let schema = batch.schema();
        let is_kept = |&index: &usize| !["raw_file", "raw_line"].contains(&schema.field(index).name().as_str());
        batch.project(&(0..batch.num_columns()).filter(is_kept).collect::<Vec<_>>()).expect("columns")
    };
    batches.map(without).collect()
}

/// Reads all record batches of a Parquet file.
pub(crate) fn read_parquet(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("open")).expect("parquet");
    reader.build().expect("reader").map(|batch| batch.expect("batch")).collect()
}

/// Reads a column of integers or of lists of integers of any width, as one list per row.
pub(crate) fn numbers(batch: &RecordBatch, name: &str) -> Vec<Vec<i32>> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("column {name}"));
    if !column.data_type().is_nested() {
        let values = cast(column, &DataType::Int32).expect("numbers");
        return values.as_primitive::<Int32Type>().values().iter().map(|&value| vec![value]).collect();
    }
    let lists = cast(column, &DataType::List(Field::new_list_field(DataType::Int32, true).into())).expect("lists of numbers");
    let lists = lists.as_list::<i32>();
    (0..lists.len()).map(|row| lists.value(row).as_primitive::<Int32Type>().values().to_vec()).collect()
}

/// Reads a text column.
pub(crate) fn texts(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = cast(batch.column_by_name(name).unwrap_or_else(|| panic!("column {name}")), &DataType::Utf8).expect("texts");
    column.as_string::<i32>().iter().map(|text| text.expect("no null").to_owned()).collect()
}

/// Reads all files of a folder and of the folders in it, sorted by their paths, which are relative to it. The file about command line and
/// threads is left out: all others are the same for the same input.
pub(crate) fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            files.extend(contents(&entry.path()).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else if name != PROVENANCE_FILE {
            files.push((name, fs::read(entry.path()).expect("read")));
        }
    }
    files.sort();
    files
}

/// Lists the names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
