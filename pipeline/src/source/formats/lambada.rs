//! LAMBADA: one passage per line, whose last word is to be predicted. The line is the text itself or an object `{"text"}`.
//!
//! The query is the last sentence with a blank in place of the last word, as split by [`glm_text::sentence`]; the passage is all
//! text before it. The data has no choices, but training and scoring need them, so the candidates are the distinct words of three
//! letters or more that precede the last word. In most passages the correct word is one of them; with labels, the other passages
//! are rejected. Accuracy on these questions is therefore not LAMBADA's accuracy over all words, which
//! `glm-trainer eval --task lm --metric lambada` measures on the same files.

use std::borrow::Cow;

use glm_text::question::{ClozeText, PLACEHOLDER};
use glm_text::standard::standardise;
use serde::Deserialize;

use super::words::{mentions, words};
use crate::source::error::{QuestionError, RecordError};
use crate::source::format::{ClozeFormat, Content, Format, json_object};
use crate::source::head::Head;
use crate::source::passage::{Passage, Question};

/// Minimum length of a candidate; shorter words are rarely an answer.
const MIN_LETTERS: usize = 3;
/// Minimum number of words per line for detection.
const MIN_WORDS: usize = 8;

/// LAMBADA.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lambada;

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl Format for Lambada {
    fn name(&self) -> &'static str {
        "lambada"
    }

    fn about(&self) -> &'static str {
        "LAMBADA, one passage per line"
    }

    fn signs(&self) -> &'static str {
        "lower-case text with separate punctuation, or `text` alone"
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        match head {
            Head::Json(keys) => keys.has("text") && keys.has_only(&["text", "domain"]),
            Head::Lines(lines) => lines.iter().all(|line| is_tokenized_prose(line)),
            Head::Parquet => false,
        }
    }

    fn content(&self) -> Content<'_> {
        Content::Questions(self)
    }
}

impl ClozeFormat for Lambada {
    fn blank(&self) -> &'static str {
        PLACEHOLDER
    }

    fn asks_once(&self) -> bool {
        true
    }

    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError> {
        let raw = if record.trim_start().starts_with('{') {
            json_object::<RawLine<'_>>(self.name(), record)?.text
        } else {
            Cow::Borrowed(record)
        };
        let text = standardise(raw.trim());
        let (context, last) = split_last_word(&text);

        let mut candidates: Vec<_> = words(context)
            .map(|word| &context[word])
            .filter(|word| word.chars().all(char::is_alphabetic) && word.chars().nth(MIN_LETTERS - 1).is_some())
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        if candidates.is_empty() {
            return Err(QuestionError::NoWords.into());
        }
        let answers = match candidates.binary_search(&last) {
            _ if !labelled => Vec::new(),
            Ok(index) => vec![index],
            Err(_) => return Err(QuestionError::LastWordIsNew(last.to_owned()).into()),
        };

        let cloze = format!("{context}{PLACEHOLDER}");
        let ClozeText { passage, query, blank } = ClozeText::around(&cloze, &(context.len()..cloze.len()));
        let question = Question { id: None, name: None, text: query, blank, answers };
        let candidates: Vec<_> = candidates.into_iter().map(str::to_owned).collect();
        Ok(vec![Passage {
            id: None,
            source: String::new(),
            mentions: mentions(&passage, &candidates)?,
            text: passage,
            // The record has no list of choices.
            choice_indices: (0..candidates.len()).collect(),
            candidates,
            questions: vec![Ok(question)],
        }])
    }
}

/// Splits a text into everything up to the last word, including white space, and the last word.
fn split_last_word(text: &str) -> (&str, &str) {
    let start = text.char_indices().rev().take_while(|(_, c)| !c.is_whitespace()).last().map_or(text.len(), |(at, _)| at);
    text.split_at(start)
}

/// Returns true if a line is lower-case text with words and punctuation separated by spaces, as in LAMBADA.
fn is_tokenized_prose(line: &str) -> bool {
    let words = line.split_whitespace();
    let lower = line.chars().any(char::is_lowercase) && !line.chars().any(char::is_uppercase);
    let punctuation = words.clone().any(|word| matches!(word, "." | "," | "?" | "!" | ";"));
    lower && punctuation && !line.contains('\t') && words.count() >= MIN_WORDS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use glm_text::standard::CharOffsets;

    const LINE: &str =
        "the baker set a loaf on the sill . `` it is for rosa , '' he said , and shut the oven . soon there came rosa";

    fn parse(line: &str, labelled: bool) -> Passage {
        Lambada.parse(line, labelled).expect("a passage").remove(0)
    }

    #[test]
    fn the_last_word_of_a_line_is_the_blank() {
        let passage = parse(LINE, true);
        assert_eq!(passage.text, "the baker set a loaf on the sill . `` it is for rosa , '' he said , and shut the oven .");
        assert_eq!(
            passage.candidates,
            ["and", "baker", "came", "for", "loaf", "oven", "rosa", "said", "set", "shut", "sill", "soon", "the", "there"]
        );
        let question = passage.questions[0].clone().expect("good");
        assert_eq!(question.text, "soon there came @placeholder");
        assert_eq!((&question.text[question.blank.clone()], question.answers.as_slice()), ("@placeholder", &[6][..]));
        let offsets = CharOffsets::new(&passage.text);
        let mentions: Vec<_> = passage.mentions.iter().map(|&mention| offsets.slice(mention).expect("in range")).collect();
        assert_eq!(mentions[..4], ["the", "baker", "set", "loaf"]);
        assert_eq!((mentions.len(), passage.id), (13, None));
    }

    #[test]
    fn an_object_is_parsed_like_its_text() {
        let object = serde_json::json!({"text": format!("{LINE}\n"), "domain": "own"}).to_string();
        assert_eq!(parse(&object, true), parse(LINE, true));
        let passage = parse(r#"{"text": "“Zoë’s here,” Ann said.\n\nIn came Zoë"}"#, true);
        assert_eq!(
            (passage.text.as_str(), passage.candidates.join(" ")),
            ("\"Zoë's here,\" Ann said.", "Ann Zoë came here said".into())
        );
    }

    #[test]
    fn with_labels_a_new_last_word_rejects_the_line() {
        let new = LINE.replace("came rosa", "came max");
        let error = Lambada.parse(&new, true).expect_err("max is new").to_string();
        assert_eq!(error, "the last word `max` is not among the choices, the words of 3 letters or more that precede it");
        let question = parse(&new, false).questions[0].clone().expect("good");
        assert!(question.answers.is_empty());
    }

    #[test]
    fn invalid_lines_are_errors() {
        for (line, message) in [
            (r#"{"txt": "a"}"#, "not a record of format `lambada`: missing field `text`"),
            ("alone", "no word of 3 letters or more precedes the last one, so there is nothing to choose from"),
            ("", "no word of 3 letters or more precedes the last one, so there is nothing to choose from"),
            ("it is . he is it", "no word of 3 letters or more precedes the last one, so there is nothing to choose from"),
        ] {
            let error = Lambada.parse(line, true).expect_err(line).to_string();
            assert!(error.starts_with(message), "{error}\n{message}");
        }
    }

    proptest! {
        #[test]
        fn it_never_panics(text in "(\\PC|[a-z]{3} | \\. |\n){0,40}", labelled: bool) {
            let _ = Lambada.parse(&text, labelled);
            let object = serde_json::json!({"text": text}).to_string();
            let _ = Lambada.parse(&object[..object.len() - 1], labelled);
            for passage in Lambada.parse(&object, labelled).unwrap_or_default() {
                let question = passage.questions[0].clone().expect("good");
                prop_assert_eq!(&question.text[question.blank], PLACEHOLDER);
            }
        }
    }
}
