//! Sequence to sequence with the real programs: from raw pairs to predictions, and the published evaluation of a published model.

use std::fs;
use std::path::Path;
use std::process::Command;

use glm_tests::training::{metrics, set, small_model};
use glm_tests::{command, fixtures, json_lines, run};
use serde_json::{Value, json};

/// Writes pairs of an easy task, the last word of a sentence: `train.jsonl` and `val.jsonl`, and `test.jsonl` without targets.
fn own_pairs(folder: &Path) {
    let words = ["boat", "lamp", "goat", "clock", "bread", "snow"];
    let places = ["hill", "pool", "road", "lake"];
    let line = |split: &str, number: usize| {
        let (word, place) = (words[number % words.len()], places[number % places.len()]);
        let source = format!("Number {number} of the {split} texts: at the {place} there is a {word}");
        match split {
            "test" => json!({ "source": source, "id": format!("t{number}") }),
            "val" => json!({ "source": source, "target": format!("A {word}."), "references": [format!("A {word}."), word] }),
            _ => json!({ "source": source, "target": format!("A {word}."), "topic": place }),
        }
    };
    for (split, count) in [("train", 96), ("val", 12), ("test", 6)] {
        let lines: String = (0..count).map(|number| format!("{}\n", line(split, number))).collect();
        fs::write(folder.join(format!("{split}.jsonl")), lines).expect("write");
    }
}

fn prep(folder: &Path) -> Command {
    let mut command = command("glm-prep");
    command.arg("ingest").arg(folder).args(["--task", "seq2seq"]);
    command
}

/// Runs a command that must fail; returns what it writes to standard error.
fn failed(command: &mut Command) -> String {
    let finished = run(command);
    assert_ne!(finished.code(), Some(0), "{}", finished.stdout());
    finished.stderr()
}

#[test]
fn own_pairs_become_predictions() {
    let folder = tempfile::tempdir().expect("folder");
    let (data, out) = (folder.path().join("own"), folder.path().join("run"));
    fs::create_dir(&data).expect("folder");
    own_pairs(&data);
    let ingested = run(&mut prep(&data)).success();
    assert!(ingested.stdout().contains("format pairs, detected by `source`"), "{}", ingested.stdout());

    let settings =
        ["train.max_steps=12", "train.eval_every=48", "seq2seq.max_target_len=8", "seq2seq.beams=2", "data.max_seq_len=40"];
    run(set(&mut small_model(&data, &out), &settings).args(["--task", "seq2seq", "--init", "random", "--seed", "3"])).success();
    let records = metrics(&out);
    let losses: Vec<f64> =
        records.iter().filter(|record| record["kind"] == "train").filter_map(|record| record["loss"].as_f64()).collect();
    assert!(losses.len() == 12 && losses[11] < losses[0], "{losses:?}");
    let evaluations: Vec<&Value> = records.iter().filter(|record| record["kind"] == "eval").collect();
    assert_eq!(evaluations.len(), 2);
    for record in evaluations {
        assert_eq!(record["pairs"], 12);
        assert!(record["rouge1"].is_f64() && record["published_rouge_l"].is_f64() && record["loss"].is_f64(), "{record}");
    }

    let with = |name: &str| {
        let mut command = command("glm-trainer");
        command.args([name, "--device", "cpu"]).arg("--data").arg(&data).arg("--init").arg(&out);
        command
    };
    let texts = folder.path().join("val.jsonl");
    let evaluated = run(with("eval").args(["--metric", "em-f1", "--json", "--scores"]).arg(&texts)).success();
    let evaluated: Value = serde_json::from_str(&evaluated.stdout()).expect("JSON");
    assert!(evaluated["exact_match"].is_f64() && evaluated["f1"].is_f64(), "{evaluated}");
    let lines = json_lines(&texts);
    assert_eq!(lines.len(), 12);
    assert_eq!(lines[1]["references"], json!(["A lamp.", "lamp"]));
    assert_eq!(lines[1]["example_id"], "val-1");

    let predictions = folder.path().join("test-predictions.jsonl");
    let predicted = run(with("predict").arg("--out").arg(&predictions)).success();
    assert!(predicted.stdout().starts_with("6 "), "{}", predicted.stdout());
    let lines = json_lines(&predictions);
    let ids: Vec<_> = lines.iter().map(|line| line["source_id"].as_str().expect("id").to_owned()).collect();
    assert_eq!(ids, ["t0", "t1", "t2", "t3", "t4", "t5"]);
    for line in &lines {
        assert!(line["prediction"].is_string() && line["score"].as_f64().is_some_and(|score| score < 0.0), "{line}");
        assert_eq!(line["references"], json!([]));
        assert!(line["source"].as_str().expect("source").starts_with("Number "));
    }
    let again = folder.path().join("again.jsonl");
    run(with("predict").arg("--out").arg(&again)).success();
    assert_eq!(json_lines(&again), lines, "predictions are the same every time");
}

/// Columns of the first row of a split as the program prints them.
fn row(data: &Path, columns: &str) -> String {
    let sql = format!("select {columns} from shards where split = 'train' order by example_id limit 1");
    let mut inspect = command("glm-prep");
    run(inspect.arg("inspect").arg(data).args(["--json", "--sql", &sql])).success().stdout()
}

#[test]
fn sources_with_several_blanks_have_a_target_for_each() {
    let folder = tempfile::tempdir().expect("folder");
    let [own, lines, out] = ["own", "lines", "run"].map(|name| folder.path().join(name));
    let (words, places) = (["boat", "lamp", "goat"], ["hill", "pool", "road", "lake"]);
    for split in ["train", "val", "test"] {
        let pair = |number: usize| {
            let (word, place) = (words[number % 3], places[number % 4]);
            (format!("A [MASK] number {number} near the [MASK] of {split}"), [word, place])
        };
        fs::create_dir_all(&own).expect("folder");
        fs::create_dir_all(&lines).expect("folder");
        let json = |(source, targets)| format!("{}\n", json!({ "source": source, "targets": targets }));
        fs::write(own.join(format!("{split}.jsonl")), (0..24).map(pair).map(json).collect::<String>()).expect("write");
        let (sources, targets): (Vec<_>, Vec<_>) = (0..24).map(pair).unzip();
        fs::write(lines.join(format!("{split}.source")), sources.join("\n")).expect("write");
        let targets: Vec<_> = targets.iter().map(|parts| parts.join("|")).collect();
        fs::write(lines.join(format!("{split}.target")), targets.join("\n")).expect("write");
    }
    run(&mut prep(&own)).success();
    run(prep(&lines).args(["--format", "extraction"])).success();
    let columns = "prefix_ids, source_ids, suffix_ids, target_ids, keep, focus, target";
    let expected = row(&own, columns);
    assert!(expected.contains(r#""keep":"around","focus":1,"target":"boat|hill""#), "{expected}");
    assert!(expected.contains(r#""target_ids":[4049,30523,2940]"#), "{expected}");
    assert_eq!(row(&lines, columns), expected, "both forms of the data have the same rows");
    run(command("glm-prep").arg("verify").arg(&own)).success();

    let settings = ["train.max_steps=8", "train.eval_every=0", "seq2seq.max_target_len=12", "data.max_seq_len=40"];
    run(set(&mut small_model(&own, &out), &settings).args(["--init", "random", "--seed", "3"])).success();
    let records = metrics(&out);
    let losses: Vec<f64> =
        records.iter().filter(|record| record["kind"] == "train").filter_map(|record| record["loss"].as_f64()).collect();
    assert!(losses.len() == 8 && losses[7] < losses[0], "{losses:?}");
    let predictions = folder.path().join("predictions.jsonl");
    let mut predict = command("glm-trainer");
    predict.args(["predict", "--device", "cpu"]).arg("--data").arg(&own).arg("--init").arg(&out).arg("--out").arg(&predictions);
    run(&mut predict).success();
    for line in json_lines(&predictions) {
        let prediction = line["prediction"].as_str().expect("text");
        assert_eq!(prediction.matches('|').count(), 1, "a piece for each blank: {line}");
    }

    fs::write(own.join("train.jsonl"), r#"{"source": "no blank", "targets": ["x"]}"#).expect("write");
    let finished = run(&mut prep(&own));
    assert_eq!(finished.code(), Some(3), "one record is rejected");
    let rejected = finished.stdout();
    assert!(rejected.contains("the source has no [MASK] for its targets; write [MASK] in place of each blank"), "{rejected}");
}

#[test]
fn the_kept_side_and_task_masks_are_options_of_ingest() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path();
    fs::write(data.join("train.jsonl"), r#"{"source": "a [sMASK] b [gMASK]", "target": "x"}"#).expect("write");
    run(&mut prep(data)).success();
    let plain = row(data, "keep, source_ids");
    assert!(plain.contains(r#""keep":"end""#) && !plain.contains("30525"), "{plain}");
    run(prep(data).args(["--keep", "start", "--task-mask"])).success();
    assert_eq!(row(data, "keep, source_ids").trim(), r#"{"keep":"start","source_ids":[1037,30525,1038,30524]}"#);
    run(command("glm-prep").arg("verify").arg(data)).success();
    let refused = run(prep(data).args(["--keep", "middle"]));
    assert!(refused.code() == Some(2) && refused.stderr().contains("expected start or end"), "{}", refused.stderr());
    let whole = fs::read(data.join("shards/manifest.json")).expect("manifest");
    for part in ["0/2", "1/2"] {
        run(prep(data).args(["--keep", "start", "--task-mask", "--partition", part])).success();
    }
    run(command("glm-prep").arg("merge").arg(data)).success();
    assert!(fs::read(data.join("shards/manifest.json")).expect("manifest") == whole, "parts have the same settings");
}

#[test]
fn articles_of_xsum_are_listed_by_split() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path();
    let splits = json!({ "train": ["1", "2"], "validation": ["3"], "test": ["1"] });
    fs::write(data.join("XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json"), splits.to_string()).expect("write");
    for id in ["1", "3"] {
        let text = format!("[SN]FIRST-SENTENCE[SN]\nShort {id}.\n[SN]RESTBODY[SN]\nLong {id}.\n");
        fs::write(data.join(format!("{id}.summary")), text).expect("write");
    }
    let finished = run(&mut prep(data));
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr());
    assert!(finished.stdout().contains("there is no file 2.summary"), "{}", finished.stdout());
}

#[test]
fn mistakes_name_the_remedy() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path();
    fs::write(data.join("train.source"), "a\nb\nc\n").expect("write");
    let missing = failed(&mut prep(data));
    assert!(missing.contains("there is no train.target beside train.source"), "{missing}");
    fs::write(data.join("train.target"), "x\ny\n").expect("write");
    let unequal = failed(&mut prep(data));
    assert!(unequal.contains("train.source has 3 lines, but train.target has 2"), "{unequal}");
    fs::write(data.join("train.target"), "x\ny\n\n").expect("write");
    let ingested = run(&mut prep(data)).success();
    assert!(ingested.stdout().contains("format pair-lines"), "{}", ingested.stdout());

    let trained = failed(small_model(data, &folder.path().join("run")).args(["--task", "cloze", "--init", "random"]));
    assert!(trained.contains("--task cloze needs a data set"), "{trained}");
    let too_long = ["seq2seq.max_target_len=80", "data.max_seq_len=40"];
    let trained = failed(set(&mut small_model(data, &folder.path().join("run")), &too_long).args(["--init", "random"]));
    assert!(trained.contains("seq2seq.max_target_len = 80 is out of range"), "{trained}");
}

#[test]
fn texts_scores_and_rouge_equal_the_published_ones() {
    let golden = fs::read_to_string(fixtures().join("golden/seq2seq/evaluate.json")).expect("evaluate.json");
    let golden: Value = serde_json::from_str(&golden).expect("JSON");
    let cases = golden["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 9);
    let folder = tempfile::tempdir().expect("folder");
    for (number, case) in cases.iter().enumerate() {
        let examples = case["examples"].as_array().expect("examples");
        let data = folder.path().join(number.to_string());
        fs::create_dir(&data).expect("folder");
        for side in ["source", "target"] {
            let lines: String = examples.iter().map(|example| format!("{}\n", example[side].as_str().expect("line"))).collect();
            fs::write(data.join(format!("val.{side}")), lines).expect("write");
        }
        let format = if case["task"] == "cnn_dm" { "cnn-dm" } else { "pair-lines" };
        run(prep(&data).args(["--format", format])).success();
        let has_task_mask = case["flags"].as_array().expect("flags").iter().any(|flag| flag == "--task-mask");
        let setting = |key: &str, value: &Value| format!("{key}={value}");
        let settings = [
            "model.heads=2".to_owned(),
            "seq2seq.published_padding=true".to_owned(),
            format!("seq2seq.task_mask={has_task_mask}"),
            setting("data.max_seq_len", &case["src_seq_length"]),
            setting("seq2seq.max_target_len", &case["tgt_seq_length"]),
            setting("seq2seq.beams", &case["beams"]),
            setting("seq2seq.length_penalty", &case["length_penalty"]),
            setting("seq2seq.ngram", &case["ngram"]),
            setting("seq2seq.min_target_len", &case["min_length"]),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let texts = folder.path().join(format!("{number}.jsonl"));
        let mut eval = command("glm-trainer");
        eval.args(["eval", "--device", "cpu", "--json", "--init"])
            .arg(fixtures().join("golden/generation/full-gen.safetensors"))
            .arg("--data")
            .arg(&data)
            .arg("--scores")
            .arg(&texts);
        let evaluated = run(set(&mut eval, &settings)).success();
        let evaluated: Value = serde_json::from_str(&evaluated.stdout()).expect("JSON");
        for (line, example) in json_lines(&texts).iter().zip(examples) {
            assert_eq!(line["prediction"], example["prediction"], "case {number}: {}", line["example_id"]);
            assert_eq!(line["references"], json!([example["ref"]]));
            let (found, expected) = (line["score"].as_f64().expect("score"), example["score"].as_f64().expect("score"));
            // Published scores are those of double precision, in which `golden_generation` compares this model.
            assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "case {number}: {found} instead of {expected}");
        }
        for (name, published) in
            [("published_rouge1", "rouge-1"), ("published_rouge2", "rouge-2"), ("published_rouge_l", "rouge-l")]
        {
            let (found, expected) =
                (evaluated[name].as_f64().expect(name), case["rouge"][published].as_f64().expect(published));
            assert!((found - expected).abs() < 1e-9, "case {number}: {name} {found} instead of {expected}");
        }
    }
}
