//! Sample corpus of `glm-prep sample`: format, determinism and difficulty.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use glm_prep::sample::record::{Generator, Record};
use glm_prep::sample::{Difficulty, Kind, Recipe, SampleArgs, SampleError, run};
use glm_schemas::manifest::Split;
use proptest::prelude::*;
use tempfile::tempdir;

fn generator(seed: u64) -> Generator {
    Generator::new(seed, Recipe::default()).expect("phrases")
}

fn records(split: Split, count: u64) -> Vec<Record> {
    let generator = generator(7);
    (0..count).map(|index| generator.record(split, index, 0)).collect()
}

fn cut(text: &str, start: usize, end_inclusive: usize) -> String {
    text.chars().skip(start).take(end_inclusive + 1 - start).collect()
}

fn mentions(record: &Record) -> Vec<String> {
    let text = &record.passage.text;
    record.passage.entities.iter().map(|span| cut(text, span.start, span.end)).collect()
}

fn args(out: &Path, seed: u64) -> SampleArgs {
    let (kind, difficulty) = (Kind::Record, Difficulty::Normal);
    SampleArgs { out: out.to_owned(), kind, difficulty, passages: 50, val_passages: Some(5), vocab: None, seed, force: false }
}

/// Writes a corpus and returns train.jsonl, val.jsonl and the printed summary.
fn written(args: &SampleArgs) -> [String; 3] {
    let mut printed = Vec::new();
    run(args, &mut printed).expect("sample");
    let file = |name| fs::read_to_string(args.out.join("ReCoRD").join(name)).expect("written");
    [file("train.jsonl"), file("val.jsonl"), String::from_utf8(printed).expect("text")]
}

#[test]
fn the_files_depend_on_the_seed_only() {
    let folder = tempdir().expect("tempdir");
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
    let first = written(&args(&a, 1));
    let again = written(&args(&b, 1));
    let other = written(&args(&c, 2));
    assert_eq!(first[..2], again[..2]);
    assert_ne!(first[0], other[0]);
    assert_eq!((first[0].lines().count(), first[1].lines().count()), (50, 5));
    assert_eq!(first[2].lines().count(), 1);
    // No temporary file is left.
    assert_eq!(fs::read_dir(a.join("ReCoRD")).expect("folder").count(), 2);
}

#[test]
fn lines_are_record_with_consecutive_numbers() {
    let folder = tempdir().expect("tempdir");
    let [train, ..] = written(&args(folder.path(), 1));
    let mut questions = 0;
    for (index, line) in train.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["idx"], index);
        assert!(line["source"].is_string() && line["passage"]["text"].is_string());
        assert!(line["passage"]["entities"][0]["end"].is_u64());
        for question in line["qas"].as_array().expect("qas") {
            assert_eq!(question["idx"], questions);
            assert!(question["answers"][0]["text"].is_string());
            questions += 1;
        }
    }
    assert!((75..=125).contains(&questions), "two per passage on average: {questions} for 50");
}

#[test]
fn documents_name_an_entity_again_after_its_fact() {
    let folder = tempdir().expect("tempdir");
    let args = SampleArgs { kind: Kind::Text, ..args(folder.path(), 1) };
    let mut printed = Vec::new();
    run(&args, &mut printed).expect("sample");
    let printed = String::from_utf8(printed).expect("text");
    assert!(printed.contains("train.jsonl: 50 documents; ") && printed.contains("val.jsonl: 5 documents; "), "{printed}");
    let train = fs::read_to_string(folder.path().join("train.jsonl")).expect("written");
    assert_eq!(train.lines().count(), 50);
    let passages: HashSet<String> = records(Split::Train, 50).into_iter().map(|record| record.passage.text).collect();
    for line in train.lines() {
        let document: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let text = document["text"].as_str().expect("text");
        assert!(!text.contains("@placeholder") && !text.contains("@highlight"), "{text}");
        assert!(!passages.iter().any(|passage| text.starts_with(passage.lines().next().expect("a line"))), "{text}");
        // The passage, and a follow-up sentence for each of 1 to 8 entities.
        assert!((2..=9).contains(&text.lines().count()), "{text}");
    }
}

#[test]
fn existing_files_are_kept_unless_forced() {
    let folder = tempdir().expect("tempdir");
    let val = folder.path().join("ReCoRD/val.jsonl");
    fs::create_dir(folder.path().join("ReCoRD")).expect("create");
    fs::write(&val, "mine").expect("write");
    let mut args = args(folder.path(), 1);
    let error = run(&args, &mut Vec::new()).expect_err("the file exists");
    assert!(matches!(&error, SampleError::AlreadyThere { path } if *path == val), "{error}");
    assert_eq!(fs::read_to_string(&val).expect("read"), "mine");
    assert!(!folder.path().join("ReCoRD/train.jsonl").exists());
    args.force = true;
    assert_eq!(written(&args)[1].lines().count(), 5);
}

#[test]
fn a_file_in_place_of_the_folder_is_an_error_of_one_line() {
    let folder = tempdir().expect("tempdir");
    let out = folder.path().join("file");
    fs::write(&out, "").expect("write");
    let error = run(&args(&out, 1), &mut Vec::new()).expect_err("the folder cannot be created").to_string();
    assert!(error.starts_with("cannot create the folder") && !error.contains('\n'), "{error}");
}

#[test]
fn val_has_at_least_100_passages() {
    let folder = tempdir().expect("tempdir");
    let args = SampleArgs { val_passages: None, ..args(folder.path(), 1) };
    assert_eq!(written(&args)[1].lines().count(), 100);
}

proptest! {
    #[test]
    fn every_record_is_valid(seed: u64, index in 0..u64::MAX, val: bool) {
        let split = if val { Split::Val } else { Split::Train };
        let record = generator(seed).record(split, index, 5);
        let text = &record.passage.text;
        let mentions = mentions(&record);
        let candidates: BTreeSet<&str> = mentions.iter().map(String::as_str).collect();
        prop_assert!((5..=10).contains(&candidates.len()));
        let listed: HashSet<_> = record.passage.entities.iter().map(|span| (span.start, span.end)).collect();
        prop_assert_eq!(listed.len(), record.passage.entities.len());
        // Every occurrence of a candidate is a mention, or part of a longer one.
        for candidate in &candidates {
            for (byte, _) in text.match_indices(candidate) {
                let start = text[..byte].chars().count();
                let end = start + candidate.chars().count() - 1;
                prop_assert!(listed.iter().any(|&(s, e)| s <= start && end <= e), "{} at {} in {}", candidate, start, text);
            }
        }
        let braces = ['{', '}'];
        prop_assert!(!text.contains(braces) && text.contains("\n@highlight\n"));
        prop_assert!((1..=3).contains(&record.qas.len()));
        let mut answered = HashSet::new();
        for (question, idx) in record.qas.iter().zip(5..) {
            prop_assert_eq!(question.idx, idx);
            prop_assert_eq!(question.query.matches("@placeholder").count(), 1);
            prop_assert!(!question.query.contains(braces) && !question.query.contains('\n'), "{}", question.query);
            prop_assert!(!question.answers.is_empty());
            for answer in &question.answers {
                prop_assert_eq!(&cut(text, answer.start, answer.end), &answer.text);
                prop_assert!(listed.contains(&(answer.start, answer.end)));
                prop_assert!(!question.query.contains(&answer.text), "the query gives the answer away: {}", question.query);
            }
            prop_assert!(answered.insert(question.answers[0].start), "two questions about one entity");
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Rule-based reader: a word of the query that occurs in exactly one sentence of the passage votes for the entity of that
/// sentence, with more weight the closer it is to the blank. Words of up to three letters (`of`, `was`) are ignored.
fn read(record: &Record, query: &str) -> Option<String> {
    let (story, _) = record.passage.text.split_once("\n@highlight")?;
    let mut sentences: Vec<(Vec<String>, String)> = Vec::new();
    for (span, mention) in record.passage.entities.iter().zip(mentions(record)) {
        let before: usize = story.char_indices().nth(span.start).map_or(story.len(), |(byte, _)| byte);
        if before == story.len() {
            continue;
        }
        let start = story[..before].rfind(['.', '?', '!']).map_or(0, |byte| byte + 1);
        let end = story[before..].find(['.', '?', '!']).map_or(story.len(), |byte| before + byte);
        sentences.push((words(&story[start..end]).collect(), mention));
    }
    let query: Vec<String> = words(query).collect();
    let blank = query.iter().position(|word| word == "placeholder")?;
    let mut scores: BTreeMap<&str, f64> = BTreeMap::new();
    for (position, word) in query.iter().enumerate().filter(|(_, word)| word.chars().count() > 3) {
        let mut holders = sentences.iter().filter(|(words, _)| words.contains(word));
        if let (Some((_, mention)), None) = (holders.next(), holders.next()) {
            *scores.entry(mention).or_default() += 1.0 / (4 + position.abs_diff(blank)) as f64;
        }
    }
    scores.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(mention, _)| mention.to_owned())
}

#[test]
fn a_rule_based_reader_finds_the_answers_and_counting_mentions_does_not() {
    let (mut questions, mut by_rule, mut by_count, mut chance) = (0.0, 0.0, 0.0, 0.0);
    for record in records(Split::Val, 3000) {
        let mentions = mentions(&record);
        let candidates: BTreeSet<&String> = mentions.iter().collect();
        let count = |name: &str| mentions.iter().filter(|mention| *mention == name).count();
        let most = candidates.iter().map(|name| count(name)).max().expect("entities");
        for question in &record.qas {
            let right: BTreeSet<&String> = question.answers.iter().map(|answer| &answer.text).collect();
            questions += 1.0;
            let found = read(&record, &question.query);
            by_rule += f64::from(found.as_ref().is_some_and(|found| right.contains(found)));
            let frequent: Vec<_> = candidates.iter().filter(|name| count(name) == most).collect();
            by_count += frequent.iter().filter(|name| right.contains(**name)).count() as f64 / frequent.len() as f64;
            chance += right.len() as f64 / candidates.len() as f64;
        }
    }
    let (by_rule, by_count, chance) = (by_rule / questions, by_count / questions, chance / questions);
    println!("by rule {by_rule:.3}, by count {by_count:.3}, chance {chance:.3}");
    assert!(by_rule >= 0.95, "by rule: {by_rule}");
    assert!((by_count - chance).abs() < 0.05, "by count {by_count}, chance {chance}");
    assert!(chance < 0.25, "{chance}");
}

#[test]
fn the_position_in_the_sorted_list_is_not_a_cue() {
    // Relative position of the correct answer in the sorted candidates; its mean is 1/2 without bias.
    let mut positions = Vec::new();
    for record in records(Split::Val, 3000) {
        let candidates: Vec<String> = mentions(&record).into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        for question in &record.qas {
            let position = candidates.iter().position(|name| *name == question.answers[0].text).expect("among the entities");
            positions.push(position as f64 / (candidates.len() - 1) as f64);
        }
    }
    let mean = positions.iter().sum::<f64>() / positions.len() as f64;
    assert!((mean - 0.5).abs() < 0.03, "{mean}");
}

#[test]
fn the_splits_share_no_passage_and_no_person() {
    let people = |split| -> (HashSet<String>, HashSet<String>) {
        let records = records(split, 4000);
        let texts = records.iter().map(|record| record.passage.text.clone()).collect();
        // Two-word names are people, or organisations, which are recognized by their last word.
        let firms = ["Bank", "Energy", "Foods", "Telecom", "Motors", "Airlines", "Steel", "Media", "Books", "Studios"];
        let others = ["Foundation", "Insurance", "Rovers", "United", "Wanderers", "Rangers", "Athletic"];
        let is_group = |name: &str| firms.iter().chain(&others).any(|last| name.ends_with(last));
        let names = records.iter().flat_map(mentions).filter(|name| name.contains(' ') && !is_group(name)).collect();
        (texts, names)
    };
    let ((train_texts, train_people), (val_texts, val_people)) = (people(Split::Train), people(Split::Val));
    assert_eq!(train_texts.len(), 4000, "duplicate passage");
    assert!(train_texts.is_disjoint(&val_texts));
    assert!(train_people.len() > 1000 && val_people.len() > 500);
    assert!(train_people.is_disjoint(&val_people));
}
