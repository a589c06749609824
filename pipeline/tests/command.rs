//! Exit codes and messages of the program.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use glm_schemas::manifest::Split;

fn glm_prep() -> Command {
    Command::new(env!("CARGO_BIN_EXE_glm-prep"))
}

fn ingest(dir: &Path, more: &[&str]) -> Output {
    glm_prep().arg("ingest").arg(dir).args(more).output().expect("run")
}

fn passages() -> Vec<u8> {
    fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages")
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let stderr = String::from_utf8(output.stderr.clone()).expect("text");
    let last = stderr.lines().last().expect("a message").to_owned();
    last.strip_prefix("error: ").expect("an error").to_owned()
}

#[test]
fn exit_codes() {
    let dir = support::raw_folder(&[(Split::Train, &passages())]);
    let clean = ingest(dir.path(), &[]);
    assert_eq!(clean.status.code(), Some(0), "{clean:?}");
    let stdout = String::from_utf8(clean.stdout).expect("text");
    assert!(stdout.contains("val    no data") && stdout.contains("written to"), "{stdout}");

    fs::write(dir.path().join("ReCoRD/val.jsonl"), [passages(), b"bad\n".to_vec()].concat()).expect("write");
    let some = ingest(dir.path(), &["--json", "--quiet"]);
    assert_eq!(some.status.code(), Some(3), "{some:?}");
    assert!(some.stderr.is_empty(), "{some:?}");
    let summary: serde_json::Value = serde_json::from_slice(&some.stdout).expect("json");
    assert_eq!((&summary["splits"][1]["rejected_records"], &summary["splits"][1]["records"]), (&1.into(), &25.into()));
    assert!(Path::new(summary["rejects"].as_str().expect("a path")).is_file());

    let too_many = failure(&ingest(dir.path(), &["--max-rejects", "0"]));
    assert!(too_many.starts_with("1 of 49 records were rejected, --max-rejects allows 0; nothing was published"), "{too_many}");
}

#[test]
fn failures_are_reported_in_one_sentence() {
    let empty = tempfile::tempdir().expect("folder");
    assert!(failure(&ingest(&empty.path().join("no"), &[])).ends_with("give the folder that holds ReCoRD/train.jsonl"));
    assert!(failure(&ingest(empty.path(), &[])).contains("looked for ReCoRD/train.jsonl and ReCoRD/val.jsonl"));
    assert_eq!(fs::read_dir(empty.path()).expect("list").count(), 0);

    let dir = support::raw_folder(&[(Split::Train, &passages())]);
    let vocabulary = dir.path().join("vocab.txt");
    fs::write(&vocabulary, "the\n##m\n").expect("write");
    let words = failure(&ingest(dir.path(), &["--tokenizer", vocabulary.to_str().expect("text")]));
    assert!(words.contains("lacks the special tokens [PAD], [UNK], [CLS], [SEP], [MASK]"), "{words}");
    fs::create_dir(dir.path().join("shards")).expect("folder");
    fs::write(dir.path().join("shards/thesis.txt"), "years of work").expect("write");
    assert!(failure(&ingest(dir.path(), &[])).contains("not a data set of this program, so it was not replaced"));
    assert_eq!(fs::read_to_string(dir.path().join("shards/thesis.txt")).expect("there"), "years of work");
}

#[test]
fn unwritable_output_is_reported() {
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: there is no /dev/full");
        return;
    }
    // The summary cannot be written, but the data set is published.
    let dir = support::raw_folder(&[(Split::Train, &passages())]);
    let full = fs::File::options().write(true).open("/dev/full").expect("open");
    let output = glm_prep().arg("ingest").arg(dir.path()).stdout(full).output().expect("run");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write the output: No space left on device"));
    assert_eq!(support::manifest(dir.path()).splits[&Split::Train].rows, 50);
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let dir = support::raw_folder(&[(Split::Train, &passages())]);
    let mut child = glm_prep()
        .arg("ingest")
        .arg(dir.path())
        .arg("-q")
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
