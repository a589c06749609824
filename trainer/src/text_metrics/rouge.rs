//! ROUGE: overlap of n-grams and longest common subsequences between a prediction and a reference.
//!
//! C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), with the words of the Python package
//! `rouge_score` and its stemming.

use std::collections::HashMap;

use super::stem::stem;

/// Words of at most this length are not stemmed.
const UNSTEMMED: usize = 3;

/// Precision, recall and their harmonic mean, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// Share of the prediction that is in the reference.
    pub precision: f64,
    /// Share of the reference that is in the prediction.
    pub recall: f64,
    /// Harmonic mean of precision and recall; 0 if both are 0.
    pub f: f64,
}

impl Score {
    /// Score of `matches` units that a prediction of `predicted` and a reference of `expected` units share.
    fn of(matches: usize, predicted: usize, expected: usize) -> Self {
        let share = |all: usize| matches as f64 / all.max(1) as f64;
        let (precision, recall) = (share(predicted), share(expected));
        let sum = precision + recall;
        Self { precision, recall, f: if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 } }
    }
}

/// Scores of one prediction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rouge {
    /// Words.
    pub rouge1: Score,
    /// Pairs of neighbouring words.
    pub rouge2: Score,
    /// Longest common subsequence of whole texts.
    pub rouge_l: Score,
    /// Union of the longest common subsequences of sentences, which are lines.
    pub rouge_lsum: Score,
}

/// Scores a prediction; sentences are lines.
pub fn rouge(reference: &str, prediction: &str) -> Rouge {
    let (expected, predicted) = (words(reference), words(prediction));
    Rouge {
        rouge1: ngrams(&expected, &predicted, 1),
        rouge2: ngrams(&expected, &predicted, 2),
        rouge_l: Score::of(lcs_places(&expected, &predicted).len(), predicted.len(), expected.len()),
        rouge_lsum: lsum(&sentences(reference), &sentences(prediction)),
    }
}

/// Returns the words of a text: lower-case runs of ASCII letters and digits, stemmed if longer than three letters.
pub fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| if word.len() > UNSTEMMED { stem(word) } else { word.to_owned() }).collect()
}

fn sentences(text: &str) -> Vec<Vec<String>> {
    text.split('\n').filter(|line| !line.is_empty()).map(words).collect()
}

fn ngrams(expected: &[String], predicted: &[String], n: usize) -> Score {
    let mut left = HashMap::<&[String], usize>::new();
    for ngram in expected.windows(n) {
        *left.entry(ngram).or_default() += 1;
    }
    let mut matches = 0;
    for ngram in predicted.windows(n) {
        if let Some(count) = left.get_mut(ngram).filter(|count| **count > 0) {
            *count -= 1;
            matches += 1;
        }
    }
    Score::of(matches, (predicted.len() + 1).saturating_sub(n), (expected.len() + 1).saturating_sub(n))
}

/// Places in `a` of a longest common subsequence with `b`, ascending.
fn lcs_places(a: &[String], b: &[String]) -> Vec<usize> {
    let width = b.len() + 1;
    let mut lengths = vec![0_u32; (a.len() + 1) * width];
    for (i, word) in a.iter().enumerate() {
        for (j, other) in b.iter().enumerate() {
            let at = (i + 1) * width + j + 1;
            lengths[at] = match word == other {
                true => lengths[at - width - 1] + 1,
                false => lengths[at - 1].max(lengths[at - width]),
            };
        }
    }
    let (mut i, mut j, mut places) = (a.len(), b.len(), Vec::new());
    while i > 0 && j > 0 {
        let at = i * width + j;
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            places.push(i);
        } else if lengths[at - 1] > lengths[at - width] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    places.reverse();
    places
}

/// ROUGE-Lsum: for each sentence of the reference, the union of its longest common subsequences with all sentences of the
/// prediction; a word counts as often as both texts have it.
fn lsum(expected: &[Vec<String>], predicted: &[Vec<String>]) -> Score {
    let count = |sentences: &[Vec<String>]| {
        let mut counts = HashMap::<String, usize>::new();
        sentences.iter().flatten().for_each(|word| *counts.entry(word.clone()).or_default() += 1);
        counts
    };
    let (mut left, mut left_predicted) = (count(expected), count(predicted));
    let mut hits = 0;
    for sentence in expected {
        let mut is_common = vec![false; sentence.len()];
        for other in predicted {
            lcs_places(sentence, other).into_iter().for_each(|place| is_common[place] = true);
        }
        for word in sentence.iter().zip(is_common).filter_map(|(word, common)| common.then_some(word)) {
            if let (Some(a), Some(b)) = (left.get_mut(word), left_predicted.get_mut(word))
                && *a > 0
                && *b > 0
            {
                (*a, *b) = (*a - 1, *b - 1);
                hits += 1;
            }
        }
    }
    let length = |sentences: &[Vec<String>]| sentences.iter().map(Vec::len).sum();
    Score::of(hits, length(predicted), length(expected))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn longest_common_subsequence_is_read_from_the_end() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lcs_places(&words("a b c d"), &words("b d a c")), [0, 2]);
        assert!(lcs_places(&words("a"), &words("b")).is_empty());
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_order_of_arguments_does_not_change_f(a in "[a-d \n]{1,20}", b in "[a-d \n]{1,20}") {
            let (ab, ba) = (rouge(&a, &b), rouge(&b, &a));
            prop_assert!((ab.rouge1.f - ba.rouge1.f).abs() < 1e-12 && (ab.rouge2.f - ba.rouge2.f).abs() < 1e-12);
            prop_assert!((ab.rouge_l.f - ba.rouge_l.f).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&ab.rouge_lsum.f));
            if !words(&a).is_empty() {
                prop_assert_eq!(rouge(&a, &a).rouge_lsum.f, 1.0);
            }
        }
    }
}
