//! ReCoRD as SuperGLUE publishes it: one JSON object per line.
//!
//! `{source, passage: {text, entities: [{start, end}]}, qas: [{query, answers: [{start, end, text}], idx}], idx}`. Offsets count
//! code points of the raw text, and `end` is inclusive. The test split has no `answers`.

use std::borrow::Cow;

use glm_schemas::cloze::CharSpan;
use glm_text::question::{PLACEHOLDER, find_blank};
use glm_text::standard::{CharOffsets, Highlighted, standardise};
use serde::Deserialize;

use super::words::MAX_MENTION_BYTES;
use crate::source::error::{QuestionError, RecordError, RejectedQuestion};
use crate::source::format::{ClozeFormat, Content, Format, json_object};
use crate::source::head::Head;
use crate::source::passage::{Passage, Question};

/// SuperGLUE's ReCoRD.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record;

#[derive(Deserialize)]
struct RawRecord<'a> {
    #[serde(borrow, default)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    passage: RawPassage<'a>,
    #[serde(borrow)]
    qas: Vec<RawQuestion<'a>>,
    idx: i64,
}

/// Text with its entities, the same in both formats of ReCoRD.
#[derive(Deserialize)]
pub(super) struct RawPassage<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    entities: Vec<RawSpan>,
}

#[derive(Deserialize)]
struct RawSpan {
    start: i64,
    end: i64,
}

/// Fields are optional so that a missing one rejects the question, not the passage.
#[derive(Deserialize)]
struct RawQuestion<'a> {
    #[serde(borrow)]
    query: Option<Cow<'a, str>>,
    #[serde(borrow)]
    answers: Option<Vec<RawAnswer<'a>>>,
    idx: Option<i64>,
}

/// The published recipe uses only the text of an answer, so its offsets are not read.
#[derive(Deserialize)]
pub(super) struct RawAnswer<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

impl Format for Record {
    fn name(&self) -> &'static str {
        "record"
    }

    fn about(&self) -> &'static str {
        "ReCoRD as SuperGLUE publishes it, one object per line"
    }

    fn signs(&self) -> &'static str {
        "`passage` with `entities` or `qas`"
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        // The other fields may follow a long text that is cut off.
        matches!(head, Head::Json(keys) if ["passage.entities", "passage.text"].iter().any(|key| keys.has(key)) || keys.has_all(&["passage", "qas"]))
    }

    fn content(&self) -> Content<'_> {
        Content::Questions(self)
    }
}

impl ClozeFormat for Record {
    fn blank(&self) -> &'static str {
        PLACEHOLDER
    }

    fn has_published_recipe(&self) -> bool {
        true
    }

    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError> {
        let raw: RawRecord<'_> = json_object(self.name(), record)?;
        check_count(raw.qas.len())?;
        let mut passage = raw.passage.annotated()?;
        let questions = raw.qas.iter().enumerate().map(|(position, question)| {
            let parsed = match question.idx {
                Some(_) => {
                    parse_question(question.query.as_deref(), question.answers.as_deref(), &passage.candidates, labelled)
                }
                None => Err(QuestionError::Missing("idx")),
            };
            parsed.map(|parsed| Question { id: question.idx, ..parsed }).map_err(|error| RejectedQuestion {
                position,
                id: question.idx,
                error,
            })
        });
        passage.questions = questions.collect();
        Ok(vec![Passage { id: Some(raw.idx), source: raw.source.into_owned(), ..passage }])
    }
}

/// Maximum number of questions per passage. Real passages have fewer than 10.
const MAX_QUESTIONS: usize = 1_000;

/// Checks the number of questions of a record.
pub(super) fn check_count(found: usize) -> Result<(), RecordError> {
    if found > MAX_QUESTIONS { Err(RecordError::TooManyQuestions { found, limit: MAX_QUESTIONS }) } else { Ok(()) }
}

impl RawPassage<'_> {
    /// Returns the text in standard form with its entities; id, source and questions are left empty.
    pub(super) fn annotated(&self) -> Result<Passage, RecordError> {
        let standardised = standardise(&self.text);
        let offsets = CharOffsets::new(&standardised);
        let highlighted = Highlighted::new(&standardised);

        let mut mentions = Vec::with_capacity(self.entities.len());
        let mut candidates = Vec::with_capacity(self.entities.len());
        let mut entity_bytes = 0;
        for (position, entity) in self.entities.iter().enumerate() {
            let span = char_span(position, entity, offsets.chars())?;
            let text = offsets.slice(span).unwrap_or_default();
            if text.trim().is_empty() {
                return Err(RecordError::EntityBlank { position, start: entity.start, end: entity.end });
            }
            mentions.push(highlighted.moved(span));
            candidates.push((text, position));
            entity_bytes += offsets.bytes(span).map_or(0, |bytes| bytes.len());
            if entity_bytes > MAX_MENTION_BYTES {
                return Err(RecordError::EntitiesTooLong { limit: MAX_MENTION_BYTES });
            }
        }
        // In UTF-8, byte order is code point order.
        candidates.sort_unstable();
        candidates.dedup_by_key(|(text, _)| *text);
        let (candidates, choice_indices) = candidates.into_iter().map(|(text, position)| (text.to_owned(), position)).unzip();
        Ok(Passage {
            id: None,
            source: String::new(),
            candidates,
            choice_indices,
            mentions,
            text: highlighted.text,
            questions: Vec::new(),
        })
    }
}

fn char_span(position: usize, entity: &RawSpan, length: usize) -> Result<CharSpan, RecordError> {
    let &RawSpan { start, end } = entity;
    if start > end {
        return Err(RecordError::EntityReversed { position, start, end });
    }
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(first), Ok(last)) if last < length => Ok(CharSpan { start: first, end: last + 1 }),
        _ => Err(RecordError::EntityOutOfRange { position, start, end, length }),
    }
}

/// Parses one question without its id and name, which differ between the two formats of ReCoRD.
pub(super) fn parse_question(
    query: Option<&str>,
    answers: Option<&[RawAnswer<'_>]>,
    candidates: &[String],
    labelled: bool,
) -> Result<Question, QuestionError> {
    let text = standardise(query.ok_or(QuestionError::Missing("query"))?);
    let blank = find_blank(&text, PLACEHOLDER)?;
    if candidates.is_empty() {
        return Err(QuestionError::NoCandidates);
    }
    let answers = if labelled { parse_answers(answers.unwrap_or_default(), candidates)? } else { Vec::new() };
    Ok(Question { id: None, name: None, text, blank, answers })
}

/// Returns the indices of the distinct answers among the candidates, ascending.
fn parse_answers(raw: &[RawAnswer<'_>], candidates: &[String]) -> Result<Vec<usize>, QuestionError> {
    let mut answers = Vec::new();
    for answer in raw {
        let text = standardise(answer.text.as_deref().ok_or(QuestionError::Missing("answers[].text"))?);
        match candidates.binary_search(&text) {
            Ok(index) => answers.push(index),
            Err(_) => return Err(QuestionError::AnswerNotAnEntity(text)),
        }
    }
    if answers.is_empty() {
        return Err(QuestionError::NoAnswers);
    }
    answers.sort_unstable();
    answers.dedup();
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use glm_text::question::QuestionTextError;
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = r#"{"source":"own","passage":{"text":"“Éa” met Bo.\n@highlight\nBo’s day","entities":[{"start":1,"end":2},{"start":9,"end":10},{"start":24,"end":25}]},"qas":[{"query":"– @placeholder’s","answers":[{"start":9,"end":10,"text":"Bo"},{"start":24,"end":25,"text":"Bo"},{"start":1,"end":2,"text":"Éa"}],"idx":7}],"idx":3}"#;

    fn parse(line: &str) -> Passage {
        Record.parse(line, true).expect("a record").remove(0)
    }

    fn question_error(line: &str) -> QuestionError {
        parse(line).questions[0].clone().expect_err("rejected").error
    }

    #[test]
    fn a_record_is_parsed_in_standard_form() {
        let passage = parse(LINE);
        assert_eq!(passage.text, "\"Éa\" met Bo.\n- Bo's day");
        assert_eq!((passage.id, passage.source.as_str()), (Some(3), "own"));
        let offsets = CharOffsets::new(&passage.text);
        let mentions: Vec<_> = passage.mentions.iter().map(|&mention| offsets.slice(mention).expect("in range")).collect();
        assert_eq!(mentions, ["Éa", "Bo", "Bo"]);
        assert_eq!(passage.candidates, ["Bo", "Éa"]);
        assert_eq!(passage.choice_indices, [1, 0], "the first entity of each text");
        let question = passage.questions[0].clone().expect("good");
        assert_eq!(
            (question.id, question.text.as_str(), question.answers.as_slice()),
            (Some(7), "- @placeholder's", &[0, 1][..])
        );
        assert_eq!(&question.text[question.blank], PLACEHOLDER);
    }

    #[test]
    fn invalid_records_are_errors() {
        for (line, message) in [
            ("{\"source\":", "incomplete JSON: EOF while parsing a value at column 10; a closing bracket"),
            ("[]", "not a record of format `record`: expected a JSON object"),
            (&LINE.replace("\"idx\":3", "\"id\":3"), "not a record of format `record`: missing field `idx`"),
            (&format!("{LINE} x"), "not valid JSON: trailing characters"),
            (
                &LINE.replace("\"end\":25},", "").replace("\"end\":25}]}", "\"end\":99}]}"),
                "entity 2 spans 24 to 99 (inclusive), but the passage has 32 code points",
            ),
            (
                &LINE.replace("{\"start\":1,\"end\":2}]", "").replace("{\"start\":1,", "{\"start\":-1,"),
                "entity 0 spans -1 to 2 (inclusive), but the passage has 32 code points",
            ),
            (
                &LINE.replace("{\"start\":9,\"end\":10},{", "{\"start\":9,\"end\":8},{"),
                "entity 1 starts at 9, after its end at 8 (inclusive)",
            ),
        ] {
            let error = Record.parse(line, true).expect_err(line).to_string();
            assert!(error.starts_with(message), "{error}\n{message}");
        }
    }

    #[test]
    fn an_invalid_question_rejects_only_that_question() {
        use QuestionError as E;
        for (line, error) in [
            (LINE.replace("@placeholder", "@place"), E::Text(QuestionTextError::Blank { marker: PLACEHOLDER, found: 0 })),
            (
                LINE.replace("@placeholder", "@placeholder@placeholder"),
                E::Text(QuestionTextError::Blank { marker: PLACEHOLDER, found: 2 }),
            ),
            (LINE.replace("\"text\":\"Éa\"", "\"text\":\"Ea\""), E::AnswerNotAnEntity("Ea".into())),
            (LINE.replace("\"text\":\"Éa\"", "\"txt\":\"Ea\""), E::Missing("answers[].text")),
            (LINE.replace("answers", "answer"), E::NoAnswers),
            (LINE.replace("\"query\"", "\"q\""), E::Missing("query")),
            (LINE.replace(",\"idx\":7", ""), E::Missing("idx")),
        ] {
            assert_eq!(question_error(&line), error);
        }
        let no_entities = r#"{"passage":{"text":"a","entities":[]},"qas":[{"query":"@placeholder","idx":1}],"idx":3}"#;
        assert_eq!(question_error(no_entities), E::NoCandidates);
        let two = LINE.replace("\"qas\":[", "\"qas\":[{\"query\":\"x\",\"idx\":6},");
        let questions = parse(&two).questions;
        let message = questions[0].clone().expect_err("no blank").to_string();
        assert_eq!(message, "question 0 (idx 6): the text holds `@placeholder` 0 times, it must hold it once");
        assert!(questions[1].is_ok());
    }

    #[test]
    fn a_short_line_cannot_need_unlimited_memory() {
        let text = "x".repeat(20_000);
        let entities: Vec<_> = (0..1_000).map(|start| serde_json::json!({"start": start, "end": 19_999})).collect();
        let line = serde_json::json!({"passage": {"text": text, "entities": entities}, "qas": [], "idx": 0}).to_string();
        assert_eq!(Record.parse(&line, true), Err(RecordError::EntitiesTooLong { limit: MAX_MENTION_BYTES }));
    }

    #[test]
    fn the_number_of_questions_is_limited() {
        let questions = |count| LINE.replace("\"qas\":[", &format!("\"qas\":[{}", "{},".repeat(count - 1)));
        assert_eq!(Record.parse(&questions(MAX_QUESTIONS), true).expect("a record")[0].questions.len(), MAX_QUESTIONS);
        let found = MAX_QUESTIONS + 1;
        let error = Record.parse(&questions(found), true);
        assert_eq!(error, Err(RecordError::TooManyQuestions { found, limit: MAX_QUESTIONS }));
    }

    #[test]
    fn without_labels_answers_are_ignored() {
        let unlabelled = Record.parse(&LINE.replace("answers", "answer"), false).expect("a record");
        assert_eq!(unlabelled[0].questions[0].clone().expect("good").answers, [0_usize; 0]);
        let labelled = Record.parse(LINE, false).expect("a record");
        assert_eq!(labelled[0].questions[0].clone().expect("good").answers, [0_usize; 0]);
    }

    proptest! {
        #[test]
        fn it_never_panics(line in "\\PC{0,80}", cut in 0_usize..400, labelled: bool) {
            let _ = Record.parse(&line, labelled);
            let at = (0..=cut.min(LINE.len())).rev().find(|&at| LINE.is_char_boundary(at)).unwrap_or(0);
            prop_assert!(Record.parse(&LINE[..at], labelled).is_err() || at == LINE.len());
            let _ = Record.parse(&format!("{}{line}{}", &LINE[..at], &LINE[at..]), labelled);
        }

        #[test]
        fn mentions_of_random_text_keep_their_positions(
            text in "([a-z éÉ中’“]|@highlight\n){0,40}", spans in prop::collection::vec((0_usize..60, 0_usize..8), 0..6),
        ) {
            let standard = standardise(&text);
            let length = standard.chars().count();
            let inside: Vec<_> = spans.into_iter().map(|(start, more)| (start, start + more))
                .filter(|&(start, end)| end < length && !standard.chars().skip(start).take(end + 1 - start).all(char::is_whitespace)).collect();
            let entities: Vec<_> = inside.iter().map(|(start, end)| serde_json::json!({"start": start, "end": end})).collect();
            let line = serde_json::json!({"passage": {"text": text, "entities": entities}, "qas": [], "idx": 0}).to_string();
            let passage = parse(&line);
            let offsets = CharOffsets::new(&passage.text);
            prop_assert_eq!(passage.mentions.len(), inside.len());
            for (mention, (start, end)) in passage.mentions.iter().zip(inside) {
                let raw: String = standard.chars().skip(start).take(end + 1 - start).collect();
                let now = offsets.slice(*mention).expect("in range");
                prop_assert!(passage.candidates.contains(&raw));
                // Equal unless the mention overlaps a marker.
                prop_assert!(now == raw || raw.contains(['@', '\n']) || text.contains('@'));
                if !text.contains('@') { prop_assert_eq!(now, raw); }
            }
        }
    }
}
