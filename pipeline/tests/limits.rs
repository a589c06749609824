//! Memory, time and disk space for hostile raw data.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Ingests one file with one thread; returns the summary.
fn ingest(content: &[u8], more: &[&str]) -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().expect("folder");
    fs::write(dir.path().join("train.jsonl"), content).expect("write");
    let mut command = Command::new(env!("CARGO_BIN_EXE_glm-prep"));
    let output =
        command.arg("ingest").arg(dir.path()).args(["--json", "-q", "--threads", "1"]).args(more).output().expect("run");
    let summary = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (dir, summary)
}

fn plain(context: &str, choices: &[String]) -> Vec<u8> {
    json!({"context": context, "choices": choices, "answer": 0}).to_string().into_bytes()
}

/// Returns one record that is bad in `kind`, of about `bytes` bytes.
fn record(kind: &str, bytes: usize) -> Vec<u8> {
    let two = ["a".to_owned(), "b".to_owned()];
    let context = |text: String| plain(&format!("A [BLANK] b.\n{text}"), &two);
    match kind {
        "marks" => context("#".repeat(bytes)),
        "special marks" => context("[".repeat(bytes)),
        "a word" => context("x".repeat(bytes)),
        "ideographs" => context("中".repeat(bytes / 3)),
        "sigmas" => context("Σ,".repeat(bytes / 3)),
        "accents" => context("\u{301}".repeat(bytes / 2)),
        "short words" => context("a ".repeat(bytes / 2)),
        "sentences" => context("A. ".repeat(bytes / 3)),
        "choices" => plain("A [BLANK].", &(0..bytes / 8).map(|i| format!("{i:05}")).collect::<Vec<_>>()),
        "answers" => {
            format!("{{\"context\": \"A [BLANK].\", \"choices\": [\"a\"], \"answer\": [{}0]}}", "0,".repeat(bytes / 2))
                .into_bytes()
        }
        "objects" => {
            format!("{{\"context\": \"A [BLANK].\", \"choices\": [\"a\"], \"id\": [{}0]}}", "{\"\":0},".repeat(bytes / 7))
                .into_bytes()
        }
        "questions" => format!(
            "{{\"passage\": {{\"text\": \"a\", \"entities\": []}}, \"idx\": 0, \"qas\": [{}{{}}]}}",
            "{},".repeat(bytes / 3)
        )
        .into_bytes(),
        _ => {
            let text = format!("A{} a", " ".repeat(bytes / 2));
            let question = "{\"query\": \"@placeholder\", \"answers\": [{\"text\": \"A\"}], \"idx\": 0}";
            let questions: Vec<_> = (0..900).map(|i| question.replace('0', &i.to_string())).collect();
            format!(
                "{{\"passage\": {{\"text\": \"{text}\", \"entities\": [{{\"start\": 0, \"end\": 0}}]}}, \"idx\": 0, \"qas\": [{}]}}",
                questions.join(",")
            )
            .into_bytes()
        }
    }
}

#[test]
fn memory_and_disk_space_are_small_multiples_of_the_record() {
    // A good record, so that something is published.
    let good = plain("Ann saw [BLANK].", &["a".to_owned(), "b".to_owned()]);
    let baseline = ingest(&good, &[]).1["peak_memory_bytes"].as_u64();
    let Some(baseline) = baseline else {
        eprintln!("skipped: the operating system does not report memory");
        return;
    };
    let kinds = [
        "marks",
        "special marks",
        "a word",
        "ideographs",
        "sigmas",
        "accents",
        "short words",
        "sentences",
        "choices",
        "answers",
        "objects",
        "questions",
        "rows",
    ];
    let bytes = 1 << 20;
    for kind in kinds {
        let bad = record(kind, bytes);
        assert!(bad.len() <= 2 * bytes && bad.len() > bytes / 3, "{kind}: {}", bad.len());
        let is_record = ["questions", "rows"].contains(&kind);
        let format: &[&str] = if is_record { &["--format", "record"] } else { &["--format", "plain"] };
        let other = record("rows", 10);
        let content = [if is_record { other.as_slice() } else { good.as_slice() }, b"\n", &bad].concat();
        let (dir, summary) = ingest(&content, &[format, &["--max-rejects", "100%"][..]].concat());
        let peak = summary["peak_memory_bytes"].as_u64().expect("memory").saturating_sub(baseline);
        assert!(peak < 100 * bad.len() as u64, "{kind}: {} MB for a record of {} bytes", peak >> 20, bad.len());
        assert!(size(dir.path()) < 20 * bad.len() as u64, "{kind}: {} bytes", size(dir.path()));
    }
}

/// Returns the size of all files in a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry").path());
    entries.map(|path| if path.is_dir() { size(&path) } else { fs::metadata(&path).expect("file").len() }).sum()
}

#[test]
fn long_records_are_cut_in_the_list_of_rejects() {
    let good = plain("Ann saw [BLANK].", &["a".to_owned(), "b".to_owned()]);
    // The parser's message quotes the value.
    let bad = format!("{{\"context\": \"A [BLANK].\", \"choices\": \"{}\"}}", "é".repeat(1 << 20));
    let (dir, _) =
        ingest(&[good.as_slice(), b"\n", bad.as_bytes(), b"\n", &record("a word", 1 << 20)].concat(), &["--max-rejects", "2"]);
    let list = fs::read_to_string(dir.path().join("shards/rejects.jsonl")).expect("rejects");
    assert!(list.len() < 12_000, "{}", list.len());
    let entries: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert_eq!(entries[0]["raw_bytes"], bad.len());
    assert!(bad.starts_with(entries[0]["raw"].as_str().expect("text")));
    let reason = entries[1]["reason"].as_str().expect("text");
    assert_eq!(
        reason,
        "1048576 bytes without white space or ASCII punctuation between them cannot be tokenized; the limit is 65536"
    );
}

#[test]
fn reading_stops_when_the_limit_of_rejects_is_exceeded() {
    let dir = tempfile::tempdir().expect("folder");
    let good = plain("Ann saw [BLANK].", &["a".to_owned(), "b".to_owned()]);
    fs::write(dir.path().join("train.jsonl"), [good, b"\n{}".repeat(1_000_000)].concat()).expect("write");
    let mut command = Command::new(env!("CARGO_BIN_EXE_glm-prep"));
    let output = command.arg("ingest").arg(dir.path()).args(["--format", "plain"]).output().expect("run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("101 of the first 102 records were rejected, --max-rejects allows 1%, at least 1 and at most 100; "),
        "{error}"
    );
    assert_eq!(support::names(dir.path()), ["train.jsonl"]);
}
