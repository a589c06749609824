//! The Chinese tasks of CLUE are encoded as by a program in Python that was written from the published rules, with the SentencePiece
//! library.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_prep::ingest::{IngestError, IngestOptions};
use glm_prep::pattern::PatternTask;
use glm_schemas::cloze::ClozeView;
use glm_schemas::cloze::encoding::EncodingError;
use glm_schemas::manifest::Split;
use serde::Deserialize;

/// An example at one sequence length.
#[derive(Debug, Deserialize)]
struct Golden {
    task: String,
    pattern: usize,
    split: Split,
    /// Number of the raw line in its file.
    order: usize,
    max_len: usize,
    label: Option<usize>,
    /// Tokens of the choices.
    words: Vec<i32>,
    /// Context, end of the context and start of the piece; `None` if it does not fit.
    ids: Option<Vec<i32>>,
    /// Place of the blank among them.
    blank: Option<i32>,
}

fn golden() -> PathBuf {
    support::repository().join("tests/fixtures/golden/clue")
}

fn examples() -> Vec<Golden> {
    serde_json::from_slice(&fs::read(golden().join("encodings.json")).expect("read")).expect("json")
}

/// A folder with the raw files of a task.
fn raw(task: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    for split in ["train", "dev", "test"] {
        let name = format!("{split}.json");
        fs::copy(golden().join("raw").join(task).join(&name), dir.path().join(&name)).expect("copied");
    }
    dir
}

fn options(dir: &Path, task: &str, pattern: usize) -> IngestOptions {
    let task = PatternTask::open(&format!("clue/{task}"), Some(pattern), false).expect("a pattern");
    IngestOptions { tokenizer: Some(golden().join("words.model")), ..support::pattern_options(dir, task) }
}

#[test]
fn every_pattern_is_encoded_by_the_published_rules() {
    let examples = examples();
    let mut tasks: Vec<(&str, usize)> = examples.iter().map(|one| (one.task.as_str(), one.pattern)).collect();
    tasks.dedup();
    assert_eq!(tasks.len(), 5);
    let (mut full, mut too_long) = (0, 0);
    for (task, pattern) in tasks {
        let dir = raw(task);
        support::run(&options(dir.path(), task, pattern)).expect("ingested");
        let manifest = support::manifest(dir.path());
        let cloze = manifest.cloze.clone().expect("a task");
        assert_eq!((cloze.task, cloze.end_of_piece), (format!("clue/{task}"), false));
        for golden in examples.iter().filter(|one| (one.task.as_str(), one.pattern) == (task, pattern)) {
            let at = format!("{task} {pattern} {} {} at {}", golden.split, golden.order, golden.max_len);
            let batches = support::batches(dir.path(), golden.split);
            let view = ClozeView::try_new(&batches[0]).expect("columns");
            let choices: Vec<_> = view.choices(golden.order).collect();
            let words: Vec<i32> = choices.iter().flat_map(|choice| choice.ids.iter().copied()).collect();
            assert_eq!((words, choices.len()), (golden.words.clone(), golden.words.len()), "{at}");
            assert_eq!(view.label(golden.order), golden.label, "{at}");
            let cloze = manifest.cloze.as_ref().expect("a task");
            let encoder = cloze.encoder(manifest.special_ids, golden.max_len);
            let input = encoder.encode(&view.question(golden.order), choices[0].ids);
            let Some(expected) = &golden.ids else {
                assert!(matches!(input, Err(EncodingError::DoesNotFit { .. })), "{at}");
                too_long += 1;
                continue;
            };
            let input = input.unwrap_or_else(|error| panic!("{at}: {error}"));
            let sep = expected.len() - 1;
            assert_eq!(&input.ids[..=sep], expected, "{at}");
            assert_eq!((input.sep, Some(input.position[sep])), (sep, golden.blank), "{at}");
            assert_eq!((input.block_position[sep], input.target[sep]), (1, golden.words[0]), "{at}");
            full += usize::from(expected.len() == golden.max_len);
        }
    }
    assert!(full > 40 && too_long > 5, "{full} are truncated, {too_long} do not fit");
}

#[test]
fn what_does_not_suit_a_task_is_named() {
    let dir = raw("afqmc");
    let mut options = options(dir.path(), "afqmc", 0);
    options.tokenizer = None;
    let error = support::run(&options).expect_err("other words");
    assert!(matches!(error, IngestError::Pattern(_)), "{error}");
    assert!(error.to_string().contains("`不是` has 2 tokens") && error.to_string().contains("--tokenizer"), "{error}");

    let dir = raw("cluewsc");
    let path = dir.path().join("dev.json");
    let text = fs::read_to_string(&path).expect("read").replace("\"span1_index\": 2", "\"span1_index\": 3");
    fs::write(&path, text).expect("written");
    let folder = dir.path().to_str().expect("a name");
    let (words, prep) = (golden().join("words.model"), env!("CARGO_BIN_EXE_glm-prep"));
    let output = Command::new(prep).args(["ingest", folder, "--task", "clue/cluewsc", "--tokenizer"]).arg(words).output();
    let output = output.expect("run");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let rejects = fs::read_to_string(dir.path().join("shards/rejects.jsonl")).expect("rejects");
    assert!(rejects.contains("the text has no `王老师` at character 3, counted from 0"), "{rejects}");
}
