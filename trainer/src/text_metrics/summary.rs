//! ROUGE as the published fine-tuning reports it.
//!
//! Predictions and references are decoded tokens, with spaces around punctuation. Their sentences, separated by `[SEP]`, are
//! first cleaned; of a prediction, sentences of at most four words are dropped, and sentences most of whose words earlier sentences have.

use std::collections::HashSet;

use super::rouge::{Rouge, rouge};

/// Separator of sentences.
const SEPARATOR: &str = "[SEP]";
/// Sentences of a prediction with at most this number of words are dropped.
const SHORT: usize = 4;
/// A sentence of a prediction with a larger share of words of earlier sentences is dropped.
const MAX_REPEATED: f64 = 0.7;
/// ASCII punctuation, in the order of Python's `string.punctuation`.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// Cleaning of decoded texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleaning {
    /// Rules of CNN/DailyMail, which every task uses with BERT's vocabulary.
    CnnDm,
    /// `[UNK]` is written `UNK`: Gigaword with GPT-2's vocabulary.
    Unknown,
    /// No cleaning: any other task with GPT-2's vocabulary.
    None,
}

/// ROUGE of a prediction with the published cleaning.
pub fn published_rouge(reference: &str, prediction: &str, cleaning: Cleaning) -> Rouge {
    // Published scores call the reference a prediction; F is the same, except that ROUGE-Lsum depends on the order.
    let scores = rouge(&clean_prediction(prediction, cleaning), &clean_reference(reference, cleaning));
    let exchanged =
        |score: super::rouge::Score| super::rouge::Score { precision: score.recall, recall: score.precision, ..score };
    Rouge {
        rouge1: exchanged(scores.rouge1),
        rouge2: exchanged(scores.rouge2),
        rouge_l: exchanged(scores.rouge_l),
        rouge_lsum: exchanged(scores.rouge_lsum),
    }
}

/// Splits a text at `[SEP]` into lines, as ROUGE-Lsum reads sentences.
pub fn sentence_lines(text: &str) -> String {
    text.split(SEPARATOR).map(str::trim).collect::<Vec<_>>().join("\n")
}

/// Cleans a reference; its sentences become lines.
pub fn clean_reference(text: &str, cleaning: Cleaning) -> String {
    text.trim().split(SEPARATOR).map(|sentence| clean(sentence, cleaning)).collect::<Vec<_>>().join("\n")
}

/// Cleans a prediction and drops its short and repeated sentences; the others become lines.
pub fn clean_prediction(text: &str, cleaning: Cleaning) -> String {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for sentence in text.trim().split(SEPARATOR) {
        let sentence = clean(sentence, cleaning);
        if sentence.split_whitespace().count() <= SHORT {
            continue;
        }
        let lower = sentence.to_lowercase();
        let words: HashSet<String> = lower.split_whitespace().map(str::to_owned).collect();
        let repeated = words.intersection(&seen).count() as f64 / words.len() as f64;
        if repeated <= MAX_REPEATED {
            kept.push(sentence);
        }
        // Words of dropped sentences count as seen.
        seen.extend(words);
    }
    kept.join("\n")
}

/// Joins what the tokenizer separated: contractions, numbers, abbreviations, hyphens; writes quotation marks as `` and ''.
pub fn clean(text: &str, cleaning: Cleaning) -> String {
    match cleaning {
        Cleaning::CnnDm => {
            let words: Vec<&str> = text.split_whitespace().collect();
            let mut walk =
                Walk { words: &words, out: Vec::with_capacity(words.len()), in_quote: false, in_single_quote: false };
            let mut at = 0;
            while at < words.len() {
                at = walk.step(at);
            }
            walk.out.join(" ")
        }
        Cleaning::Unknown => text.replace("[UNK]", "UNK"),
        Cleaning::None => text.to_owned(),
    }
}

/// A walk over the words of a text.
struct Walk<'a> {
    words: &'a [&'a str],
    out: Vec<String>,
    in_quote: bool,
    in_single_quote: bool,
}

impl Walk<'_> {
    /// Reads the word at `at`; returns the place of the word to read next.
    fn step(&mut self, at: usize) -> usize {
        let next = self.words.get(at + 1).copied();
        match self.words[at] {
            "\"" => {
                self.out.push(if self.in_quote { "''" } else { "``" }.to_owned());
                self.in_quote = !self.in_quote;
                at + 1
            }
            "'" => self.apostrophe(at, next),
            "." if at + 2 < self.words.len() && next == Some(".") && self.words[at + 2] == "." => {
                self.push("...");
                at + 3
            }
            "," => self.number(at, next, |word| word.chars().all(|c| c == ',' || is_digit(c))),
            "." if self.out.last().is_some_and(|last| is_number(last)) && next.is_some_and(is_number) => {
                self.number(at, next, is_number)
            }
            "." => self.abbreviation(at, next),
            "-" => self.hyphen(at, next),
            word => {
                self.push(word);
                at + 1
            }
        }
    }

    fn push(&mut self, word: &str) {
        self.out.push(word.to_owned());
    }

    fn append(&mut self, text: &str) {
        match self.out.last_mut() {
            Some(last) => last.push_str(text),
            None => self.push(text),
        }
    }

    fn apostrophe(&mut self, at: usize, next: Option<&str>) -> usize {
        match (next, self.out.last_mut()) {
            (Some("t"), Some(last)) if last.ends_with('n') => {
                last.pop();
                self.push("n't");
                at + 2
            }
            (Some(end @ ("s" | "d" | "ll")), _) => {
                self.out.push(format!("'{end}"));
                at + 2
            }
            _ => {
                self.push(if self.in_single_quote { "'" } else { "`" });
                self.in_single_quote = !self.in_single_quote;
                at + 1
            }
        }
    }

    /// A separator between two parts of a number.
    fn number(&mut self, at: usize, next: Option<&str>, is_part: impl Fn(&str) -> bool) -> usize {
        match next {
            Some(next) if is_part(next) && self.out.last().is_some_and(|last| is_part(last)) => {
                self.append(self.words[at]);
                self.append(next);
                at + 2
            }
            _ => {
                self.push(self.words[at]);
                at + 1
            }
        }
    }

    /// A full stop, which may be the first of an abbreviation such as `U . N .`.
    fn abbreviation(&mut self, at: usize, next: Option<&str>) -> usize {
        let is_stop = |place: usize| self.words.get(place) == Some(&".");
        let starts = self.out.last().is_some_and(|last| is_letter(last)) && next.is_some_and(is_letter) && is_stop(at + 2);
        if !starts {
            self.push(".");
            return at + 1;
        }
        let mut end = at + 3;
        // The published code looks one word too far, so that this rarely continues.
        while end + 2 < self.words.len() && is_letter(self.words[end + 1]) && is_stop(end + 2) {
            end += 2;
        }
        let joined = self.words[at..end].concat();
        self.append(&joined);
        end
    }

    fn hyphen(&mut self, at: usize, next: Option<&str>) -> usize {
        let Some(next) = next else {
            self.push("-");
            return at + 1;
        };
        if next == "-" {
            self.push("--");
            return at + 2;
        }
        let joins = self.out.last().is_some_and(|last| !PUNCTUATION.contains(last.as_str()))
            && !next.chars().next().is_some_and(|c| PUNCTUATION.contains(c));
        if !joins {
            self.push("-");
            return at + 1;
        }
        self.append("-");
        self.append(next);
        at + 2
    }
}

fn is_letter(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(char::is_alphabetic) && chars.next().is_none()
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.chars().all(is_digit)
}

/// Returns true for decimal digits of any script and for superscript, subscript and circled digits.
fn is_digit(c: char) -> bool {
    let is_fraction_or_letter =
        matches!(c, '\u{bc}'..='\u{be}' | '\u{2150}'..='\u{218b}' | '\u{3007}' | '\u{3021}'..='\u{3029}');
    c.is_numeric() && !is_fraction_or_letter
}
