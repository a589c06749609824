//! `glm-prep inspect` with `--where`, `--sample` and `--id`.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Output};

use glm_inspect::run;
use glm_prep::ingest::IngestOptions;
use glm_prep::inspect::InspectArgs;
use glm_schemas::manifest::Split;
use glm_support::command::paint::ColourWhen;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A passage with nested and overlapping mentions: `Bank of England`, `England`, `England in Ōsaka`.
fn record(number: usize) -> Value {
    let text = format!("Zoé Müller left the Bank of England in Ōsaka.\n@highlight\nNo. {number} \u{1b}[31m is Zoé");
    let span = |name: &str| {
        let at = text.find(name).expect("a name");
        let start = text[..at].chars().count();
        json!({"start": start, "end": start + name.chars().count() - 1})
    };
    let names = ["Bank of England", "England", "England in Ōsaka", "Zoé Müller", "Ōsaka"];
    let answer = |name: &str| {
        let mut answer = span(name);
        answer["text"] = json!(name);
        answer
    };
    json!({
        "source": if number.is_multiple_of(3) { "third" } else { "other" },
        "passage": {"text": text, "entities": names.map(span)},
        "qas": [{"query": "In Ōsaka, @placeholder was left by Zoé Müller.", "answers": [answer("England")], "idx": number + 100}],
        "idx": number,
    })
}

fn raw(numbers: std::ops::Range<usize>) -> Vec<u8> {
    numbers.map(|number| format!("{}\n", record(number))).collect::<String>().into_bytes()
}

/// Creates a data set of thirty train questions in shards of seven and three val questions.
fn data_set(tokenizer: Option<&Path>) -> TempDir {
    let dir = support::raw_folder(&[(Split::Train, &raw(0..30)), (Split::Val, &raw(30..33))]);
    let options = IngestOptions {
        rows_per_shard: NonZeroUsize::new(7).expect("some"),
        tokenizer: tokenizer.map(Path::to_owned),
        ..IngestOptions::new(dir.path())
    };
    support::run(&options).expect("ingest");
    dir
}

fn args(path: &Path) -> InspectArgs {
    InspectArgs { color: ColourWhen::Never, ..InspectArgs::new(path) }
}

fn printed(args: &InspectArgs) -> String {
    let mut out = Vec::new();
    run(args, false, &mut out).expect("inspect");
    String::from_utf8(out).expect("text")
}

fn message(args: &InspectArgs) -> String {
    let message = run(args, false, &mut Vec::new()).expect_err("an error").to_string();
    assert!(!message.contains('\n'), "one sentence: {message}");
    message
}

/// Question ids printed by `--json`.
fn ids(args: &InspectArgs) -> Vec<i64> {
    let printed = printed(&InspectArgs { json: true, ..args.clone() });
    let number = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["question_id"].as_i64().expect("a number");
    printed.lines().map(number).collect()
}

fn where_(path: &Path, condition: &str) -> InspectArgs {
    InspectArgs { condition: Some(condition.to_owned()), ..args(path) }
}

#[test]
fn a_condition_selects_questions() {
    let dir = data_set(None);
    let path = dir.path();
    let all = |condition| ids(&InspectArgs { rows: Some(99), ..where_(path, condition) });
    assert_eq!(all("question_id >= 128"), [128, 129, 130, 131, 132]);
    assert_eq!(all("question_id >= 128 and split = 'val'"), [130, 131, 132]);
    assert_eq!(all("source = 'third' and passage_id % 2 = 1").len(), 5);
    assert_eq!(all("query like '%placeholder%'").len(), 33);
    assert_eq!(all("question_id < 0"), [0_i64; 0]);
    // The first ones, across shards.
    assert_eq!(ids(&where_(path, "source = 'third'")).len(), 5);
    let three = InspectArgs { rows: Some(3), ..where_(path, "question_id % 10 = 5") };
    assert_eq!(ids(&three), [105, 115, 125]);
    assert_eq!(ids(&InspectArgs { split: Some(Split::Val), ..where_(path, "question_id <> 131") }), [130, 132]);

    let text = printed(&where_(path, "source = 'third' or split = 'val'"));
    assert!(text.contains(", questions where source = 'third' or split = 'val'"), "{text}");
    assert!(text.contains("train        10 questions") && text.contains("val           3 questions"), "{text}");
    assert_eq!(text.matches("  query    In").count(), 5, "{text}");
    assert!(printed(&where_(path, "false")).contains("questions where false\n  none\n"));
}

#[test]
fn the_error_of_a_condition_is_one_sentence() {
    let dir = data_set(None);
    for (condition, expected) in [
        ("nothing > 3", "nothing"),
        ("num_choices >", ""),
        ("", ""),
        ("num_choices > 3; drop table shards", ""),
        ("num_choices > 3 order by 1", ""),
        ("source > 3 and", ""),
    ] {
        let message = message(&where_(dir.path(), condition));
        assert!(message.starts_with("the condition is invalid: ") && message.contains(expected), "{condition}: {message}");
    }
    let number = message(&where_(dir.path(), "num_choices + 1"));
    assert!(number.starts_with("`num_choices + 1` is not a condition; "), "{number}");
}

#[test]
fn a_sample_is_random_and_depends_on_its_seed() {
    let dir = data_set(None);
    let sample = |rows, seed| InspectArgs { sample: Some(rows), seed, ..args(dir.path()) };
    let drawn = ids(&sample(6, 1));
    assert_eq!(drawn.len(), 6);
    assert_eq!(drawn, ids(&sample(6, 1)));
    assert_ne!(drawn, ids(&sample(6, 2)));
    assert_eq!(printed(&sample(6, 1)).matches("  query    In").count(), 6);
    // More rows than exist: all of them, in published order.
    assert_eq!(ids(&sample(1000, 3)), ids(&InspectArgs { rows: Some(1000), ..args(dir.path()) }));
    assert_eq!(ids(&sample(0, 3)), [0_i64; 0]);
    // With a condition and a split.
    let third = |seed| InspectArgs { condition: Some("source = 'third'".into()), ..sample(4, seed) };
    let of_third = ids(&third(5));
    assert!(of_third.len() == 4 && of_third.iter().all(|id| (id - 100) % 3 == 0), "{of_third:?}");
    assert_eq!(of_third, ids(&third(5)));
    let mut seen: Vec<_> = (0..40).flat_map(|seed| ids(&InspectArgs { split: Some(Split::Val), ..sample(1, seed) })).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [130, 131, 132], "every question of the split can be drawn, and no others");
    // Sampled rows are complete.
    let sampled = printed(&InspectArgs { json: true, ..sample(2, 9) });
    for line in sampled.lines() {
        assert!(printed(&InspectArgs { json: true, rows: Some(99), ..args(dir.path()) }).lines().any(|other| other == line));
    }
}

fn id_of(dir: &Path, question: i64) -> String {
    let line = printed(&InspectArgs { json: true, ..where_(dir, &format!("question_id = {question}")) });
    serde_json::from_str::<Value>(&line).expect("a question")["example_id"].as_str().expect("text").to_owned()
}

#[test]
fn one_question_in_full() {
    let dir = data_set(None);
    let id = id_of(dir.path(), 104);
    let text = printed(&InspectArgs { id: Some(id.clone()), ..args(dir.path()) });
    assert!(text.starts_with(&format!("train {id}\n  source other, passage 4, question 104, ")), "{text}");
    assert!(text.contains("\n  record ReCoRD/train.jsonl, line 5"), "{text}");
    // Nested and overlapping mentions, the correct one with a star; control characters are replaced.
    assert!(text.contains("[3:Zoé Müller] left the [0:Bank of [2:[*1:England]:0] in [4:Ōsaka]].\n"), "{text}");
    assert!(text.contains("No. 4 \u{fffd}[31m is Zoé") && !text.contains('\u{1b}'), "{text}");
    assert!(text.contains("\nquery\n  In [Ōsaka], [@placeholder] was left by [Zoé Müller].\n"), "{text}");
    assert!(text.contains("\n    1   Bank of England   2924 bank  1997 of  2563 england\n"), "{text}");
    assert!(text.contains("\n    0 * England           2563 england\n"), "{text}");
    let tokens: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("tokens of the passage")).collect();
    assert_eq!(tokens[1], "  index      id  token           mention");
    assert!(tokens[2].starts_with("      0   11199  zoe             3 Zoé Müller"), "{text}");
    assert!(text.contains("   2563  england         0 Bank of England, *1 England, 2 England in Ō"), "{text}");
    assert!(text.contains("    103  [MASK]          the blank\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    let line = printed(&InspectArgs { id: Some(id.clone()), json: true, ..args(dir.path()) });
    assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON")["example_id"], json!(id));

    // A single shard has the checksum of its vocabulary in its metadata.
    let manifest = support::manifest(dir.path());
    let shard = manifest.splits[&Split::Train].shards[0].path(&dir.path().join("shards"));
    let alone = dir.path().join("alone.parquet");
    fs::copy(shard, &alone).expect("copy");
    let first = printed(&InspectArgs { json: true, rows: Some(1), ..args(&alone) });
    let first = serde_json::from_str::<Value>(&first).expect("JSON")["example_id"].as_str().expect("text").to_owned();
    let page = printed(&InspectArgs { id: Some(first), ..args(&alone) });
    assert!(page.contains("  token           mention") && page.contains("zoe"), "{page}");
}

#[test]
fn colour_replaces_brackets() {
    let dir = data_set(None);
    let id = Some(id_of(dir.path(), 104));
    let text = printed(&InspectArgs { id, color: ColourWhen::Always, ..args(dir.path()) });
    assert!(text.contains("\x1b[36mZoé Müller\x1b[0m left the \x1b[36mBank of \x1b[0m\x1b[1;4;32mEngland\x1b[0m"), "{text:?}");
    assert!(text.contains("\x1b[1;7m@placeholder\x1b[0m"), "{text:?}");
    assert!(text.contains(" * \x1b[1;32mEngland\x1b[0m"), "{text:?}");
    assert!(!text.contains("[0:"), "{text}");
}

#[test]
fn similar_ids_are_suggested_for_an_unknown_one() {
    let dir = data_set(None);
    let id = id_of(dir.path(), 104);
    let unknown = |id: &str| message(&InspectArgs { id: Some(id.to_owned()), ..args(dir.path()) });
    let close = unknown(&format!("{id}4"));
    assert!(close.contains(&format!("has no question {id}4; the closest are {id}")), "{close}");
    let far = unknown("something else altogether");
    assert!(far.ends_with("--sql \"select example_id from shards\"` lists all ids"), "{far}");
}

#[test]
fn another_vocabulary_must_be_specified() {
    let folder = tempfile::tempdir().expect("folder");
    let vocabulary = folder.path().join("vocab.txt");
    fs::write(&vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nzoe\nengland\nbank\nof\n").expect("write");
    let dir = data_set(Some(&vocabulary));
    let base = InspectArgs { id: Some(id_of(dir.path(), 104)), ..args(dir.path()) };

    let text = printed(&base);
    assert!(text.contains(") is not the built-in") && text.contains("--tokenizer PATH"), "{text}");
    assert!(text.contains("  index      id  mention\n      0       5  3 Zoé Müller\n"), "{text}");
    assert!(text.contains("    1   Bank of England   7  8  6\n"), "{text}");

    let text = printed(&InspectArgs { tokenizer: Some(vocabulary.clone()), ..base.clone() });
    assert!(text.contains("      0       5  zoe             3 Zoé Müller\n"), "{text}");
    assert!(text.contains("[UNK]") && !text.contains("built-in"), "{text}");

    fs::write(&vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nengland\n").expect("write");
    let other = message(&InspectArgs { tokenizer: Some(vocabulary), ..base.clone() });
    assert!(other.contains("was made with another vocabulary (sha256 "), "{other}");
    let gone = message(&InspectArgs { tokenizer: Some("/no/such/vocab.txt".into()), ..base });
    assert!(
        gone.starts_with(
            "there is no file /no/such/vocab.txt; a tokenizer is bert-large-uncased, gpt2, or the path of a vocab.txt"
        ),
        "{gone}"
    );
}

fn inspect(dir: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glm-prep-inspect"));
    command.arg("inspect").arg(dir).args(more).env_remove("NO_COLOR").output().expect("run")
}

#[test]
fn the_program_rejects_conflicting_options() {
    let dir = data_set(None);
    let id = id_of(dir.path(), 104);
    for wrong in [
        &["--where", "true", "--sql", "select 1"][..],
        &["--where", "true", "--model-input"],
        &["--sample", "1", "--rows", "1"],
        &["--seed", "1"],
        &["--id", "x", "--rows", "1"],
        &["--tokenizer", "x"],
        &["--id", "x", "--color", "blue"],
        &["--rows", "many"],
        &["--format", "xml"],
        &["--format", "csv", "--json"],
        &["--format", "csv", "--model-input"],
        &["--schema", "--rows", "1"],
    ] {
        assert_eq!(inspect(dir.path(), wrong).status.code(), Some(2), "{wrong:?}");
    }
    // Not a terminal: no colour by default.
    let plain = inspect(dir.path(), &["--id", &id]);
    assert!(plain.status.success() && !plain.stdout.contains(&0x1b), "{plain:?}");
    let colour = inspect(dir.path(), &["--id", &id, "--color", "always"]);
    assert!(colour.status.success() && colour.stdout.contains(&0x1b), "{colour:?}");
    let some =
        inspect(dir.path(), &["--where", "num_choices > 3", "--sample", "2", "--seed", "4", "--split", "train", "--json"]);
    assert_eq!(String::from_utf8(some.stdout).expect("text").lines().count(), 2);
    let all = inspect(dir.path(), &["--rows", "all", "--format", "csv", "--split", "val"]);
    assert_eq!(String::from_utf8(all.stdout).expect("text").matches("@placeholder").count(), 3);
    let quiet = inspect(dir.path(), &["--quiet", "--rows", "1"]);
    assert!(String::from_utf8(quiet.stdout).expect("text").starts_with("train "));
    let unknown = inspect(dir.path(), &["--id", "x"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8(unknown.stderr).expect("text").starts_with("error: "));
}
