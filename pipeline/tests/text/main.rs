//! Ingest of documents: formats, rows, dedup, parts, bad input, and the commands on such data sets.

mod commands;
#[path = "../support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, LargeStringArray, RecordBatch, StringArray};
use glm_prep::ingest::{self, Dedup, IngestError, IngestOptions, MergeOptions, Outcome, RejectLimit, Silent, Stop, Summary};
use glm_prep::source::input::Selection;
use glm_prep::source::recognise::FormatName;
use glm_schemas::document::DocumentView;
use glm_schemas::manifest::{Split, TaskName};
use glm_schemas::origin::OriginView;
use glm_text::tokenize::Tokenizer;
use parquet::arrow::ArrowWriter;
use serde_json::json;

fn options(dir: &Path) -> IngestOptions {
    IngestOptions { task: Some(TaskName::Text), ..IngestOptions::new(dir) }
}

/// Row of a data set: example id, prompt, text, file and line.
type Row = (String, Option<String>, String, String, Option<u64>);

/// Reads the rows of a split and checks their tokens and sentence ends against the tokenizer.
fn rows(dir: &Path, split: Split) -> Vec<Row> {
    let tokenizer = Tokenizer::bert_uncased().expect("built in").without_commands();
    let mut session = tokenizer.session();
    let mut rows = Vec::new();
    for batch in support::batches(dir, split) {
        let view = DocumentView::try_new(&batch).expect("the table of documents");
        view.check_values(30_524).expect("the contract");
        let origins = OriginView::try_new(&batch).expect("origins");
        for row in 0..view.len() {
            let (prompt, text) = (view.prompt(row), view.text(row).expect("text"));
            let mut ids = |text: &str| session.encode(text).expect("tokens").ids;
            assert_eq!(view.ids(row), ids(text));
            assert_eq!(view.prompt_ids(row), prompt.map_or_else(Vec::new, ids));
            let ends = view.ids(row).iter().zip(1..).filter(|(id, _)| {
                tokenizer.token(**id).expect("a token").contains(['.', '?', '!', ';', ':', '。', '？', '！', '；', '…'])
            });
            assert_eq!(view.sentence_ends(row), ends.map(|(_, end)| end).collect::<Vec<i32>>());
            let origin = origins.get(row).expect("origin");
            assert_eq!(origin.split, split);
            let (file, line) = (origin.raw_file.to_owned(), origin.raw_line);
            rows.push((view.example_id(row).to_owned(), prompt.map(str::to_owned), text.to_owned(), file, line));
        }
    }
    rows
}

fn texts(dir: &Path, split: Split) -> Vec<String> {
    rows(dir, split).into_iter().map(|(_, _, text, _, _)| text).collect()
}

fn write(dir: &Path, file: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    fs::write(path, content).expect("write");
}

/// Some different sentences.
fn sentences(number: usize) -> String {
    format!(
        "Story {number} begins here. The keeper of house {number} counts {} lamps; nobody asks why! Then it ends?",
        number * 7
    )
}

#[test]
fn json_lines_become_rows() {
    let dir = tempfile::tempdir().expect("folder");
    let lines = [
        json!({"text": "A \u{201c}dog\u{201d} barks. It [MASK]s; twice", "prompt": "Tell \u{2018}me\u{2019}.", "id": "a-1", "source": "own", "url": "x"}),
        json!({"text": "  "}),
        json!({"text": "Plain.", "id": "a-1"}),
    ];
    write(dir.path(), "train.jsonl", lines.map(|line| line.to_string()).join("\n"));
    write(dir.path(), "val.jsonl", json!({"text": "Unseen."}).to_string());
    let summary = support::run(&IngestOptions { keep_fields: true, ..options(dir.path()) }).expect("ingested");
    let train = rows(dir.path(), Split::Train);
    let expected = [
        ("train-a-1", Some("Tell 'me'."), "A \"dog\" barks. It [MASK]s; twice", "train.jsonl", Some(1)),
        ("train-d2", None, "Plain.", "train.jsonl", Some(3)),
    ];
    let expected = expected.map(|(id, prompt, text, file, line)| {
        (id.to_owned(), prompt.map(str::to_owned), text.to_owned(), file.to_owned(), line)
    });
    assert_eq!(train, expected);
    assert_eq!(rows(dir.path(), Split::Val)[0].0, "val-d0");
    let batch = &support::batches(dir.path(), Split::Train)[0];
    assert_eq!(OriginView::try_new(batch).expect("origins").get(0).expect("valid").extra, Some("{\"url\": \"x\"}"));
    assert_eq!(support::texts(batch, "source"), ["own", ""]);
    assert!(!support::numbers(batch, "ids").concat().contains(&103), "a written [MASK] is text");

    let manifest = support::manifest(dir.path());
    let settings = &manifest.settings;
    assert_eq!((manifest.task, settings.format.as_str(), manifest.blank.as_str()), (TaskName::Text, "jsonl", ""));
    assert_eq!((settings.max_seq_len, settings.max_distractors, settings.distractor_seed), (None, None, None));
    let train = &manifest.splits[&Split::Train];
    let tokens: i32 = support::numbers(batch, "num_tokens").concat().iter().sum();
    assert_eq!((train.rows, train.choices, train.tokens as i32), (2, None, tokens));
    assert_eq!(summary.rejected_records(), 1);
    assert!(summary.to_string().contains("the text is empty"), "{summary}");
    let text = fs::read_to_string(dir.path().join("shards/manifest.json")).expect("manifest");
    assert!(!text.contains("choices") && !text.contains("distractor") && !text.contains("blank"), "{text}");
}

#[test]
fn plain_text_is_split_as_its_format_says() {
    let dir = tempfile::tempdir().expect("folder");
    let book = "Once upon a time\nthere was a well.\n\nIt was deep.\n\n";
    let ingest = |format: Option<&str>| {
        let format = format.map(|name| FormatName::named(name).expect("a format"));
        support::run(&IngestOptions { format, force: true, ..options(dir.path()) }).expect("ingested")
    };
    write(dir.path(), "books/b.txt", book);
    write(dir.path(), "books/a.txt", "Another book.\n");
    write(dir.path(), "README.txt", "About the books.");
    // No name has a split: all files are training data, sorted by name.
    assert_eq!(ingest(None).format, "document");
    assert_eq!(texts(dir.path(), Split::Train), ["Another book.", book.trim_end()]);
    assert_eq!(rows(dir.path(), Split::Train)[1].3, "books/b.txt");
    assert_eq!(rows(dir.path(), Split::Train)[1].4, None, "a whole file has no line");
    ingest(Some("paragraphs"));
    assert_eq!(texts(dir.path(), Split::Train), ["Another book.", "Once upon a time\nthere was a well.", "It was deep."]);
    ingest(Some("lines"));
    assert_eq!(texts(dir.path(), Split::Train).len(), 4);

    let dir = tempfile::tempdir().expect("folder");
    let articles: Vec<_> = (0..3).map(|number| sentences(number).repeat(2)).collect();
    write(dir.path(), "wiki.txt", articles.join("\n\n"));
    let summary = support::run(&options(dir.path())).expect("ingested");
    assert_eq!(summary.format, "lines", "long lines are documents");
    assert_eq!(texts(dir.path(), Split::Train), articles);
    assert_eq!(rows(dir.path(), Split::Train)[2].4, Some(5));
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
    let batch = batch.expect("batch");
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("writer");
    writer.write(&batch).expect("write");
    writer.close().expect("close");
    bytes
}

#[test]
fn rows_of_parquet_are_documents() {
    let dir = tempfile::tempdir().expect("folder");
    let all: Vec<_> = (0..200).map(sentences).collect();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(1000..1200));
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(&all));
    let bytes = parquet(vec![("id", ids), ("text", text), ("score", Arc::new(Int64Array::from_iter_values(0..200)))]);
    write(dir.path(), "data/train-00000-of-00001-0123456789abcdef.parquet", &bytes);
    let summary = support::run(&options(dir.path())).expect("ingested");
    assert_eq!((summary.format.as_str(), summary.splits[0].records), ("parquet", 200));
    let found = rows(dir.path(), Split::Train);
    assert_eq!(found.iter().map(|row| row.2.clone()).collect::<Vec<_>>(), all);
    assert_eq!((found[7].0.as_str(), found[7].4), ("train-1007", Some(8)));
    let raw = &support::manifest(dir.path()).raw_files[0];
    assert_eq!((raw.bytes, raw.records), (bytes.len() as u64, 200));
    assert!(support::run(&options(dir.path())).expect("again").unchanged);
    let limited = support::run(&IngestOptions { limit: Some(70), ..options(dir.path()) }).expect("limited");
    assert_eq!(limited.splits[0].questions, 70);

    // Another column, large strings, nulls, and a compressed file, which cannot be read in place.
    let dir = tempfile::tempdir().expect("folder");
    let body: ArrayRef = Arc::new(LargeStringArray::from(vec![Some("One."), None, Some("Two.")]));
    let packed = zstd::encode_all(parquet(vec![("body", body)]).as_slice(), 1).expect("packed");
    write(dir.path(), "train.parquet.zst", packed);
    let any = RejectLimit::Percent(100.0);
    let error = support::run(&options(dir.path())).expect_err("no column `text`").to_string();
    assert_eq!(error, "train.parquet.zst has no column `text`; name the column of the text with --column: body");
    let column = Some("body".to_owned());
    let summary = support::run(&IngestOptions { column, max_rejects: any, ..options(dir.path()) }).expect("ingested");
    assert_eq!(texts(dir.path(), Split::Train), ["One.", "Two."]);
    assert_eq!(summary.rejected_records(), 1);
    assert_eq!(support::manifest(dir.path()).settings.column.as_deref(), Some("body"));
    write(dir.path(), "train.parquet.zst", &parquet(vec![("text", Arc::new(StringArray::from(vec!["a"])) as ArrayRef)])[..40]);
    let error = support::run(&options(dir.path())).expect_err("cut off").to_string();
    assert!(error.starts_with("train.parquet.zst cannot be read as Parquet ("), "{error}");
}

#[test]
fn compressed_files_give_the_same_rows() {
    let plain = tempfile::tempdir().expect("folder");
    let lines: String = (0..50).map(|number| format!("{}\n", json!({"text": sentences(number)}))).collect();
    write(plain.path(), "train.jsonl", &lines);
    support::run(&options(plain.path())).expect("ingested");
    let dir = tempfile::tempdir().expect("folder");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(lines.as_bytes()).expect("gzip");
    for (file, bytes) in [
        ("train.jsonl.gz", gz.finish().expect("gzip")),
        ("train.jsonl.zst", zstd::encode_all(lines.as_bytes(), 1).expect("zstd")),
    ] {
        write(dir.path(), file, bytes);
        support::run(&options(dir.path())).expect("ingested");
        assert_eq!(texts(dir.path(), Split::Train), texts(plain.path(), Split::Train), "{file}");
        fs::remove_file(dir.path().join(file)).expect("remove");
    }
}

/// Several batches of documents with copies, in two files.
fn many() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let line = |number: usize| format!("{}\n", json!({"text": sentences(number).repeat(30)}));
    write(dir.path(), "train-0.jsonl", (0..150).map(line).collect::<String>());
    write(dir.path(), "train-1.jsonl", (100..250).map(line).chain(["bad\n".to_owned()]).collect::<String>());
    dir
}

fn bounded(dir: &Path) -> IngestOptions {
    let rows_per_shard = 64.try_into().expect("some");
    let val_fraction = Some("0.1".parse().expect("a fraction"));
    let max_rejects = RejectLimit::Percent(5.0);
    IngestOptions { rows_per_shard, val_fraction, max_rejects, dedup: Some(Dedup::Exact), ..options(dir) }
}

#[test]
fn parts_and_threads_give_the_same_bytes() {
    let dir = many();
    let one = IngestOptions { threads: 1.try_into().expect("some"), ..bounded(dir.path()) };
    let whole = support::run(&one).expect("whole");
    let shards = dir.path().join("shards");
    let expected = support::contents(&shards);
    assert!(expected.len() > 6, "several shards");
    let three = IngestOptions { threads: 3.try_into().expect("some"), force: true, ..bounded(dir.path()) };
    support::run(&three).expect("again");
    assert!(support::contents(&shards) == expected, "threads change nothing");
    for count in [1, 3] {
        fs::remove_dir_all(&shards).expect("remove");
        for index in 0..count {
            let partition = Some(format!("{index}/{count}").parse().expect("a part"));
            let outcome = ingest::run(&IngestOptions { partition, ..bounded(dir.path()) }, &Silent).expect("part");
            assert!(matches!(outcome, Outcome::Part(_)));
        }
        let merged = merge(dir.path()).expect("merged");
        assert_eq!(merged.fingerprint, whole.fingerprint);
        assert!(support::contents(&shards) == expected, "{count} parts change nothing");
        assert_eq!(merged.splits[0].dropped + merged.splits[1].dropped, 50);
    }
}

fn merge(dir: &Path) -> Result<Summary, IngestError> {
    let (threads, max_rejects) = (2.try_into().expect("some"), RejectLimit::Percent(5.0));
    ingest::merge(&MergeOptions { dir: dir.to_owned(), tokenizer: None, threads, max_rejects, stop: Stop::default() }, &Silent)
}

#[test]
fn dedup_keeps_the_first_of_equal_documents() {
    let dir = many();
    let all = support::run(&IngestOptions { dedup: None, ..bounded(dir.path()) }).expect("all");
    let rows_of = |summary: &Summary| summary.splits.iter().map(|split| split.questions).sum::<usize>();
    assert_eq!((rows_of(&all), all.splits[0].dropped), (300, 0));
    let kept = support::run(&bounded(dir.path())).expect("dedup");
    assert_eq!(rows_of(&kept), 250);
    assert!(kept.to_string().contains("50 documents dropped: an earlier one has the same text"), "{kept}");
    assert_eq!(support::manifest(dir.path()).settings.dedup.as_deref(), Some("exact"));
    let mut found: Vec<_> = [Split::Train, Split::Val].into_iter().flat_map(|split| rows(dir.path(), split)).collect();
    // All copies are in the second file.
    assert_eq!(found.iter().filter(|row| row.3 == "train-0.jsonl").count(), 150);
    found.sort_by(|a, b| a.2.cmp(&b.2));
    found.dedup_by(|a, b| a.2 == b.2);
    assert_eq!(found.len(), 250);
    let val = rows(dir.path(), Split::Val).len();
    assert!((10..45).contains(&val), "{val}");
}

#[test]
fn large_documents_are_rows_if_they_may_be() {
    let dir = tempfile::tempdir().expect("folder");
    let small = |number: usize| json!({"text": format!("Small document {number}.")}).to_string();
    let large =
        |number: usize| json!({"text": format!("Book {number}. {}", "The keeper lit the lamp. ".repeat(220_000))}).to_string();
    let lines = [small(0), large(1), small(2), large(3), large(4), small(5)];
    write(dir.path(), "train.jsonl", lines.join("\n"));
    let rejects = IngestOptions { max_rejects: RejectLimit::Percent(100.0), ..options(dir.path()) };
    let summary = support::run(&rejects).expect("ingested");
    assert_eq!((summary.splits[0].questions, summary.rejected_records()), (3, 3));
    let list = fs::read_to_string(dir.path().join("shards/rejects.jsonl")).expect("rejects");
    assert!(list.contains("the limit is 4194304, which --max-record-mib raises for documents"), "{list}");

    let allows = |threads: usize| IngestOptions {
        max_record_bytes: 6 << 20,
        threads: threads.try_into().expect("some"),
        force: true,
        ..options(dir.path())
    };
    let mut contents = Vec::new();
    for threads in [1, 3] {
        let summary = support::run(&allows(threads)).expect("ingested");
        assert_eq!((summary.splits[0].questions, summary.rejected_records()), (6, 0));
        contents.push(support::contents(&dir.path().join("shards")));
    }
    assert!(contents[0] == contents[1], "threads change nothing");
    let lengths: Vec<_> = texts(dir.path(), Split::Train).iter().map(String::len).collect();
    assert_eq!(lengths.iter().filter(|length| **length > 5 << 20).count(), 3, "{lengths:?}");
    assert_eq!(support::manifest(dir.path()).settings.max_record_bytes, Some(6 << 20));
}

#[test]
fn published_filters_leave_documents_out() {
    let dir = tempfile::tempdir().expect("folder");
    let line = |part: &str, text: &str| format!("{}\n", json!({"text": text, "meta": {"pile_set_name": part}}));
    let lines = [line("Github", "int main() {}"), line("Wikipedia (en)", "Cats are animals."), line("Enron Emails", "Hi!")];
    write(dir.path(), "train.jsonl", lines.concat());
    let summary = support::run(&options(dir.path())).expect("ingested");
    assert_eq!((summary.format.as_str(), summary.splits[0].left_out, summary.rejected_records()), ("pile", 2, 0));
    assert_eq!(rows(dir.path(), Split::Train)[0].0, "train-d1");
    assert_eq!(support::texts(&support::batches(dir.path(), Split::Train)[0], "source"), ["Wikipedia (en)"]);
    assert!(summary.to_string().contains("2 documents left out by the filters of format pile"), "{summary}");

    let dir = tempfile::tempdir().expect("folder");
    let pages: Vec<_> =
        (0..3).map(|number| json!({"title": format!("题{number}"), "content": "内容。\u{201c}".repeat(40)})).collect();
    write(dir.path(), "part-1.json", serde_json::to_string_pretty(&json!({"RECORDS": pages})).expect("json"));
    let summary = support::run(&options(dir.path())).expect("ingested");
    assert_eq!(summary.format, "wudao");
    let found = rows(dir.path(), Split::Train);
    assert_eq!((found.len(), found[2].2.as_str()), (3, format!("题2 {}", "内容。\u{201c}".repeat(40)).as_str()));
    assert_eq!(found[1].4, Some(7));
}
