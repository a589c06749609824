//! Fields of raw records.

use serde_json::Value;

use super::error::ExampleError;

/// A record with one item of each of its lists of lists chosen.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    /// The record, then the chosen items, each with the path of its list.
    scopes: Vec<(&'a str, &'a Value)>,
}

impl<'a> Record<'a> {
    /// A record without lists.
    pub(super) fn new(root: &'a Value) -> Self {
        Self { scopes: vec![("", root)] }
    }

    /// Returns one record for every item of the list at `path`.
    ///
    /// # Errors
    /// [`ExampleError`] if there is no such list.
    pub(super) fn items(&self, path: &'a str) -> Result<Vec<Self>, ExampleError> {
        let value = self.get(path).ok_or_else(|| ExampleError::Missing(path.to_owned()))?;
        let list = value.as_array().ok_or_else(|| wrong(path, value, "a list"))?;
        Ok(list.iter().map(|item| Self { scopes: self.scopes.iter().copied().chain([(path, item)]).collect() }).collect())
    }

    /// Returns the value of a field; `None` if it is missing or null. Dots separate the names of nested fields.
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        // The field of a chosen item has the path of its list first.
        let inner = self.scopes.iter().rev().find_map(|&(path, item)| match path {
            "" => Some((item, field)),
            path => field.strip_prefix(path)?.strip_prefix('.').map(|rest| (item, rest)),
        });
        let (item, rest) = inner?;
        // A name with dots of its own is a field too.
        let found = item.get(rest).or_else(|| rest.split('.').try_fold(item, |value, name| value.get(name)))?;
        (!found.is_null()).then_some(found)
    }

    /// Returns a field as text: a string, a number or a truth value.
    ///
    /// # Errors
    /// [`ExampleError`] if it is missing or holds something else.
    pub(super) fn text(&self, field: &str) -> Result<String, ExampleError> {
        let value = self.get(field).ok_or_else(|| ExampleError::Missing(field.to_owned()))?;
        scalar(value).ok_or_else(|| wrong(field, value, "a text or a number"))
    }

    /// Returns a field that is a whole number, or a string of digits.
    ///
    /// # Errors
    /// [`ExampleError`] if it is missing or holds something else.
    pub(super) fn number(&self, field: &str) -> Result<i64, ExampleError> {
        let value = self.get(field).ok_or_else(|| ExampleError::Missing(field.to_owned()))?;
        number(value).ok_or_else(|| wrong(field, value, "a whole number"))
    }

    /// Returns a list of texts, or of objects that have one in their field `text`.
    ///
    /// # Errors
    /// [`ExampleError`] if it is missing or holds something else.
    pub(super) fn texts(&self, field: &str) -> Result<Vec<String>, ExampleError> {
        let value = self.get(field).ok_or_else(|| ExampleError::Missing(field.to_owned()))?;
        let list = value.as_array().ok_or_else(|| wrong(field, value, "a list of texts"))?;
        let text = |item: &Value| scalar(item.get("text").unwrap_or(item));
        list.iter().map(text).collect::<Option<_>>().ok_or_else(|| wrong(field, value, "a list of texts"))
    }
}

/// Text of a string, a number or a truth value.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whole number, also as a string.
pub(super) fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn wrong(field: &str, value: &Value, expected: &'static str) -> ExampleError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    ExampleError::Type { field: field.to_owned(), found, expected }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_of_lists_of_lists_see_what_they_are_in() {
        let value = json!({"idx": 3, "passage": {"text": "p", "questions": [
            {"question": "q", "idx": 5, "answers": [{"text": "x", "idx": 8}, {"text": "y", "idx": "9"}]},
            {"question": "r", "idx": 6, "answers": []},
        ]}});
        let record = Record::new(&value);
        let questions = record.items("passage.questions").expect("a list");
        assert_eq!(questions.len(), 2);
        let answers = questions[0].items("passage.questions.answers").expect("a list");
        let second = &answers[1];
        assert_eq!(second.text("passage.text"), Ok("p".to_owned()));
        assert_eq!(second.text("passage.questions.question"), Ok("q".to_owned()));
        assert_eq!(second.text("passage.questions.answers.text"), Ok("y".to_owned()));
        assert_eq!((second.number("passage.questions.answers.idx"), second.number("idx")), (Ok(9), Ok(3)));
        assert!(questions[1].items("passage.questions.answers").expect("a list").is_empty());
        assert_eq!(record.text("passage.title"), Err(ExampleError::Missing("passage.title".to_owned())));
        assert!(matches!(record.text("passage"), Err(ExampleError::Type { found: "an object", .. })));
        assert!(record.items("idx").is_err() && record.number("passage.text").is_err());
    }

    #[test]
    fn lists_hold_texts_or_objects_with_one() {
        let value = json!({"a": ["x", 2], "b": [{"text": "y"}], "c": [[]], "d.e": "dotted"});
        let record = Record::new(&value);
        assert_eq!(record.texts("a"), Ok(vec!["x".to_owned(), "2".to_owned()]));
        assert_eq!(record.texts("b"), Ok(vec!["y".to_owned()]));
        assert!(record.texts("c").is_err());
        assert_eq!(record.text("d.e"), Ok("dotted".to_owned()));
    }
}
