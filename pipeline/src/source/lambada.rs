//! LAMBADA: a passage a line whose last word is to be guessed; the line is the text, or an object `{"text"}`.
//!
//! The query is the last sentence with a blank for the last word, the passage is everything before (what a sentence is,
//! [`super`]'s module `sentence` says). The data give nothing to choose from, since any word could stand there. What this
//! project trains and scores are choices, so the candidates are the distinct words of three letters or more that stand before
//! the last word, as they are written there. In most passages of the data the right word is one of them, and only those ask
//! a question that can be answered: with labels the others are rejected. So an accuracy that is measured here is not LAMBADA's
//! accuracy over all words.

use std::borrow::Cow;

use serde::Deserialize;

use super::words::{mentions, words};
use super::{Format, Passage, Question, QuestionError, RecordError, json_object};
use glm_text::question::{ClozeText, PLACEHOLDER};
use glm_text::standard::standardise;

/// Shorter words are hardly ever an answer.
const MIN_LETTERS: usize = 3;

/// The format.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lambada;

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl Format for Lambada {
    fn name(&self) -> &'static str {
        "LAMBADA"
    }

    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError> {
        let raw =
            if record.trim_start().starts_with('{') { json_object::<RawLine<'_>>(record)?.text } else { Cow::Borrowed(record) };
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

        let asked = format!("{context}{PLACEHOLDER}");
        let ClozeText { passage, query, blank } = ClozeText::around(&asked, &(context.len()..asked.len()));
        let question = Question { id: None, name: None, text: query, blank, answers };
        let candidates: Vec<_> = candidates.into_iter().map(str::to_owned).collect();
        Ok(vec![Passage {
            id: None,
            source: String::new(),
            mentions: mentions(&passage, &candidates)?,
            text: passage,
            candidates,
            questions: vec![Ok(question)],
        }])
    }
}

/// The text up to the last word, white space included, and the last word.
fn split_last_word(text: &str) -> (&str, &str) {
    let start = text.char_indices().rev().take_while(|(_, c)| !c.is_whitespace()).last().map_or(text.len(), |(at, _)| at);
    text.split_at(start)
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
    fn the_last_word_of_a_line_is_asked_for() {
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
    fn an_object_is_read_like_its_text() {
        let object = serde_json::json!({"text": format!("{LINE}\n"), "domain": "own"}).to_string();
        assert_eq!(parse(&object, true), parse(LINE, true));
        let passage = parse(r#"{"text": "“Zoë’s here,” Ann said.\n\nIn came Zoë"}"#, true);
        assert_eq!(
            (passage.text.as_str(), passage.candidates.join(" ")),
            ("\"Zoë's here,\" Ann said.", "Ann Zoë came here said".into())
        );
    }

    #[test]
    fn a_last_word_that_is_new_costs_the_line_where_labels_count() {
        let new = LINE.replace("came rosa", "came max");
        let error = Lambada.parse(&new, true).expect_err("max is new").to_string();
        assert_eq!(
            error,
            "the last word `max` is not among the words to choose from: those of 3 letters or more that stand before it"
        );
        let question = parse(&new, false).questions[0].clone().expect("good");
        assert!(question.answers.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (line, message) in [
            (r#"{"txt": "a"}"#, "not a record of this format: missing field `text`"),
            ("alone", "no word of 3 letters or more stands before the last one, so there is nothing to choose from"),
            ("", "no word of 3 letters or more stands before the last one, so there is nothing to choose from"),
            ("it is . he is it", "no word of 3 letters or more stands before the last one, so there is nothing to choose from"),
        ] {
            let error = Lambada.parse(line, true).expect_err(line).to_string();
            assert!(error.starts_with(message), "{error}\n{message}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|[a-z]{3} | \\. |\n){0,40}", labelled: bool) {
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
