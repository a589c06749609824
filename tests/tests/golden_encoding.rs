//! `glm-prep inspect --model-input` reproduces every field of every choice of the published preprocessing.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use glm_tests::{command, fixtures, ingest, run, shared};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// Reads `expected.parquet` as JSON objects with the field names of `--model-input`.
fn expected(path: &Path) -> Vec<Value> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("open")).expect("parquet").build().expect("reader");
    reader.flat_map(|batch| rows(&batch.expect("batch"))).collect()
}

fn rows(batch: &RecordBatch) -> Vec<Value> {
    let names = [
        ("split", "split"),
        ("order", "order"),
        ("guid", "example_id"),
        ("choice_no", "choice_no"),
        ("choice", "choice"),
        ("num_choices", "num_choices"),
        ("answer_idx", "correct"),
        ("sep", "sep"),
        ("ids", "ids"),
        ("position", "position"),
        ("block_position", "block_position"),
        ("target", "target"),
        ("loss_mask", "loss_mask"),
    ];
    (0..batch.num_rows())
        .map(|row| {
            let fields = names.map(|(theirs, ours)| {
                let column = batch.column_by_name(theirs).unwrap_or_else(|| panic!("no column {theirs}"));
                (ours.to_owned(), value(column, row))
            });
            Value::Object(fields.into_iter().collect())
        })
        .collect()
}

/// Converts one value; accepts any width of integers and strings.
fn value(column: &dyn Array, row: usize) -> Value {
    use arrow::datatypes::DataType as T;
    match column.data_type() {
        T::Utf8 => column.as_string::<i32>().value(row).into(),
        T::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        T::List(_) => list(column.as_list::<i32>().value(row).as_ref()),
        T::LargeList(_) => list(column.as_list::<i64>().value(row).as_ref()),
        _ => integers(column)[row].into(),
    }
}

fn list(items: &dyn Array) -> Value {
    integers(items).into()
}

fn integers(column: &dyn Array) -> Vec<i64> {
    use arrow::datatypes::{DataType as T, Int8Type, Int16Type, Int32Type, UInt8Type, UInt16Type};
    match column.data_type() {
        T::Int64 => column.as_primitive::<Int64Type>().values().to_vec(),
        T::Int32 => column.as_primitive::<Int32Type>().values().iter().map(|&v| v.into()).collect(),
        T::Int16 => column.as_primitive::<Int16Type>().values().iter().map(|&v| v.into()).collect(),
        T::Int8 => column.as_primitive::<Int8Type>().values().iter().map(|&v| v.into()).collect(),
        T::UInt16 => column.as_primitive::<UInt16Type>().values().iter().map(|&v| v.into()).collect(),
        T::UInt8 => column.as_primitive::<UInt8Type>().values().iter().map(|&v| v.into()).collect(),
        other => panic!("unexpected type {other}"),
    }
}

/// Ingests `passages.jsonl` of a golden set as train and val, and compares all fields.
fn compare(golden: &Path, choices: usize) {
    let folder = tempfile::tempdir().expect("folder");
    ingest(folder.path(), &golden.join("passages.jsonl"), &["train", "val"]);
    let printed =
        run(command("glm-prep").args(["inspect", "--model-input", "--max-seq-len", "512"]).arg(folder.path())).success();
    let mut found: Vec<Value> = printed.stdout().lines().map(|line| serde_json::from_str(line).expect("json")).collect();

    let mut expected = expected(&golden.join("expected.parquet"));
    for row in &mut expected {
        if row["split"] == "dev" {
            row["split"] = "val".into();
        }
    }
    assert_eq!((found.len(), expected.len()), (choices, choices));
    let key = |row: &Value| (row["split"].to_string(), row["order"].as_i64(), row["choice_no"].as_i64());
    assert!(found.is_sorted_by_key(&key), "not in published order");
    expected.sort_by_key(&key);
    found.sort_by_key(&key);
    for (found, expected) in found.iter().zip(&expected) {
        for (field, value) in expected.as_object().expect("object") {
            assert_eq!(&found[field], value, "{field} of {} choice {}", expected["example_id"], expected["choice_no"]);
        }
        assert_eq!(found.as_object().map(|object| object.len()), Some(13), "fields of {}", expected["example_id"]);
    }
}

#[test]
fn cloze_set() {
    compare(&fixtures().join("golden/cloze"), 826);
}

/// Real news text, which must not be published: compared only if it exists next to the repository.
#[test]
fn record_set_if_available() {
    match shared("golden/record") {
        Some(golden) => compare(&golden, 789),
        None => eprintln!("skipped: no golden/record next to the repository"),
    }
}
