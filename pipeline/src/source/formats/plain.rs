//! Plain cloze data, for users' own data sets: one JSON object per line.
//!
//! `{"context": "… [BLANK] …", "choices": ["…", …], "answer": 0, "id": …}`. `answer` is an index of `choices`, counted from 0, or a
//! list of indices if several choices are correct; it is `null` or missing if unknown. `id` is a string, which becomes the
//! question's name, or an integer, or missing.
//!
//! Other fields are ignored; [`Format::extra_fields`] returns them.
//!
//! The query is the sentence of the context with the blank, as split by [`glm_text::sentence`]. The passage is the rest of the
//! context, empty if the context has one sentence.

use std::borrow::Cow;

use glm_text::question::{BLANK, Choices, ClozeText};
use serde::Deserialize;

use super::given::Given;
use super::members::{extra_members, members, unquoted};
use super::near_miss::meant_as;
use super::words::mentions;
use crate::source::error::{QuestionError, RecordError};
use crate::source::format::{ClozeFormat, Content, Format, json_object};
use crate::source::head::Head;
use crate::source::passage::{Passage, Question};

/// Fields that the format defines.
const FIELDS: [&str; 5] = ["context", "choices", "answer", "id", "source"];

/// Plain cloze data.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    context: Option<Cow<'a, str>>,
    choices: Option<Vec<String>>,
    #[serde(default)]
    answer: Given,
    #[serde(default)]
    id: Given,
    #[serde(borrow, default)]
    source: Cow<'a, str>,
}

impl Format for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn about(&self) -> &'static str {
        r#"One {"context", "choices", "answer"} per line"#
    }

    fn signs(&self) -> &'static str {
        "`context` and `choices`"
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        // The other fields may follow a long context that is cut off.
        matches!(head, Head::Json(keys) if keys.has("context") && (keys.has("choices") || keys.has_only(&FIELDS)))
    }

    fn has_extra_fields(&self) -> bool {
        true
    }

    fn extra_fields(&self, record: &str) -> Option<String> {
        extra_members(record, &FIELDS)
    }

    fn content(&self) -> Content<'_> {
        Content::Questions(self)
    }
}

impl ClozeFormat for Plain {
    fn blank(&self) -> &'static str {
        BLANK
    }

    fn asks_once(&self) -> bool {
        true
    }

    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError> {
        let raw: RawLine<'_> = json_object(self.name(), record)?;
        let missing = |field| missing(field, record);
        let (id, name) = match raw.id {
            Given::Null => (None, None),
            Given::Text(name) => (None, Some(name)),
            Given::Integer(number) => (Some(number), None),
            other => {
                let message = format!("`id` is {}; expected a string or an integer", other.shown());
                return Err(RecordError::Syntax { format: self.name(), message });
            }
        };
        let context = raw.context.ok_or_else(|| missing("context"))?;
        let given = raw.choices.ok_or_else(|| missing("choices"))?;
        if labelled && raw.answer == Given::Null {
            return Err(missing("answer"));
        }
        let ClozeText { passage: text, query, blank } = ClozeText::from_context(&context)?;
        let choices = Choices::new(&given)?;
        let answers = if labelled { parse_answers(&raw.answer, &choices)? } else { Vec::new() };

        let question = Question { id, name, text: query, blank, answers };
        Ok(vec![Passage {
            id: None,
            source: raw.source.into_owned(),
            mentions: mentions(&text, &choices.candidates)?,
            text,
            choice_indices: choices.first_given(),
            candidates: choices.candidates,
            questions: vec![Ok(question)],
        }])
    }
}

/// Returns the error for a field that is missing or `null`, with the field of the record that is meant as it, if any.
fn missing(field: &'static str, record: &str) -> RecordError {
    let mut names = members(record).into_iter().map(|(name, _)| unquoted(name));
    let instead = names.find(|name| meant_as(name) == Some(field)).map(Cow::into_owned);
    RecordError::Missing { field, instead }
}

/// Returns the indices of the correct candidates, ascending.
fn parse_answers(answer: &Given, choices: &Choices) -> Result<Vec<usize>, QuestionError> {
    let given = match answer {
        Given::List(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if given.is_empty() {
        return Err(QuestionError::NoAnswers);
    }
    let index = |value: &Given| {
        let index = if let Given::Integer(index) = value { usize::try_from(*index).ok() } else { None };
        index.and_then(|index| choices.candidate(index)).ok_or_else(|| QuestionError::AnswerNotAChoice {
            answer: value.shown(),
            choices: choices.given(),
            expected: "an index of `choices`, counted from 0, or a list of them",
        })
    };
    let mut answers = given.iter().map(index).collect::<Result<Vec<_>, _>>()?;
    answers.sort_unstable();
    answers.dedup();
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use glm_text::standard::CharOffsets;

    const LINE: &str = r#"{"context": "Leo’s kite flew. It got stuck in the [BLANK]! Leo, said Eva, climbs.", "choices": ["tree", "pond", "Eva", "tree"], "answer": [3, 0], "id": "k-1"}"#;

    fn parse(line: &str, labelled: bool) -> Passage {
        Plain.parse(line, labelled).expect("a line").remove(0)
    }

    fn with(field: &str, value: Value) -> String {
        let mut line: Value = serde_json::from_str(LINE).expect("good");
        line[field] = value;
        line.to_string()
    }

    #[test]
    fn the_sentence_with_the_blank_is_the_query() {
        let passage = parse(LINE, true);
        assert_eq!(passage.text, "Leo's kite flew. Leo, said Eva, climbs.");
        assert_eq!(passage.candidates, ["Eva", "pond", "tree"]);
        assert_eq!(passage.choice_indices, [2, 1, 0], "`tree` is given twice, first at 0");
        let question = passage.questions[0].clone().expect("good");
        assert_eq!(question.text, "It got stuck in the [BLANK]!");
        assert_eq!((&question.text[question.blank.clone()], question.answers.as_slice()), ("[BLANK]", &[2][..]));
        assert_eq!((passage.id, question.id, question.name.as_deref()), (None, None, Some("k-1")));
        let offsets = CharOffsets::new(&passage.text);
        assert_eq!(passage.mentions.iter().map(|&m| offsets.slice(m).expect("in range")).collect::<Vec<_>>(), ["Eva"]);
    }

    #[test]
    fn a_single_sentence_is_a_query_without_a_passage() {
        let passage = parse(&with("context", json!("A [BLANK] sings.")), true);
        let question = passage.questions[0].clone().expect("good");
        assert_eq!((passage.text.as_str(), question.text.as_str()), ("", "A [BLANK] sings."));
    }

    #[test]
    fn ids_and_answers_may_be_numbers_or_missing() {
        let question = |line: &str, labelled| parse(line, labelled).questions[0].clone().expect("good");
        let numbered = question(&with("id", json!(-4)), true);
        assert_eq!((numbered.id, numbered.name), (Some(-4), None));
        assert_eq!(question(&with("id", Value::Null), true).name, None);
        assert_eq!(question(&with("answer", json!(1)), true).answers, [1]);
        for line in [with("answer", Value::Null), LINE.replace("answer", "x"), with("answer", json!([]))] {
            assert!(question(&line, false).answers.is_empty());
            assert!(Plain.parse(&line, true).is_err());
        }
        assert!(question(&with("answer", json!("odd")), false).answers.is_empty());
    }

    #[test]
    fn unknown_fields_are_extra() {
        assert_eq!(Plain.extra_fields(LINE), None);
        let line = LINE.replace("\"id\"", "\"topic\": {\"b\": [1.50, null], \"a\": \"é\"}, \"Answer\": 3, \"id\"");
        assert_eq!(
            Plain.extra_fields(&line).as_deref(),
            Some("{\"topic\": {\"b\": [1.50, null], \"a\": \"é\"}, \"Answer\": 3}")
        );
    }

    #[test]
    fn invalid_lines_are_errors() {
        let index = "expected an index of `choices`, counted from 0, or a list of them";
        for (line, message) in [
            ("[]".to_owned(), "not a record of format `plain`: expected a JSON object"),
            (LINE.replace("choices", "Options"), "no `choices`; rename the field `Options` to `choices`"),
            (LINE.replace("context", "question"), "no `context`; rename the field `question` to `context`"),
            (LINE.replace("answer", "label"), "no `answer`; rename the field `label` to `answer`"),
            (LINE.replace("\"answer\"", "\"x\""), "no `answer`"),
            (with("choices", Value::Null), "no `choices`"),
            (with("answer", json!([])), "no answers are given"),
            (with("id", json!(1.5)), "not a record of format `plain`: `id` is 1.5; expected a string or an integer"),
            (with("context", json!("none")), "the text holds `[BLANK]` 0 times, it must hold it once"),
            (with("context", json!("[BLANK] [BLANK]")), "the text holds `[BLANK]` 2 times, it must hold it once"),
            (with("choices", json!([])), "no choices are given, so there is nothing to choose from"),
            (with("choices", json!(["a", ""])), "choice 1 is empty; every choice must hold some text"),
            (with("answer", json!([0, 4])), &format!("the answer 4 is not one of the 4 choices; {index}")),
            (with("answer", json!(-1)), &format!("the answer -1 is not one of the 4 choices; {index}")),
            (with("answer", json!("tree")), &format!("the answer \"tree\" is not one of the 4 choices; {index}")),
            (with("answer", json!("é".repeat(99))), &format!("the answer \"{}… is not one of the 4 choices", "é".repeat(39))),
        ] {
            let error = Plain.parse(&line, true).expect_err(message).to_string();
            assert!(error.starts_with(message), "{error}\n{message}");
        }
    }

    proptest! {
        #[test]
        fn it_never_panics(text in "(\\PC|\\. |\n){0,40}", after in "(\\PC|\\. |\n){0,20}", cut in 0_usize..200, labelled: bool) {
            let _ = Plain.parse(&text, labelled);
            let at = (0..=cut.min(LINE.len())).rev().find(|&at| LINE.is_char_boundary(at)).unwrap_or(0);
            prop_assert!(Plain.parse(&LINE[..at], labelled).is_err() || at == LINE.len());
            let _ = Plain.parse(&format!("{}{text}{}", &LINE[..at], &LINE[at..]), labelled);
            let passage = parse(&with("context", json!(format!("{text}[BLANK]{after}"))), labelled);
            let question = passage.questions[0].clone().expect("good");
            prop_assert_eq!(&question.text[question.blank], BLANK);
        }
    }
}
