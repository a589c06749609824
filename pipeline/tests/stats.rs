//! `glm-prep stats` on a small data set with known counts.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use glm_prep::shard::{ShardCompression, ShardWriter, file_name};
use glm_prep::stats::{Bar, Extent, Share, Shared, Source, Stats, Truncation, count};
use glm_schemas::SCHEMA_VERSION;
use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
use glm_schemas::cloze::encoding::Question;
use glm_schemas::manifest::{Manifest, Split, SplitManifest, TaskName, Tokenizer};
use glm_schemas::origin::Origin;
use glm_schemas::vocab::SpecialIds;
use tempfile::TempDir;

/// `[UNK]`.
const UNK: i32 = 100;

/// One question.
struct Row {
    passage_id: i64,
    question_id: i64,
    source: &'static str,
    passage: &'static str,
    passage_ids: Vec<i32>,
    /// Lengths of the choices in tokens.
    choices: Vec<usize>,
}

fn row(
    passage_id: i64,
    question_id: i64,
    source: &'static str,
    passage: &'static str,
    tokens: usize,
    choices: &[usize],
) -> Row {
    Row { passage_id, question_id, source, passage, passage_ids: vec![200; tokens], choices: choices.to_vec() }
}

/// Writes a data set. Every query has two tokens before and one after the blank: a context has 3 + 3 more tokens than its
/// passage.
fn write_set(shards: &[(Split, Vec<Vec<Row>>)]) -> TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let folder = dir.path().join("shards");
    let data = folder.join("data");
    fs::create_dir_all(&data).expect("folder");
    let tokenizer = Tokenizer { name: "t".into(), sha256: "ab".repeat(32), vocab_size: 30524 };
    let mut splits = BTreeMap::new();
    for (split, parts) in shards {
        let content: &mut SplitManifest = splits.entry(*split).or_default();
        for (index, rows) in parts.iter().enumerate() {
            let name = file_name(*split, index, parts.len());
            let mut writer =
                ShardWriter::<ClozeBatchBuilder>::create(&data, name, &tokenizer, ShardCompression::default()).expect("create");
            for row in rows {
                let ids: Vec<_> = row.choices.iter().map(|&length| vec![300; length]).collect();
                let choices: Vec<_> = ids
                    .iter()
                    .enumerate()
                    .map(|(i, ids)| ChoiceRow { text: "x", ids, correct: i == 0, index: i, name: None })
                    .collect();
                let row = ClozeRow {
                    example_id: &format!("{split}-p{}-q{}", row.passage_id, row.question_id),
                    origin: Origin { split: *split, ..Origin::NONE },
                    passage_id: row.passage_id,
                    question_id: row.question_id,
                    group_id: None,
                    idx: None,
                    source: row.source,
                    passage: row.passage,
                    query: "a b @placeholder c",
                    tokens: &Question::about(&row.passage_ids, &[200, UNK], &[200]),
                    entities: &[],
                    choices: &choices,
                    labelled: *split != Split::Test,
                    label_name: None,
                    end_of_piece: true,
                };
                writer.append(&row).expect("append");
            }
            content.rows += rows.len();
            content.shards.push(writer.finish().expect("finish"));
        }
    }
    let mut manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        task: TaskName::Cloze,
        tool: "glm-prep test".into(),
        fingerprint: String::new(),
        tokenizer,
        special_ids: SpecialIds::BERT_UNCASED,
        blank: "@placeholder".into(),
        cloze: None,
        splits,
        raw_files: vec![],
        rejects: None,
        settings: support::settings(),
    };
    manifest.fingerprint = manifest.compute_fingerprint();
    fs::write(folder.join("manifest.json"), manifest.to_json().expect("json")).expect("write");
    dir
}

/// Train: four questions about three passages, two of them with the same text; val: three questions, two about a passage of
/// train.
fn data_set() -> TempDir {
    let mut unknown = row(3, 5, "b", "Snow fell.", 10, &[2, 4]);
    unknown.passage_ids[4] = UNK;
    unknown.passage_ids[9] = UNK;
    let train = vec![
        vec![row(1, 1, "a", "It rained.", 4, &[1, 1]), row(1, 2, "a", "It rained.", 4, &[1, 3])],
        vec![unknown, row(7, 9, "a", "It rained.", 4, &[1, 1, 2])],
    ];
    let val = vec![vec![
        row(1, 1, "c", "A new day.", 6, &[1]),
        row(2, 2, "c", "Snow fell.", 10, &[1]),
        row(2, 3, "c", "Snow fell.", 10, &[5]),
    ]];
    write_set(&[(Split::Train, train), (Split::Val, val)])
}

fn stats(dir: &TempDir, max_seq_len: usize) -> Stats {
    let extent = Extent { max_seq_len: Some(max_seq_len), max_target_len: 160, other_lengths: &[], max_sources: 10 };
    count(dir.path(), &extent).expect("counted")
}

fn glm_prep(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glm-prep")).arg("stats").arg(dir).args(more).output().expect("run")
}

#[test]
fn counts_are_correct() {
    let stats = stats(&data_set(), 512);
    assert_eq!(stats.splits.len(), 2);
    let train = &stats.splits[0];
    assert_eq!((train.split, train.questions, train.passages, train.distinct_passages), (Split::Train, 4, 3, 2));
    // 2, 2, 2, 3 choices.
    assert_eq!((train.choices.min, train.choices.p50, train.choices.p90, train.choices.max), (2, 2, 3, 3));
    assert!((train.choices.mean - 2.25).abs() < 1e-12);
    assert_eq!(train.choices.histogram, [Bar { from: 2, to: 2, count: 3 }, Bar { from: 3, to: 3, count: 1 }]);
    // Contexts of 10, 10, 16, 10 tokens.
    assert_eq!((train.context.count, train.context.min, train.context.p50, train.context.max), (4, 10, 10, 16));
    assert!((train.context.mean - 11.5).abs() < 1e-12);
    // Choices of 1 1, 1 3, 2 4 and 1 1 2 tokens.
    assert_eq!((train.choice.count, train.choice.min, train.choice.p50, train.choice.p90, train.choice.max), (9, 1, 1, 4, 4));
    assert!((train.choice.mean - 16.0 / 9.0).abs() < 1e-12);
    assert_eq!(train.truncation, Truncation::default());
    // Passages 4 + 4 + 10 + 4, queries 4 * 3, choices 16; [UNK] twice in a passage and once per query.
    assert_eq!(train.unknown, Share { count: 6, of: 50, share: 0.12 });
    let source = |name: &str, questions| Source { name: name.into(), questions };
    assert_eq!((train.sources.clone(), train.distinct_sources), (vec![source("a", 3), source("b", 1)], 2));
    let copy = Shared { passages: 1, questions: 1, example_ids: vec!["train-p7-q9".into()] };
    assert_eq!(train.duplicates, copy);

    let val = &stats.splits[1];
    assert_eq!((val.questions, val.passages, val.distinct_passages), (3, 2, 2));
    assert_eq!(val.duplicates, Shared::default());
    let both = Shared { passages: 1, questions: 2, example_ids: vec!["val-p2-q2".into()] };
    assert_eq!(stats.in_train_and_val, both);
}

#[test]
fn truncation_depends_on_the_longest_choice() {
    // Required lengths are context + longest choice + 1: train 12, 14, 21, 13; val 14, 18, 22.
    let truncation = |max_seq_len| {
        let stats = stats(&data_set(), max_seq_len);
        [stats.splits[0].truncation, stats.splits[1].truncation]
    };
    let cut = |questions, share, tokens_lost, do_not_fit| Truncation { questions, share, tokens_lost, do_not_fit };
    assert_eq!(truncation(22), [Truncation::default(); 2]);
    assert_eq!(truncation(21), [Truncation::default(), cut(1, 1.0 / 3.0, 1, 0)]);
    assert_eq!(truncation(13), [cut(2, 0.5, 1 + 8, 0), cut(3, 1.0, 1 + 5 + 9, 0)]);
    // Without their passages, the third questions of train and val need 11 and 12.
    assert_eq!(truncation(11), [cut(4, 1.0, 1 + 3 + 10 + 2, 0), cut(2, 2.0 / 3.0, 3 + 7, 1)]);
}

#[test]
fn truncation_is_that_of_the_data_set_unless_another_length_is_given() {
    let dir = data_set();
    let path = dir.path().join("shards/manifest.json");
    let mut manifest = Manifest::from_json(&fs::read_to_string(&path).expect("read")).expect("manifest");
    manifest.settings.max_seq_len = Some(21);
    manifest.fingerprint = manifest.compute_fingerprint();
    fs::write(&path, manifest.to_json().expect("json")).expect("write");
    let printed = |more: &[&str]| String::from_utf8(glm_prep(dir.path(), more).stdout).expect("text");
    assert!(printed(&[]).contains("  at 21 tokens 1 questions (33.33%) lose 1 passage tokens\n"), "{}", printed(&[]));
    assert!(printed(&["--max-seq-len", "22"]).contains("  at 22 tokens 0 questions"));
    let extent = Extent { max_seq_len: None, max_target_len: 160, other_lengths: &[22, 13], max_sources: 1 };
    let val = &count(dir.path(), &extent).expect("counted").splits[1];
    let questions = val.truncations.iter().map(|(length, truncation)| (*length, truncation.questions)).collect::<Vec<_>>();
    assert_eq!((val.truncation.questions, questions), (1, vec![(13, 3), (21, 1), (22, 0)]));
}

#[test]
fn ten_sources_and_five_examples_are_listed() {
    const NAMES: [&str; 12] = ["l", "k", "j", "i", "h", "g", "f", "e", "d", "c", "b", "a"];
    let rows = |split_offset: i64| {
        let rows: Vec<_> = NAMES.iter().zip(0..).map(|(name, i)| row(i, split_offset, name, name, 3, &[1])).collect();
        vec![rows]
    };
    let dir = write_set(&[(Split::Train, rows(0)), (Split::Val, rows(50)), (Split::Test, vec![])]);
    let stats = stats(&dir, 512);
    let names: Vec<_> = stats.splits[0].sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
    assert_eq!(stats.splits[0].distinct_sources, 12);
    assert_eq!((stats.in_train_and_val.passages, stats.in_train_and_val.example_ids.len()), (12, 5));
    assert_eq!((stats.splits[2].questions, stats.splits[2].context.count), (0, 0));
    let printed = String::from_utf8(glm_prep(dir.path(), &[]).stdout).expect("text");
    assert!(printed.contains("    and 2 more\n") && printed.contains("    and 7 more\n"), "{printed}");
}

#[test]
fn the_output_fits_80_columns() {
    let dir = data_set();
    let output = glm_prep(dir.path(), &["--max-seq-len", "13"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    for wanted in [
        "train: 4 questions about 3 passages\n",
        "  choices per question        2     2.25      2      3      3      3\n",
        "  context, in tokens         10    11.50     10     16     16     16\n",
        "              2          3 ########################################\n",
        "              3          1 ##############\n",
        "  at 13 tokens 2 questions (50.00%) lose 9 passage tokens\n",
        "  6 of 50 tokens are [UNK] (12.000%)\n",
        "  1 passages repeat the text of another one of this split:\n    train-p7-q9\n",
        "WARNING: 1 passages are in train and in val, 2 questions of val\nask about them:\n    val-p2-q2\n",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    let json = glm_prep(dir.path(), &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one object");
    assert_eq!((&json["max_seq_len"], &json["splits"][0]["unknown"]["count"]), (&512.into(), &6.into()));
    assert_eq!(json["in_train_and_val"]["example_ids"][0], "val-p2-q2");
}

#[test]
fn errors_are_one_sentence() {
    let failure = |dir: &Path| {
        let output = glm_prep(dir, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let empty = tempfile::tempdir().expect("folder");
    assert!(failure(empty.path()).contains("is not a data set"));
    let dir = data_set();
    let shard = dir.path().join("shards/data/train-00001-of-00002.parquet");
    fs::write(&shard, "not Parquet").expect("write");
    let message = failure(dir.path());
    assert!(
        message.contains("train-00001-of-00002.parquet is damaged") && message.contains("`glm-prep verify` locates the damage"),
        "{message}"
    );
    fs::remove_file(&shard).expect("remove");
    assert!(failure(dir.path()).starts_with("error: cannot read "));
    fs::write(dir.path().join("shards/manifest.json"), "{}").expect("write");
    assert!(failure(dir.path()).contains("not a manifest of a data set"));
}
