//! BLEU-4 of a corpus.
//!
//! K. Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (2002), with words split at white space, as
//! in Moses' `multi-bleu.perl`.

use std::collections::HashMap;
use std::fmt;

/// Length of the longest n-grams.
const ORDER: usize = 4;

/// Counts over a corpus, which add up over its lines.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bleu {
    matches: [f64; ORDER],
    ngrams: [f64; ORDER],
    hypothesis: f64,
    reference: f64,
}

impl Bleu {
    /// Number of sums that [`Self::totals`] returns.
    pub const TOTALS: usize = 2 * ORDER + 2;

    /// Adds a line with its references.
    pub fn add<'a>(&mut self, hypothesis: &str, references: impl IntoIterator<Item = &'a str>, lower_case: bool) {
        let words = |text: &str| {
            let text = if lower_case { text.to_lowercase() } else { text.to_owned() };
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let hypothesis = words(hypothesis);
        let references: Vec<_> = references.into_iter().map(words).collect();
        // Of equally close lengths, the shorter one.
        let closest = references.iter().map(Vec::len).min_by_key(|&length| (length.abs_diff(hypothesis.len()), length));
        self.hypothesis += hypothesis.len() as f64;
        self.reference += closest.unwrap_or(0) as f64;
        for n in 1..=ORDER {
            let mut allowed = HashMap::<&[String], usize>::new();
            for reference in &references {
                for (ngram, count) in counts(reference, n) {
                    let most = allowed.entry(ngram).or_default();
                    *most = count.max(*most);
                }
            }
            for (ngram, count) in counts(&hypothesis, n) {
                self.ngrams[n - 1] += count as f64;
                self.matches[n - 1] += count.min(allowed.get(ngram).copied().unwrap_or(0)) as f64;
            }
        }
    }

    /// Returns the counts, which can be added over parts of a corpus.
    pub fn totals(&self) -> [f64; Self::TOTALS] {
        let mut totals = [0.0; Self::TOTALS];
        totals[..ORDER].copy_from_slice(&self.matches);
        totals[ORDER..2 * ORDER].copy_from_slice(&self.ngrams);
        totals[2 * ORDER..].copy_from_slice(&[self.hypothesis, self.reference]);
        totals
    }

    /// Returns the counts from such totals; missing ones are 0.
    pub fn from_totals(totals: &[f64]) -> Self {
        let at = |index: usize| totals.get(index).copied().unwrap_or(0.0);
        Self {
            matches: std::array::from_fn(at),
            ngrams: std::array::from_fn(|n| at(ORDER + n)),
            hypothesis: at(2 * ORDER),
            reference: at(2 * ORDER + 1),
        }
    }

    /// Precisions of n-grams of one to four words, from 0 to 1.
    pub fn precisions(&self) -> [f64; ORDER] {
        std::array::from_fn(|n| if self.ngrams[n] > 0.0 { self.matches[n] / self.ngrams[n] } else { 0.0 })
    }

    /// Factor below 1 if the hypotheses are shorter than the references.
    pub fn brevity_penalty(&self) -> f64 {
        match self.hypothesis {
            length if length >= self.reference => 1.0,
            0.0 => 0.0,
            length => (1.0 - self.reference / length).exp(),
        }
    }

    /// BLEU, from 0 to 1: the geometric mean of the precisions times the brevity penalty.
    pub fn score(&self) -> f64 {
        let precisions = self.precisions();
        if precisions.contains(&0.0) {
            return 0.0;
        }
        self.brevity_penalty() * (precisions.iter().map(|p| p.ln()).sum::<f64>() / ORDER as f64).exp()
    }
}

fn counts(words: &[String], n: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    words.windows(n).for_each(|ngram| *counts.entry(ngram).or_default() += 1);
    counts
}

/// The line that `multi-bleu.perl` prints.
impl fmt::Display for Bleu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reference == 0.0 {
            return f.write_str("BLEU = 0, 0/0/0/0 (BP=0, ratio=0, hyp_len=0, ref_len=0)");
        }
        let [a, b, c, d] = self.precisions().map(|precision| 100.0 * precision);
        let ratio = self.hypothesis / self.reference;
        write!(
            f,
            "BLEU = {:.2}, {a:.1}/{b:.1}/{c:.1}/{d:.1} (BP={:.3}, ratio={ratio:.3}, hyp_len={}, ref_len={})",
            100.0 * self.score(),
            self.brevity_penalty(),
            self.hypothesis,
            self.reference
        )
    }
}
