//! A partitioned ingest gives the same bytes as a single run.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use glm_prep::ingest::{self, IngestError, IngestOptions, MergeOptions, Outcome, RejectLimit, Silent, Stop, Summary};
use glm_schemas::manifest::Split;

/// Several batches per split, with bad lines, repeated ids, and several files per split.
fn raw() -> tempfile::TempDir {
    let passages = fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let mut train = support::renumbered(&passages, 30);
    train.extend_from_slice(b"bad\n");
    train.extend_from_slice(&passages);
    let dir = support::raw_folder(&[(Split::Val, &support::renumbered(&passages, 5)), (Split::Test, &passages)]);
    let cut = train[..train.len() / 3].iter().rposition(|&b| b == b'\n').expect("a line") + 1;
    fs::write(dir.path().join("ReCoRD/train-0.jsonl"), &train[..cut]).expect("write");
    fs::write(dir.path().join("ReCoRD/train-1.jsonl"), &train[cut..]).expect("write");
    for split in ["val", "test"] {
        fs::rename(dir.path().join(format!("ReCoRD/{split}.jsonl")), dir.path().join(format!("ReCoRD/{split}-0.jsonl")))
            .expect("rename");
    }
    dir
}

const REJECTS: RejectLimit = RejectLimit::Percent(10.0);

fn options(dir: &Path) -> IngestOptions {
    IngestOptions { rows_per_shard: 500.try_into().expect("some"), max_rejects: REJECTS, ..IngestOptions::new(dir) }
}

fn part(dir: &Path, index: usize, count: usize) -> bool {
    let partition = Some(format!("{index}/{count}").parse().expect("a part"));
    let outcome = ingest::run(&IngestOptions { partition, ..options(dir) }, &Silent).expect("part");
    let Outcome::Part(part) = outcome else { panic!("no part") };
    part.reused
}

fn merge(dir: &Path) -> Result<Summary, IngestError> {
    let threads = 2.try_into().expect("some");
    ingest::merge(
        &MergeOptions { dir: dir.to_owned(), tokenizer: None, threads, max_rejects: REJECTS, stop: Stop::default() },
        &Silent,
    )
}

#[test]
fn merged_parts_match_a_single_run() {
    let dir = raw();
    let whole = support::run(&options(dir.path())).expect("whole");
    let expected = support::contents(&dir.path().join("shards"));
    assert!(expected.iter().any(|(name, _)| name == "rejects.jsonl") && expected.len() > 6);
    for count in [1, 2, 5] {
        fs::remove_dir_all(dir.path().join("shards")).expect("remove");
        // In any order.
        for index in (0..count).rev() {
            assert!(!dir.path().join("shards").exists());
            assert!(!part(dir.path(), index, count));
            assert!(part(dir.path(), index, count), "an existing part is reused");
        }
        let merged = merge(dir.path()).expect("merge");
        assert_eq!(merged.fingerprint, whole.fingerprint);
        for ((name, bytes), (other, expected)) in support::contents(&dir.path().join("shards")).iter().zip(&expected) {
            assert!(name == other && bytes == expected, "{name} differs with {count} parts");
        }
        assert_eq!(support::names(dir.path()), ["ReCoRD", "shards"], "the parts are removed");
        // A job that is tried again after it has succeeded succeeds again.
        let again = merge(dir.path()).expect("merge");
        assert!(again.unchanged && again.to_string().contains("nothing to merge: there are no parts"), "{again}");
        assert_eq!((&again.fingerprint, again.rejected_records()), (&whole.fingerprint, whole.rejected_records()));
        assert_eq!(again.splits.len(), 3);
    }
}

#[test]
fn a_merge_that_was_killed_after_publishing_can_be_repeated() {
    let dir = raw();
    part(dir.path(), 0, 1);
    let first = merge(dir.path()).expect("merge");
    // Killed before the parts are removed, and while they are.
    part(dir.path(), 0, 1);
    assert_eq!(merge(dir.path()).expect("merge").fingerprint, first.fingerprint);
    fs::create_dir(dir.path().join(".shards.tmp-1.old")).expect("folder");
    fs::write(dir.path().join(".shards.tmp-1.old/part-00001-of-00002"), "").expect("write");
    assert!(merge(dir.path()).expect("merge").unchanged);
    assert_eq!(support::names(dir.path()), ["ReCoRD", "shards"]);

    // By the program, with the exit code of a data set with rejected records; but a damaged data set is not complete.
    let program = || {
        Command::new(env!("CARGO_BIN_EXE_glm-prep"))
            .args(["merge", "--max-rejects", "10%"])
            .arg(dir.path())
            .output()
            .expect("run")
    };
    let again = program();
    assert_eq!(again.status.code(), Some(3), "{again:?}");
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.contains("nothing to merge: there are no parts, and the data set is complete"), "{text}");
    fs::write(dir.path().join("shards/rejects.jsonl"), "").expect("write");
    let damaged = program();
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    assert!(String::from_utf8_lossy(&damaged.stderr).starts_with("error: no parts in "), "{damaged:?}");
}

#[test]
fn parts_that_cannot_be_merged_are_reported() {
    let dir = raw();
    let error = || merge(dir.path()).expect_err("refused").to_string();
    assert!(error().starts_with("no parts in"), "{}", error());
    part(dir.path(), 0, 3);
    part(dir.path(), 2, 3);
    assert!(error().starts_with("parts are missing: 1/3; run `glm-prep ingest"), "{}", error());

    // Made from other data.
    let file = dir.path().join("ReCoRD/val-0.jsonl");
    let val = fs::read(&file).expect("read");
    fs::write(&file, &val[..val.len() / 2]).expect("write");
    part(dir.path(), 1, 3);
    assert!(error().contains("do not belong together"), "{}", error());
    fs::write(&file, &val).expect("write");
    part(dir.path(), 1, 3);

    // Damaged or truncated.
    let path = dir.path().join(".shards.parts/part-00001-of-00003");
    let good = fs::read(&path).expect("read");
    for at in [0, good.len() / 3, good.len() / 2, good.len() - 3] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).expect("write");
        assert!(
            error().starts_with("cannot read the part ") || error().contains("do not belong together"),
            "{at}: {}",
            error()
        );
    }
    fs::write(&path, &good[..good.len() - 40]).expect("write");
    assert!(error().starts_with("cannot read the part "), "{}", error());
    assert!(!dir.path().join("shards").exists());

    // Intact parts can still be merged.
    fs::write(&path, &good).expect("write");
    merge(dir.path()).expect("merge");
    part(dir.path(), 0, 2);
    part(dir.path(), 0, 3);
    assert!(error().contains("their numbers of parts differ"), "{}", error());
}
