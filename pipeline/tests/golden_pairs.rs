//! Pairs are read and encoded as by the published code, on all its formats of sequence-to-sequence data.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use glm_prep::source::formats::pairs::lines::Corpus;
use glm_prep::source::formats::pairs::squad::{self, Purpose};
use glm_prep::source::formats::pairs::xsum;
use glm_prep::source::{RawPair, References, Windows};
use glm_schemas::manifest::Split;
use glm_schemas::seq2seq::encoding::{PairEncoder, PairLayout};
use glm_text::pair::{NO_ANSWER, PairText, windows};
use glm_text::tokenize::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    task: String,
    src_seq_length: usize,
    tgt_seq_length: usize,
    flags: Vec<String>,
    files: BTreeMap<String, String>,
    examples: Vec<Example>,
}

#[derive(Deserialize)]
struct Example {
    text_a: String,
    text_b: Option<String>,
    #[serde(rename = "ref")]
    reference: String,
    answer: Option<String>,
    question: Option<String>,
    question_id: Option<String>,
    train: Encoded,
}

#[derive(Deserialize)]
struct Encoded {
    ids: Vec<i32>,
    position: Vec<i32>,
    block_position: Vec<i32>,
    target: Vec<i32>,
    loss_mask: Vec<i32>,
    mask_rows: Option<Vec<String>>,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/seq2seq/encodings.json.gz");
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).expect("fixture")).read_to_string(&mut text).expect("gzip");
    serde_json::from_str(&text).expect("published outputs")
}

/// Lines as the ingest reads them.
fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// Reads the train split of a group's files.
fn read(group: &Group) -> Vec<RawPair> {
    let file = |name: &str| group.files[name].as_str();
    let article = |name: &str, purpose| {
        let document: serde_json::Value = serde_json::from_str(file(name)).expect("JSON");
        let articles = document["data"].as_array().expect("data").clone();
        articles.iter().flat_map(|article| squad::parse(&article.to_string(), purpose).expect("an article")).collect()
    };
    let corpus = match group.task.as_str() {
        "cnn_dm" => Corpus::CnnDm,
        "gigaword" => Corpus::Gigaword,
        "customization" => Corpus::Lines,
        "extraction" => Corpus::Extraction,
        "squad" => return article("train-v2.0.json", Purpose::Answer),
        "squad_v1" => return article("train-v1.1.json", Purpose::AnswerAlways),
        "squad_generation" => return article("train.json", Purpose::Question),
        "xsum" => {
            let ids = xsum::ids(file(xsum::SPLITS_FILE), Split::Train).expect("ids");
            return ids.iter().map(|id| xsum::parse(id, file(&format!("{id}.summary"))).expect("an article")).collect();
        }
        other => panic!("no task {other}"),
    };
    let (sources, targets) = (lines(file("train.source")), lines(file("train.target")));
    assert_eq!(sources.len(), targets.len(), "{}", group.name);
    sources.iter().zip(targets).map(|(source, target)| corpus.pair(source, Some(target)).expect("a pair")).collect()
}

/// Replaces questions about windows by one pair for each window.
fn by_window(pairs: Vec<RawPair>, tokenizer: &Tokenizer, max_source: usize) -> Vec<RawPair> {
    let mut session = tokenizer.session();
    let mut all = Vec::new();
    for pair in pairs {
        if pair.windows == Windows::One {
            all.push(pair);
            continue;
        }
        let answer = pair.target.clone().unwrap_or_default();
        let only_answered = pair.windows == Windows::Answered;
        let windows = windows(&mut session, &pair.source, &pair.prompt, &answer, max_source, only_answered).expect("tokens");
        all.extend(windows.into_iter().map(|window| RawPair {
            source: window.text,
            target: Some(window.answer),
            ..pair.clone()
        }));
    }
    all
}

#[test]
fn pairs_are_encoded_as_published() {
    let plain = Tokenizer::bert_uncased().expect("built in");
    let masks = Tokenizer::bert_uncased().expect("built in").with_task_masks().expect("masks");
    let mut compared = 0;
    for group in golden().groups {
        let has_task_masks = group.flags.iter().any(|flag| flag == "--task-mask");
        let tokenizer = if has_task_masks { &masks } else { &plain };
        let mut session = tokenizer.session();
        let pads_are_masked = group.flags.iter().any(|flag| flag == "--mask-pad-token");
        let layout = if pads_are_masked { PairLayout::Compact } else { PairLayout::Published };
        let mut encoder = PairEncoder::new(tokenizer.special(), group.src_seq_length, group.tgt_seq_length, layout);
        if has_task_masks {
            encoder = encoder.with_mask(30525);
        }
        // Models without block positions are not supported.
        let has_block_positions = !group.flags.iter().any(|flag| flag == "--no-block-position");
        let pairs = by_window(read(&group), tokenizer, group.src_seq_length);
        assert_eq!(pairs.len(), group.examples.len(), "{}", group.name);
        for (number, (pair, expected)) in pairs.iter().zip(&group.examples).enumerate() {
            let what = format!("{} {number}", group.name);
            // Published contexts keep the start of a long source even if its blanks are in the rest, and then learn nothing.
            if group.task == "extraction" && !expected.train.loss_mask.contains(&1) {
                continue;
            }
            assert_eq!(pair.source, expected.text_a, "{what}");
            let target = pair.target.as_deref().expect("a target");
            if group.task == "extraction" {
                // Parts without a blank are left out.
                assert!(expected.reference.starts_with(target), "{what}");
            } else if let Some(text) = &expected.text_b {
                assert_eq!(target, text, "{what}");
            }
            match group.task.as_str() {
                "squad_generation" => {
                    assert_eq!((Some(&pair.prompt), Some(target)), (expected.answer.as_ref(), expected.question.as_deref()));
                    // Published predictions are compared with the answer by mistake.
                    assert_eq!(pair.references, References::DecodedTarget);
                }
                "squad" | "squad_v1" => {
                    assert_eq!((Some(&pair.prompt), Some(target)), (expected.question.as_ref(), expected.answer.as_deref()));
                    assert_eq!(pair.id, expected.question_id, "{what}");
                    assert!(target == expected.reference || target == NO_ANSWER, "{what}");
                }
                "extraction" => assert_eq!(pair.references, References::Texts(vec![target.to_owned()])),
                _ => {
                    let reference = match &pair.references {
                        References::Texts(texts) => texts[0].clone(),
                        References::DecodedTarget => tokenizer.decode(&session.encode(target).expect("tokens").ids),
                    };
                    assert_eq!(reference, expected.reference, "{what}");
                }
            }
            let text = PairText { source: &pair.source, prompt: &pair.prompt, target };
            let tokens = pair.template.tokens(&mut session, &text).expect("tokens");
            let input = encoder.encode(&tokens.as_pair()).expect("fits");
            let Encoded { ids, position, block_position, target, loss_mask, mask_rows } = &expected.train;
            let (context, piece) = (input.sep, group.src_seq_length..group.src_seq_length + input.targets.len());
            let by_place = |list: &[i32]| [&list[..context], &list[piece.clone()]].concat();
            assert_eq!(input.ids, by_place(ids), "{what}");
            assert_eq!(input.position, by_place(position), "{what}");
            assert_eq!(input.block_position == by_place(block_position), has_block_positions, "{what}");
            assert_eq!(input.targets, target[piece.clone()], "{what}");
            let counted: Vec<usize> = (0..loss_mask.len()).filter(|&at| loss_mask[at] == 1).collect();
            assert_eq!(counted, piece.clone().collect::<Vec<_>>(), "{what}");
            if let Some(rows) = mask_rows {
                // The first token of the context sees the context alone.
                assert_eq!(rows[0].find('0'), Some(context), "{what}");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 103);
}
