//! Tasks from tables to answers: TSV as GLUE publishes it, CSV of one's own, and choices that are scored without training.

#[path = "support/moods.rs"]
mod moods;

use std::io::Read;
use std::path::{Path, PathBuf};

use glm_tests::{command, fixtures, json_lines, run};
use moods::{MOODS, assert_answers, mood, predict, sentence, trained};
use serde_json::{Value, json};

fn ingest(data: &Path, arguments: &[&str]) {
    run(command("glm-prep").args(["ingest", "--quiet"]).arg(data).args(arguments)).success();
}

#[test]
fn a_task_of_glue_goes_from_its_tables_to_a_submission() {
    let folder = tempfile::tempdir().expect("folder");
    let data: PathBuf = folder.path().join("CoLA");
    std::fs::create_dir(&data).expect("folder");
    let labelled = |count: usize| (0..count).map(|i| format!("x\t{}\t\t{}\n", mood(i), sentence(i))).collect::<String>();
    let test: String = (0..5).map(|i| format!("{}\t{}\n", i + 10, sentence(i))).collect();
    std::fs::write(data.join("train.tsv"), labelled(24)).expect("write");
    std::fs::write(data.join("dev.tsv"), labelled(12)).expect("write");
    std::fs::write(data.join("test.tsv"), format!("index\tsentence\n{test}")).expect("write");
    ingest(&data, &["--task", "glue/cola"]);
    let out = folder.path().join("run");
    let eval = trained(&data, &out);
    assert_eq!((&eval["questions"], eval["majority"].as_f64()), (&json!(12), Some(0.5)));
    let accuracy = eval["accuracy"].as_f64().expect("a number");
    let matthews = eval["matthews"].as_f64().expect("a number");
    // Of two labels that are equally frequent, the correlation is 0 if always the same one is predicted.
    assert!(matthews.abs() <= 1.0 && (accuracy != 0.5 || matthews == 0.0), "{eval}");

    let table = folder.path().join("CoLA.tsv");
    predict(&out, &data, &table, &[]);
    let table = std::fs::read_to_string(table).expect("table");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("index\tprediction"));
    let lines = folder.path().join("answers.jsonl");
    predict(&out, &data, &lines, &["--format", "plain"]);
    let answers = json_lines(&lines);
    assert_eq!(answers.len(), 5);
    let expected: String = answers.iter().enumerate().map(|(i, answer)| format!("{}\t{}\n", i + 10, answer["label"])).collect();
    assert_eq!(table, format!("index\tprediction\n{expected}"));

    let archive = folder.path().join("all.zip");
    run(command("glm-trainer").args(["predict", "--device", "cpu", "--out"]).arg(&archive).arg("--all").arg(&out)).success();
    let mut archive = zip::ZipArchive::new(std::fs::File::open(&archive).expect("archive")).expect("zip");
    let mut content = String::new();
    archive.by_name("CoLA.tsv").expect("the file").read_to_string(&mut content).expect("text");
    assert_eq!(content, table);
}

#[test]
fn a_table_of_ones_own_goes_to_answers() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path().join("moods");
    std::fs::create_dir(&data).expect("folder");
    let pattern = folder.path().join("mood.toml");
    let text = r#"
        metrics = ["accuracy"]

        [label]
        field = "mood"
        names = ["unhappy", "happy"]

        [[patterns]]
        context = "{body*} In short, it was {blank}."
        words = ["bad", "good"]
    "#;
    std::fs::write(&pattern, text).expect("write");
    let quoted = |i: usize| sentence(i).replace('"', "\"\"");
    let rows = |count: usize| (0..count).map(|i| format!("{},\"{}\",r{i}\r\n", MOODS[mood(i)], quoted(i))).collect::<String>();
    for (file, count) in [("train.csv", 24), ("valid.csv", 12)] {
        std::fs::write(data.join(file), format!("mood,body,id\r\n{}", rows(count))).expect("write");
    }
    let test: String = (0..6).map(|i| format!("r{i},\"{}\"\n", quoted(i))).collect();
    std::fs::write(data.join("test.csv"), format!("id,body\n{test}")).expect("write");
    ingest(&data, &["--pattern", pattern.to_str().expect("a path")]);
    let out = folder.path().join("run");
    assert_eq!(trained(&data, &out)["questions"], 12);
    let lines = folder.path().join("answers.jsonl");
    predict(&out, &data, &lines, &[]);
    assert_answers(&lines);
}

#[test]
fn choices_are_scored_without_an_end_and_without_training() {
    let folder = tempfile::tempdir().expect("folder");
    let questions = folder.path().join("questions.jsonl");
    // Long texts are cut at their beginning, in front of the blank.
    let long = format!("{}The [MASK] barked.", "Ada keeps a dog and a cat. ".repeat(60));
    let texts = ["The dog barked all [MASK].", "Who barked?", &long];
    let line = |text: &&str| {
        json!({"inputs_pretokenized": text, "choices_pretokenized": ["dog", "dog house", "cat"], "label": 0}).to_string()
    };
    std::fs::write(&questions, texts.iter().map(line).collect::<Vec<_>>().join("\n")).expect("write");
    let data = folder.path().join("data");
    ingest(&data, &["--task", "multichoice", "--val", questions.to_str().expect("a path"), "--max-seq-len", "64"]);
    let scores = folder.path().join("scores.jsonl");
    let mut eval = command("glm-trainer");
    eval.args(["eval", "--json", "--device", "cpu", "--set", "model.heads=2", "--set", "data.truncation=question"]);
    eval.args(["--set", "data.max_seq_len=64", "--init"]).arg(fixtures().join("golden/model/full-vocab/blocklm-tiny"));
    let result = run(eval.arg("--data").arg(&data).arg("--scores").arg(&scores)).success();
    let result: Value = serde_json::from_str(&result.stdout()).expect("json");
    assert_eq!(result["questions"], 3);
    let lines = json_lines(&scores);
    assert_eq!(lines.len(), 3);
    for line in lines {
        let score = |text: &str| {
            let choices = line["choices"].as_array().expect("choices");
            choices.iter().find(|choice| choice["text"] == text).and_then(|choice| choice["score"].as_f64()).expect("a score")
        };
        // Without an end of piece, a text is at least as probable as a longer one that begins with it.
        assert!(score("dog") > score("dog house"), "{line}");
        let best = score("dog").max(score("cat"));
        assert!((score(line["predicted_text"].as_str().expect("a text")) - best).abs() < 1e-9, "{line}");
    }
    let row =
        run(command("glm-prep").args(["inspect", "--model-input", "--rows", "3", "--max-seq-len", "64"]).arg(&data)).success();
    let last: Value = serde_json::from_str(row.stdout().lines().last().expect("a line")).expect("json");
    let ids: Vec<_> = last["ids"].as_array().expect("ids").iter().filter_map(Value::as_i64).collect();
    assert!(ids.len() <= 64 && ids.contains(&103), "{last}");
}
