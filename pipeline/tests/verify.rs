//! `glm-prep verify` on small data sets that are made here, sound and with every kind of fault.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use glm_prep::shard::{ShardCompression, ShardWriter, file_name};
use glm_prep::verify::{Fault, Report, VerifyError, check};
use glm_schemas::SCHEMA_VERSION;
use glm_schemas::builder::{ChoiceRow, ClozeRow, EntityRow};
use glm_schemas::cloze::{CharSpan, METADATA_SCHEMA_VERSION, METADATA_TOKENIZER_SHA256, TokenSpan};
use glm_schemas::encoding::Question;
use glm_schemas::manifest::{Manifest, RawFile, Split, SplitManifest, Task, Tokenizer, hex};
use glm_schemas::vocab::SpecialIds;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const VOCAB: usize = 40;
const TRAIN_0: &str = "train-00000-of-00002.parquet";
const TRAIN_1: &str = "train-00001-of-00002.parquet";
const VAL: &str = "val-00000-of-00001.parquet";
const TEST: &str = "test-00000-of-00001.parquet";
const PASSAGE: &str = "Zoé met Bo.\nÉa left\u{200b} 中文 with Bo.";

type Entity = (String, CharSpan, Option<TokenSpan>);

/// A row that owns its parts.
#[derive(Clone)]
struct Row {
    id: String,
    passage_ids: Vec<i32>,
    left: Vec<i32>,
    right: Vec<i32>,
    entities: Vec<Entity>,
    choices: Vec<(Vec<i32>, bool)>,
    labelled: bool,
}

fn row(split: Split, number: usize, choices: usize) -> Row {
    let entity = |text: &str, start: usize, tokens: Option<(usize, usize)>| {
        let chars = CharSpan { start, end: start + text.chars().count() };
        (text.to_owned(), chars, tokens.map(|(start, end)| TokenSpan { start, end }))
    };
    Row {
        id: format!("{split}-p{number}-q{number}"),
        passage_ids: (5..15).collect(),
        left: vec![16],
        right: vec![17, 18],
        entities: vec![
            entity("Zoé", 0, Some((0, 2))),
            entity("Bo", 8, Some((3, 4))),
            entity("\u{200b}", 19, None),
            entity("中文", 21, Some((9, 10))),
        ],
        choices: (0..choices).map(|i| (vec![20 + i as i32; i % 3 + 1], split != Split::Test && i == 1)).collect(),
        labelled: split != Split::Test,
    }
}

type Shards = BTreeMap<Split, Vec<Vec<Row>>>;

fn sound_rows() -> Shards {
    let rows = |split, counts: &[usize]| counts.iter().enumerate().map(|(i, &count)| row(split, i, count)).collect();
    BTreeMap::from([
        (Split::Train, vec![rows(Split::Train, &[2, 2, 3]), rows(Split::Train, &[3, 4])]),
        (Split::Val, vec![rows(Split::Val, &[2, 5])]),
        (Split::Test, vec![rows(Split::Test, &[3])]),
    ])
}

fn write_set(shards: &Shards) -> TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let folder = dir.path().join("shards");
    fs::create_dir(&folder).expect("folder");
    let tokenizer = Tokenizer { name: "t".into(), sha256: "ab".repeat(32), vocab_size: VOCAB };
    let mut splits = BTreeMap::new();
    for (&split, parts) in shards {
        let content: &mut SplitManifest = splits.entry(split).or_default();
        for (index, rows) in parts.iter().enumerate() {
            let mut writer =
                ShardWriter::create(&folder, file_name(split, index, parts.len()), &tokenizer, ShardCompression::default())
                    .expect("create");
            for (number, row) in rows.iter().enumerate() {
                let entities: Vec<_> =
                    row.entities.iter().map(|&(ref text, chars, tokens)| EntityRow { text, chars, tokens }).collect();
                let choices: Vec<_> =
                    row.choices.iter().map(|(ids, correct)| ChoiceRow { text: "x", ids, correct: *correct }).collect();
                let tokens = Question { passage: &row.passage_ids, query_left: &row.left, query_right: &row.right };
                content.rows += 1;
                content.choices += choices.len();
                content.tokens += tokens.context_tokens() + choices.iter().map(|choice| choice.ids.len() + 1).sum::<usize>();
                let row = ClozeRow {
                    example_id: &row.id,
                    passage_id: number as i64,
                    question_id: number as i64,
                    source: "own",
                    passage: PASSAGE,
                    query: "a @placeholder b",
                    tokens,
                    entities: &entities,
                    choices: &choices,
                    labelled: row.labelled,
                };
                writer.append(&row, 100).expect("append");
            }
            content.shards.push(writer.finish().expect("finish"));
        }
    }
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        task: Task::Cloze,
        tool: "glm-prep test".into(),
        fingerprint: String::new(),
        tokenizer,
        special_ids: SpecialIds { pad: 0, unk: 1, cls: 2, sep: 3, mask: 4, sop: 38, eop: 39 },
        blank: "@placeholder".into(),
        splits,
        raw_files: vec![RawFile {
            file: "ReCoRD/train.jsonl".into(),
            split: Split::Train,
            bytes: 9,
            sha256: "cd".repeat(32),
            records: 3,
            rejects: 1,
        }],
        settings: support::settings(),
    };
    write_manifest(dir.path(), manifest);
    dir
}

fn sound_set() -> TempDir {
    write_set(&sound_rows())
}

/// A data set with rows that are changed before they are written; totals and checksums fit what is written.
fn changed_rows(change: impl FnOnce(&mut Shards)) -> TempDir {
    let mut rows = sound_rows();
    change(&mut rows);
    write_set(&rows)
}

fn read_manifest(dir: &Path) -> Manifest {
    serde_json::from_slice(&fs::read(dir.join("shards/manifest.json")).expect("read")).expect("manifest")
}

/// Writes the manifest with the fingerprint that its content has.
fn write_manifest(dir: &Path, mut manifest: Manifest) {
    manifest.fingerprint = manifest.compute_fingerprint();
    fs::write(dir.join("shards/manifest.json"), manifest.to_json().expect("json")).expect("write");
}

fn changed_manifest(change: impl FnOnce(&mut Manifest)) -> TempDir {
    let dir = sound_set();
    let mut manifest = read_manifest(dir.path());
    change(&mut manifest);
    write_manifest(dir.path(), manifest);
    dir
}

/// Sets size and checksum of a shard in the manifest to those of the file.
fn adopt(dir: &Path, file: &str) {
    let bytes = fs::read(dir.join("shards").join(file)).expect("read");
    let mut manifest = read_manifest(dir);
    for shard in manifest.splits.values_mut().flat_map(|content| &mut content.shards) {
        if shard.file == file {
            shard.bytes = bytes.len() as u64;
            shard.sha256 = hex(&Sha256::digest(&bytes));
        }
    }
    write_manifest(dir, manifest);
}

/// Writes a shard anew, with changed columns or metadata or row groups.
fn rewrite(
    dir: &Path,
    file: &str,
    metadata: &[(&str, &str)],
    group_rows: usize,
    change: impl FnOnce(RecordBatch) -> RecordBatch,
) {
    let path = dir.join("shards").join(file);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("open")).expect("parquet");
    let batch = reader.build().expect("reader").next().expect("one").expect("batch");
    let batch = change(batch);
    let pairs = metadata.iter().map(|(key, value)| KeyValue::new((*key).to_owned(), (*value).to_owned())).collect();
    let properties =
        WriterProperties::builder().set_key_value_metadata(Some(pairs)).set_max_row_group_row_count(Some(group_rows)).build();
    let mut writer =
        ArrowWriter::try_new(File::create(&path).expect("create"), batch.schema(), Some(properties)).expect("writer");
    writer.write(&batch).expect("write");
    writer.close().expect("close");
    adopt(dir, file);
}

fn usual_metadata() -> [(&'static str, String); 2] {
    [(METADATA_SCHEMA_VERSION, SCHEMA_VERSION.to_string()), (METADATA_TOKENIZER_SHA256, "ab".repeat(32))]
}

fn changed_batch(file: &str, group_rows: usize, change: impl FnOnce(RecordBatch) -> RecordBatch) -> TempDir {
    let dir = sound_set();
    let metadata = usual_metadata();
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value.as_str())).collect();
    rewrite(dir.path(), file, &metadata, group_rows, change);
    dir
}

/// Puts another column in the place of one; the field is that of the new column if it is given.
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

fn report(dir: &Path) -> Report {
    check(dir, NonZeroUsize::new(2).expect("some")).expect("checked")
}

fn fault(dir: &TempDir) -> Fault {
    let report = report(dir.path());
    assert!(!report.sound);
    report.fault.expect("a fault")
}

/// Where and what: row group, row, column, question.
fn place(fault: &Fault) -> (&str, Option<usize>, Option<usize>, Option<&str>, Option<&str>) {
    (&fault.file, fault.row_group, fault.row, fault.column.as_deref(), fault.example_id.as_deref())
}

#[track_caller]
fn assert_manifest_fault(dir: &TempDir, found: &str, expected: &str) {
    let fault = fault(dir);
    assert_eq!(fault.file, "manifest.json", "{fault}");
    assert!(fault.found.contains(found) && fault.expected.contains(expected), "{fault}");
}

/// A fault of row 1 of the first training shard.
#[track_caller]
fn assert_row_fault(dir: &TempDir, column: &str, found: &str, expected: &str) {
    let fault = fault(dir);
    assert_eq!(place(&fault), (TRAIN_0, Some(0), Some(1), Some(column), Some("train-p1-q1")), "{fault}");
    assert!(fault.found.contains(found) && fault.expected.contains(expected), "{fault}");
}

fn train(rows: &mut Shards) -> &mut Row {
    &mut rows.get_mut(&Split::Train).expect("train")[0][1]
}

fn glm_prep(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glm-prep")).arg("verify").arg(dir).args(more).output().expect("run")
}

#[test]
fn a_sound_set_is_sound() {
    let dir = sound_set();
    let whole = report(dir.path());
    assert_eq!(whole.fault, None);
    assert!(whole.sound);
    assert_eq!(whole.fingerprint, Some(read_manifest(dir.path()).fingerprint));
    let counted: Vec<_> = whole.splits.iter().map(|split| (split.split, split.shards, split.rows, split.choices)).collect();
    assert_eq!(counted, [(Split::Train, 2, 5, 14), (Split::Val, 1, 2, 7), (Split::Test, 1, 1, 3)]);
    assert!(whole.splits.iter().all(|split| split.ok == Some(true)));
    // Given as the folder of the shards.
    assert!(report(&dir.path().join("shards")).sound);
    // With a list of rejects, and a shard without rows.
    let mut rows = sound_rows();
    rows.insert(Split::Test, vec![vec![]]);
    let dir = write_set(&rows);
    fs::write(dir.path().join("shards/rejects.jsonl"), "").expect("write");
    assert_eq!(report(dir.path()).fault, None);
}

#[test]
fn what_ingest_writes_is_sound() {
    let raw = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/cloze/passages.jsonl");
    let raw = fs::read(raw).expect("passages");
    let dir = tempfile::tempdir().expect("folder");
    fs::create_dir(dir.path().join("ReCoRD")).expect("folder");
    for split in Split::ALL {
        fs::write(dir.path().join(format!("ReCoRD/{split}.jsonl")), &raw).expect("write");
    }
    let ingest = Command::new(env!("CARGO_BIN_EXE_glm-prep"))
        .args(["ingest", "--quiet", "--rows-per-shard", "7"])
        .arg(dir.path())
        .status()
        .expect("run");
    assert!(ingest.success());
    let report = report(dir.path());
    assert_eq!(report.fault, None);
    assert!(report.splits.iter().all(|split| split.shards > 1));
}

#[test]
fn the_program_tells_by_its_exit_code_and_names_the_place() {
    let dir = sound_set();
    let sound = glm_prep(dir.path(), &[]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let said = String::from_utf8(sound.stdout).expect("text");
    assert!(said.lines().next().expect("a table").starts_with("split") && said.contains(" is sound, checked in "), "{said}");
    assert!(said.lines().nth(1).is_some_and(|line| line.starts_with("train ") && line.ends_with("yes")), "{said}");

    let dir = changed_rows(|rows| train(rows).left[0] = VOCAB as i32);
    let unsound = glm_prep(dir.path(), &[]);
    assert_eq!(unsound.status.code(), Some(4), "{unsound:?}");
    let said = String::from_utf8(unsound.stdout).expect("text");
    let place = format!(
        "{TRAIN_0}, row group 0, row 1 (\"train-p1-q1\"), column `query_left_ids`: found id 40 at position 0, \
         expected ids from 0 to below vocab_size = 40; ingest the raw data again"
    );
    assert_eq!(said.lines().last(), Some(place.as_str()));
    let json = glm_prep(dir.path(), &["--json"]);
    assert_eq!(json.status.code(), Some(4), "{json:?}");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one object");
    assert_eq!(
        (&json["sound"], &json["fault"]["row"], &json["fault"]["column"]),
        (&false.into(), &1.into(), &"query_left_ids".into())
    );
    assert_eq!((&json["splits"][0]["ok"], &json["splits"][1]["ok"]), (&false.into(), &serde_json::Value::Null));

    let empty = tempfile::tempdir().expect("folder");
    let nothing = glm_prep(empty.path(), &[]);
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("is not a data set"), "{nothing:?}");
    let help = glm_prep(empty.path(), &["--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("4  it is not sound; "));
}

#[test]
fn every_flipped_byte_of_a_shard_is_found() {
    let rows = BTreeMap::from([(Split::Val, vec![vec![row(Split::Val, 0, 2), row(Split::Val, 1, 3)]])]);
    let dir = write_set(&rows);
    let path = dir.path().join("shards").join(VAL);
    let good = fs::read(&path).expect("read");
    let mut broken = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).expect("write");
        let fault = fault(&dir);
        assert_eq!((fault.file.as_str(), fault.split), (VAL, Some(Split::Val)), "byte {at}: {fault}");
        assert!(fault.found.starts_with("sha256 "), "byte {at}: {fault}");
        broken += usize::from(fault.row_group == Some(0));
    }
    assert!(broken > good.len() / 10, "of {} flipped bytes, {broken} break the row group", good.len());
    fs::write(&path, &good).expect("write");
    assert!(report(dir.path()).sound);
}

#[test]
fn a_damaged_row_group_is_named() {
    let dir = changed_batch(TRAIN_0, 1, |batch| batch);
    assert_eq!(report(dir.path()).fault, None);
    let path = dir.path().join("shards").join(TRAIN_0);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("open")).expect("parquet");
    let (start, length) = reader.metadata().row_group(1).column(0).byte_range();
    let mut bytes = fs::read(&path).expect("read");
    bytes[start as usize..(start + length) as usize].fill(0xff);
    fs::write(&path, &bytes).expect("write");
    let fault = fault(&dir);
    assert_eq!(fault.row_group, Some(1), "{fault}");
    assert!(fault.found.contains("row group 1 is the first that does not decode"), "{fault}");
    assert!(fault.advice.contains("copy the file again"), "{fault}");

    // With the checksum of the damaged file, the decoder is what finds it.
    adopt(dir.path(), TRAIN_0);
    let fault = self::fault(&dir);
    assert_eq!((fault.file.as_str(), fault.row_group), (TRAIN_0, Some(1)), "{fault}");
    assert!(fault.found.contains("does not decode"), "{fault}");

    bytes.truncate(bytes.len() - 3);
    fs::write(&path, &bytes).expect("write");
    let fault = self::fault(&dir);
    assert_eq!(fault.found, format!("{} bytes", bytes.len()), "{fault}");
    fs::write(&path, b"no Parquet at all").expect("write");
    adopt(dir.path(), TRAIN_0);
    assert!(self::fault(&dir).found.contains("does not decode"));
}

#[test]
fn every_inconsistency_of_the_manifest_is_found() {
    let text_changed = |from: &str, to: &str| {
        let dir = sound_set();
        let path = dir.path().join("shards/manifest.json");
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains(from));
        fs::write(&path, text.replacen(from, to, 1)).expect("write");
        dir
    };
    assert_manifest_fault(&text_changed("{", ""), "no manifest", "JSON");
    assert_manifest_fault(&text_changed("\"schema_version\": 1", "\"schema_version\": 7"), "schema version 7", "1");
    assert_manifest_fault(
        &text_changed("\"vocab_size\": 40", "\"vocab_size\": 41"),
        "fingerprint",
        "which the shards listed have",
    );
    let dir = sound_set();
    fs::write(dir.path().join("shards/manifest.json"), [0xff, b'{']).expect("write");
    assert_manifest_fault(&dir, "no UTF-8", "JSON");

    let content = |manifest: &mut Manifest, split| manifest.splits.get_mut(&split).expect("split").clone();
    let change = |split: Split, change: &dyn Fn(&mut SplitManifest)| {
        changed_manifest(|manifest| change(manifest.splits.get_mut(&split).expect("split")))
    };
    assert_manifest_fault(&change(Split::Train, &|train| train.rows = 6), "splits.train.rows = 6", "5");
    assert_manifest_fault(&change(Split::Val, &|val| val.choices += 1), "splits.val.choices = 8", "7, which");
    assert_manifest_fault(&change(Split::Test, &|test| test.tokens -= 1), "splits.test.tokens", "which its shards hold");
    assert_manifest_fault(&change(Split::Train, &|train| train.shards.reverse()), TRAIN_1, TRAIN_0);
    assert_manifest_fault(&change(Split::Val, &|val| val.shards[0].sha256.push('0')), "with sha256", "64 hexadecimal");
    assert_manifest_fault(
        &change(Split::Val, &|val| val.shards[0].file = "../x.parquet".into()),
        "../x.parquet",
        "folder itself",
    );
    assert_manifest_fault(&change(Split::Val, &|val| val.shards[0].file = "val.csv".into()), "val.csv", ".parquet");
    assert_manifest_fault(&change(Split::Val, &|val| val.shards[0].file = TEST.into()), TEST, VAL);
    assert_manifest_fault(&change(Split::Train, &|train| train.shards[0].rows = 4), "with 4 rows", "rows_per_shard = 3");
    assert_manifest_fault(&changed_manifest(|m| m.special_ids.sop = VOCAB as i32), "special id 40", "vocab_size = 40");
    assert_manifest_fault(&changed_manifest(|m| m.special_ids.eop = m.special_ids.mask), "both [MASK] and", "an id for each");
    assert_manifest_fault(&changed_manifest(|m| m.raw_files[0].rejects = 4), "4 rejects of 3 records", "no more");
    let twice = changed_manifest(|manifest| {
        let mut train = content(manifest, Split::Train);
        train.shards.iter_mut().for_each(|shard| shard.file = "one.parquet".into());
        manifest.splits.insert(Split::Train, train);
    });
    assert_manifest_fault(&twice, "listed twice", "once");
    // A number that the manifest takes from the shard itself.
    let rows = change(Split::Val, &|val| (val.rows, val.shards[0].rows) = (1, 1));
    let fault = fault(&rows);
    assert_eq!((fault.file.as_str(), fault.found.as_str()), (VAL, "2 rows"), "{fault}");
    let size = self::fault(&change(Split::Val, &|val| val.shards[0].bytes += 1));
    assert!(size.file == VAL && size.found.ends_with(" bytes"), "{size}");
    let checksum = self::fault(&change(Split::Val, &|val| val.shards[0].sha256 = "0".repeat(64)));
    assert!(checksum.file == VAL && checksum.found.contains("all its row groups still decode"), "{checksum}");
}

#[test]
fn files_that_are_missing_or_too_many_are_named() {
    let dir = sound_set();
    fs::remove_file(dir.path().join("shards").join(TRAIN_1)).expect("remove");
    let fault = fault(&dir);
    assert_eq!((fault.file.as_str(), fault.found.as_str()), (TRAIN_1, "no such file"));
    let dir = sound_set();
    fs::write(dir.path().join("shards/train-00002-of-00003.parquet"), "").expect("write");
    let fault = self::fault(&dir);
    assert_eq!((fault.file.as_str(), fault.split), ("train-00002-of-00003.parquet", None));
    let dir = sound_set();
    let path = dir.path().join("shards").join(VAL);
    fs::remove_file(&path).expect("remove");
    fs::create_dir(&path).expect("folder");
    assert_eq!(self::fault(&dir).found, "something that is no file");
    // A file that cannot be opened is no fault of the data set.
    fs::remove_dir(&path).expect("remove");
    std::os::unix::fs::symlink(&path, &path).expect("link");
    let error = check(dir.path(), NonZeroUsize::MIN).expect_err("not readable");
    assert!(matches!(&error, VerifyError::Read { path: at, .. } if *at == path), "{error}");
    assert_eq!(glm_prep(dir.path(), &[]).status.code(), Some(1));
}

#[test]
fn another_schema_and_other_metadata_are_refused() {
    let numbers = |batch: &RecordBatch| Arc::new(Int64Array::from(vec![1; batch.num_rows()])) as ArrayRef;
    let field = || Field::new("num_choices", DataType::Int64, false);
    let dir = changed_batch(VAL, 1024, |batch| with_column(&batch, "num_choices", numbers(&batch), Some(field())));
    let wrong = fault(&dir);
    assert_eq!(place(&wrong), (VAL, None, None, Some("num_choices"), None), "{wrong}");
    assert_eq!((wrong.found.as_str(), wrong.expected.as_str()), ("`num_choices` Int64", "`num_choices` Int32"));
    let nullable = Field::new("num_choices", DataType::Int32, true);
    let dir = changed_batch(VAL, 1024, |batch| {
        with_column(&batch, "num_choices", batch.column_by_name("num_choices").expect("there").clone(), Some(nullable))
    });
    assert_eq!(fault(&dir).found, "`num_choices` Int32, may be null");
    let dir = changed_batch(VAL, 1024, |batch| batch.project(&(0..14).collect::<Vec<_>>()).expect("project"));
    assert_eq!(fault(&dir).found, "no column");

    let tokenizer = "ab".repeat(32);
    for (metadata, found) in [
        (vec![(METADATA_TOKENIZER_SHA256, tokenizer.as_str())], "metadata glm.schema_version = none"),
        (vec![(METADATA_SCHEMA_VERSION, "2"), (METADATA_TOKENIZER_SHA256, &tokenizer)], "metadata glm.schema_version = \"2\""),
        (vec![(METADATA_SCHEMA_VERSION, "1"), (METADATA_TOKENIZER_SHA256, "cd")], "metadata glm.tokenizer_sha256 = \"cd\""),
    ] {
        let dir = sound_set();
        rewrite(dir.path(), VAL, &metadata, 1024, |batch| batch);
        let fault = fault(&dir);
        assert_eq!((fault.file.as_str(), fault.found.as_str()), (VAL, found));
    }
    let dir = changed_manifest(|manifest| manifest.settings.rows_per_group = 2);
    let fault = fault(&dir);
    assert_eq!((place(&fault).1, fault.found.as_str()), (Some(0), "3 rows"), "{fault}");
}

#[test]
fn rows_that_break_a_rule_are_found_by_place() {
    let ids = "ids from 0 to below vocab_size = 40";
    assert_row_fault(&changed_rows(|rows| train(rows).passage_ids[3] = 40), "passage_ids", "id 40 at position 3", ids);
    assert_row_fault(&changed_rows(|rows| train(rows).left[0] = -1), "query_left_ids", "id -1 at position 0", ids);
    assert_row_fault(&changed_rows(|rows| train(rows).right[1] = i32::MAX), "query_right_ids", "at position 1", ids);
    assert_row_fault(
        &changed_rows(|rows| train(rows).choices[1].0[1] = 99),
        "choices.ids",
        "choice 1: id 99 at position 1",
        ids,
    );
    let none = changed_rows(|rows| train(rows).choices.iter_mut().for_each(|choice| choice.1 = false));
    assert_row_fault(&none, "choices.correct", "no choice that is correct", "at least one");
    assert_row_fault(&changed_rows(|rows| train(rows).labelled = false), "label", "null", "1, the first correct choice");
    let long = changed_rows(|rows| train(rows).choices[0].0 = vec![20; 506]);
    assert_row_fault(&long, "choices.ids", "do not fit a sequence length of 512", "max_seq_len");

    // In the second row group, counted in the whole file.
    let no_choices = changed_rows(|rows| rows.get_mut(&Split::Train).expect("train")[0][0].choices.clear());
    let fault = fault(&no_choices);
    assert_eq!(place(&fault), (TRAIN_0, Some(0), Some(0), Some("choices"), Some("train-p0-q0")), "{fault}");
    let labelled = changed_rows(|rows| {
        let row = &mut rows.get_mut(&Split::Test).expect("test")[0][0];
        (row.labelled, row.choices[2].1) = (true, true);
    });
    let fault = self::fault(&labelled);
    assert_eq!(place(&fault), (TEST, Some(0), Some(0), Some("label"), Some("test-p0-q0")), "{fault}");
    assert_eq!((fault.found.as_str(), fault.expected.as_str()), ("2", "null in the test split"));
}

#[test]
fn entities_that_are_not_where_they_say_are_found() {
    let entity = |change: &dyn Fn(&mut Entity)| changed_rows(|rows| change(&mut train(rows).entities[1]));
    // As long in bytes as what is there, but counted in bytes, not code points.
    let bytes = entity(&|entity| entity.1 = CharSpan { start: 9, end: 11 });
    assert_row_fault(&bytes, "entities.text", "entity 1 \"Bo\"", "\"o.\", code points 9 to 11 of the passage");
    assert_row_fault(&entity(&|entity| entity.0 = "bo".into()), "entities.text", "\"bo\"", "\"Bo\"");
    let end = PASSAGE.chars().count();
    let behind = entity(&|entity| entity.1 = CharSpan { start: end - 1, end: end + 1 });
    assert_row_fault(&behind, "entities.char_start", &format!("from {} to {}", end - 1, end + 1), &format!("which has {end}"));
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
fn columns_that_count_wrongly_are_found() {
    // Of three rows in row groups of one, the second is wrong.
    let change = |name: &'static str, value: Option<i32>| {
        let dir = changed_batch(TRAIN_0, 1, |batch| {
            let old =
                arrow::array::AsArray::as_primitive::<arrow::datatypes::Int32Type>(batch.column_by_name(name).expect("there"));
            let mut values: Vec<_> = old.iter().collect();
            values[1] = value;
            with_column(&batch, name, Arc::new(Int32Array::from(values)), None)
        });
        let fault = fault(&dir);
        assert_eq!(place(&fault), (TRAIN_0, Some(1), Some(1), Some(name), Some("train-p1-q1")), "{fault}");
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
fn rows_out_of_order_are_found_within_a_shard_and_across_shards() {
    let within = changed_rows(|rows| rows.get_mut(&Split::Train).expect("train")[0].swap(1, 2));
    let fault = fault(&within);
    assert_eq!(place(&fault), (TRAIN_0, Some(0), Some(2), Some("num_choices"), Some("train-p1-q1")), "{fault}");
    assert!(fault.found == "2" && fault.expected.starts_with("at least 3"), "{fault}");
    let across = changed_rows(|rows| rows.get_mut(&Split::Train).expect("train")[1][0].choices.truncate(2));
    let fault = self::fault(&across);
    assert_eq!(place(&fault), (TRAIN_1, Some(0), Some(0), Some("num_choices"), Some("train-p0-q0")), "{fault}");
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
