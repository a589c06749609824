//! Hand-written questions: JSON objects, arguments, or interactive input.

use std::io::{self, BufRead, Write};

use glm_text::question::{Choices, ClozeText, QuestionTextError};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::command::json_objects::{JsonValues, Syntax};

/// Question to be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Origin of the question, for messages.
    pub origin: String,
    /// Value of `id`, if there is one.
    pub id: Option<Value>,
    /// Passage and query.
    pub text: ClozeText,
    /// Distinct choices, sorted by code point as in a data set.
    pub choices: Vec<String>,
    /// Index of every choice in the given list; the first one if it is given several times.
    pub choice_indices: Vec<usize>,
}

/// Errors of reading questions.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InputError {
    /// The input is not valid JSON.
    #[error("{origin}: invalid JSON: {reason}")]
    Syntax {
        /// File and line.
        origin: String,
        /// Message of the parser.
        reason: String,
    },
    /// The JSON value is not an object with the expected fields.
    #[error(
        "{origin}: {reason}; expected {{\"context\": \"… [BLANK] …\", \"choices\": [\"…\"]}}, or \"passage\", \"query\" and \"choices\""
    )]
    Fields {
        /// File and line.
        origin: String,
        /// Description of the fault.
        reason: String,
    },
    /// The text is not a valid question.
    #[error("{origin}: {source}")]
    Text {
        /// File and line.
        origin: String,
        /// Error of the text.
        source: QuestionTextError,
    },
    /// The input contains only white space.
    #[error("{origin}: contains no question")]
    Empty {
        /// The file.
        origin: String,
    },
}

/// Parses JSON objects; an object may span several lines.
///
/// # Errors
/// Returns an [`InputError`] with the line of the first invalid question.
pub fn parse(origin: &str, text: &str) -> Result<Vec<Asked>, InputError> {
    let mut asked = Vec::new();
    for value in JsonValues::new(origin, text) {
        let (place, value) = value.map_err(|Syntax { origin, reason }| InputError::Syntax { origin, reason })?;
        asked.push(question(place, &value)?);
    }
    if asked.is_empty() { Err(InputError::Empty { origin: origin.to_owned() }) } else { Ok(asked) }
}

fn question(origin: String, value: &Value) -> Result<Asked, InputError> {
    let fields = |reason: String| InputError::Fields { origin: origin.clone(), reason };
    let object = value.as_object().ok_or_else(|| fields("not a JSON object".to_owned()))?;
    let context = text(object, "context").map_err(fields)?;
    let passage = text(object, "passage").map_err(fields)?;
    let query = text(object, "query").map_err(fields)?;
    let choices = choices(object).map_err(fields)?;
    let asked = match (context, query) {
        (Some(context), None) if passage.is_none() => asked(origin, ClozeText::from_context(context), &choices)?,
        (None, Some(query)) => asked(origin, ClozeText::from_query(passage.unwrap_or_default(), query), &choices)?,
        (Some(_), _) => return Err(fields("`context` cannot be combined with `query` or `passage`".to_owned())),
        (None, None) => return Err(fields("neither `context` nor `query`".to_owned())),
    };
    Ok(Asked { id: object.get("id").filter(|id| !id.is_null()).cloned(), ..asked })
}

/// Returns an optional string field.
fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a string")),
    }
}

fn choices(object: &Map<String, Value>) -> Result<Vec<&str>, String> {
    let list = object.get("choices").ok_or("no `choices`")?;
    let texts = list.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    texts.ok_or_else(|| "`choices` is not a list of strings".to_owned())
}

/// Creates a question from its parts.
///
/// # Errors
/// Returns an [`InputError::Text`].
pub fn asked<T: AsRef<str>>(
    origin: String,
    text: Result<ClozeText, QuestionTextError>,
    choices: &[T],
) -> Result<Asked, InputError> {
    let parts = text.and_then(|text| Ok((text, Choices::new(choices)?)));
    match parts {
        Ok((text, choices)) => {
            let choice_indices = choices.first_given();
            Ok(Asked { origin, id: None, text, choices: choices.candidates, choice_indices })
        }
        Err(source) => Err(InputError::Text { origin, source }),
    }
}

/// Prompts for a question until a valid one is entered; returns `None` at the end of the input.
///
/// # Errors
/// Returns an [`io::Error`] of reading or writing.
pub fn ask(input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<Option<Asked>> {
    loop {
        writeln!(output, "Passage (end with an empty line):")?;
        let Some(passage) = lines(input)? else { return Ok(None) };
        writeln!(output, "Query (one line, with [BLANK] or @placeholder in place of the choices):")?;
        let Some(query) = line(input)? else { return Ok(None) };
        writeln!(output, "Choices (one per line, end with an empty line):")?;
        let Some(choices) = lines(input)? else { return Ok(None) };
        match asked("input".to_owned(), ClozeText::from_query(&passage.join("\n"), &query), &choices) {
            Ok(asked) => return Ok(Some(asked)),
            Err(error) => writeln!(output, "{error}. Try again.\n")?,
        }
    }
}

fn line(input: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    let bytes = input.read_line(&mut line)?;
    Ok((bytes > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// Reads lines up to an empty line or the end of the input; returns `None` if there are none before the end.
fn lines(input: &mut dyn BufRead) -> io::Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    loop {
        match line(input)? {
            Some(line) if line.trim().is_empty() => return Ok(Some(lines)),
            Some(line) => lines.push(line),
            None if lines.is_empty() => return Ok(None),
            None => return Ok(Some(lines)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn objects_may_span_lines() {
        let text = "\n{\"context\": \"A ran. [BLANK] sat.\", \"choices\": [\"Bo\", \"Al\", \"Bo\"], \"id\": 7}\n\
                    {\n  \"passage\": \"A ran.\",\n  \"query\": \"@placeholder sat.\",\n  \"choices\": [\"Al\", \"Bo\"]\n}\n";
        let [plain, record] = <[Asked; 2]>::try_from(parse("f", text).expect("questions")).expect("two");
        assert_eq!((plain.text.passage.as_str(), plain.text.query.as_str()), ("A ran.", "[BLANK] sat."));
        assert_eq!((plain.text.passage, plain.choices), (record.text.passage, record.choices));
        assert_eq!((plain.choice_indices, record.choice_indices), (vec![1, 0], vec![0, 1]));
        assert_eq!((plain.id, record.id), (Some(7.into()), None));
        assert_eq!([plain.origin, record.origin], ["f, line 2", "f, line 3"]);
    }

    #[test]
    fn errors_name_the_line() {
        let good = r#"{"query": "[BLANK]", "choices": ["a"]}"#;
        for (text, message) in [
            ("", "f: contains no question"),
            (
                "{\"context\": \"[BLANK]\",\n \"choices\": [\"a\" \"b\"]}",
                "f, line 2, column 18: invalid JSON: expected `,` or `]`",
            ),
            ("[1]", "f, line 1: not a JSON object; expected"),
            (r#"{"context": 1, "choices": []}"#, "f, line 1: `context` is not a string; expected"),
            (r#"{"context": "[BLANK]"}"#, "f, line 1: no `choices`; expected"),
            (r#"{"query": "[BLANK]", "choices": "a"}"#, "f, line 1: `choices` is not a list of strings; expected"),
            (r#"{"choices": ["a"]}"#, "f, line 1: neither `context` nor `query`; expected"),
            (r#"{"context": "[BLANK]", "query": "", "choices": ["a"]}"#, "f, line 1: `context` cannot be combined with"),
            (r#"{"query": "none", "choices": ["a"]}"#, "f, line 1: the text holds `@placeholder` 0 times"),
            (r#"{"query": "[BLANK]", "choices": ["a", " "]}"#, "f, line 1: choice 1 is empty"),
        ] {
            let error = parse("f", text).expect_err(message).to_string();
            assert!(error.starts_with(message), "{error}");
            let after_good = parse("f", &format!("{good}\n\n{text}"));
            assert_eq!(after_good.is_ok(), text.is_empty());
        }
    }

    #[test]
    fn interactive_input_is_repeated_until_it_is_valid() {
        let mut input = "P one.\nP two.\n\nno blank\nAl\n\n\nThe [BLANK].\r\nBo\nAl\n".as_bytes();
        let mut output = Vec::new();
        let typed = ask(&mut input, &mut output).expect("in memory").expect("a question");
        assert_eq!((typed.text.passage.as_str(), typed.text.filled_with("x").as_str()), ("", "The x."));
        assert_eq!(typed.choices, ["Al", "Bo"]);
        assert!(String::from_utf8(output).expect("text").contains("input: the text holds `@placeholder` 0 times"));
        assert_eq!(ask(&mut input, &mut Vec::new()).expect("in memory"), None);
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "(\\PC|[{}\\[\\]\",:\n]|\"(context|query|choices)\": ){0,60}") {
            let _ = parse("f", &text);
            let _ = ask(&mut text.as_bytes(), &mut Vec::new());
        }
    }
}
