//! Comparison with outputs of the published metrics.

use serde::Deserialize;
use std::collections::BTreeMap;

use super::answer;
use super::bleu::Bleu;
use super::rouge::{Score, rouge, words};
use super::stem::stem;
use super::summary::{Cleaning, clean, clean_prediction, clean_reference, published_rouge};

#[derive(Deserialize)]
struct Golden {
    fix_tokenization: Vec<Clean>,
    squad_fix_tokenization: Vec<Join>,
    rouge: Vec<Published>,
    rouge_mean: BTreeMap<String, f64>,
    rouge_score: Vec<Package>,
    rouge_tokens: Vec<Words>,
    stems: BTreeMap<String, String>,
    answers: Vec<Answer>,
    answers_windows: Vec<Windows>,
    bleu: Vec<Corpus>,
}

#[derive(Deserialize)]
struct Clean {
    input: String,
    dataset: String,
    output: String,
}

#[derive(Deserialize)]
struct Join {
    input: String,
    output: String,
}

#[derive(Deserialize)]
struct Published {
    pred: String,
    #[serde(rename = "ref")]
    reference: String,
    cleaned: BTreeMap<String, [String; 2]>,
    f: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    target: String,
    prediction: String,
    rouge1: [f64; 3],
    rouge2: [f64; 3],
    #[serde(rename = "rougeL")]
    rouge_l: [f64; 3],
    #[serde(rename = "rougeLsum")]
    rouge_lsum: [f64; 3],
}

#[derive(Deserialize)]
struct Words {
    text: String,
    tokens: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    prediction: String,
    answers: Vec<String>,
    normalized: String,
    em: f64,
    f1: f64,
}

#[derive(Deserialize)]
struct Windows {
    predictions: Vec<String>,
    answers: Vec<String>,
    em: f64,
    f1: f64,
}

#[derive(Deserialize)]
struct Corpus {
    hypotheses: Vec<String>,
    references: Vec<String>,
    lower_case: bool,
    output: String,
}

fn golden() -> Golden {
    let text = std::fs::read_to_string("../tests/fixtures/golden/seq2seq/metrics.json").expect("metrics.json");
    serde_json::from_str(&text).expect("published outputs")
}

fn cleaning(dataset: &str) -> Cleaning {
    match dataset {
        "cnn_dm" => Cleaning::CnnDm,
        "gigaword" => Cleaning::Unknown,
        _ => Cleaning::None,
    }
}

#[track_caller]
fn close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 1e-11, "{what}: {found} instead of {expected}");
}

#[test]
fn stems_equal_the_published_ones() {
    for (word, expected) in golden().stems {
        assert_eq!(stem(&word), expected, "{word}");
    }
}

#[test]
fn words_equal_the_published_ones() {
    for Words { text, tokens } in golden().rouge_tokens {
        assert_eq!(words(&text), tokens, "{text}");
    }
}

#[test]
fn rouge_equals_the_package() {
    for Package { target, prediction, rouge1, rouge2, rouge_l, rouge_lsum } in golden().rouge_score {
        let found = rouge(&target, &prediction);
        let scores = [found.rouge1, found.rouge2, found.rouge_l, found.rouge_lsum];
        for (Score { precision, recall, f }, expected) in scores.into_iter().zip([rouge1, rouge2, rouge_l, rouge_lsum]) {
            for (found, expected) in [precision, recall, f].into_iter().zip(expected) {
                close(found, expected, &prediction);
            }
        }
    }
}

#[test]
fn cleaning_equals_the_published_one() {
    for Clean { input, dataset, output } in golden().fix_tokenization {
        assert_eq!(clean(&input, cleaning(&dataset)), output, "{dataset}: {input}");
    }
}

#[test]
fn published_rouge_is_reproduced() {
    let golden = golden();
    let mut sums = BTreeMap::<String, f64>::new();
    for Published { pred, reference, cleaned, f } in &golden.rouge {
        for (dataset, [prediction, expected]) in cleaned {
            let cleaning = cleaning(dataset);
            assert_eq!(&clean_prediction(pred, cleaning), prediction, "{dataset}: {pred}");
            assert_eq!(&clean_reference(reference, cleaning), expected, "{dataset}: {reference}");
            let found = published_rouge(reference, pred, cleaning);
            for (name, score) in [("1", found.rouge1), ("2", found.rouge2), ("l", found.rouge_lsum)] {
                let name = format!("{dataset} rouge-{name}");
                close(score.f, f[&name], &format!("{name} of {pred}"));
                *sums.entry(name).or_default() += score.f;
            }
        }
    }
    for (name, mean) in &golden.rouge_mean {
        close(sums[name] / golden.rouge.len() as f64, *mean, name);
    }
}

#[test]
fn answers_are_scored_as_published() {
    for Join { input, output } in golden().squad_fix_tokenization {
        assert_eq!(answer::joined(&input), output, "{input}");
    }
    for Answer { prediction, answers, normalized, em, f1 } in golden().answers {
        assert_eq!(answer::normalized(&prediction), normalized, "{prediction}");
        let found = answer::score(&prediction, answers.iter().map(String::as_str));
        close(100.0 * found.exact, em, &prediction);
        close(100.0 * found.f1, f1, &prediction);
    }
    for Windows { predictions, answers, em, f1 } in golden().answers_windows {
        let prediction = answer::of_windows(predictions.iter().map(String::as_str));
        let found = answer::score(prediction, answers.iter().map(String::as_str));
        close(100.0 * found.exact, em, prediction);
        close(100.0 * found.f1, f1, prediction);
    }
}

#[test]
fn bleu_prints_the_published_line() {
    for Corpus { hypotheses, references, lower_case, output } in golden().bleu {
        let mut bleu = Bleu::default();
        for (hypothesis, reference) in hypotheses.iter().zip(&references) {
            bleu.add(hypothesis, [reference.as_str()], lower_case);
        }
        assert_eq!(bleu.to_string(), output);
        assert_eq!(Bleu::from_totals(&bleu.totals()), bleu);
    }
}
