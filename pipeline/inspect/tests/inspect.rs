//! `glm-prep inspect` on small generated shards.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use glm_inspect::{InspectError, run};
use glm_prep::inspect::{Format, InspectArgs};
use glm_prep::shard::DataSetError;
use glm_schemas::SCHEMA_VERSION;
use glm_schemas::cloze;
use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
use glm_schemas::cloze::encoding::Question;
use glm_schemas::manifest::{IngestSettings, Manifest, Shard, Split, SplitManifest, TaskName, Tokenizer};
use glm_schemas::origin::Origin;
use glm_schemas::vocab::SpecialIds;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// Writes a shard of `rows` questions, numbered from `first`, in row groups of two.
fn write_shard(path: &Path, prefix: &str, first: i64, rows: i64, split: Split) {
    let labelled = split != Split::Test;
    let mut builder = ClozeBatchBuilder::new();
    for number in first..first + rows {
        let choices = [
            ChoiceRow { text: "Zoé Müller", ids: &[21, 22], correct: false, index: 1, name: None },
            ChoiceRow { text: "Oslo", ids: &[23], correct: labelled, index: 0, name: None },
        ];
        let row = ClozeRow {
            example_id: &format!("{prefix}-p{number}-q{number}"),
            origin: Origin { split, ..Origin::NONE },
            passage_id: number,
            question_id: number,
            group_id: None,
            idx: None,
            source: if number % 2 == 0 { "even" } else { "odd" },
            passage: "Zoé Müller went\nto Oslo.",
            query: "It rained in @placeholder.",
            tokens: &Question::about(&[21, 22, 7, 8, 23, 9], &[11, 12], &[9]),
            entities: &[],
            choices: &choices,
            labelled,
            label_name: None,
            end_of_piece: true,
        };
        builder.append(&row).expect("append");
    }
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let file = File::create(path).expect("create");
    let mut writer = ArrowWriter::try_new(file, cloze::schema(), Some(properties)).expect("writer");
    writer.write(&builder.finish().expect("batch")).expect("write");
    writer.close().expect("close");
}

/// Creates a data set of five train questions in two shards, one val and one test question.
fn data_set() -> TempDir {
    let folder = tempdir().expect("tempdir");
    let shards = folder.path().join("shards");
    fs::create_dir_all(shards.join("data")).expect("create");
    let mut splits = BTreeMap::new();
    let files = [
        (Split::Train, "train-00000-of-00002.parquet", "train", 0, 3),
        (Split::Train, "train-00001-of-00002.parquet", "train", 3, 2),
        (Split::Val, "val-00000-of-00001.parquet", "dev", 0, 1),
        (Split::Test, "test-00000-of-00001.parquet", "dev", 0, 1),
    ];
    for (split, file, prefix, first, rows) in files {
        write_shard(&shards.join("data").join(file), prefix, first, rows, split);
        let content: &mut SplitManifest = splits.entry(split).or_default();
        content.rows += rows as usize;
        content.shards.push(Shard { file: file.into(), rows: rows as usize, bytes: 0, sha256: file.into() });
    }
    let mut manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        task: TaskName::Cloze,
        tool: "glm-prep test".into(),
        fingerprint: String::new(),
        tokenizer: Tokenizer { name: "bert-large-uncased".into(), sha256: "ab".into(), vocab_size: 30524 },
        special_ids: SpecialIds::BERT_UNCASED,
        blank: "@placeholder".into(),
        cloze: None,
        splits,
        raw_files: vec![],
        rejects: None,
        settings: IngestSettings { rows_per_group: 2, ..support::settings() },
    };
    manifest.fingerprint = manifest.compute_fingerprint();
    fs::write(shards.join("manifest.json"), manifest.to_json().expect("json")).expect("write");
    folder
}

fn args(path: impl AsRef<Path>) -> InspectArgs {
    InspectArgs::new(path.as_ref())
}

fn printed(args: &InspectArgs) -> String {
    let mut out = Vec::new();
    run(args, false, &mut out).expect("inspect");
    String::from_utf8(out).expect("text")
}

fn lines(args: &InspectArgs) -> Vec<Value> {
    printed(args).lines().map(|line| serde_json::from_str(line).expect("a JSON object per line")).collect()
}

fn message(args: &InspectArgs) -> String {
    let message = run(args, false, &mut Vec::new()).expect_err("an error").to_string();
    assert!(!message.contains('\n'), "one sentence: {message}");
    message
}

#[test]
fn a_data_set_is_shown_with_counts_and_questions() {
    let folder = data_set();
    let text = printed(&args(folder.path()));
    // Few lines before the first question.
    assert_eq!(text.lines().next(), Some(folder.path().to_str().expect("text")), "{text}");
    assert!(text.lines().position(|line| line.starts_with("train train-p0-q0")).is_some_and(|line| line <= 5), "{text}");
    let mut quiet = Vec::new();
    run(&args(folder.path()), true, &mut quiet).expect("inspect");
    let (_, questions) = text.split_once("\n\n").expect("counts");
    assert_eq!(String::from_utf8(quiet).expect("text"), questions);
    assert!(text.contains("train         5 questions         10 choices"), "{text}");
    assert!(text.contains("val           1 questions"), "{text}");
    assert_eq!(text.matches("query    It rained in @placeholder.").count(), 5, "{text}");
    assert!(text.contains("passage  Zoé Müller went to Oslo."), "{text}");
    assert!(text.contains("  choices    Zoé Müller\n           * Oslo\n"), "{text}");
    // The folder of the shards is the same data set.
    assert_eq!(
        text.lines().skip(1).collect::<Vec<_>>(),
        printed(&args(folder.path().join("shards"))).lines().skip(1).collect::<Vec<_>>()
    );
}

#[test]
fn the_schema_is_shown_on_request() {
    let folder = data_set();
    let text = printed(&InspectArgs { schema: true, ..args(folder.path()) });
    for column in cloze::schema().fields() {
        assert!(text.lines().any(|line| line.trim_start().starts_with(&format!("{} ", column.name()))), "{}", column.name());
    }
    assert!(text.contains("list[struct{text: str, ids: list[i32], correct: bool, choice_index: i32, name: str}]"), "{text}");
    assert!(text.contains("30524 tokens") && !text.contains("It rained"), "{text}");
}

#[test]
fn questions_are_printed_in_formats_for_other_programs() {
    let folder = data_set();
    let form = |format, rows| InspectArgs { format: Some(format), rows, ..args(folder.path()) };
    let csv = printed(&form(Format::Csv, Some(usize::MAX)));
    let header: Vec<_> = csv.lines().next().expect("a header").split(',').collect();
    let names: Vec<_> = cloze::schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(header, names);
    // The passage has a line break, within quotes.
    assert_eq!(csv.matches("\"Zoé Müller went\nto Oslo.\"").count(), 7, "{csv}");
    assert!(csv.contains("\"[{\"\"choice_index\"\":") && csv.contains("\"[{\"\"ids\"\":[21,22,7,8,23,9],"), "{csv}");
    assert_eq!(printed(&form(Format::Csv, None)).matches("Müller went").count(), 5, "five by default");
    let json = printed(&form(Format::Json, Some(usize::MAX)));
    assert_eq!(json, printed(&InspectArgs { json: true, rows: Some(7), ..args(folder.path()) }));
    let table = printed(&form(Format::Table, Some(2)));
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("example_id   split") && table.contains("\ntrain-p1-q1  train"), "{table}");
    // The header is there without rows, and once for several shards.
    let none = InspectArgs { condition: Some("false".into()), ..form(Format::Csv, None) };
    assert_eq!(printed(&none).lines().count(), 1);
    let some = InspectArgs { condition: Some("question_id >= 2".into()), ..form(Format::Csv, Some(usize::MAX)) };
    assert_eq!(printed(&some).matches("example_id").count(), 1);
    let id = InspectArgs { id: Some("train-p3-q3".into()), ..form(Format::Csv, None) };
    assert_eq!(printed(&id).matches("train-p3-q3").count(), 1);

    let sql = |format| InspectArgs {
        sql: Some(
            "select split, avg(label) as mean, max(num_choices) / 3.0 as part from shards group by split order by split".into(),
        ),
        format,
        ..args(folder.path())
    };
    let table =
        "split  mean  part\n-----  ----  --------\ntest         0.666667\ntrain  1     0.666667\nval    1     0.666667\n";
    assert_eq!(printed(&sql(None)), table);
    assert!(printed(&sql(Some(Format::Csv))).starts_with("split,mean,part\ntest,,0.6666666666666666\ntrain,1.0,"));
}

#[test]
fn rows_and_split_limit_the_output() {
    let folder = data_set();
    let text = printed(&InspectArgs { rows: Some(2), ..args(folder.path()) });
    assert!(text.contains("train-p1-q1") && !text.contains("train-p2-q2"), "{text}");
    let text = printed(&InspectArgs { split: Some(Split::Val), ..args(folder.path()) });
    assert!(text.contains("dev-p0-q0") && !text.contains("train"), "{text}");
    let text = printed(&InspectArgs { split: Some(Split::Test), ..args(folder.path()) });
    assert!(text.contains("             Oslo") && !text.contains("* Oslo"), "no answer is marked in the test split: {text}");
}

#[test]
fn json_rows_have_every_column() {
    let folder = data_set();
    let rows = lines(&InspectArgs { json: true, rows: Some(9), ..args(folder.path()) });
    let ids: Vec<_> = rows.iter().map(|row| row["example_id"].as_str().expect("text")).collect();
    assert_eq!(ids[..6], ["train-p0-q0", "train-p1-q1", "train-p2-q2", "train-p3-q3", "train-p4-q4", "dev-p0-q0"]);
    assert_eq!(rows[0]["split"], "train");
    assert_eq!(rows[1]["source"], "odd");
    assert_eq!(rows[0]["segments"][0], json!({ "ids": [21, 22, 7, 8, 23, 9], "truncatable": true }));
    assert_eq!(rows[0]["choices"][1], json!({"text": "Oslo", "ids": [23], "correct": true, "choice_index": 0, "name": null}));
    assert_eq!((&rows[0]["label"], &rows[6]["label"]), (&json!(1), &Value::Null));
    for column in cloze::schema().fields() {
        assert!(rows[0].get(column.name()).is_some(), "{}", column.name());
    }
}

#[test]
fn sql_sees_all_shards_and_the_split() {
    let folder = data_set();
    let sql = "select split, count(*) as n, sum(num_choices) as c from shards group by split order by n desc, split";
    let rows = lines(&InspectArgs { sql: Some(sql.into()), json: true, ..args(folder.path()) });
    assert_eq!(rows[0], json!({"split": "train", "n": 5, "c": 10}));
    assert_eq!(rows.len(), 3);

    let sql = "select example_id, label from shards where split <> 'val' and source = 'even' order by example_id";
    let table = printed(&InspectArgs { sql: Some(sql.into()), ..args(folder.path()) });
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(
        lines,
        ["example_id   label", "-----------  -----", "dev-p0-q0", "train-p0-q0  1", "train-p2-q2  1", "train-p4-q4  1"]
    );

    // All rows of all shards, of one split, of one shard, of a subquery.
    let count = |path: &Path, split, sql: &str| printed(&InspectArgs { sql: Some(sql.into()), split, ..args(path) });
    let all = "select count(*) from shards";
    assert_eq!(count(folder.path(), None, all), "len\n---\n7\n");
    assert_eq!(count(folder.path(), Some(Split::Train), all), "len\n---\n5\n");
    assert_eq!(count(&folder.path().join("shards/data/train-00001-of-00002.parquet"), None, all), "len\n---\n2\n");
    let some = "select count(*) as n from (select * from shards where num_choices > 1 and source = 'odd')";
    assert_eq!(count(folder.path(), None, some), "n\n-\n2\n");

    // Long tables are printed completely.
    let sql = "select a.example_id from shards a cross join shards b";
    assert_eq!(printed(&InspectArgs { sql: Some(sql.into()), ..args(folder.path()) }).lines().count(), 2 + 49);
}

#[test]
fn the_error_of_a_query_is_one_sentence() {
    let folder = data_set();
    let message = |sql: &str| message(&InspectArgs { sql: Some(sql.into()), ..args(folder.path()) });
    for (sql, expected) in [("select nothing from shards", "nothing"), ("select * from elsewhere", "elsewhere"), ("selec", "")]
    {
        let message = message(sql);
        assert!(message.starts_with("the query cannot be run: ") && message.contains(expected), "{message}");
    }
    // Advice only where it helps.
    assert!(message("select nothing from shards").contains("valid columns: [\"example_id\""));
    assert!(message("select * from elsewhere").ends_with("was not found; the table is `shards`"));
    assert!(!message("selec").contains(';'), "{}", message("selec"));
    let union = message("select count(*) from (select split from shards union all select split from shards)");
    assert!(union.ends_with("; write count(COLUMN) instead of count(*)"), "{union}");
}

#[test]
fn model_input_is_the_published_encoding_in_published_order() {
    let folder = data_set();
    let all = lines(&InspectArgs { model_input: true, ..args(folder.path()) });
    assert_eq!(all.len(), 14);
    let expected = json!({
        "split": "train", "order": 0, "example_id": "train-p0-q0", "choice_no": 0, "choice": "Zoé Müller", "num_choices": 2,
        "correct": [1], "sep": 12,
        "ids": [101, 21, 22, 7, 8, 23, 9, 11, 12, 103, 9, 0, 30522, 21, 22],
        "position": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 9, 9, 9],
        "block_position": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3],
        "target": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 21, 22, 30523],
        "loss_mask": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
    });
    assert_eq!(all[0], expected);
    let orders: Vec<_> =
        all.iter().map(|line| (line["split"].as_str(), line["order"].as_u64(), line["choice_no"].as_u64())).collect();
    assert_eq!(orders[9], (Some("train"), Some(4), Some(1)), "the second shard continues the count");
    assert_eq!(orders[10], (Some("val"), Some(0), Some(0)));
    assert_eq!(all[12]["correct"], json!([]), "the test split has no answers");

    let short = lines(&InspectArgs { model_input: true, max_seq_len: 12, rows: Some(1), ..args(folder.path()) });
    assert_eq!(short[0]["ids"], json!([101, 21, 22, 7, 11, 12, 103, 9, 0, 30522, 21, 22]));
    assert_eq!((&short[0]["sep"], &short[1]["sep"]), (&json!(9), &json!(10)), "a shorter choice leaves more of the passage");
    let message = message(&InspectArgs { model_input: true, max_seq_len: 8, ..args(folder.path()) });
    assert!(message.contains("train-p0-q0") && message.contains("at least 9"), "{message}");
}

#[test]
fn a_single_shard_uses_the_manifest_of_its_data_set() {
    let folder = data_set();
    let shard = folder.path().join("shards/data/train-00001-of-00002.parquet");
    let first = |path: &Path| lines(&InspectArgs { model_input: true, rows: Some(1), ..args(path) }).remove(0);
    assert_eq!((&first(&shard)["split"], &first(&shard)["order"]), (&json!("train"), &json!(3)));
    let alone = folder.path().join("some.parquet");
    fs::copy(&shard, &alone).expect("copy");
    assert_eq!((&first(&alone)["split"], &first(&alone)["order"]), (&Value::Null, &json!(0)));
    assert!(printed(&args(&alone)).contains("train-p4-q4"));
    let message = message(&InspectArgs { split: Some(Split::Val), ..args(&shard) });
    assert!(message.contains("has no val split; "), "{message}");
}

#[test]
fn the_error_of_a_wrong_path_is_one_sentence() {
    let folder = tempdir().expect("tempdir");
    let path = folder.path();
    assert!(message(&args(path.join("gone"))).contains("there is no file or folder"));
    let error = run(&args(path), false, &mut Vec::new()).expect_err("no manifest");
    assert!(
        matches!(error, InspectError::DataSet(DataSetError::NoManifest { .. })) && error.to_string().contains("manifest.json"),
        "{error}"
    );

    for content in [&b""[..], b"PAR1", b"PAR1 without an end", b"version https://git-lfs.github.com/spec/v1"] {
        let file = path.join("train.parquet");
        fs::write(&file, content).expect("write");
        assert!(message(&args(&file)).contains("is not a Parquet file; "));
    }
    let damaged = path.join("damaged.parquet");
    fs::write(&damaged, b"PAR1 an invalid footer \xff\xff\xff\xffPAR1").expect("write");
    for form in [
        args(&damaged),
        InspectArgs { model_input: true, ..args(&damaged) },
        InspectArgs { sql: Some("select * from shards".into()), ..args(&damaged) },
    ] {
        let message = message(&form);
        assert!(message.contains("damaged.parquet is damaged: ") && message.contains("copy it again"), "{message}");
    }
    fs::write(path.join("manifest.json"), "{}").expect("write");
    assert!(message(&args(path)).contains("manifest.json"));
}

#[test]
fn a_parquet_file_with_other_columns_is_not_a_shard() {
    let folder = tempdir().expect("tempdir");
    let path = folder.path().join("other.parquet");
    write_shard(&path, "train", 0, 1, Split::Train);
    let batch = {
        let file = File::open(&path).expect("open");
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("reader");
        reader.build().expect("build").next().expect("a batch").expect("read").project(&[0, 1]).expect("project")
    };
    let mut writer = ArrowWriter::try_new(File::create(&path).expect("create"), batch.schema(), None).expect("writer");
    writer.write(&batch).expect("write");
    writer.close().expect("close");
    assert!(message(&InspectArgs { model_input: true, ..args(&path) }).contains("`segments` is missing"));
    // SQL works on any columns; the readable form needs the columns of a question.
    let sql = Some("select example_id from shards".to_owned());
    assert!(printed(&InspectArgs { sql, ..args(&path) }).contains("train-p0-q0"));
    assert!(message(&args(&path)).contains("other.parquet"));
}

/// A closed pipe, as in `glm-prep inspect … | head -0`.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_recognisable() {
    let folder = data_set();
    let base = args(folder.path());
    let sql = Some("select * from shards".to_owned());
    let forms = [
        base.clone(),
        InspectArgs { json: true, ..base.clone() },
        InspectArgs { model_input: true, ..base.clone() },
        InspectArgs { sql: sql.clone(), ..base.clone() },
        InspectArgs { sql, json: true, ..base },
    ];
    for form in forms {
        let error = run(&form, false, &mut Closed).expect_err("closed");
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::BrokenPipe), "{error:?}");
    }
}
