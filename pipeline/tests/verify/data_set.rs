//! Small data sets, sound or with a fault, and assertions on the reported fault.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;

use arrow::array::RecordBatch;
use glm_prep::shard::{ShardCompression, ShardWriter, file_name};
use glm_prep::verify::{Fault, Report, check};
use glm_schemas::SCHEMA_VERSION;
use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow, EntityRow};
use glm_schemas::cloze::encoding::Question;
use glm_schemas::cloze::{CharSpan, METADATA_SCHEMA_VERSION, METADATA_TOKENIZER_SHA256, TokenSpan};
use glm_schemas::manifest::{Manifest, RawFile, Split, SplitManifest, TaskName, Tokenizer, hex};
use glm_schemas::origin::Origin;
use glm_schemas::vocab::SpecialIds;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support;

pub(crate) const VOCAB: usize = 40;
pub(crate) const TRAIN_0: &str = "train-00000-of-00002.parquet";
pub(crate) const TRAIN_1: &str = "train-00001-of-00002.parquet";
pub(crate) const VAL: &str = "val-00000-of-00001.parquet";
pub(crate) const TEST: &str = "test-00000-of-00001.parquet";
pub(crate) const RAW_FILE: &str = "ReCoRD/train.jsonl";
pub(crate) const PASSAGE: &str = "Zoé met Bo.\nÉa left\u{200b} 中文 with Bo.";

pub(crate) type Entity = (String, CharSpan, Option<TokenSpan>);

/// Content of a row.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) passage_ids: Vec<i32>,
    pub(crate) left: Vec<i32>,
    pub(crate) right: Vec<i32>,
    pub(crate) entities: Vec<Entity>,
    pub(crate) choices: Vec<(Vec<i32>, bool)>,
    pub(crate) labelled: bool,
    pub(crate) origin: Origin<'static>,
    /// Index in the raw data of every choice.
    pub(crate) choice_indices: Vec<usize>,
}

pub(crate) fn row(split: Split, number: usize, choices: usize) -> Row {
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
        origin: Origin { split, source_id: None, raw_file: RAW_FILE, raw_line: Some(number as u64 + 1), extra: None },
        choice_indices: (0..choices).rev().collect(),
    }
}

pub(crate) type Shards = BTreeMap<Split, Vec<Vec<Row>>>;

pub(crate) fn sound_rows() -> Shards {
    let rows = |split, counts: &[usize]| counts.iter().enumerate().map(|(i, &count)| row(split, i, count)).collect();
    BTreeMap::from([
        (Split::Train, vec![rows(Split::Train, &[2, 2, 3]), rows(Split::Train, &[3, 4])]),
        (Split::Val, vec![rows(Split::Val, &[2, 5])]),
        (Split::Test, vec![rows(Split::Test, &[3])]),
    ])
}

pub(crate) fn write_set(shards: &Shards) -> TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let folder = dir.path().join("shards");
    let data = folder.join("data");
    fs::create_dir_all(&data).expect("folder");
    let tokenizer = Tokenizer { name: "t".into(), sha256: "ab".repeat(32), vocab_size: VOCAB };
    let mut splits = BTreeMap::new();
    for (&split, parts) in shards {
        let content: &mut SplitManifest = splits.entry(split).or_default();
        for (index, rows) in parts.iter().enumerate() {
            let mut writer = ShardWriter::<ClozeBatchBuilder>::create(
                &data,
                file_name(split, index, parts.len()),
                &tokenizer,
                ShardCompression::default(),
            )
            .expect("create");
            for (number, row) in rows.iter().enumerate() {
                let entities: Vec<_> =
                    row.entities.iter().map(|&(ref text, chars, tokens)| EntityRow { text, chars, tokens }).collect();
                let choices = row.choices.iter().zip(&row.choice_indices);
                let choices: Vec<_> = choices
                    .map(|((ids, correct), &index)| ChoiceRow { text: "x", ids, correct: *correct, index, name: None })
                    .collect();
                let tokens = Question::about(&row.passage_ids, &row.left, &row.right);
                content.rows += 1;
                content.choices = Some(content.choices.unwrap_or(0) + choices.len());
                content.tokens += tokens.context_tokens() + choices.iter().map(|choice| choice.ids.len() + 1).sum::<usize>();
                let row = ClozeRow {
                    example_id: &row.id,
                    origin: row.origin,
                    passage_id: number as i64,
                    question_id: number as i64,
                    group_id: None,
                    idx: None,
                    source: "own",
                    passage: PASSAGE,
                    query: "a @placeholder b",
                    tokens: &tokens,
                    entities: &entities,
                    choices: &choices,
                    labelled: row.labelled,
                    label_name: None,
                    end_of_piece: true,
                };
                writer.append(&row).expect("append");
            }
            content.shards.push(writer.finish().expect("finish"));
        }
    }
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        task: TaskName::Cloze,
        tool: "glm-prep test".into(),
        fingerprint: String::new(),
        tokenizer,
        special_ids: SpecialIds { pad: 0, unk: 1, cls: 2, sep: 3, mask: 4, sop: 38, eop: 39 },
        blank: "@placeholder".into(),
        cloze: None,
        splits,
        raw_files: vec![RawFile {
            file: RAW_FILE.into(),
            split: Split::Train,
            bytes: 9,
            sha256: "cd".repeat(32),
            records: 3,
            rejects: 1,
        }],
        rejects: None,
        settings: support::settings(),
    };
    write_manifest(dir.path(), manifest);
    dir
}

pub(crate) fn sound_set() -> TempDir {
    write_set(&sound_rows())
}

/// A data set whose rows were changed before writing; totals and checksums match.
pub(crate) fn changed_rows(change: impl FnOnce(&mut Shards)) -> TempDir {
    let mut rows = sound_rows();
    change(&mut rows);
    write_set(&rows)
}

pub(crate) fn read_manifest(dir: &Path) -> Manifest {
    serde_json::from_slice(&fs::read(dir.join("shards/manifest.json")).expect("read")).expect("manifest")
}

/// Writes the manifest with a matching fingerprint.
pub(crate) fn write_manifest(dir: &Path, mut manifest: Manifest) {
    manifest.fingerprint = manifest.compute_fingerprint();
    fs::write(dir.join("shards/manifest.json"), manifest.to_json().expect("json")).expect("write");
}

pub(crate) fn changed_manifest(change: impl FnOnce(&mut Manifest)) -> TempDir {
    let dir = sound_set();
    let mut manifest = read_manifest(dir.path());
    change(&mut manifest);
    write_manifest(dir.path(), manifest);
    dir
}

/// Updates size and checksum of a shard in the manifest.
pub(crate) fn adopt(dir: &Path, file: &str) {
    let bytes = fs::read(dir.join("shards/data").join(file)).expect("read");
    let mut manifest = read_manifest(dir);
    for shard in manifest.splits.values_mut().flat_map(|content| &mut content.shards) {
        if shard.file == file {
            shard.bytes = bytes.len() as u64;
            shard.sha256 = hex(&Sha256::digest(&bytes));
        }
    }
    write_manifest(dir, manifest);
}

pub(crate) fn report(dir: &Path) -> Report {
    check(dir, NonZeroUsize::new(2).expect("some")).expect("checked")
}

pub(crate) fn first_fault(dir: &TempDir) -> Fault {
    let report = report(dir.path());
    assert!(!report.sound);
    report.fault.expect("a fault")
}

/// Location of a fault: file, row group, row, column, question.
pub(crate) fn location(fault: &Fault) -> (&str, Option<usize>, Option<usize>, Option<&str>, Option<&str>) {
    (&fault.file, fault.row_group, fault.row, fault.column.as_deref(), fault.example_id.as_deref())
}

#[track_caller]
pub(crate) fn assert_manifest_fault(dir: &TempDir, found: &str, expected: &str) {
    let fault = first_fault(dir);
    assert_eq!(fault.file, "manifest.json", "{fault}");
    assert!(fault.found.contains(found) && fault.expected.contains(expected), "{fault}");
}

/// Checks for a fault in row 1 of the first training shard.
#[track_caller]
pub(crate) fn assert_row_fault(dir: &TempDir, column: &str, found: &str, expected: &str) {
    let fault = first_fault(dir);
    assert_eq!(location(&fault), (TRAIN_0, Some(0), Some(1), Some(column), Some("train-p1-q1")), "{fault}");
    assert!(fault.found.contains(found) && fault.expected.contains(expected), "{fault}");
}

pub(crate) fn train(rows: &mut Shards) -> &mut Row {
    &mut rows.get_mut(&Split::Train).expect("train")[0][1]
}

/// Rewrites a shard with changed columns, metadata or row groups.
pub(crate) fn rewrite(
    dir: &Path,
    file: &str,
    metadata: &[(&str, &str)],
    group_rows: usize,
    change: impl FnOnce(RecordBatch) -> RecordBatch,
) {
    let path = dir.join("shards/data").join(file);
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

pub(crate) fn usual_metadata() -> [(&'static str, String); 2] {
    [(METADATA_SCHEMA_VERSION, SCHEMA_VERSION.to_string()), (METADATA_TOKENIZER_SHA256, "ab".repeat(32))]
}

pub(crate) fn changed_batch(file: &str, group_rows: usize, change: impl FnOnce(RecordBatch) -> RecordBatch) -> TempDir {
    let dir = sound_set();
    let metadata = usual_metadata();
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value.as_str())).collect();
    rewrite(dir.path(), file, &metadata, group_rows, change);
    dir
}
