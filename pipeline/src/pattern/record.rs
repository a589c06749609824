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

    /// Returns one record for every item of the list at the first of `paths`, together with the items of the other lists in its place.
    ///
    /// # Errors
    /// [`ExampleError`] if a list is missing, or lists have different lengths.
    pub(super) fn items(&self, paths: &'a [String]) -> Result<Vec<Self>, ExampleError> {
        let list = |path: &'a String| -> Result<(&'a str, &'a Vec<Value>), ExampleError> {
            let value = self.get(path).ok_or_else(|| ExampleError::Missing(path.clone()))?;
            Ok((path, value.as_array().ok_or_else(|| wrong(path, value, "a list"))?))
        };
        let lists: Vec<_> = paths.iter().map(list).collect::<Result<_, _>>()?;
        let Some(&(first, items)) = lists.first() else { return Ok(Vec::new()) };
        if let Some((other, found)) = lists.iter().find(|(_, list)| list.len() != items.len()) {
            let (list, other) = (first.to_owned(), (*other).to_owned());
            return Err(ExampleError::Lengths { list, expected: items.len(), other, found: found.len() });
        }
        let item = |at: usize| {
            let chosen = lists.iter().map(|(path, list)| (*path, &list[at]));
            Self { scopes: self.scopes.iter().copied().chain(chosen).collect() }
        };
        Ok((0..items.len()).map(item).collect())
    }

    /// Returns the value of a field; `None` if it is missing or null. Dots separate the names of nested fields.
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        // The field of a chosen item has the path of its list first.
        let inner = self.scopes.iter().rev().find_map(|&(path, item)| match path {
            "" => Some((item, field)),
            path if path == field => Some((item, "")),
            path => field.strip_prefix(path)?.strip_prefix('.').map(|rest| (item, rest)),
        });
        let (item, rest) = inner?;
        if rest.is_empty() {
            return (!item.is_null()).then_some(item);
        }
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
        let (questions, answers) = (["passage.questions".to_owned()], ["passage.questions.answers".to_owned()]);
        let questions = record.items(&questions).expect("a list");
        assert_eq!(questions.len(), 2);
        let of_second = questions[1].items(&answers).expect("a list");
        let answers = questions[0].items(&answers).expect("a list");
        let second = &answers[1];
        assert_eq!(second.text("passage.text"), Ok("p".to_owned()));
        assert_eq!(second.text("passage.questions.question"), Ok("q".to_owned()));
        assert_eq!(second.text("passage.questions.answers.text"), Ok("y".to_owned()));
        assert_eq!((second.number("passage.questions.answers.idx"), second.number("idx")), (Ok(9), Ok(3)));
        assert!(of_second.is_empty());
        assert_eq!(record.text("passage.title"), Err(ExampleError::Missing("passage.title".to_owned())));
        assert!(matches!(record.text("passage"), Err(ExampleError::Type { found: "an object", .. })));
        assert!(record.items(&["idx".to_owned()]).is_err() && record.number("passage.text").is_err());
    }

    #[test]
    fn items_of_lists_side_by_side_belong_together() {
        let value = json!({"q": ["x", "y"], "options": [["a"], ["b", "c"]], "short": [1]});
        let [paths, short] = [["q", "options"], ["q", "short"]].map(|paths| paths.map(str::to_owned));
        let record = Record::new(&value);
        let items = record.items(&paths).expect("lists");
        assert_eq!((items[1].text("q"), items[1].texts("options")), (Ok("y".to_owned()), Ok(vec!["b".to_owned(), "c".to_owned()])));
        let error = record.items(&short).expect_err("another length").to_string();
        assert_eq!(error, "the lists `q` and `short` must have equally many items, but have 2 and 1");
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
