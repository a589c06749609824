//! The JSON output of the commands has the keys that `docs/ingest.md` lists, with one meaning each.

mod support;

use std::path::Path;
use std::process::Command;

use glm_schemas::manifest::Split;
use serde_json::Value;

const COMMANDS: [&str; 4] = ["ingest", "merge", "verify", "stats"];

fn json(command: &str, dir: &Path, more: &[&str]) -> Value {
    let mut program = Command::new(env!("CARGO_BIN_EXE_glm-prep"));
    let output = program.arg(command).arg(dir).args(more).args(["--json", "--quiet"]).output().expect("run");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{command}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("one object")
}

/// Sentence between the keys of questions and those of documents.
const DOCUMENTS: &str = "For documents, these keys";

/// The keys of the page for questions, or for documents, and the commands that print them.
fn documented(is_text: bool) -> Vec<(String, Vec<String>)> {
    let page = std::fs::read_to_string(support::repository().join("docs/ingest.md")).expect("the page");
    let (_, section) = page.split_once("## JSON output").expect("the section");
    let (of_questions, of_documents) = section.split_once(DOCUMENTS).expect("the keys of documents");
    let section = if is_text { of_documents } else { of_questions };
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let pairs = rows.flat_map(|line| {
        let cells: Vec<&str> = line.split('|').collect();
        let commands = if cells[2].trim() == "all" { COMMANDS.map(str::to_owned).to_vec() } else { quoted(cells[2]) };
        quoted(cells[1]).into_iter().map(move |key| (key, commands.clone())).collect::<Vec<_>>()
    });
    pairs.collect()
}

#[test]
fn documented_keys_are_printed() {
    let passages = std::fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let dir = support::raw_folder(&[(Split::Train, &[passages.as_slice(), b"bad\n"].concat()), (Split::Val, &passages)]);
    let outputs = COMMANDS.map(|command| {
        if command == "merge" {
            json("ingest", dir.path(), &["--partition", "0/1"]);
        }
        (command, json(command, dir.path(), &[]))
    });
    let keys = documented(false);
    assert!(keys.len() > 20, "{keys:?}");
    for (command, output) in &outputs {
        let splits = output["splits"].as_array().expect("a list");
        assert_eq!(splits.iter().map(|split| split["split"].as_str()).collect::<Vec<_>>(), [Some("train"), Some("val")]);
        for (key, commands) in &keys {
            let found = match key.strip_prefix("splits[].") {
                Some(key) => splits.iter().all(|split| split.get(key).is_some()),
                None => output.get(key.trim_end_matches("[]")).is_some(),
            };
            assert_eq!(found, commands.iter().any(|listed| listed == command), "{command}: {key}");
        }
        assert!(!output.to_string().contains("\"rows\""), "{command}: {output}");
    }
    // The same key has the same value.
    for key in ["shards", "fingerprint"] {
        assert!(outputs.iter().all(|(_, output)| output[key] == outputs[0].1[key]), "{key}");
    }
    for key in ["questions", "choices", "tokens", "shards"] {
        let of = |output: &Value| {
            output["splits"].as_array().map(|splits| splits.iter().map(|split| split[key].clone()).collect::<Vec<_>>())
        };
        assert_eq!((of(&outputs[1].1), of(&outputs[2].1)), (of(&outputs[0].1), of(&outputs[0].1)), "{key}");
    }
}

#[test]
fn documented_keys_of_documents_are_printed() {
    let dir = tempfile::tempdir().expect("folder");
    for split in ["train", "val"] {
        std::fs::write(dir.path().join(format!("{split}.jsonl")), format!("{{\"text\": \"A {split}.\"}}\n")).expect("write");
    }
    let (others, keys) = (documented(false), documented(true));
    assert_eq!(keys.len(), 8, "{keys:?}");
    for command in COMMANDS {
        let more: &[&str] = if command == "ingest" { &["--task", "text"] } else { &[] };
        if command == "merge" {
            json("ingest", dir.path(), &["--task", "text", "--partition", "0/1"]);
        }
        let output = json(command, dir.path(), more);
        let has = |key: &str| match key.strip_prefix("splits[].") {
            Some(key) => output["splits"].as_array().expect("a list").iter().all(|split| split.get(key).is_some()),
            None => output.get(key.trim_end_matches("[]")).is_some(),
        };
        for (key, commands) in &keys {
            assert_eq!(has(key), commands.iter().any(|listed| listed == command), "{command}: {key}");
        }
        let of_questions = ["question", "choice", "mention", "context"];
        for (key, commands) in &others {
            let is_printed =
                commands.iter().any(|listed| listed == command) && !of_questions.iter().any(|word| key.contains(word));
            assert_eq!(has(key), is_printed, "{command}: {key}");
        }
    }
}
