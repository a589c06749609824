//! Raw data: compressed, in archives, in several files, on standard input, in every format, and of the wrong kind.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use glm_prep::ingest::{IngestOptions, MAX_RECORD_BYTES};
use glm_prep::source::input::{self, Selection};
use glm_prep::source::recognise::FormatName;
use glm_schemas::cloze::ClozeView;
use glm_schemas::manifest::{Manifest, Split};
use serde_json::{Value, json};

fn passages() -> Vec<u8> {
    fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages")
}

fn ingested(dir: &Path) -> Manifest {
    support::ingest_with(dir, 2).expect("ingest");
    support::manifest(dir)
}

fn failure(dir: &Path) -> String {
    let error = support::ingest_with(dir, 2).expect_err("refused").to_string();
    assert!(!dir.join("shards").exists());
    error
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(content).expect("pack");
    packer.finish().expect("pack")
}

fn bzip2(content: &[u8]) -> Vec<u8> {
    let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    packer.write_all(content).expect("pack");
    packer.finish().expect("pack")
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, *content).expect("append");
    }
    archive.into_inner().expect("finish")
}

#[test]
fn compression_does_not_affect_the_shards() {
    let (train, val) = (passages(), support::renumbered(&passages(), 1));
    let plain = support::raw_folder(&[(Split::Train, &train), (Split::Val, &val)]);
    let expected = ingested(plain.path());
    let rows = support::rows_without_places(plain.path());
    let members = [("ReCoRD/val.jsonl", val.as_slice()), ("ReCoRD/train.jsonl", &train), ("README.txt", b"x")];
    let files: Vec<Vec<(&str, Vec<u8>)>> = vec![
        vec![("train.jsonl.gz", gzip(&train)), ("dev.jsonl.zst", zstd::encode_all(val.as_slice(), 3).expect("zstd"))],
        vec![("train.jsonl.bz2", bzip2(&train)), ("val.jsonl", gzip(&val))],
        vec![("data.tar.bz2", bzip2(&tar(&members)))],
        vec![("data.tgz", gzip(&tar(&members)))],
        vec![("data.tar", tar(&members))],
    ];
    for files in files {
        let dir = tempfile::tempdir().expect("folder");
        for (name, content) in &files {
            fs::write(dir.path().join(name), content).expect("write");
        }
        let manifest = ingested(dir.path());
        assert!(support::rows_without_places(dir.path()) == rows, "{}", files[0].0);
        let sums = |manifest: &Manifest| manifest.raw_files.iter().map(|raw| raw.sha256.clone()).collect::<Vec<_>>();
        assert_eq!(sums(&manifest), sums(&expected), "checksums are of the decompressed content");
    }
}

#[test]
fn several_files_of_a_split_are_concatenated() {
    let all = support::renumbered(&passages(), 4);
    let whole = support::raw_folder(&[(Split::Train, &all)]);
    ingested(whole.path());
    let expected = support::rows_without_places(whole.path());

    let cut = all[..all.len() / 2].iter().rposition(|&b| b == b'\n').expect("a line") + 1;
    let parts = tempfile::tempdir().expect("folder");
    fs::write(parts.path().join("train-00000-of-00002.jsonl"), &all[..cut]).expect("write");
    fs::write(parts.path().join("train-00001-of-00002.jsonl"), &all[cut..]).expect("write");
    let found = ingested(parts.path());
    assert!(support::rows_without_places(parts.path()) == expected && found.raw_files.len() == 2);
    assert_eq!(found.raw_files.iter().map(|raw| raw.records).sum::<usize>(), 24 * 4);

    // Named files: a glob, and in the order of the arguments.
    let (first, second) = (parts.path().join("train-00000-of-00002.jsonl"), parts.path().join("train-00001-of-00002.jsonl"));
    let named = |patterns: &[&Path]| {
        let out = tempfile::tempdir().expect("folder");
        let named = patterns.iter().map(|path| (Split::Train, path.to_string_lossy().into_owned())).collect();
        let selection = Selection { named, ..Selection::default() };
        support::run(&IngestOptions { selection, ..IngestOptions::new(out.path()) })
            .map(|_| support::rows_without_places(out.path()))
    };
    assert!(named(&[&parts.path().join("train-*.jsonl")]).expect("glob") == expected);
    assert!(named(&[&first, &second]).expect("files") == expected);
    assert!(named(&[&second, &first]).expect("files") != expected);
    let error = named(&[&parts.path().join("no-*.jsonl")]).expect_err("nothing").to_string();
    assert!(error.starts_with("--train ") && error.ends_with("no-*.jsonl: there is no such file"), "{error}");
}

#[test]
fn standard_input_is_a_file_like_any_other() {
    let whole = support::raw_folder(&[(Split::Train, &passages())]);
    ingested(whole.path());
    let parent = tempfile::tempdir().expect("folder");
    // The folder is created.
    let out = parent.path().join("new/out");
    let mut child = Command::new(env!("CARGO_BIN_EXE_glm-prep"))
        .args(["ingest", "-q", "--train", "-"])
        .arg(&out)
        .stdin(Stdio::piped())
        .spawn()
        .expect("run");
    child.stdin.take().expect("a pipe").write_all(&gzip(&passages())).expect("write");
    assert!(child.wait().expect("wait").success());
    let manifest = support::manifest(&out);
    assert_eq!(manifest.raw_files[0].file, "standard input");
    assert!(support::rows_without_places(&out) == support::rows_without_places(whole.path()));
}

/// Returns example ids, queries and correct answers of a split.
fn questions(dir: &Path, split: Split) -> Vec<(String, String, String)> {
    let batches = support::batches(dir, split);
    let mut rows = Vec::new();
    for batch in &batches {
        let view = ClozeView::try_new(batch).expect("the contract");
        let queries = support::texts(batch, "query");
        for (row, query) in queries.into_iter().enumerate() {
            let correct = view.choices(row).find(|choice| choice.correct).and_then(|choice| choice.text.map(str::to_owned));
            rows.push((view.example_id(row).to_owned(), query, correct.unwrap_or_default()));
        }
    }
    rows
}

#[test]
fn every_format_is_recognised_and_becomes_questions() {
    let original = json!({"version": "1.0", "data": [
        {"id": "ab12", "source": "own", "passage": {"text": "Ada met Bo.", "entities": [{"start": 0, "end": 2}, {"start": 8, "end": 9}]},
         "qas": [{"id": "ab12-0", "query": "@placeholder smiled.", "answers": [{"start": 8, "end": 9, "text": "Bo"}]}]},
        {"id": "cd34", "source": "own", "passage": {"text": "Cy left.", "entities": [{"start": 0, "end": 9}]}, "qas": []},
        {"id": "ef56", "source": "own", "passage": {"text": "Cy left.", "entities": [{"start": 0, "end": 1}]},
         "qas": [{"id": "ef56-0", "query": "@placeholder came back.", "answers": [{"start": 0, "end": 1, "text": "Cy"}]}]}
    ]}).to_string();
    let plain = "{\"context\": \"Ada had a dog. The [BLANK] barked.\", \"choices\": [\"cat\", \"dog\"], \"answer\": 1, \"id\": \"x-1\"}\n\
                 {\"context\": \"Rain fell. It was [BLANK].\", \"choices\": [\"wet\", \"dry\"], \"answer\": 0}\n";
    let cloth = json!({"article": "Ada had a dog. The _ barked at the _ .", "options": [["cat", "dog", "cow", "hen"], ["moon", "sun", "sea", "sky"]],
        "answers": ["B", "A"], "source": "high1.txt"}).to_string();
    let lines: String = (1..=20).map(|n| format!("{n} Ada met Bo and Cy on day {n} .\n")).collect();
    let cbt = format!("{lines}21 Then XXXXX went home .\tBo\t\tAda|Bo|Cy|day|met|home|on|and|went|Then\n\n");
    for (name, content, format, expected) in [
        (
            "train.json",
            original.as_str(),
            "original-record",
            vec![("train-ef56-0-a0", "@placeholder came back.", "Cy"), ("train-ab12-0-a0", "@placeholder smiled.", "Bo")],
        ),
        (
            "train.jsonl",
            plain,
            "plain",
            vec![("train-x-1-a0", "The [BLANK] barked.", "dog"), ("train-p1-q1-a0", "It was [BLANK].", "wet")],
        ),
        ("train/high/1.json", cloth.as_str(), "cloth", vec![("", "", "dog"), ("", "", "moon")]),
        ("set_train.txt", cbt.as_str(), "cbt", vec![("train-p0-q0-a0", "Then XXXXX went home .", "Bo")]),
        (
            "train.txt",
            "ada saw the old boat at the pier , and then , when all was still , she sailed the boat\n",
            "lambada",
            vec![("train-p0-q0-a0", "", "boat")],
        ),
    ] {
        let format = FormatName::named(format).expect("a format");
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(&path, content).expect("write");
        support::ingest_with(dir.path(), 2).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = questions(dir.path(), Split::Train);
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for ((id, query, correct), (expected_id, expected_query, expected_correct)) in found.iter().zip(expected) {
            assert_eq!(correct, expected_correct, "{name}");
            assert!(query.contains(format.format().content().blank()), "{query}");
            assert!(id == expected_id || expected_id.is_empty(), "{id}");
            assert!(query == expected_query || expected_query.is_empty(), "{query}");
        }
        // Naming the format gives the same data set.
        let Manifest { fingerprint, blank, .. } = support::manifest(dir.path());
        assert_eq!(blank, format.format().content().blank());
        support::run(&IngestOptions { format: Some(format), ..IngestOptions::new(dir.path()) }).expect("given");
        assert_eq!(support::manifest(dir.path()).fingerprint, fingerprint);
        if format.to_string() == "original-record" {
            let list = fs::read_to_string(dir.path().join("shards/rejects.jsonl")).expect("rejects");
            let entry: Value = serde_json::from_str(list.lines().next().expect("one")).expect("json");
            assert_eq!(entry["reason"], "data[1]: entity 0 spans 0 to 9 (inclusive), but the passage has 8 code points");
        }
    }
}

#[test]
fn files_of_other_kinds_are_errors() {
    for (content, message) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"[..], "git-lfs"),
        (b"{\"question\": \"is it\", \"passage\": \"It is.\", \"idx\": 0, \"label\": true}\n", "BoolQ"),
        (b"{\"premise\": \"a\", \"choice1\": \"b\", \"choice2\": \"c\", \"question\": \"cause\", \"label\": 0, \"idx\": 0}\n", "COPA"),
        (b"{\"idx\": 0, \"version\": 1.1, \"passage\": {\"text\": \"a\", \"questions\": [{\"question\": \"b\"}]}}\n", "MultiRC"),
        (b"{\"word\": \"a\", \"sentence1\": \"b\", \"sentence2\": \"c\", \"idx\": 0, \"label\": true}\n", "WiC"),
        (b"{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": \"neutral\", \"idx\": 4}\n", "CB"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"", "ReCoRD/train.jsonl is empty; fetch it again"),
        (b" \n\n", "ReCoRD/train.jsonl is empty"),
        (b"a\x00b\x00\x00c\x01\x02", "binary"),
    ] {
        let dir = support::raw_folder(&[(Split::Train, content)]);
        let error = failure(dir.path());
        assert!(error.starts_with("ReCoRD/train.jsonl ") && error.contains(message), "{error}");
    }
    // Also if another split is valid.
    let dir = support::raw_folder(&[
        (Split::Train, &passages()),
        (Split::Val, b"{\"context\": \"a [BLANK]\", \"choices\": [\"b\"]}\n"),
    ]);
    let error = failure(dir.path());
    assert!(error.starts_with("ReCoRD/val.jsonl seems to be"), "{error}");
}

#[test]
fn bom_crlf_and_blank_lines_are_accepted_and_bad_lines_rejected() {
    let line = |id: i64| {
        let question = json!({"query": "@placeholder", "answers": [{"text": "Bo"}], "idx": id});
        json!({"passage": {"text": "Bo", "entities": [{"start": 0, "end": 1}]}, "qas": [question], "idx": id}).to_string()
    };
    let long = format!("{{\"x\": \"{}\"}}", "y".repeat(50 << 20));
    assert!(long.len() > MAX_RECORD_BYTES);
    let content = format!("\u{feff}{}\r\n\r\n{}\n{}\0\n{long}\n{}\n", line(1), line(2), line(3), line(2));
    let dir = support::raw_folder(&[(Split::Train, content.as_bytes())]);
    let summary = support::ingest_with(dir.path(), 2).expect("ingest");
    assert_eq!((summary.splits[0].questions, summary.rejected_records(), summary.splits[0].rejected_questions), (2, 3, 1));
    let list = fs::read_to_string(dir.path().join("shards/rejects.jsonl")).expect("rejects");
    assert!(list.len() < 20_000, "only the beginning of a long line is kept");
    let entries: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    for (entry, (number, reason)) in entries.iter().zip([
        (4, "not valid JSON: trailing characters at column"),
        (5, "the record has 52428809 bytes; the limit is 4194304, which --max-record-mib raises for documents"),
        (6, "question 0 (idx 2): another question of this split has this idx; give each question its own id"),
    ]) {
        assert_eq!(entry["line"], number);
        assert!(entry["reason"].as_str().expect("a reason").starts_with(reason), "{entry}");
    }
}

#[test]
fn splits_and_limits_and_dry_runs() {
    let dir = support::raw_folder(&[(Split::Train, &passages()), (Split::Val, &passages())]);
    let options = || IngestOptions::new(dir.path());
    let dry = support::run(&IngestOptions { dry_run: true, ..options() }).expect("dry");
    assert_eq!((dry.splits[0].questions, dry.shards, dry.fingerprint), (50, None, None));
    assert_eq!(support::names(dir.path()), ["ReCoRD"]);

    let val = Selection { splits: vec![Split::Val], ..Selection::default() };
    support::run(&IngestOptions { selection: val, limit: Some(3), ..options() }).expect("val");
    let manifest = support::manifest(dir.path());
    assert_eq!(manifest.splits.keys().collect::<Vec<_>>(), [&Split::Val]);
    assert_eq!((manifest.raw_files[0].records, manifest.settings.limit), (3, Some(3)));

    let test = Selection { splits: vec![Split::Test], ..Selection::default() };
    let error = support::run(&IngestOptions { selection: test, ..options() }).expect_err("no test split").to_string();
    assert!(error.starts_with("there is no test split among the raw data of"), "{error}");

    for compression in ["snappy", "none", "zstd:9"] {
        let compression = compression.parse().expect("known");
        support::run(&IngestOptions { compression, ..options() }).expect("ingest");
        assert_eq!(support::batches(dir.path(), Split::Train).iter().map(|batch| batch.num_rows()).sum::<usize>(), 50);
    }
}

#[test]
fn hostile_archives_are_errors_with_their_name() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("ReCoRD.zip");
    let mut archive = zip::ZipWriter::new(File::create(&path).expect("create"));
    for name in ["ReCoRD/train.jsonl", "../../etc/train.jsonl"] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).expect("member");
        archive.write_all(&passages()).expect("write");
    }
    archive.finish().expect("finish");
    let error = failure(dir.path());
    assert!(
        error.starts_with("cannot read the archive") && error.contains("`../../etc/train.jsonl` is outside of the archive"),
        "{error}"
    );

    let bomb = tempfile::tempdir().expect("folder");
    fs::write(
        bomb.path().join("train.jsonl.gz"),
        gzip(&[b"{\"context\": \"", vec![b'a'; 80 << 20].as_slice(), b"\"}"].concat()),
    )
    .expect("write");
    let error = failure(bomb.path());
    assert!(error.starts_with("cannot read train.jsonl.gz: it decompresses to more than 250 times its size"), "{error}");
    fs::write(bomb.path().join("train.jsonl.gz"), &gzip(&passages())[..900]).expect("write");
    let error = failure(bomb.path());
    assert!(error.starts_with("cannot read train.jsonl.gz: the compressed data is damaged or incomplete"), "{error}");
}

#[test]
fn an_unchanged_data_set_is_not_ingested_again() {
    let dir = support::raw_folder(&[(Split::Train, &[passages(), b"bad\n".to_vec()].concat()), (Split::Val, &passages())]);
    let ingest = |change: &dyn Fn(&mut IngestOptions)| {
        let mut options = IngestOptions::new(dir.path());
        change(&mut options);
        support::run(&options).expect("ingest")
    };
    let first = ingest(&|_| ());
    assert!(!first.unchanged);
    let before = support::contents(&dir.path().join("shards"));
    let again = ingest(&|_| ());
    assert!(again.unchanged && again.fingerprint == first.fingerprint && again.rejected_records() == 1);
    assert_eq!(support::contents(&dir.path().join("shards")), before);
    assert!(again.to_string().contains("nothing has changed"), "{again}");

    assert!(!ingest(&|options| options.force = true).unchanged);
    assert!(!ingest(&|options| options.max_seq_len = 300).unchanged);
    assert!(!ingest(&|_| ()).unchanged);
    assert!(ingest(&|options| options.format = Some(FormatName::default())).unchanged);

    // A changed byte of a shard, then of the raw data.
    let shard = dir.path().join("shards/data/val-00000-of-00001.parquet");
    let mut bytes = fs::read(&shard).expect("read");
    bytes[99] ^= 1;
    fs::write(&shard, bytes).expect("write");
    assert!(!ingest(&|_| ()).unchanged);
    assert_eq!(support::contents(&dir.path().join("shards")), before);
    let raw = dir.path().join("ReCoRD/val.jsonl");
    let text = fs::read_to_string(&raw).expect("read");
    fs::write(&raw, text.replacen("the", "teh", 1)).expect("write");
    let changed = ingest(&|_| ());
    assert!(!changed.unchanged && changed.fingerprint != first.fingerprint);

    // A lower limit of rejects applies to an unchanged data set too.
    let error = support::run(&IngestOptions { max_rejects: "0".parse().expect("a limit"), ..IngestOptions::new(dir.path()) });
    let error = error.expect_err("too many").to_string();
    assert!(error.starts_with("1 of 49 records were rejected, --max-rejects allows 0"), "{error}");
}

#[test]
fn a_file_that_disappears_or_shrinks_is_an_error() {
    let dir = support::raw_folder(&[(Split::Train, &passages()), (Split::Val, &passages())]);
    let inputs = input::find(dir.path(), &Selection::default()).expect("found");
    let path = |name: &str| dir.path().join("ReCoRD").join(name);
    // Truncated while it is read, and removed before it is read.
    let error = input::read(&inputs[..1], |_, file| {
        let mut head = [0; 100];
        file.read_exact(&mut head)?;
        File::options().write(true).open(path("train.jsonl"))?.set_len(5_000)?;
        std::io::copy(file, &mut std::io::sink())?;
        Ok(true)
    });
    let error = error.expect_err("truncated").to_string();
    assert!(error.starts_with("ReCoRD/train.jsonl changed while it was read (") && error.contains("5000 were read"), "{error}");
    fs::remove_file(path("val.jsonl")).expect("remove");
    let error = input::read(&inputs[1..], |_, _| Ok(true)).expect_err("removed").to_string();
    assert!(error.starts_with("cannot read ReCoRD/val.jsonl: No such file"), "{error}");
}
