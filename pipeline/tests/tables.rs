//! Tasks whose raw files are tables: TSV as GLUE publishes it, CSV as published with quotes, and anybody's own.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_prep::ingest::{IngestOptions, RejectLimit};
use glm_prep::pattern::PatternTask;
use glm_schemas::cloze::ClozeView;
use glm_schemas::manifest::Split;
use support::{rejects, write};

/// A row of a data set: id, index in the raw data, query, right label, line.
type Row = (String, Option<String>, String, Option<String>, i32);

fn options(dir: &Path, task: &str) -> IngestOptions {
    support::pattern_options(dir, PatternTask::open(task, None, false).expect("a pattern"))
}

fn rows(dir: &Path, split: Split) -> Vec<Row> {
    let batch = support::batches(dir, split).remove(0);
    let view = ClozeView::try_new(&batch).expect("columns");
    let (queries, lines) = (support::texts(&batch, "query"), support::numbers(&batch, "raw_line"));
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let row = |row: usize| {
        let query = queries[row].clone();
        (view.example_id(row).to_owned(), owned(view.idx(row)), query, owned(view.label_name(row)), lines[row][0])
    };
    (0..view.len()).map(row).collect()
}

fn row(id: &str, idx: Option<&str>, query: &str, label: Option<&str>, line: i32) -> Row {
    (id.to_owned(), idx.map(str::to_owned), query.to_owned(), label.map(str::to_owned), line)
}

const MNLI_TRAIN: &str = "index\tpromptID\tsentence1\tsentence2\tlabel1\tgold_label\n\
    0\t3\tIt rained.\tIt was wet.\tneutral\tneutral\n\
    1\t3\tHe said \"no.\tHe said yes.\tcontradiction\tcontradiction\n";
const MNLI_DEV: &str =
    "index\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label\n0\tA cat.\tAn animal.\tneutral\tentailment\tentailment\n";
const MNLI_TEST: &str = "index\tsentence1\tsentence2\n0\tB.\tC.\n1\tD.\tE.\n";

fn mnli(dir: &Path, folder: &str) {
    let name = |file: &str| format!("{folder}{file}");
    write(
        dir,
        &[
            (name("train.tsv").as_str(), MNLI_TRAIN),
            (name("dev_matched.tsv").as_str(), MNLI_DEV),
            (name("dev_mismatched.tsv").as_str(), MNLI_DEV.replace("A cat", "A dog").as_str()),
            (name("test_matched.tsv").as_str(), MNLI_TEST),
            (name("test_mismatched.tsv").as_str(), MNLI_TEST),
            (name("original/multinli_1.0_train.txt").as_str(), "not read"),
        ],
    );
}

#[test]
fn the_columns_of_a_table_are_the_fields_of_a_pattern() {
    let dir = tempfile::tempdir().expect("folder");
    mnli(dir.path(), "MNLI/");
    for (task, file, animal) in [("glue/mnli", "matched", "cat"), ("glue/mnli-mm", "mismatched", "dog")] {
        support::run(&options(dir.path(), task)).expect("ingested");
        let manifest = support::manifest(dir.path());
        let files: Vec<_> = manifest.raw_files.iter().map(|raw| (raw.file.as_str(), raw.records)).collect();
        let (dev, test) = (format!("MNLI/dev_{file}.tsv"), format!("MNLI/test_{file}.tsv"));
        assert_eq!(files, [("MNLI/train.tsv", 2), (&dev, 1), (&test, 2)]);
        assert_eq!(manifest.raw_files[0].bytes, MNLI_TRAIN.len() as u64);
        // Quotes are characters like others.
        assert_eq!(
            rows(dir.path(), Split::Train),
            [
                row("train-0", Some("0"), "\"It rained\" ? [BLANK], \"It was wet.\"", Some("neutral"), 2),
                row("train-1", Some("1"), "\"He said \"no\" ? [BLANK], \"He said yes.\"", Some("contradiction"), 3),
            ]
        );
        let query = format!("\"A {animal}\" ? [BLANK], \"An animal.\"");
        assert_eq!(rows(dir.path(), Split::Val), [row("dev-0", Some("0"), &query, Some("entailment"), 2)]);
        assert_eq!(rows(dir.path(), Split::Test)[1], row("test-1", Some("1"), "\"D\" ? [BLANK], \"E.\"", None, 3));
    }
    let sound = Command::new(env!("CARGO_BIN_EXE_glm-prep")).arg("verify").arg(dir.path()).output().expect("run");
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));
    assert!(support::run(&options(dir.path(), "glue/mnli-mm")).expect("ingested").unchanged);
}

#[test]
fn archives_of_glue_are_found_by_the_folder_in_them() {
    const QNLI: &str = "index\tquestion\tsentence\tlabel\n0\tIs it?\tIt is.\tentailment\n";
    const QQP: &str = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\tIs it?\tWho?\t0\n";
    let dir = tempfile::tempdir().expect("folder");
    for (archive, folder, table) in [("QNLIv2", "QNLI", QNLI), ("QQP-clean", "QQP", QQP)] {
        let mut zip = zip::ZipWriter::new(File::create(dir.path().join(format!("{archive}.zip"))).expect("created"));
        zip.start_file(format!("{folder}/train.tsv"), zip::write::SimpleFileOptions::default()).expect("started");
        zip.write_all(table.as_bytes()).expect("written");
        zip.finish().expect("finished");
    }
    for (task, file) in [("glue/qnli", "QNLIv2.zip/QNLI/train.tsv"), ("glue/qqp", "QQP-clean.zip/QQP/train.tsv")] {
        support::run(&options(dir.path(), task)).expect("ingested");
        assert_eq!(support::manifest(dir.path()).raw_files[0].file, file);
    }
    let error = support::run(&options(dir.path(), "glue/sst-2")).expect_err("no such files").to_string();
    assert!(error.contains("looked for SST-2/train.tsv, SST-2/dev.tsv, SST-2/test.tsv in it, below it"), "{error}");
}

#[test]
fn a_table_without_names_of_columns_gets_them_from_the_pattern_file() {
    let dir = tempfile::tempdir().expect("folder");
    write(
        dir.path(),
        &[
            ("CoLA/train.tsv", "gj04\t1\t\tOur friends won't buy it.\ngj04\t0\t*\tThey drank the \"pub.\n"),
            ("CoLA/dev.tsv", "gj04\t1\t\tThe sailors rode the breeze.\n"),
            ("CoLA/test.tsv", "index\tsentence\n0\tBill whistled past the house.\n"),
            ("CoLA/original/raw/in_domain_train.tsv", "not read"),
        ],
    );
    support::run(&options(dir.path(), "glue/cola")).expect("ingested");
    assert_eq!(
        rows(dir.path(), Split::Train),
        [
            row("train-0", None, "\"Our friends won't buy it.\" This is [BLANK].", Some("1"), 1),
            row("train-1", None, "\"They drank the \"pub.\" This is [BLANK].", Some("0"), 2),
        ]
    );
    let query = "\"Bill whistled past the house.\" This is [BLANK].";
    assert_eq!(rows(dir.path(), Split::Test), [row("test-0", Some("0"), query, None, 2)]);
}

#[test]
fn fields_in_quotes_may_hold_commas_quotes_and_lines() {
    let dir = tempfile::tempdir().expect("folder");
    let train = "\"3\",\"Oil, up\",\"He said \"\"no\"\"\nand left.\"\r\n\"1\",\"Peace\",\"A\\b\"\r\n";
    write(dir.path(), &[("train.csv", train), ("test.csv", "4,Chips,\"\"\n"), ("classes.txt", "World\n"), ("readme.txt", "a")]);
    support::run(&options(dir.path(), "agnews")).expect("ingested");
    let manifest = support::manifest(dir.path());
    assert_eq!(manifest.splits.keys().copied().collect::<Vec<_>>(), [Split::Train, Split::Val]);
    assert_eq!(
        rows(dir.path(), Split::Train),
        [
            row("train-0", None, "[BLANK]: Oil, up He said \"no\"\nand left.", Some("3"), 1),
            row("train-1", None, "[BLANK]: Peace A b", Some("1"), 3),
        ]
    );
    assert_eq!(rows(dir.path(), Split::Val), [row("dev-0", None, "[BLANK]: Chips ", Some("4"), 1)]);
}

#[test]
fn the_output_does_not_depend_on_threads_parts_or_compression() {
    let dir = tempfile::tempdir().expect("folder");
    let reviews: String = (0..40_000).map(|i| format!("{},\"Visit {i},\nfine\"\n", 1 + i % 2)).collect();
    write(dir.path(), &[("train.csv", reviews.as_str()), ("test.csv", "1,Stale.\n")]);
    let fingerprint = || support::manifest(dir.path()).fingerprint;
    let one = NonZeroUsize::MIN;
    support::run(&IngestOptions { threads: one, ..options(dir.path(), "yelp-polarity") }).expect("ingested");
    let first = fingerprint();
    let threads = NonZeroUsize::new(3).expect("some");
    support::run(&IngestOptions { threads, force: true, ..options(dir.path(), "yelp-polarity") }).expect("ingested");
    assert_eq!(fingerprint(), first);
    support::run_in_parts(&IngestOptions { threads, ..options(dir.path(), "yelp-polarity") });
    assert_eq!(fingerprint(), first);
    let lines: Vec<_> =
        support::batches(dir.path(), Split::Train).iter().flat_map(|batch| support::numbers(batch, "raw_line")).collect();
    assert_eq!((lines[0][0], lines[39_999][0]), (1, 79_999));

    let packed = zstd::encode_all(reviews.as_bytes(), 1).expect("zstd");
    fs::write(dir.path().join("train.csv.zst"), packed).expect("written");
    fs::remove_file(dir.path().join("train.csv")).expect("removed");
    support::run(&options(dir.path(), "yelp-polarity")).expect("ingested");
    let limited = IngestOptions { limit: Some(3), ..options(dir.path(), "yelp-polarity") };
    support::run(&limited).expect("ingested");
    assert_eq!(rows(dir.path(), Split::Train).len(), 3);
}

const OWN: &str = r#"
[label]
field = "stars"
names = ["1", "5"]

[[patterns]]
context = "{review*} All in all, it was {blank}."
words = ["terrible", "great"]
"#;

/// A folder with a pattern file, and the path of that file.
fn with_own_pattern() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("folder");
    let pattern = dir.path().join("mine.toml");
    fs::write(&pattern, OWN).expect("written");
    (dir, pattern)
}

#[test]
fn quotes_that_swallow_rows_and_columns_of_one_name_are_errors() {
    let (dir, pattern) = with_own_pattern();
    let mine = pattern.to_str().expect("a path");
    let ingest = |train: &str| {
        write(dir.path(), &[("train.csv", train)]);
        support::run(&IngestOptions { force: true, max_rejects: RejectLimit::Percent(100.0), ..options(dir.path(), mine) })
    };
    let head = "id,review,stars\nr1,Fine.,5\n";
    let open =
        "train.csv has a field in quotes, in the row of line 3, that is not closed, or holds a quote that is not written twice";
    for rest in
        ["r2,\"not closed,1\nr3,Lost.,1\nr4,\"Closed.\",5\nr5,Kept.,5\n", "r2,\"not closed,1\nr3,Lost.,1\n", "r2,\"not closed"]
    {
        assert_eq!(ingest(&format!("{head}{rest}")).expect_err("rows are lost").to_string(), open, "{rest}");
    }
    ingest(&format!("{head}r2,\"A \"fine\" word.\",1\nr3,Kept.,1,more\nr4,Kept.,1\n")).expect("ingested");
    assert_eq!(
        rejects(dir.path())[0],
        "train.csv, line 3: a field has text after its closing quote; a quote in a field that is in quotes is written twice"
    );
    let listed = fs::read_to_string(dir.path().join("shards/rejects.jsonl")).expect("read");
    assert!(listed.contains("\\\"column 4\\\":\\\"more\\\""), "{listed}");
    assert_eq!(rows(dir.path(), Split::Train).len(), 2);
    let error = ingest("id,stars,review,stars\nr1,1,Fine.,5\n").expect_err("two columns").to_string();
    assert_eq!(error, "train.csv has two columns `stars`; rename or remove one of them");
}

#[test]
fn rows_and_tables_of_other_columns_are_named() {
    let (dir, pattern) = with_own_pattern();
    let mine = pattern.to_str().expect("a path");
    let good = "r1,Fine bread.,5\nr2,\"Cold, stale.\",1\n";
    let train = format!("id,review,stars\n{good}r3,Cold, stale.,1\n\nr4,No label,\nr5,Odd,7\n");
    write(dir.path(), &[("train.csv", train.as_str()), ("val.tsv", "stars\treview\n1\tA \"b\n\tNo label.\n5\n")]);
    let all = RejectLimit::Percent(100.0);
    support::run(&IngestOptions { max_rejects: all, ..options(dir.path(), mine) }).expect("ingested");
    assert_eq!(
        rejects(dir.path()),
        [
            "train.csv, line 4: expected 3 fields, one for each column, but found 4; fields are separated by commas, and those with \
             commas, quotes or line breaks are in quotes",
            "train.csv, line 6: no label in the field `stars`, and examples for training need one",
            "train.csv, line 7: the field `stars` holds `7`, expected one of 1, 5",
            "val.tsv, line 4: expected 2 fields, one for each column, but found 1; fields are separated by tabs, and quotes are part of \
             them",
        ]
    );
    assert_eq!(rows(dir.path(), Split::Train)[1].2, "Cold, stale. All in all, it was [BLANK].");
    let val = rows(dir.path(), Split::Val);
    assert_eq!(
        val,
        [
            row("dev-0", None, "A \"b All in all, it was [BLANK].", Some("1"), 2),
            row("dev-1", None, "No label. All in all, it was [BLANK].", None, 3)
        ]
    );
    let error = support::run(&IngestOptions { force: true, ..options(dir.path(), mine) }).expect_err("too many").to_string();
    assert!(error.contains("rejected") && error.contains("train.csv, line 4"), "{error}");

    write(dir.path(), &[("train.csv", "id,text,stars\nr1,Fine.,5\n")]);
    let error = support::run(&options(dir.path(), mine)).expect_err("another column").to_string();
    assert_eq!(error, "train.csv has no column `review`, which the pattern needs; its first line names id, text, stars");
    // A test set needs no labels.
    let train = format!("id,review,stars\n{good}");
    write(dir.path(), &[("train.csv", train.as_str()), ("test.csv", "review\nA.\n")]);
    support::run(&IngestOptions { max_rejects: all, ..options(dir.path(), mine) }).expect("ingested");
    assert_eq!(rows(dir.path(), Split::Test).len(), 1);
    // Any name, if the pattern file says the form.
    fs::write(
        &pattern,
        format!("[files]\ntrain = \"reviews.txt\"\nformat = \"tsv\"\ncolumns = [\"stars\", \"review\"]\n{OWN}"),
    )
    .expect("written");
    write(dir.path(), &[("reviews.txt", "5\tGood \"bread.\n")]);
    support::run(&options(dir.path(), mine)).expect("ingested");
    assert_eq!(rows(dir.path(), Split::Train)[0].2, "Good \"bread. All in all, it was [BLANK].");
}
