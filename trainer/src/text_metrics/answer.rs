//! Exact match and F1 of short answers, as published for question answering.
//!
//! Both compare normalized texts: lower case, Latin letters without accents, no ASCII punctuation, no articles, single spaces.

use std::collections::HashMap;
use std::hash::Hash;

/// Answer of a question that its text does not answer.
pub const NO_ANSWER: &str = "N/A";

/// A comma before at most this number of characters separates thousands.
const MAX_THOUSANDS: usize = 3;

/// Similarity of a prediction to the best of the right answers, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AnswerScore {
    /// 1 if the prediction equals an answer after normalization, else 0.
    pub exact: f64,
    /// F1 of the words.
    pub f1: f64,
}

/// Scores the prediction of a question.
pub fn score<'a>(prediction: &str, answers: impl IntoIterator<Item = &'a str>) -> AnswerScore {
    let answers: Vec<&str> = answers.into_iter().collect();
    if answers.iter().all(|answer| *answer == NO_ANSWER) && !answers.is_empty() {
        let right = f64::from(u8::from(is_no_answer(prediction)));
        return AnswerScore { exact: right, f1: right };
    }
    let prediction = normalized(prediction);
    answers.into_iter().map(normalized).fold(AnswerScore::default(), |best, answer| AnswerScore {
        exact: best.exact.max(f64::from(u8::from(prediction == answer))),
        f1: best.f1.max(word_f1(&words(&prediction), &words(&answer))),
    })
}

/// Chooses the prediction of a question that was asked of several windows of a text: the first that is an answer.
pub fn of_windows<'a>(predictions: impl IntoIterator<Item = &'a str>) -> &'a str {
    predictions.into_iter().find(|prediction| !is_no_answer(prediction)).unwrap_or(NO_ANSWER)
}

/// Joins what the tokenizer separated in a prediction: hyphens, times of day and numbers. For predictions that the context lacks
/// in their decoded form.
pub fn joined(prediction: &str) -> String {
    let mut text = prediction.replace(" - ", "-").replace(" \u{2013} ", "\u{2013}");
    for phrase in ["a . m .", "a . m", "p . m .", "p . m", "' s", "u . s .", "u . s"] {
        text = without_spaces(&text, phrase);
    }
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        at += 1;
        let next = words.get(at).filter(|next| next.starts_with(char::is_numeric));
        let last = out.last_mut().filter(|last| last.ends_with(char::is_numeric));
        match (word, last, next) {
            ("," | "." | ":", Some(last), Some(next)) if word != "," || next.chars().count() <= MAX_THOUSANDS => {
                last.push_str(word);
                last.push_str(next);
                at += 1;
            }
            _ => out.push(word.to_owned()),
        }
    }
    out.join(" ")
}

/// Removes the spaces of `phrase` wherever it has a word boundary at both ends.
fn without_spaces(text: &str, phrase: &str) -> String {
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let is_boundary = |at: usize| in_word(text[..at].chars().next_back()) != in_word(text[at..].chars().next());
    let (mut joined, mut copied) = (String::with_capacity(text.len()), 0);
    for (at, found) in text.match_indices(phrase) {
        let end = at + found.len();
        if is_boundary(at) && is_boundary(end) {
            joined.push_str(&text[copied..at]);
            joined.push_str(&phrase.replace(' ', ""));
            copied = end;
        }
    }
    joined.push_str(&text[copied..]);
    joined
}

fn is_no_answer(text: &str) -> bool {
    text.to_lowercase().replace(' ', "") == "n/a"
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').filter(|word| !word.is_empty()).collect()
}

/// Normalizes an answer: lower case, accents of Latin letters dropped, ASCII punctuation dropped, articles dropped, white space
/// collapsed. Letters of other scripts are kept.
pub fn normalized(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.to_lowercase().chars() {
        match transliterated(c) {
            Some(ascii) => plain.extend(ascii.chars().filter(|c| !c.is_ascii_punctuation())),
            None if c.is_ascii_punctuation() => {}
            None => plain.push(c),
        }
    }
    let mut without_articles = String::with_capacity(plain.len());
    let mut rest = plain.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| c.is_alphanumeric() != first.is_alphanumeric()).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(end);
        without_articles.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = tail;
    }
    without_articles.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// F1 of the multisets of words of two texts; 0 if they share none.
pub fn word_f1<T: Hash + Eq>(predicted: &[T], expected: &[T]) -> f64 {
    let mut left = HashMap::<&T, usize>::new();
    for word in expected {
        *left.entry(word).or_default() += 1;
    }
    let mut shared = 0;
    for word in predicted {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    if shared == 0 {
        return 0.0;
    }
    let (precision, recall) = (f64::from(shared) / predicted.len() as f64, f64::from(shared) / expected.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

/// ASCII form of a lower-case Latin letter with an accent, a ligature, or typographic punctuation; `None` for other characters.
fn transliterated(c: char) -> Option<&'static str> {
    Some(match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' | 'ǎ' | 'ạ' | 'ả' | 'ấ' | 'ầ' | 'ẩ' | 'ẫ' | 'ậ' | 'ắ' | 'ằ' | 'ẳ' | 'ẵ' | 'ặ' => {
            "a"
        }
        'æ' | 'ǽ' => "ae",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'ď' | 'đ' | 'ð' => "d",
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' | 'ẹ' | 'ẻ' | 'ẽ' | 'ế' | 'ề' | 'ể' | 'ễ' | 'ệ' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' | 'ǧ' => "g",
        'ĥ' | 'ħ' | 'ḥ' => "h",
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' | 'ǐ' | 'ỉ' | 'ị' => "i",
        'ĵ' => "j",
        'ķ' | 'ḳ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' | 'ŋ' => "n",
        'ò'..='ö'
        | 'ø'
        | 'ō'
        | 'ŏ'
        | 'ő'
        | 'ǒ'
        | 'ơ'
        | 'ọ'
        | 'ỏ'
        | 'ố'
        | 'ồ'
        | 'ổ'
        | 'ỗ'
        | 'ộ'
        | 'ớ'
        | 'ờ'
        | 'ở'
        | 'ỡ'
        | 'ợ' => "o",
        'œ' => "oe",
        'ŕ' | 'ŗ' | 'ř' => "r",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' | 'ṣ' => "s",
        'ß' => "ss",
        'ţ' | 'ť' | 'ŧ' | 'ț' | 'ṭ' => "t",
        'þ' => "th",
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' | 'ǔ' | 'ư' | 'ụ' | 'ủ' | 'ứ' | 'ừ' | 'ử' | 'ữ' | 'ự' => {
            "u"
        }
        'ŵ' => "w",
        'ý' | 'ÿ' | 'ŷ' | 'ỳ' | 'ỵ' | 'ỷ' | 'ỹ' => "y",
        'ź' | 'ż' | 'ž' | 'ẓ' => "z",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        // Combining accents, which lower-casing produces from some letters, and typographic punctuation.
        '\u{300}'..='\u{36f}' | '‘' | '’' | '“' | '”' | '–' | '—' | '…' => "",
        '\u{a0}' => " ",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_other_scripts_are_kept() {
        assert_eq!(normalized("答案：北京"), "答案：北京");
        assert_eq!(score("北京", ["北京"]), AnswerScore { exact: 1.0, f1: 1.0 });
        assert_eq!(normalized("Émile’s  “Café” — the Straße"), "emiles cafe strasse");
    }

    #[test]
    fn without_answers_nothing_matches() {
        assert_eq!(score("x", []), AnswerScore::default());
    }
}
