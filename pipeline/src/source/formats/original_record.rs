//! ReCoRD as its authors publish it: one JSON document with its passages under `data`.
//!
//! `{version, data: [{id, source, passage: {text, entities: [{start, end}]}, qas: [{id, query, answers: [{start, end, text}]}]}]}`,
//! read one passage at a time. Offsets are those of [`super::record`], but ids are strings: passages and questions are numbered in
//! file order, and the id of a question becomes its name. The test split has no `answers`.

use std::borrow::Cow;

use glm_text::question::PLACEHOLDER;
use serde::Deserialize;

use super::record::{RawAnswer, RawPassage, check_count, parse_question};
use crate::source::error::{QuestionError, RecordError, RejectedQuestion};
use crate::source::format::{ClozeFormat, Content, Format, Framing, json_object};
use crate::source::head::Head;
use crate::source::passage::{Passage, Question};

/// The original ReCoRD.
#[derive(Debug, Clone, Copy, Default)]
pub struct OriginalRecord;

#[derive(Deserialize)]
struct RawRecord<'a> {
    #[serde(borrow, default)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    passage: RawPassage<'a>,
    #[serde(borrow)]
    qas: Vec<RawQuestion<'a>>,
}

/// Fields are optional so that a missing one rejects the question, not the passage.
#[derive(Deserialize)]
struct RawQuestion<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    query: Option<Cow<'a, str>>,
    #[serde(borrow)]
    answers: Option<Vec<RawAnswer<'a>>>,
}

impl Format for OriginalRecord {
    fn name(&self) -> &'static str {
        "original-record"
    }

    fn about(&self) -> &'static str {
        "ReCoRD as its authors publish it, one document"
    }

    fn signs(&self) -> &'static str {
        "`data` with `passage` or `qas`"
    }

    fn framing(&self) -> Framing {
        Framing::Array("data")
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        matches!(head, Head::Json(keys) if keys.has("data[].passage") || keys.has("data[].qas"))
    }

    fn content(&self) -> Content<'_> {
        Content::Questions(self)
    }
}

impl ClozeFormat for OriginalRecord {
    fn blank(&self) -> &'static str {
        PLACEHOLDER
    }

    fn has_published_recipe(&self) -> bool {
        true
    }

    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError> {
        let raw: RawRecord<'_> = json_object(self.name(), record)?;
        check_count(raw.qas.len())?;
        let passage = raw.passage.annotated()?;
        let questions = raw.qas.into_iter().enumerate().map(|(position, question)| {
            let RawQuestion { id, query, answers } = question;
            let name = id.ok_or(QuestionError::Missing("id"));
            name.and_then(|name| {
                let parsed = parse_question(query.as_deref(), answers.as_deref(), &passage.candidates, labelled)?;
                Ok(Question { name: Some(name.into_owned()), ..parsed })
            })
            .map_err(|error| RejectedQuestion { position, id: None, error })
        });
        let questions = questions.collect();
        Ok(vec![Passage { source: raw.source.into_owned(), questions, ..passage }])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use glm_text::standard::CharOffsets;

    const ELEMENT: &str = r#"{
        "id": "0a1f",
        "source": "own",
        "passage": {"text": "“Zoë” fed Max.\n@highlight\nMax ate", "entities": [{"start": 1, "end": 3}, {"start": 10, "end": 12}, {"start": 26, "end": 28}]},
        "qas": [
            {"id": "0a1f-7c-3", "query": "@placeholder’s cat", "answers": [{"start": 1, "end": 3, "text": "Zoë"}]},
            {"query": "@placeholder", "answers": []},
            {"id": "0a1f-7c-4", "query": "no blank", "answers": []}
        ]
    }"#;

    fn parse(element: &str, labelled: bool) -> Passage {
        let mut passages = OriginalRecord.parse(element, labelled).expect("a record");
        assert_eq!(passages.len(), 1);
        passages.remove(0)
    }

    #[test]
    fn an_element_is_parsed_like_superglue() {
        let passage = parse(ELEMENT, true);
        assert_eq!(passage.text, "\"Zoë\" fed Max.\n- Max ate");
        assert_eq!((passage.id, passage.source.as_str()), (None, "own"));
        assert_eq!(passage.candidates, ["Max", "Zoë"]);
        let offsets = CharOffsets::new(&passage.text);
        let mentions: Vec<_> = passage.mentions.iter().map(|&mention| offsets.slice(mention).expect("in range")).collect();
        assert_eq!(mentions, ["Zoë", "Max", "Max"]);
        let question = passage.questions[0].clone().expect("good");
        assert_eq!((question.id, question.name.as_deref()), (None, Some("0a1f-7c-3")));
        assert_eq!((&question.text[question.blank.clone()], question.answers.as_slice()), ("@placeholder", &[1][..]));
        assert_eq!(question.text, "@placeholder's cat");
    }

    #[test]
    fn an_invalid_question_rejects_only_that_question() {
        let errors: Vec<_> =
            parse(ELEMENT, true).questions.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
        assert_eq!(errors, ["question 1: no `id`", "question 2: the text holds `@placeholder` 0 times, it must hold it once"]);
    }

    #[test]
    fn without_labels_answers_are_ignored() {
        let question = parse(&ELEMENT.replace("answers", "x"), false).questions[0].clone().expect("good");
        assert!(question.answers.is_empty());
        let error = parse(&ELEMENT.replace("answers", "x"), true).questions[0].clone().expect_err("no answers").error;
        assert_eq!(error, QuestionError::NoAnswers);
    }

    #[test]
    fn invalid_elements_are_errors() {
        for (element, message) in [
            ("17", "not a record of format `original-record`: expected a JSON object"),
            (r#"{"passage":{"text":"a","entities":[]}}"#, "not a record of format `original-record`: missing field `qas`"),
            (
                r#"{"passage":{"text":"a","entities":[{"start":0,"end":1}]},"qas":[]}"#,
                "entity 0 spans 0 to 1 (inclusive), but the passage has 1 code points",
            ),
        ] {
            let error = OriginalRecord.parse(element, true).expect_err(element).to_string();
            assert!(error.starts_with(message), "{error}\n{message}");
        }
    }

    proptest! {
        #[test]
        fn it_never_panics(text in "\\PC{0,60}", cut in 0_usize..700, labelled: bool) {
            let _ = OriginalRecord.parse(&text, labelled);
            let at = (0..=cut.min(ELEMENT.len())).rev().find(|&at| ELEMENT.is_char_boundary(at)).unwrap_or(0);
            let _ = OriginalRecord.parse(&ELEMENT[..at], labelled);
            let _ = OriginalRecord.parse(&format!("{}{text}{}", &ELEMENT[..at], &ELEMENT[at..]), labelled);
        }
    }
}
