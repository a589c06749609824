//! Faults of schemas and rows.

use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use glm_prep::verify::check;
use glm_schemas::cloze::{CharSpan, METADATA_SCHEMA_VERSION, METADATA_TOKENIZER_SHA256, TokenSpan};
use glm_schemas::manifest::Split;
use glm_schemas::origin::Origin;

use crate::data_set::{
    Entity, PASSAGE, TEST, TRAIN_0, TRAIN_1, VAL, assert_row_fault, changed_batch, changed_manifest, changed_rows, first_fault,
    location, report, rewrite, sound_set, train,
};

/// Replaces a column and, if given, its field.
fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef, field: Option<Field>) -> RecordBatch {
    let index = batch.schema().index_of(name).expect("there");
    let mut fields: Vec<_> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    if let Some(field) = field {
        fields[index] = field;
    }
    let mut columns = batch.columns().to_vec();
    columns[index] = column;
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("batch")
}

#[test]
fn wrong_schema_and_metadata_are_found() {
    let numbers = |batch: &RecordBatch| Arc::new(Int64Array::from(vec![1; batch.num_rows()])) as ArrayRef;
    let field = || Field::new("num_choices", DataType::Int64, false);
    let dir = changed_batch(VAL, 1024, |batch| with_column(&batch, "num_choices", numbers(&batch), Some(field())));
    let wrong = first_fault(&dir);
    assert_eq!(location(&wrong), (VAL, None, None, Some("num_choices"), None), "{wrong}");
    assert_eq!((wrong.found.as_str(), wrong.expected.as_str()), ("`num_choices` Int64", "`num_choices` Int32"));
    let nullable = Field::new("num_choices", DataType::Int32, true);
    let dir = changed_batch(VAL, 1024, |batch| {
        with_column(&batch, "num_choices", batch.column_by_name("num_choices").expect("there").clone(), Some(nullable))
    });
    assert_eq!(first_fault(&dir).found, "`num_choices` Int32, may be null");
    let dir = changed_batch(VAL, 1024, |batch| batch.project(&(0..19).collect::<Vec<_>>()).expect("project"));
    assert_eq!(first_fault(&dir).found, "no column");

    let tokenizer = "ab".repeat(32);
    for (metadata, found) in [
        (vec![(METADATA_TOKENIZER_SHA256, tokenizer.as_str())], "metadata glm.schema_version = none"),
        (vec![(METADATA_SCHEMA_VERSION, "1"), (METADATA_TOKENIZER_SHA256, &tokenizer)], "metadata glm.schema_version = \"1\""),
        (vec![(METADATA_SCHEMA_VERSION, "3"), (METADATA_TOKENIZER_SHA256, "cd")], "metadata glm.tokenizer_sha256 = \"cd\""),
    ] {
        let dir = sound_set();
        rewrite(dir.path(), VAL, &metadata, 1024, |batch| batch);
        let fault = first_fault(&dir);
        assert_eq!((fault.file.as_str(), fault.found.as_str()), (VAL, found));
    }
    let dir = changed_manifest(|manifest| manifest.settings.rows_per_group = 2);
    let fault = first_fault(&dir);
    assert_eq!((location(&fault).1, fault.found.as_str()), (Some(0), "3 rows"), "{fault}");
}

#[test]
fn violated_rules_are_located() {
    let ids = "ids from 0 to below vocab_size = 40";
    assert_row_fault(
        &changed_rows(|rows| train(rows).passage_ids[3] = 40),
        "segments.ids",
        "segment 0: id 40 at position 3",
        ids,
    );
    assert_row_fault(&changed_rows(|rows| train(rows).left[0] = -1), "segments.ids", "segment 1: id -1 at position 0", ids);
    assert_row_fault(
        &changed_rows(|rows| train(rows).right[1] = i32::MAX),
        "segments.ids",
        "segment 2: id 2147483647 at position 1",
        ids,
    );
    assert_row_fault(
        &changed_rows(|rows| train(rows).choices[1].0[1] = 99),
        "choices.ids",
        "choice 1: id 99 at position 1",
        ids,
    );
    let none = changed_rows(|rows| train(rows).choices.iter_mut().for_each(|choice| choice.1 = false));
    assert_row_fault(&none, "choices.correct", "no correct choice", "at least one");
    assert_row_fault(&changed_rows(|rows| train(rows).labelled = false), "label", "null", "1, the first correct choice");
    let long = changed_rows(|rows| train(rows).choices[0].0 = vec![20; 506]);
    assert_row_fault(&long, "choices.ids", "do not fit a sequence length of 512", "max_seq_len");

    let no_choices = changed_rows(|rows| rows.get_mut(&Split::Train).expect("train")[0][0].choices.clear());
    let fault = first_fault(&no_choices);
    assert_eq!(location(&fault), (TRAIN_0, Some(0), Some(0), Some("choices"), Some("train-p0-q0")), "{fault}");
    let labelled = changed_rows(|rows| {
        let row = &mut rows.get_mut(&Split::Test).expect("test")[0][0];
        (row.labelled, row.choices[2].1) = (true, true);
    });
    let fault = first_fault(&labelled);
    assert_eq!(location(&fault), (TEST, Some(0), Some(0), Some("label"), Some("test-p0-q0")), "{fault}");
    assert_eq!((fault.found.as_str(), fault.expected.as_str()), ("2", "null in the test split"));
}

#[test]
fn wrong_origins_are_found() {
    let origin = |change: &dyn Fn(&mut Origin<'static>)| changed_rows(|rows| change(&mut train(rows).origin));
    let split = origin(&|origin| origin.split = Split::Val);
    assert_row_fault(&split, "split", "val", "train, the split of the shard");
    let file = origin(&|origin| origin.raw_file = "other.jsonl");
    assert_row_fault(&file, "raw_file", "\"other.jsonl\"", "raw_files in the manifest");
    assert_row_fault(&origin(&|origin| origin.raw_line = Some(0)), "raw_line", "0", "at least 1");
    for extra in ["", "[1]", "{\"cut", "{} x"] {
        let extra = origin(&|origin| origin.extra = Some(extra));
        assert_row_fault(&extra, "extra", "\"", "null or a JSON object");
    }
    let complete = origin(&|origin| (origin.source_id, origin.extra, origin.raw_line) = (Some("é"), Some("{\"a\": 1}"), None));
    assert!(report(complete.path()).sound);
    let again = changed_rows(|rows| train(rows).choice_indices = vec![3, 3]);
    assert_row_fault(&again, "choices.choice_index", "choice 1: 3 again", "an index of its own");
    let negative = changed_rows(|rows| train(rows).choice_indices[0] = usize::MAX);
    assert_row_fault(&negative, "choices.choice_index", "choice 0: a negative index", "at least 0");
}

#[test]
fn wrong_entity_spans_are_found() {
    let entity = |change: &dyn Fn(&mut Entity)| changed_rows(|rows| change(&mut train(rows).entities[1]));
    // Counted in bytes instead of code points.
    let bytes = entity(&|entity| entity.1 = CharSpan { start: 9, end: 11 });
    assert_row_fault(&bytes, "entities.text", "entity 1 \"Bo\"", "\"o.\", code points 9 to 11 of the passage");
    assert_row_fault(&entity(&|entity| entity.0 = "bo".into()), "entities.text", "\"bo\"", "\"Bo\"");
    let end = PASSAGE.chars().count();
    let beyond = entity(&|entity| entity.1 = CharSpan { start: end - 1, end: end + 1 });
    assert_row_fault(&beyond, "entities.char_start", &format!("from {} to {}", end - 1, end + 1), &format!("which has {end}"));
    let empty = entity(&|entity| (entity.0, entity.1) = (String::new(), CharSpan { start: 3, end: 3 }));
    assert_row_fault(&empty, "entities.char_start", "from 3 to 3", "code points");
    let reversed = entity(&|entity| entity.1 = CharSpan { start: 10, end: 8 });
    assert_row_fault(&reversed, "entities.char_start", "from 10 to 8", "code points");
    for (start, end) in [(9, 11), (4, 4), (5, 3), (usize::MAX, 2)] {
        let tokens = entity(&|entity| entity.2 = Some(TokenSpan { start, end }));
        assert_row_fault(&tokens, "entities.token_start", "entity 1 from", "-1 to -1, or tokens of the passage, which has 10");
    }
}

#[test]
fn wrong_counts_are_found() {
    // The second of three rows, each in its own row group.
    let change = |name: &'static str, value: Option<i32>| {
        let dir = changed_batch(TRAIN_0, 1, |batch| {
            let old =
                arrow::array::AsArray::as_primitive::<arrow::datatypes::Int32Type>(batch.column_by_name(name).expect("there"));
            let mut values: Vec<_> = old.iter().collect();
            values[1] = value;
            with_column(&batch, name, Arc::new(Int32Array::from(values)), None)
        });
        let fault = first_fault(&dir);
        assert_eq!(location(&fault), (TRAIN_0, Some(1), Some(1), Some(name), Some("train-p1-q1")), "{fault}");
        (fault.found, fault.expected)
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(change("num_choices", Some(3)), pair("3", "2"));
    assert_eq!(change("num_choices", Some(-2)), pair("-2", "2"));
    assert_eq!(change("context_tokens", Some(15)), pair("15", "16"));
    assert_eq!(change("choice_tokens", Some(6)), pair("6", "5"));
    assert_eq!(change("label", Some(0)), pair("0", "1, the first correct choice"));
    assert_eq!(change("label", Some(-1)), pair("-1", "1, the first correct choice"));
}

#[test]
fn wrong_order_is_found_within_and_across_shards() {
    let within = changed_rows(|rows| rows.get_mut(&Split::Train).expect("train")[0].swap(1, 2));
    let fault = first_fault(&within);
    assert_eq!(location(&fault), (TRAIN_0, Some(0), Some(2), Some("num_choices"), Some("train-p1-q1")), "{fault}");
    assert!(fault.found == "2" && fault.expected.starts_with("at least 3"), "{fault}");
    let across = changed_rows(|rows| rows.get_mut(&Split::Train).expect("train")[1][0].choices.truncate(2));
    let fault = first_fault(&across);
    assert_eq!(location(&fault), (TRAIN_1, Some(0), Some(0), Some("num_choices"), Some("train-p0-q0")), "{fault}");
}

#[test]
fn the_first_fault_does_not_depend_on_threads() {
    let dir = changed_rows(|rows| {
        let shards = rows.get_mut(&Split::Train).expect("train");
        shards[0][2].left[0] = -7;
        shards[1][0].left[0] = -8;
        rows.get_mut(&Split::Val).expect("val")[0][0].left[0] = -9;
    });
    for threads in [1, 2, 3, 8] {
        for _ in 0..5 {
            let report = check(dir.path(), NonZeroUsize::new(threads).expect("some")).expect("checked");
            let fault = report.fault.expect("a fault");
            assert_eq!((fault.file.as_str(), fault.row), (TRAIN_0, Some(2)), "{fault}");
        }
    }
}
