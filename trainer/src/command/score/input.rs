//! Questions as somebody writes them: JSON objects, arguments, or lines that are typed when asked.

use std::io::{self, BufRead, Write};

use glm_text::question::{Choices, ClozeText, QuestionTextError};
use serde_json::{Map, Value};
use thiserror::Error;

/// A question to be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where it comes from, for messages.
    pub origin: String,
    /// Passage and query.
    pub text: ClozeText,
    /// The distinct choices, sorted by code point as those of a data set are.
    pub choices: Vec<String>,
}

/// Why there is no question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InputError {
    /// No JSON.
    #[error("{origin}: no JSON: {reason}")]
    Syntax {
        /// File and line.
        origin: String,
        /// What the parser says.
        reason: String,
    },
    /// Another JSON value, or an object with other fields.
    #[error(
        "{origin}: {reason}; a question is {{\"context\": \"… [BLANK] …\", \"choices\": [\"…\"]}} or has \"passage\", \"query\" and \"choices\""
    )]
    Fields {
        /// File and line.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A text that is no question.
    #[error("{origin}: {source}")]
    Text {
        /// File and line.
        origin: String,
        /// What is wrong.
        source: QuestionTextError,
    },
    /// Nothing but white space.
    #[error("{origin}: there is no question in it")]
    Empty {
        /// The file.
        origin: String,
    },
}

/// Reads JSON objects, one a line or laid out over several.
///
/// # Errors
/// [`InputError`] with the line, for the first one that is no question.
pub fn parse(origin: &str, text: &str) -> Result<Vec<Asked>, InputError> {
    let mut asked = Vec::new();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    loop {
        let start = values.byte_offset();
        let start = start + text[start..].len() - text[start..].trim_start().len();
        let place = format!("{origin}, line {}", 1 + text[..start].matches('\n').count());
        match values.next() {
            None if asked.is_empty() => return Err(InputError::Empty { origin: origin.to_owned() }),
            None => return Ok(asked),
            Some(Ok(value)) => asked.push(question(place, &value)?),
            Some(Err(error)) => {
                let (line, column) = (error.line(), error.column());
                let message = error.to_string();
                let reason = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
                let origin = format!("{origin}, line {line}, column {column}");
                return Err(InputError::Syntax { origin, reason: reason.to_owned() });
            }
        }
    }
}

fn question(origin: String, value: &Value) -> Result<Asked, InputError> {
    let fields = |reason: String| InputError::Fields { origin: origin.clone(), reason };
    let object = value.as_object().ok_or_else(|| fields("no JSON object".to_owned()))?;
    let context = text(object, "context").map_err(fields)?;
    let passage = text(object, "passage").map_err(fields)?;
    let query = text(object, "query").map_err(fields)?;
    let choices = choices(object).map_err(fields)?;
    match (context, query) {
        (Some(context), None) if passage.is_none() => asked(origin, ClozeText::from_context(context), &choices),
        (None, Some(query)) => asked(origin, ClozeText::from_query(passage.unwrap_or_default(), query), &choices),
        (Some(_), _) => Err(fields("`context` stands beside `query` or `passage`".to_owned())),
        (None, None) => Err(fields("no `context` and no `query`".to_owned())),
    }
}

/// A field that is a text, if it is there.
fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a text")),
    }
}

fn choices(object: &Map<String, Value>) -> Result<Vec<&str>, String> {
    let list = object.get("choices").ok_or("no `choices`")?;
    let texts = list.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    texts.ok_or_else(|| "`choices` is not a list of texts".to_owned())
}

/// A question of its parts.
///
/// # Errors
/// [`InputError::Text`].
pub fn asked<T: AsRef<str>>(
    origin: String,
    text: Result<ClozeText, QuestionTextError>,
    choices: &[T],
) -> Result<Asked, InputError> {
    let parts = text.and_then(|text| Ok((text, Choices::new(choices)?.candidates)));
    match parts {
        Ok((text, choices)) => Ok(Asked { origin, text, choices }),
        Err(source) => Err(InputError::Text { origin, source }),
    }
}

/// Asks for a question, until one is typed that can be used; `None` where the input ends.
///
/// # Errors
/// An [`io::Error`] of reading or writing.
pub fn ask(input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<Option<Asked>> {
    loop {
        writeln!(output, "Passage; an empty line ends it:")?;
        let Some(passage) = lines(input)? else { return Ok(None) };
        writeln!(output, "Query, in one line, with [BLANK] or @placeholder where the choices go:")?;
        let Some(query) = line(input)? else { return Ok(None) };
        writeln!(output, "Choices, one a line; an empty line ends them:")?;
        let Some(choices) = lines(input)? else { return Ok(None) };
        match asked("typed".to_owned(), ClozeText::from_query(&passage.join("\n"), &query), &choices) {
            Ok(asked) => return Ok(Some(asked)),
            Err(error) => writeln!(output, "{error}. Once more.\n")?,
        }
    }
}

fn line(input: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    let bytes = input.read_line(&mut line)?;
    Ok((bytes > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// Lines up to an empty one, or to the end of the input; `None` where that comes first.
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
    fn objects_may_stand_in_lines_or_span_them() {
        let text = "\n{\"context\": \"A ran. [BLANK] sat.\", \"choices\": [\"Bo\", \"Al\", \"Bo\"], \"answer\": 1}\n\
                    {\n  \"passage\": \"A ran.\",\n  \"query\": \"@placeholder sat.\",\n  \"choices\": [\"Al\", \"Bo\"]\n}\n";
        let [plain, record] = <[Asked; 2]>::try_from(parse("f", text).expect("questions")).expect("two");
        assert_eq!((plain.text.passage.as_str(), plain.text.query.as_str()), ("A ran.", "[BLANK] sat."));
        assert_eq!((plain.text.passage, plain.choices), (record.text.passage, record.choices));
        assert_eq!([plain.origin, record.origin], ["f, line 2", "f, line 3"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let good = r#"{"query": "[BLANK]", "choices": ["a"]}"#;
        for (text, message) in [
            ("", "f: there is no question in it"),
            ("{\"context\": \"[BLANK]\",\n \"choices\": [\"a\" \"b\"]}", "f, line 2, column 18: no JSON: expected `,` or `]`"),
            ("[1]", "f, line 1: no JSON object; a question is"),
            (r#"{"context": 1, "choices": []}"#, "f, line 1: `context` is not a text; a question is"),
            (r#"{"context": "[BLANK]"}"#, "f, line 1: no `choices`; a question is"),
            (r#"{"query": "[BLANK]", "choices": "a"}"#, "f, line 1: `choices` is not a list of texts; a question is"),
            (r#"{"choices": ["a"]}"#, "f, line 1: no `context` and no `query`; a question is"),
            (r#"{"context": "[BLANK]", "query": "", "choices": ["a"]}"#, "f, line 1: `context` stands beside"),
            (r#"{"query": "none", "choices": ["a"]}"#, "f, line 1: the text holds `@placeholder` 0 times"),
            (r#"{"query": "[BLANK]", "choices": ["a", " "]}"#, "f, line 1: choice 1 is empty"),
        ] {
            let error = parse("f", text).expect_err(message).to_string();
            assert!(error.starts_with(message), "{error}");
            let behind = parse("f", &format!("{good}\n\n{text}"));
            assert_eq!(behind.is_ok(), text.is_empty());
        }
    }

    #[test]
    fn typed_questions_are_asked_for_until_they_can_be_used() {
        let mut input = "P one.\nP two.\n\nno blank\nAl\n\n\nThe [BLANK].\r\nBo\nAl\n".as_bytes();
        let mut output = Vec::new();
        let typed = ask(&mut input, &mut output).expect("in memory").expect("a question");
        assert_eq!((typed.text.passage.as_str(), typed.text.filled_with("x").as_str()), ("", "The x."));
        assert_eq!(typed.choices, ["Al", "Bo"]);
        assert!(String::from_utf8(output).expect("text").contains("typed: the text holds `@placeholder` 0 times"));
        assert_eq!(ask(&mut input, &mut Vec::new()).expect("in memory"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|[{}\\[\\]\",:\n]|\"(context|query|choices)\": ){0,60}") {
            let _ = parse("f", &text);
            let _ = ask(&mut text.as_bytes(), &mut Vec::new());
        }
    }
}
