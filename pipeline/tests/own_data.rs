//! Users' own data: what leads back to it, its division into splits, warnings and near misses.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use glm_prep::ingest::{self, IngestError, IngestOptions, MergeOptions, RejectLimit, Silent, Stop, Summary};
use glm_prep::source::input::Selection;
use glm_schemas::cloze::ClozeView;
use glm_schemas::manifest::Split;
use glm_schemas::origin::OriginView;
use serde_json::{Value, json};

fn plain(number: usize) -> Value {
    json!({
        "context": format!("Box {number} is full. Box {number} holds [BLANK]."),
        "choices": ["salt", "sand", "rope", "salt"],
        "answer": number % 3,
        "id": format!("box-{number}"),
        "colour": {"shade": number}
    })
}

fn lines(records: impl IntoIterator<Item = Value>) -> String {
    records.into_iter().map(|record| format!("{record}\n")).collect()
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    for (name, content) in files {
        fs::create_dir_all(dir.path().join(name).parent().expect("a folder")).expect("folder");
        fs::write(dir.path().join(name), content).expect("write");
    }
    dir
}

fn glm_prep(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glm-prep")).arg("ingest").arg(dir).args(more).output().expect("run")
}

/// Row of a data set: its place in the raw data, and text, index in the record and correctness of its choices.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    id: Option<String>,
    place: (String, Option<u64>),
    extra: Option<Value>,
    choices: Vec<(String, usize, bool)>,
}

fn rows(dir: &Path, split: Split) -> Vec<Found> {
    let mut rows = Vec::new();
    for batch in support::batches(dir, split) {
        let (view, origins) = (ClozeView::try_new(&batch).expect("rows"), OriginView::try_new(&batch).expect("origins"));
        for row in 0..view.len() {
            let origin = origins.get(row).expect("an origin");
            assert_eq!(origin.split, split);
            rows.push(Found {
                id: origin.source_id.map(str::to_owned),
                place: (origin.raw_file.to_owned(), origin.raw_line),
                extra: origin.extra.map(|extra| serde_json::from_str(extra).expect("json")),
                choices: view
                    .choices(row)
                    .map(|choice| (choice.text.expect("text").to_owned(), choice.index.expect("an index"), choice.correct))
                    .collect(),
            });
        }
    }
    rows
}

#[test]
fn ids_lines_choices_and_further_fields_come_back() {
    let train = format!("{}\n{}", lines([plain(0)]), lines([plain(1)]));
    let dir = folder(&[
        ("train.jsonl", &train),
        ("val.jsonl", &lines([plain(2), json!({"context": "A [BLANK].", "choices": ["x", "y"], "answer": 1, "id": 7})])),
    ]);
    let place = |file: &str, line| (file.to_owned(), Some(line));
    for keep_fields in [false, true] {
        support::run(&IngestOptions { keep_fields, ..IngestOptions::new(dir.path()) }).expect("ingest");
        let found = rows(dir.path(), Split::Train);
        let extra = |number: usize| keep_fields.then(|| json!({"colour": {"shade": number}}));
        assert_eq!(found[0].id.as_deref(), Some("box-0"));
        assert_eq!((found[0].place.clone(), found[0].extra.clone()), (place("train.jsonl", 1), extra(0)));
        assert_eq!((found[1].place.clone(), found[1].extra.clone()), (place("train.jsonl", 3), extra(1)));
        let val = rows(dir.path(), Split::Val);
        assert_eq!((val[0].id.as_deref(), val[0].extra.clone()), (Some("7"), None));
        assert_eq!(val[1].place, place("val.jsonl", 1));
        for row in found.iter().chain(&val[1..]) {
            let own = ["salt", "sand", "rope", "salt"];
            let number: usize = row.id.as_ref().and_then(|id| id.strip_prefix("box-")?.parse().ok()).expect("a number");
            for (text, index, correct) in &row.choices {
                assert_eq!((own[*index], *correct), (text.as_str(), *index == number % 3), "{row:?}");
            }
        }
        assert!(glm_prep_verify(dir.path()));
    }
    let record = json!({"passage": {"text": "Bo", "entities": [{"start": 0, "end": 1}]}, "qas": [], "idx": 0});
    let other = folder(&[("train.jsonl", &lines([record]))]);
    let error = support::run(&IngestOptions { keep_fields: true, ..IngestOptions::new(other.path()) }).expect_err("refused");
    assert!(error.to_string().contains("is read as `record`, which has no further fields to keep"), "{error}");
}

fn glm_prep_verify(dir: &Path) -> bool {
    Command::new(env!("CARGO_BIN_EXE_glm-prep")).arg("verify").arg(dir).output().expect("run").status.success()
}

#[test]
fn every_format_leads_back_to_its_choices() {
    let record = json!({"passage": {"text": "Cy met Bo, Bo left.", "entities": [{"start": 7, "end": 8}, {"start": 0, "end": 1}, {"start": 11, "end": 12}]},
        "qas": [{"query": "@placeholder left", "answers": [{"text": "Bo"}], "idx": 70}], "idx": 3});
    let original = json!({"data": [{"id": "p", "passage": record["passage"], "qas": [{"id": "p-q", "query": "@placeholder left", "answers": [{"text": "Bo"}]}]}]});
    let cloth = json!({"article": "It _ .", "options": [["is", "was", "did", "had"]], "answers": ["B"]});
    let cbt: String = (1..=20).map(|n| format!("{n} Ada met Bo on day {n} .\n")).collect();
    let cbt = format!("\n{cbt}21 Then XXXXX went .\tBo\t\tday|Ada|Bo\n\n");
    for (file, content, id, line, choices) in [
        ("train.jsonl", format!("{record}\n"), Some("70"), Some(1), vec![("Bo", 0, true), ("Cy", 1, false)]),
        ("train.json", format!("{original:#}"), Some("p-q"), Some(3), vec![("Bo", 0, true), ("Cy", 1, false)]),
        (
            "train/1.json",
            cloth.to_string(),
            None,
            None,
            vec![("was", 1, true), ("did", 2, false), ("had", 3, false), ("is", 0, false)],
        ),
        ("train.txt", cbt, None, Some(2), vec![("Bo", 2, true), ("Ada", 1, false), ("day", 0, false)]),
        (
            "train.txt",
            "bob saw the old boat , and so bob\n".to_owned(),
            None,
            Some(1),
            vec![
                ("bob", 2, true),
                ("and", 0, false),
                ("boat", 1, false),
                ("old", 3, false),
                ("saw", 4, false),
                ("the", 5, false),
            ],
        ),
    ] {
        let dir = folder(&[(file, &content)]);
        support::run(&IngestOptions::new(dir.path())).expect("ingest");
        let found = rows(dir.path(), Split::Train);
        let choices: Vec<_> = choices.into_iter().map(|(text, index, correct)| (text.to_owned(), index, correct)).collect();
        let expected = Found { id: id.map(str::to_owned), place: (file.to_owned(), line), extra: None, choices };
        assert_eq!(found, [expected], "{content}");
    }
}

fn divided(dir: &Path, fraction: &str, seed: u64) -> Result<Summary, IngestError> {
    support::run(&divide(dir, fraction, seed))
}

fn divide(dir: &Path, fraction: &str, seed: u64) -> IngestOptions {
    let named = vec![(Split::Train, dir.join("data.jsonl").to_string_lossy().into_owned())];
    let selection = Selection { named, ..Selection::default() };
    IngestOptions {
        selection,
        val_fraction: Some(fraction.parse().expect("a fraction")),
        val_seed: seed,
        ..IngestOptions::new(dir)
    }
}

#[test]
fn a_fraction_of_the_passages_becomes_the_validation_split() {
    // Two questions about every passage.
    let data = lines((0..600).flat_map(|number| {
        let mut second = plain(number);
        (second["id"], second["answer"]) = (json!(format!("again-{number}")), json!(2));
        [plain(number), second]
    }));
    let dir = folder(&[("data.jsonl", &data)]);
    let passages = |split| {
        let ids = rows(dir.path(), split).into_iter().map(|row| row.id.expect("an id"));
        ids.map(|id| id.split_once('-').expect("a number").1.to_owned()).fold(BTreeMap::new(), |mut counts, id| {
            *counts.entry(id).or_insert(0) += 1;
            counts
        })
    };
    let summary = divided(dir.path(), "0.2", 1).expect("ingest");
    assert!(summary.warnings().is_empty(), "{:?}", summary.warnings());
    let (train, val) = (passages(Split::Train), passages(Split::Val));
    assert!(train.values().chain(val.values()).all(|&questions| questions == 2), "passages are not divided");
    assert_eq!(train.len() + val.len(), 600);
    assert!((90..150).contains(&val.len()), "{}", val.len());
    let manifest = support::manifest(dir.path());
    assert_eq!((manifest.settings.val_fraction, manifest.settings.val_seed), (Some(0.2), Some(1)));
    assert_eq!(manifest.raw_files.iter().map(|raw| (raw.split, raw.records)).collect::<Vec<_>>(), [(Split::Train, 1200)]);
    assert!(glm_prep_verify(dir.path()));
    assert!(divided(dir.path(), "0.2", 1).expect("again").unchanged);

    // In parts, and with other threads; then with another seed.
    let expected = support::contents(&dir.path().join("shards"));
    fs::remove_dir_all(dir.path().join("shards")).expect("remove");
    for index in 0..2 {
        let partition = Some(format!("{index}/2").parse().expect("a part"));
        ingest::run(&IngestOptions { partition, ..divide(dir.path(), "0.2", 1) }, &Silent).expect("part");
    }
    let threads = 3.try_into().expect("some");
    let (max_rejects, stop) = (RejectLimit::default(), Stop::default());
    let merge = MergeOptions { dir: dir.path().to_owned(), tokenizer: None, threads, max_rejects, stop };
    ingest::merge(&merge, &Silent).expect("merge");
    assert!(support::contents(&dir.path().join("shards")) == expected);
    divided(dir.path(), "0.2", 2).expect("another seed");
    assert_ne!(passages(Split::Val).keys().collect::<BTreeSet<_>>(), val.keys().collect());
}

#[test]
fn a_fraction_that_cannot_be_taken_is_an_error() {
    let few = folder(&[("data.jsonl", &lines([plain(0)]))]);
    let error = divided(few.path(), "0.5", 1).expect_err("one passage").to_string();
    assert!(error.starts_with("--val-fraction 0.5 leaves no question for the "), "{error}");
    assert!(!few.path().join("shards").exists());

    let both = folder(&[("train.jsonl", &lines([plain(0)])), ("val.jsonl", &lines([plain(1)]))]);
    let options = IngestOptions { val_fraction: Some("0.5".parse().expect("a fraction")), ..IngestOptions::new(both.path()) };
    let error = support::run(&options).expect_err("val is there").to_string();
    assert_eq!(
        error,
        "val.jsonl is a validation split; leave out --val-fraction, or take only the training split with --splits train"
    );

    let one = folder(&[("data.jsonl", &lines((0..40).map(plain)))]);
    let output = glm_prep(one.path(), &[]);
    let error = String::from_utf8(output.stderr).expect("text");
    let (_, command) = error.split_once("`glm-prep ").expect("a command");
    let arguments: Vec<_> = command.split_once('`').expect("its end").0.split(' ').collect();
    let output = Command::new(env!("CARGO_BIN_EXE_glm-prep")).args(&arguments).output().expect("run");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[test]
fn doubtful_questions_are_counted_and_warned_of() {
    let ask =
        |context: &str, choices: &[&str], answer: usize| json!({"context": context, "choices": choices, "answer": answer});
    let train = [
        ask("Ann sat. She saw [BLANK].", &["Bo", "Cy"], 0),
        ask("Only [BLANK].", &["one"], 0),
        ask("He met [BLANK].", &["Bo", "ann", "Ann"], 0),
        ask("She met [BLANK].", &["ann", "Ann", "Bo"], 0),
    ];
    let val = [ask("Ann sat. Then [BLANK] sat.", &["Bo", "Cy"], 1), ask("Only [BLANK].", &["one", "two"], 0)];
    let dir = folder(&[("train.jsonl", &lines(train)), ("val.jsonl", &lines(val))]);
    let output = glm_prep(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for warning in [
        "val and train share 2 passages (2 questions of val); accuracy on val will be too high",
        "train has 1 question with a single choice, which is always right",
        "train has 1 question with choices of the same tokens, which no model can tell apart",
    ] {
        assert_eq!(stderr.matches(warning).count(), 1, "{warning}\n{stderr}");
    }
    let reason = "1 × the right choice `ann` and the wrong choice `Ann` have the same tokens";
    assert!(stdout.contains("1 record rejected, listed in ") && stdout.contains(reason), "{stdout}");
    let output = glm_prep(dir.path(), &["--json", "--force"]);
    let summary: Value = serde_json::from_slice(&output.stdout).expect("json");
    let train = &summary["splits"][0];
    assert_eq!((&train["single_choice_questions"], &train["indistinguishable_questions"]), (&json!(1), &json!(1)));
    assert_eq!(
        (&summary["splits"][1]["passages_in_train"], &summary["splits"][1]["questions_in_train"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(summary["reject_reasons"][0]["count"], 1);
    assert_eq!(summary["reject_reasons"][0]["line"], 4);

    let stats = Command::new(env!("CARGO_BIN_EXE_glm-prep")).args(["stats", "--json"]).arg(dir.path()).output().expect("run");
    let stats: Value = serde_json::from_slice(&stats.stdout).expect("json");
    assert_eq!((&stats["splits"][0]["single_choice"], &stats["splits"][0]["indistinguishable"]), (&json!(1), &json!(1)));
    assert_eq!(stats["in_train_and_val"]["passages"], 2);
}

#[test]
fn more_rejects_than_one_percent_publish_nothing() {
    let bad = |number: usize| {
        let mut record = plain(number);
        record["context"] = json!(format!("Box {number} holds ____."));
        record
    };
    let data = lines((0..120).map(|number| if number < 21 { plain(number) } else { bad(number) }));
    let dir = folder(&[("train.jsonl", &data)]);
    let output = glm_prep(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains(
            "99 of 120 records were rejected, --max-rejects allows 1%, at least 1 and at most 100; nothing was published: \
             99 × the text holds `[BLANK]` 0 times, it must hold it once (first: train.jsonl, line 22)"
        ),
        "{error}"
    );
    assert!(!dir.path().join("shards").exists());
    let output = glm_prep(dir.path(), &["--max-rejects", "83%"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let listed = dir.path().join("shards/rejects.jsonl").display().to_string();
    assert!(
        stdout.contains(&format!("99 records rejected, listed in {listed}:\n  99 × the text holds `[BLANK]` 0 times")),
        "{stdout}"
    );
    assert!(stdout.contains("format plain, detected by `context` and `choices`\n"), "{stdout}");
    // The same of an unchanged data set.
    let again: Value = serde_json::from_slice(&glm_prep(dir.path(), &["--max-rejects", "83%", "--json"]).stdout).expect("json");
    assert_eq!((&again["unchanged"], &again["reject_reasons"][0]["count"]), (&json!(true), &json!(99)));
}

#[test]
fn a_bad_first_line_costs_only_that_line() {
    let good = lines((0..5).map(plain));
    for (bad, reason) in [
        (&b"{\"context\": \"A [BLANK].\", \"choices\": [\"a\""[..], "incomplete JSON: EOF while parsing a list at column 41; "),
        (b"{\"context\": \"caf\xe9 [BLANK]\", \"choices\": [\"a\"], \"answer\": 0}", "not UTF-8 at byte 16 of the line"),
        (b"context\tchoices", "not a record of format `plain`: expected a JSON object"),
    ] {
        let dir = folder(&[]);
        fs::write(dir.path().join("train.jsonl"), [bad, b"\n", good.as_bytes()].concat()).expect("write");
        let summary = support::run(&IngestOptions::new(dir.path())).expect("ingest");
        assert_eq!((summary.splits[0].questions, summary.rejected_records(), summary.format.as_str()), (5, 1, "plain"));
        assert!(summary.reject_reasons[0].reason.starts_with(reason), "{}", summary.reject_reasons[0].reason);
    }
}

#[test]
fn near_misses_and_unknown_files_are_named() {
    let failure = |content: &str| {
        let dir = folder(&[("train.jsonl", content)]);
        support::run(&IngestOptions::new(dir.path())).expect_err("refused").to_string()
    };
    let options = "{\"question\": \"a [BLANK]\", \"options\": [\"x\", \"y\"], \"label\": 0}\n";
    assert_eq!(
        failure(options),
        "train.jsonl seems to be meant as `plain` data; rename `label` to `answer`, `options` to `choices`, \
         `question` to `context` (with one [BLANK])"
    );
    let label = lines((0..3).map(plain)).replace("\"answer\"", "\"label\"");
    let error = failure(&label);
    assert!(error.contains("3 × no `answer`; rename the field `label` to `answer` (first: train.jsonl, line 1)"), "{error}");
    let error = failure("{\"name\": \"x\", \"age\": 3}\n");
    assert!(error.starts_with("train.jsonl has no known format, it begins with `{\"name\": \"x\", \"age\": 3}`; "), "{error}");
    let cut = failure("{\"context\": \"A [BLANK].\", \"choices\": [\"a\", \"b\"], \"answer\": 0\n");
    assert!(
        cut.contains(
            "1 × incomplete JSON: EOF while parsing an object at column 60; a closing bracket or quote is missing, or"
        ),
        "{cut}"
    );
    let spread = failure(&format!("{:#}\n", plain(1)));
    assert!(spread.contains("its first object spans several lines; write one object per line"), "{spread}");
}
