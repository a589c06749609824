//! The commands on data sets of documents.

use std::process::{Command, Output};

use super::*;

fn glm_prep(arguments: &[&str], dir: &Path) -> Output {
    let [command, rest @ ..] = arguments else { panic!("a command") };
    Command::new(env!("CARGO_BIN_EXE_glm-prep")).arg(command).arg(dir).args(rest).output().expect("run")
}

fn stdout(arguments: &[&str], dir: &Path) -> String {
    let output = glm_prep(arguments, dir);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn failure(arguments: &[&str], dir: &Path) -> String {
    let output = glm_prep(arguments, dir);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("text").trim_end().strip_prefix("error: ").expect("an error").to_owned()
}

#[test]
fn the_task_is_named_if_it_was_not_given() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().display();
    write(dir.path(), "books.jsonl", json!({"text": "A.", "url": "x"}).to_string());
    let expected =
        format!("books.jsonl in {path} seems to hold documents (`text`); `glm-prep ingest {path} --task text` ingests them");
    assert_eq!(failure(&["ingest"], dir.path()), expected);
    write(dir.path(), "books.jsonl", json!({"text": "A."}).to_string());
    assert_eq!(failure(&["ingest"], dir.path()), expected, "also without other fields");
    write(dir.path(), "books.jsonl", json!({"text": "A.", "url": "x"}).to_string());
    fs::rename(dir.path().join("books.jsonl"), dir.path().join("train.jsonl")).expect("rename");
    let error = failure(&["ingest"], dir.path());
    assert!(error.ends_with("or ingest it as documents (format `jsonl`) with --task text"), "{error}");
    write(dir.path(), "train.jsonl", json!({"content": "A."}).to_string());
    let error = failure(&["ingest", "--task", "text"], dir.path());
    assert_eq!(error, "train.jsonl seems to be JSON without documents (keys content); rename the field of the text to `text`");
    let error = failure(&["ingest", "--task", "cloze", "--format", "lines"], dir.path());
    assert_eq!(error, "the format `lines` has documents; leave out --task cloze, or give --task text");
    let error = failure(&["ingest", "--dedup", "exact"], dir.path());
    assert_eq!(error, "--dedup has no effect on questions; leave it out, or give --task text");
    let error = failure(&["ingest", "--keep", "end"], dir.path());
    assert_eq!(error, "--keep has no effect on questions; leave it out, or give --task seq2seq");
    let error = failure(&["ingest", "--task", "text", "--task-mask"], dir.path());
    assert_eq!(error, "--task-mask has no effect on documents; leave it out");
    let error = failure(&["ingest", "--max-record-mib", "64"], dir.path());
    assert_eq!(error, "--max-record-mib has no effect on questions; leave it out, or give --task text");
    let empty = tempfile::tempdir().expect("folder");
    let error = failure(&["ingest", "--task", "text"], empty.path());
    assert!(error.starts_with(&format!("no documents in {}: looked for files", empty.path().display())), "{error}");
    let unknown = glm_prep(&["ingest", "--task", "poems"], dir.path());
    assert_eq!(unknown.status.code(), Some(2));
    write(dir.path(), "train.jsonl", "{\"text\": \" \"}\n");
    let error = failure(&["ingest", "--task", "text"], dir.path());
    assert!(error.starts_with("no documents found in train.jsonl; nothing was published; rejected: "), "{error}");
}

/// A data set with copies and a prompt.
fn data_set() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let long = |number| sentences(number).repeat(4);
    let mut lines: Vec<_> = (0..20).map(|number| json!({"text": long(number), "source": "stories"})).collect();
    lines.push(json!({"text": long(3)}));
    lines.push(json!({"text": format!("{} And more.", long(5)), "prompt": "What?"}));
    lines.push(json!({"text": "café naïve 这 \u{1f600}."}));
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    write(dir.path(), "train.jsonl", lines);
    write(dir.path(), "val.jsonl", format!("{}\n{}\n", json!({"text": long(9)}), json!({"text": "New words only here."})));
    let output = glm_prep(&["ingest", "--task", "text", "--json"], dir.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(stderr.contains("val and train share 1 document; the loss on val will be too low"), "{stderr}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!((&json["splits"][0]["documents"], &json["splits"][1]["documents_in_train"]), (&json!(23), &json!(1)));
    assert!(json["documents_per_second"].is_number());
    no_questions(&json.to_string());
    dir
}

/// Checks that an output has no word of cloze data.
fn no_questions(text: &str) {
    for word in ["question", "choice", "passage", "query", "mention", "blank", "distractor"] {
        assert!(!text.to_lowercase().contains(word), "{word}: {text}");
    }
}

#[test]
fn the_commands_speak_of_documents() {
    let dir = data_set();
    let dir = dir.path();
    let verify = stdout(&["verify"], dir);
    assert!(verify.contains("documents") && verify.contains("is sound"), "{verify}");
    let stats = stdout(&["stats"], dir);
    for part in [
        "train: 23 documents,",
        ", 1 with a prompt",
        "tokens per document",
        "1 exact duplicates of earlier documents",
        "    train-d20\n",
        "1 near duplicates of earlier documents",
        "    train-d21\n",
        "WARNING: 1 documents of val are also in train:",
        "    val-d0\n",
    ] {
        assert!(stats.contains(part), "{part}: {stats}");
    }
    let rows = stdout(&["inspect", "--rows", "1"], dir);
    assert!(rows.contains("23 documents") && rows.contains("  text     Story 0 begins here."), "{rows}");
    let one = stdout(&["inspect", "--id", "train-d21"], dir);
    for part in ["record train.jsonl, line 22", "\nprompt\n  What?\n", "tokens of the prompt (2)", "  end of a sentence\n"] {
        assert!(one.contains(part), "{part}: {one}");
    }
    let sql = stdout(&["inspect", "--sql", "select count(*) as n, max(num_tokens) as longest from shards"], dir);
    assert!(sql.contains("25"), "{sql}");
    let schema = stdout(&["inspect", "--schema"], dir);
    assert!(schema.contains("sentence_ends    list[i32]"), "{schema}");
    let where_ = stdout(&["inspect", "--where", "prompt is not null", "--json"], dir);
    assert_eq!(where_.lines().count(), 1);
    let report = stdout(&["report", "--out", "-"], dir);
    let main = report.split("<main").nth(1).unwrap_or(&report);
    for output in
        [verify, stats, rows, one, sql, schema, where_, stdout(&["stats", "--json"], dir), stdout(&["verify", "--json"], dir)]
    {
        no_questions(&output);
    }
    assert!(main.contains("Sample documents") && main.contains("train-d21") && !main.contains("question"), "{main}");
    let json = stdout(&["report", "--json", "--out", &dir.join("r.html").display().to_string()], dir);
    assert!(json.contains("\"documents\":23"), "{json}");
    let error = failure(&["inspect", "--model-input"], dir);
    assert!(error.contains("has documents, which have no fixed model input"), "{error}");
    let error = failure(&["inspect", "--id", "train-d99"], dir);
    assert!(error.contains("has no document train-d99; the closest"), "{error}");
    let error = failure(&["stats", "--max-seq-len", "64"], dir);
    assert!(error.contains("documents are not truncated"), "{error}");
}

#[test]
fn verify_finds_what_ingest_does_not_write() {
    use glm_prep::shard::{ShardCompression, ShardWriter};
    use glm_schemas::document::{DocumentBatchBuilder, DocumentRow};
    use glm_schemas::manifest::Manifest;
    use glm_schemas::origin::Origin;

    let dir = tempfile::tempdir().expect("folder");
    write(dir.path(), "train.jsonl", json!({"text": "A b."}).to_string());
    support::run(&options(dir.path())).expect("ingested");
    let good = support::manifest(dir.path());
    let origin = Origin { split: Split::Train, source_id: None, raw_file: "train.jsonl", raw_line: Some(1), extra: None };
    let row = DocumentRow {
        example_id: "train-d0",
        origin,
        source: "",
        prompt: None,
        text: "A b.",
        prompt_ids: &[],
        ids: &[1037, 1038, 1012],
        sentence_ends: &[3],
    };
    let fault = |row: &DocumentRow<'_>| {
        let data = dir.path().join("shards/data");
        fs::remove_dir_all(&data).expect("remove");
        fs::create_dir(&data).expect("folder");
        let name = "train-00000-of-00001.parquet".to_owned();
        let writer = ShardWriter::<DocumentBatchBuilder>::create(&data, name, &good.tokenizer, ShardCompression::default());
        let mut writer = writer.expect("create");
        writer.append(row).expect("append");
        let mut manifest: Manifest = good.clone();
        let split = manifest.splits.get_mut(&Split::Train).expect("train");
        split.shards = vec![writer.finish().expect("finish")];
        manifest.fingerprint = manifest.compute_fingerprint();
        fs::write(dir.path().join("shards/manifest.json"), manifest.to_json().expect("json")).expect("write");
        let output = glm_prep(&["verify"], dir.path());
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, text) = fault(&row);
    assert_eq!(code, Some(0), "{text}");
    for (row, found) in [
        (
            DocumentRow { ids: &[1037, 103, 1012], ..row },
            "column `ids`: found [MASK] at position 1, expected tokens of text only",
        ),
        (DocumentRow { ids: &[1037, 40_000, 1012], ..row }, "column `ids`: found id 40000"),
        (DocumentRow { sentence_ends: &[4], ..row }, "column `sentence_ends`: found 4"),
        (DocumentRow { prompt_ids: &[5], ids: &[1037, 1012], sentence_ends: &[], ..row }, "column `prompt`: found null"),
        (DocumentRow { origin: Origin { raw_file: "other", ..origin }, ..row }, "column `raw_file`: found \"other\""),
        (DocumentRow { ids: &[1037], sentence_ends: &[], ..row }, "splits.train.tokens = 3"),
    ] {
        let (code, text) = fault(&row);
        assert!(code == Some(4) && text.contains(found), "{found}: {text}");
        no_questions(&text);
    }
    drop(File::open(dir.path().join("shards/manifest.json")));
}

#[test]
fn standard_input_and_named_files_are_read() {
    let dir = tempfile::tempdir().expect("folder");
    let raw = tempfile::tempdir().expect("folder");
    write(raw.path(), "one.jsonl", json!({"text": "One."}).to_string());
    let named = vec![(Split::Train, raw.path().join("*.jsonl").display().to_string())];
    let selection = Selection { named, ..Selection::default() };
    support::run(&IngestOptions { selection, ..options(dir.path()) }).expect("ingested");
    assert_eq!(texts(dir.path(), Split::Train), ["One."]);
}
