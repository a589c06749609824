//! Rejection of invalid raw data: affected records, reasons, limits.

mod support;

use std::fs;
use std::path::Path;

use glm_prep::ingest::{IngestError, IngestOptions, MAX_RECORD_BYTES, RejectLimit};
use glm_schemas::cloze::ClozeView;
use glm_schemas::manifest::Split;
use serde_json::{Value, json};

fn record(id: i64) -> Value {
    json!({
        "source": "own",
        "passage": {"text": "Ada met Bo.", "entities": [{"start": 0, "end": 2}, {"start": 8, "end": 9}]},
        "qas": [{"query": "@placeholder met Bo", "answers": [{"start": 0, "end": 2, "text": "Ada"}], "idx": 10 * id}],
        "idx": id
    })
}

fn changed(id: i64, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut record = record(id);
    change(&mut record);
    record.to_string().into_bytes()
}

fn file(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.join(&b'\n')
}

fn example_ids(dir: &Path, split: Split) -> Vec<String> {
    let batches = support::batches(dir, split);
    let views = batches.iter().map(|batch| ClozeView::try_new(batch).expect("the contract"));
    views.flat_map(|view| (0..view.len()).map(|row| view.example_id(row).to_owned()).collect::<Vec<_>>()).collect()
}

fn rejects(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("shards/rejects.jsonl")).expect("rejects");
    text.lines().map(|line| serde_json::from_str(line).expect("json")).collect()
}

#[test]
fn bad_lines_are_listed_with_their_reason_and_all_others_are_kept() {
    let with_question = |change: fn(&mut Value)| move |record: &mut Value| change(&mut record["qas"][0]);
    let bad: Vec<(Vec<u8>, &str)> = vec![
        (b"\xff\xfe not text".to_vec(), "not UTF-8 at byte 0 of the line"),
        (
            b"{\"source\": \"own\"".to_vec(),
            "incomplete JSON: EOF while parsing an object at column 16; a closing bracket or quote is missing, or",
        ),
        (b"[1, 2]".to_vec(), "not a record of format `record`: expected a JSON object"),
        (b"bad".to_vec(), "not a record of format `record`: expected a JSON object"),
        (
            changed(1, |r| r["passage"]["text"] = json!(5)),
            "not a record of format `record`: invalid type: integer `5`, expected a string",
        ),
        (
            changed(1, |r| r["passage"]["entities"][1]["end"] = json!(11)),
            "entity 1 spans 8 to 11 (inclusive), but the passage has 11",
        ),
        (
            changed(1, |r| r["passage"]["entities"][0] = json!({"start": 3, "end": 3})),
            "entity 0 spans 3 to 3 (inclusive), where the passage has only white space",
        ),
        (
            changed(1, |r| r["passage"]["text"] = json!("")),
            "entity 0 spans 0 to 2 (inclusive), but the passage has 0 code points",
        ),
        (changed(1, |r| r["passage"]["entities"][0]["start"] = json!(-1)), "entity 0 spans -1 to 2 (inclusive)"),
        (changed(1, |r| r["passage"]["entities"][0]["start"] = json!(3)), "entity 0 starts at 3, after its end at 2"),
        (vec![b'x'; MAX_RECORD_BYTES + 1], "the record has 4194305 bytes; the limit is 4194304"),
        (
            changed(1, with_question(|q| q["query"] = json!("met Bo"))),
            "question 0 (idx 10): the text holds `@placeholder` 0 times",
        ),
        (
            changed(1, with_question(|q| q["query"] = json!("@placeholder @placeholder"))),
            "question 0 (idx 10): the text holds `@placeholder` 2 times",
        ),
        (changed(1, with_question(|q| q["answers"] = json!([]))), "question 0 (idx 10): no answers are given"),
        (changed(1, with_question(|q| q["answers"] = Value::Null)), "question 0 (idx 10): no answers are given"),
        (
            changed(1, with_question(|q| q["answers"][0]["text"] = json!("Cy"))),
            "question 0 (idx 10): the answer `Cy` is not among the passage's entities",
        ),
        (changed(1, with_question(|q| q["idx"] = Value::Null)), "question 0: no `idx`"),
        (changed(1, with_question(|q| q["query"] = Value::Null)), "question 0 (idx 10): no `query`"),
        (changed(1, |r| r["passage"]["entities"] = json!([])), "question 0 (idx 10): the passage has no entities"),
        (
            changed(1, with_question(|q| q["query"] = json!(format!("@placeholder {}", "far ".repeat(600))))),
            "question 0 (idx 10): the query (600 tokens) and a choice (1 tokens) do not fit a sequence length of 512; at least 605",
        ),
    ];
    let mut lines = vec![changed(0, |_| ())];
    lines.extend(bad.iter().map(|(line, _)| line.clone()));
    lines.push(changed(7, |_| ()));
    for split in [Split::Train, Split::Val] {
        let good = file(&[changed(3, |_| ())]);
        let other = if split == Split::Train { Split::Val } else { Split::Train };
        let dir = support::raw_folder(&[(split, &file(&lines)), (other, &good)]);
        let summary = support::ingest_with(dir.path(), 2).expect("the good ones are published");
        assert_eq!(summary.rejected_records(), bad.len());
        let (prefix, suffix) = if split == Split::Train { ("train", "-a0") } else { ("dev", "") };
        assert_eq!(example_ids(dir.path(), split), [format!("{prefix}-p0-q0{suffix}"), format!("{prefix}-p7-q70{suffix}")]);

        let listed = rejects(dir.path());
        assert_eq!(listed.len(), bad.len());
        for (number, ((line, reason), entry)) in bad.iter().zip(&listed).enumerate() {
            assert_eq!(entry["file"], format!("ReCoRD/{split}.jsonl"));
            assert_eq!(entry["line"], number + 2);
            let found = entry["reason"].as_str().expect("a reason");
            assert!(found.starts_with(reason), "{found}\n{reason}");
            let raw = entry["raw"].as_str().expect("the raw line");
            assert!(String::from_utf8_lossy(line).starts_with(raw) && !raw.is_empty());
            let cut = (line.len() > raw.len() && line.is_ascii()).then_some(line.len());
            assert_eq!(entry["raw_bytes"].as_u64(), cut.map(|bytes| bytes as u64));
        }
        let manifest = support::manifest(dir.path());
        let raw = manifest.raw_files.iter().find(|raw| raw.split == split).expect("the raw file");
        assert_eq!((raw.records, raw.rejects), (bad.len() + 2, bad.len()));
    }
}

#[test]
fn a_bad_question_does_not_affect_other_questions() {
    let passage = |id: i64, with_bad: bool| {
        let question = 10 * id;
        let names: Vec<_> = (0..14).map(|i| format!("N{i:02}")).collect();
        let entities: Vec<_> = (0..14).map(|i| json!({"start": 4 * i, "end": 4 * i + 2})).collect();
        let good = json!({"query": "@placeholder", "answers": [{"text": "N03"}], "idx": question + 2});
        let bad = json!({"query": "@placeholder", "answers": [{"text": "N99"}], "idx": question + 1});
        let qas = if with_bad { json!([bad, good]) } else { json!([good]) };
        json!({"passage": {"text": names.join(" "), "entities": entities}, "qas": qas, "idx": id}).to_string().into_bytes()
    };
    let shards = |with_bad| {
        let dir = support::raw_folder(&[(Split::Train, &file(&[passage(0, with_bad), passage(1, false)]))]);
        support::ingest_with(dir.path(), 1).expect("ingest");
        let batches = support::batches(dir.path(), Split::Train);
        (example_ids(dir.path(), Split::Train), batches)
    };
    assert_eq!(shards(true), shards(false));
    assert_eq!(shards(true).0, ["train-p0-q2-a0", "train-p1-q12-a0"]);
}

#[test]
fn too_many_rejects_leave_the_old_data_set() {
    let good = file(&[changed(0, |_| ())]);
    let dir = support::raw_folder(&[(Split::Train, &good)]);
    support::ingest_with(dir.path(), 1).expect("ingest");
    let before = support::contents(&dir.path().join("shards"));

    fs::write(dir.path().join("ReCoRD/train.jsonl"), [good.clone(), b"\nbad\nworse\n".to_vec()].concat()).expect("write");
    let with = |max_rejects| support::run(&IngestOptions { max_rejects, ..IngestOptions::new(dir.path()) });
    let error = with(RejectLimit::Count(1)).expect_err("too many");
    assert!(matches!(error, IngestError::TooManyRejects { rejected: 2, records: 3, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "2 of the first 3 records were rejected, --max-rejects allows 1; nothing was published: \
         2 × not a record of format `record`: expected a JSON object (first: ReCoRD/train.jsonl, line 2)"
    );
    assert!(with(RejectLimit::Percent(66.0)).is_err());
    assert_eq!(support::contents(&dir.path().join("shards")), before);
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);

    assert_eq!(with(RejectLimit::Count(2)).expect("within").rejected_records(), 2);
    assert_eq!(rejects(dir.path()).len(), 2);
    // A later run without rejects removes the list.
    fs::write(dir.path().join("ReCoRD/train.jsonl"), &good).expect("write");
    with(RejectLimit::Count(0)).expect("clean");
    assert_eq!(support::contents(&dir.path().join("shards")), before);
}

#[test]
fn a_data_set_without_questions_is_not_published() {
    for content in ["{\"passage\": {\"text\": 5}}\n", "{\"passage\":{\"text\":\"x\",\"entities\":[]},\"qas\":[],\"idx\":0}"] {
        let dir = support::raw_folder(&[(Split::Train, content.as_bytes())]);
        let error = support::ingest_with(dir.path(), 1).expect_err("nothing to publish");
        assert!(error.to_string().starts_with("no questions found in ReCoRD/train.jsonl"), "{error}");
        assert!(!dir.path().join("shards").exists());
    }
}

#[test]
fn the_test_split_has_no_labels() {
    let unlabelled = changed(4, |r| {
        r["qas"][0].as_object_mut().expect("an object").remove("answers");
    });
    let dir = support::raw_folder(&[(Split::Val, &file(&[changed(0, |_| ())])), (Split::Test, &file(&[unlabelled]))]);
    let summary = support::ingest_with(dir.path(), 1).expect("ingest");
    assert_eq!(summary.missing, [Split::Train]);
    let batches = support::batches(dir.path(), Split::Test);
    let view = ClozeView::try_new(&batches[0]).expect("the contract");
    assert_eq!((view.example_id(0), view.label(0), view.choices(0).len()), ("test-p4-q40", None, 2));
}
