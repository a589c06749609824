//! Tasks with patterns: SuperGLUE's files in folders and archives, and anybody's own.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;

use glm_prep::ingest::{IngestOptions, RejectLimit};
use glm_prep::pattern::PatternTask;
use glm_schemas::cloze::ClozeView;
use glm_schemas::cloze::text::TextView;
use glm_schemas::manifest::Split;
use serde_json::Value;

const PATTERN: &str = r#"
about = "Is a review good?"
metrics = ["accuracy", "f1_macro"]

[texts]
review = { field = "body.text", edits = ["std", "rstrip"] }

[label]
field = "stars"
names = ["1", "5"]

[ids]
idx = "key"

[[patterns]]
context = "{review*} All in all, it was {blank}."
words = ["terrible", "great"]

[[patterns]]
context = "{title}: {|}{review*} {blank}"
words = ["bad", "good"]
"#;

fn review(key: &str, text: &str, stars: Option<i64>) -> String {
    serde_json::json!({"key": key, "title": "T", "body": {"text": text}, "stars": stars}).to_string()
}

fn own(number: usize) -> PatternTask {
    PatternTask::parse("reviews.toml", PATTERN, Some(number), false).expect("valid")
}

fn options(dir: &Path, pattern: PatternTask) -> IngestOptions {
    IngestOptions { max_rejects: RejectLimit::Percent(100.0), ..support::pattern_options(dir, pattern) }
}

/// A folder with reviews: six for training, of which one has no label and one an unknown one.
fn reviews() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let train = [
        review("a", "The soup was “cold”. \n", Some(1)),
        review("b", "Best bread in town.", Some(5)),
        review("c", "No label here.", None),
        review("d", "Who knows?", Some(3)),
        review("b", "The same id again.", Some(1)),
        review("12", "I will come back!", Some(5)),
    ];
    let val = [review("v", "Stale cake.", Some(1)), review("w", "No label, but kept.", None)];
    support::write(dir.path(), &[("train.jsonl", &train.join("\n")), ("val.jsonl", &val.join("\n"))]);
    dir
}

#[test]
fn a_task_of_ones_own_needs_a_pattern_file_only() {
    let dir = reviews();
    support::run(&options(dir.path(), own(0))).expect("ingested");
    let manifest = support::manifest(dir.path());
    let cloze = manifest.cloze.as_ref().expect("a task");
    assert_eq!((cloze.task.as_str(), cloze.pattern.as_deref(), cloze.end_of_piece), ("reviews", Some("0"), false));
    assert_eq!(
        (&cloze.labels[..], &cloze.metrics[..]),
        (&["1".to_owned(), "5".into()][..], &["accuracy".to_owned(), "f1_macro".into()][..])
    );
    assert_eq!((manifest.blank.as_str(), manifest.settings.format.as_str()), ("[BLANK]", "pattern"));
    assert_eq!(
        support::rejects(dir.path()),
        [
            "train.jsonl, line 3: no label in the field `stars`, and examples for training need one",
            "train.jsonl, line 4: the field `stars` holds `3`, expected one of 1, 5",
            "train.jsonl, line 5: another example has the id `b`",
        ]
    );
    let batch = support::batches(dir.path(), Split::Train).remove(0);
    let (view, text) =
        (ClozeView::try_new(&batch).expect("columns"), TextView::try_new(&batch, &manifest.blank).expect("text"));
    let names: Vec<_> = (0..view.len()).map(|row| view.example_id(row)).collect();
    assert_eq!(names, ["train-a", "train-b", "train-12"]);
    assert_eq!(text.query(0), "The soup was \"cold\". All in all, it was [BLANK].");
    assert_eq!(text.passage(0), "The soup was \"cold\".");
    assert!(text.blank(0).is_some());
    assert_eq!((view.label(0), view.label_name(0), view.idx(0), view.idx(2)), (Some(0), Some("1"), Some("\"a\""), Some("12")));
    let question = view.question(0);
    assert_eq!((question.blank, question.group_b, question.segments.len()), (2, 3, 3));
    let choices: Vec<_> = view.choices(1).map(|choice| (choice.text, choice.name, choice.correct, choice.ids.len())).collect();
    assert_eq!(choices, [(Some("terrible"), Some("1"), false, 1), (Some("great"), Some("5"), true, 1)]);
    // Without an end of piece, a choice predicts its token alone.
    assert_eq!(support::numbers(&batch, "choice_tokens")[0], [2]);

    let val = support::batches(dir.path(), Split::Val).remove(0);
    let val = ClozeView::try_new(&val).expect("columns");
    assert_eq!((val.label(0), val.label(1), val.label_name(1)), (Some(0), None, None));
    let sound = Command::new(env!("CARGO_BIN_EXE_glm-prep")).arg("verify").arg(dir.path()).output().expect("run");
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));
}

#[test]
fn the_data_set_depends_on_the_pattern_and_on_nothing_else() {
    let dir = reviews();
    let first = support::run(&options(dir.path(), own(0))).expect("ingested");
    let again = support::run(&options(dir.path(), own(0))).expect("ingested");
    assert!(!first.unchanged && again.unchanged);
    let manifest = support::manifest(dir.path());
    let other = support::run(&options(dir.path(), own(1))).expect("ingested");
    assert!(!other.unchanged);
    assert_ne!(support::manifest(dir.path()).fingerprint, manifest.fingerprint);

    let one = NonZeroUsize::MIN;
    support::run(&IngestOptions { threads: one, ..options(dir.path(), own(0)) }).expect("ingested");
    assert_eq!(support::manifest(dir.path()).fingerprint, manifest.fingerprint);
    support::run_in_parts(&IngestOptions { threads: one, ..options(dir.path(), own(0)) });
    let merged = support::manifest(dir.path());
    assert_eq!((&merged.fingerprint, &merged.cloze), (&manifest.fingerprint, &manifest.cloze));
    assert_eq!(merged.settings, manifest.settings);
}

#[test]
fn files_are_found_in_the_folder_or_the_archive_of_the_task() {
    let golden = support::repository().join("tests/fixtures/golden/superglue/raw");
    let task = || PatternTask::open("superglue/cb", None, false).expect("a pattern");
    let dir = tempfile::tempdir().expect("folder");
    // Archives of two tasks, of which one is asked for.
    for folder in ["CB", "RTE"] {
        let mut archive = zip::ZipWriter::new(File::create(dir.path().join(format!("{folder}.zip"))).expect("created"));
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for split in ["train", "val", "test"] {
            let name = format!("{folder}/{split}.jsonl");
            archive.start_file(&name, stored).expect("started");
            archive.write_all(&fs::read(golden.join(&name)).expect("read")).expect("written");
        }
        archive.finish().expect("finished");
    }
    support::run(&options(dir.path(), task())).expect("ingested");
    let of_archive = support::manifest(dir.path());
    assert_eq!(of_archive.raw_files[0].file, "CB.zip/CB/train.jsonl");

    let dir = tempfile::tempdir().expect("folder");
    for folder in ["CB", "RTE"] {
        fs::create_dir(dir.path().join(folder)).expect("created");
        for split in ["train", "val", "test"] {
            let name = format!("{folder}/{split}.jsonl");
            fs::copy(golden.join(&name), dir.path().join(&name)).expect("copied");
        }
    }
    support::run(&options(dir.path(), task())).expect("ingested");
    assert_eq!(support::manifest(dir.path()).raw_files[0].file, "CB/train.jsonl");
    let rows = |manifest: &glm_schemas::manifest::Manifest| manifest.splits.values().map(|split| split.rows).sum::<usize>();
    assert_eq!(rows(&support::manifest(dir.path())), rows(&of_archive));
}

#[test]
fn the_command_line_lists_prints_and_uses_patterns() {
    let glm_prep = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_glm-prep")).args(arguments).output().expect("run");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, list, _) = glm_prep(&["patterns"]);
    assert_eq!(code, Some(0));
    assert_eq!(list.lines().count(), glm_prep::pattern::catalogue::ALL.len());
    assert!(list.contains("superglue/boolq") && list.contains("6 patterns"), "{list}");
    let (code, file, _) = glm_prep(&["patterns", "superglue/wic"]);
    assert_eq!((code, file.as_str()), (Some(0), glm_prep::pattern::catalogue::find("superglue/wic").expect("a file")));
    let (code, _, error) = glm_prep(&["patterns", "superglue/nothing"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("there is no task `superglue/nothing`"), "{error}");

    let dir = reviews();
    let folder = dir.path().to_str().expect("a name");
    let pattern = dir.path().join("mine.toml");
    fs::write(&pattern, PATTERN).expect("written");
    let pattern = pattern.to_str().expect("a name");
    let (code, _, error) = glm_prep(&["ingest", folder, "--pattern", pattern, "--max-rejects", "9", "--quiet"]);
    assert_eq!(code, Some(3), "{error}");
    let (code, page, _) = glm_prep(&["inspect", folder, "--id", "train-b", "--color", "never"]);
    assert_eq!(code, Some(0));
    for expected in [
        "Best bread in town. All in all, it was [BLANK].",
        "tokens of the context",
        "0, truncatable",
        "the blank",
        "idx \"b\", label 5",
    ] {
        assert!(page.contains(expected), "{page}");
    }
    let (code, lines, _) = glm_prep(&["inspect", folder, "--model-input", "--rows", "1"]);
    assert_eq!(code, Some(0));
    let first: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("json");
    let (ids, target) = (first["ids"].as_array().expect("ids"), first["target"].as_array().expect("targets"));
    assert_eq!((ids.last(), target.last()), (Some(&30522.into()), Some(&6659.into())));
    for command in ["stats", "report", "verify"] {
        let (code, _, error) = glm_prep(&[command, folder]);
        assert_eq!(code, Some(0), "{command}: {error}");
    }

    fs::write(pattern, PATTERN.replace("terrible", "unbelievably")).expect("written");
    let (code, _, error) = glm_prep(&["ingest", folder, "--task", pattern, "--quiet"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("`unbelievably` has ") && error.contains("--multi-token"), "{error}");
    let (code, _, error) = glm_prep(&["ingest", folder, "--format", "pattern"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("give --pattern FILE or --task NAME"), "{error}");
}
