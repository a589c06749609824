//! `glm-trainer score` computes the same scores for hand-written questions as `eval` for a data set.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use glm_tests::{command, fixtures, ingest, json_lines, run};
use serde_json::{Value, json};

fn trainer(name: &str) -> Command {
    let mut command = command("glm-trainer");
    command.args([name, "--device", "cpu", "--set", "model.heads=2", "--init"]);
    command.arg(fixtures().join("golden/model/full-vocab/blocklm-tiny"));
    command
}

/// Returns the scores of a line, in the order of choices sorted by text.
fn scores_of(line: &Value) -> Vec<f64> {
    let choices = line["choices"].as_array().expect("choices");
    assert!(choices.is_sorted_by_key(|choice| choice["choice_index"].as_u64()), "{line}");
    let mut by_text: Vec<_> = choices
        .iter()
        .map(|choice| (choice["text"].as_str().expect("text"), choice["score"].as_f64().expect("number")))
        .collect();
    by_text.sort_by_key(|&(text, _)| text);
    by_text.into_iter().map(|(_, score)| score).collect()
}

/// Returns the scores of `eval`, one value per question, in stored order.
fn evaluated(data: &Path) -> Vec<Value> {
    let file = data.join("eval.jsonl");
    run(trainer("eval").arg("--data").arg(data).arg("--scores").arg(&file)).success();
    json_lines(&file)
}

/// Returns the scores of a ranking, in the order of choices sorted by text.
fn ranked(line: &Value) -> Vec<f64> {
    let choices = line["choices"].as_array().expect("choices");
    let number = |choice: &Value, key: &str| choice[key].as_f64().expect("number");
    let probabilities: f64 = choices.iter().map(|choice| number(choice, "probability")).sum();
    assert!((probabilities - 1.0).abs() < 1e-9, "{line}");
    let best = choices.iter().map(|choice| number(choice, "score")).reduce(f64::max);
    let predicted = choices.iter().find(|choice| choice["choice_index"] == line["predicted"]).expect("the best choice");
    assert_eq!((Some(number(predicted, "score")), &predicted["text"]), (best, &line["predicted_text"]), "{line}");
    scores_of(line)
}

fn assert_equal(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 1e-6 * theirs.abs(), "{ours} and {theirs}");
    }
}

#[test]
fn record_questions_have_the_scores_of_eval_even_with_truncated_passages() {
    let folder = tempfile::tempdir().expect("folder");
    let passages = fixtures().join("golden/cloze/passages.jsonl");
    ingest(folder.path(), &passages, &["val"]);
    let mut questions = String::new();
    let mut names = Vec::new();
    for record in json_lines(&passages) {
        let passage = record["passage"]["text"].as_str().expect("text");
        let letters: Vec<char> = passage.chars().collect();
        let entity = |entity: &Value| -> String {
            let [start, end] = ["start", "end"].map(|key| entity[key].as_u64().expect("a place") as usize);
            letters[start..=end].iter().collect()
        };
        let choices: Vec<_> = record["passage"]["entities"].as_array().expect("entities").iter().map(entity).collect();
        for question in record["qas"].as_array().expect("questions") {
            names.push(format!("dev-p{}-q{}", record["idx"], question["idx"]));
            questions += &format!("{}\n", json!({"passage": passage, "query": question["query"], "choices": choices}));
        }
    }
    let file = folder.path().join("questions.jsonl");
    std::fs::write(&file, &questions).expect("write");
    let rankings = run(trainer("score").arg("--json").arg(&file)).success().stdout();
    let rankings: Vec<Value> = rankings.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert_eq!(rankings.len(), names.len());
    let evaluated = evaluated(folder.path());
    let mut cut = 0;
    for (name, ranking) in names.iter().zip(&rankings) {
        let expected = evaluated.iter().find(|line| line["example_id"] == **name).unwrap_or_else(|| panic!("no {name}"));
        assert_equal(&ranked(ranking), &scores_of(expected));
        cut += usize::from(ranking["read_tokens"].as_u64() < ranking["passage_tokens"].as_u64());
    }
    assert!(cut > 0, "no passage was truncated");
}

#[test]
fn plain_questions_from_standard_input_and_arguments_have_the_scores_of_eval() {
    let folder = tempfile::tempdir().expect("folder");
    let question = json!({
        "context": "Leo’s kite flew. It got stuck in the [BLANK]! Leo, said Eva, climbs.",
        "choices": ["tree", "pond", "Eva", "tree"],
        "answer": 0,
        "id": "kite",
    });
    std::fs::write(folder.path().join("val.jsonl"), format!("{question}\n")).expect("write");
    run(command("glm-prep").arg("ingest").arg(folder.path())).success();
    let evaluated = &evaluated(folder.path())[0];
    let expected = scores_of(evaluated);

    let mut child = trainer("score").arg("--json").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start");
    let typed = serde_json::to_string_pretty(&question).expect("json");
    child.stdin.take().expect("stdin").write_all(typed.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("end");
    assert!(output.status.success());
    let ranking: Value = serde_json::from_slice(&output.stdout).expect("one line");
    assert_equal(&ranked(&ranking), &expected);
    assert_eq!((&ranking["id"], &evaluated["source_id"]), (&json!("kite"), &json!("kite")));
    // The order is that of the question; what is given twice has its first index.
    for line in [&ranking, evaluated] {
        let choices = line["choices"].as_array().expect("choices").iter();
        let choices: Vec<_> = choices.map(|choice| (choice["text"].as_str(), choice["choice_index"].as_u64())).collect();
        assert_eq!(choices, [(Some("tree"), Some(0)), (Some("pond"), Some(1)), (Some("Eva"), Some(2))]);
    }
    assert_eq!((&ranking["predicted"], &ranking["predicted_text"]), (&evaluated["predicted"], &evaluated["predicted_text"]));

    let mut by_arguments = trainer("score");
    by_arguments.args(["--passage", "Leo's kite flew. Leo, said Eva, climbs.", "--query", "It got stuck in the @placeholder!"]);
    by_arguments.args(["--choice", "pond", "--choice", "tree", "--choice", "Eva"]);
    let text = run(&mut by_arguments).success().stdout();
    let best = ranking["predicted_text"].as_str().expect("text");
    assert!(text.starts_with(&format!("It got stuck in the [{best}]!\n")), "{text}");
    assert!(!text.contains('\x1b') && text.lines().count() == 6, "{text}");
    let coloured = run(by_arguments.args(["--color", "always"])).success().stdout();
    assert!(coloured.contains(&format!("\x1b[1;32m{best}\x1b[0m")), "{coloured}");
}

#[test]
fn invalid_questions_are_reported_with_their_line() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("questions.jsonl");
    let long = "word ".repeat(600);
    for (content, text) in [
        (
            "{\"query\": \"[BLANK]\", \"choices\": [\"a\"]}\n{\"query\": 1}\n".to_owned(),
            "questions.jsonl, line 2: `query` is not a string",
        ),
        ("\n\n{\"query\" \"[BLANK]\"}\n".to_owned(), "questions.jsonl, line 3, column 10: invalid JSON: expected `:`"),
        (
            json!({"query": format!("[BLANK] {long}"), "choices": ["a"]}).to_string(),
            "line 1: the query and its longest choice need 605 tokens, but the weights have 513 positions, enough for 512; \
             shorten the query and its choices, or use weights with more positions\n",
        ),
    ] {
        std::fs::write(&file, content).expect("write");
        let refused = run(trainer("score").arg(&file));
        assert_eq!(refused.code(), Some(1));
        assert_eq!(refused.stderr().matches(text).count(), 1, "{}", refused.stderr());
    }
    // The remedy works.
    let question = json!({"query": format!("[BLANK] {}", "word ".repeat(200)), "choices": ["a"]});
    std::fs::write(&file, question.to_string()).expect("write");
    let short = run(trainer("score").args(["--set", "data.max_seq_len=100"]).arg(&file));
    assert!(short.stderr().contains("data.max_seq_len is 100; use --set data.max_seq_len=512\n"), "{}", short.stderr());
    run(trainer("score").args(["--set", "data.max_seq_len=512"]).arg(&file)).success();
    let missing = run(trainer("score").arg(folder.path().join("nothing")));
    assert!(missing.stderr().contains("cannot read ") && missing.code() == Some(1), "{}", missing.stderr());
    assert_eq!(run(trainer("score").args(["--query", "[BLANK]"])).code(), Some(2));
}
