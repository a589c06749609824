//! Pairs in one JSON object per line, for users' own data sets.
//!
//! `{"source": "…", "target": "…", "references": ["…", …], "id": …}`. Only `source` is required: without `target`, the pair can be
//! predicted but not trained on. `references` are the texts that predictions are compared with; without them it is the target.

use std::borrow::Cow;

use glm_text::pair::Template;
use serde::Deserialize;

use super::{RawPair, References, Windows};

/// Fields that the format defines.
pub const FIELDS: [&str; 4] = ["source", "target", "references", "id"];

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    references: Option<Vec<String>>,
    #[serde(default)]
    id: Option<serde_json::Value>,
}

/// Parses a line. If `labelled`, a pair without a target is an error.
///
/// # Errors
/// A message that says what is wrong with the line.
pub fn parse(line: &str, labelled: bool) -> Result<RawPair, String> {
    // serde would also read an array of the field values as a struct.
    if !line.trim_start().starts_with('{') {
        return Err("expected a JSON object with `source` and `target`".to_owned());
    }
    let raw: RawLine<'_> =
        serde_json::from_str(line).map_err(|error| error.to_string().replace(" at line 1 column ", " at column "))?;
    let source = raw.source.ok_or("no `source`")?.trim().to_owned();
    if source.is_empty() {
        return Err("`source` is empty".to_owned());
    }
    let target = raw.target.map(|target| target.trim().to_owned());
    if labelled && target.as_deref().is_none_or(str::is_empty) {
        return Err(if target.is_some() { "`target` is empty" } else { "no `target`" }.to_owned());
    }
    let id = match raw.id {
        None => None,
        Some(serde_json::Value::String(id)) => Some(id),
        Some(serde_json::Value::Number(id)) if !id.is_f64() => Some(id.to_string()),
        Some(other) => return Err(format!("`id` is {other}; expected a string or an integer")),
    };
    let references = raw.references.unwrap_or_else(|| target.iter().cloned().collect());
    Ok(RawPair {
        id,
        template: Template::Continuation,
        source,
        prompt: String::new(),
        target,
        references: References::Texts(references),
        windows: Windows::One,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_source_is_required_to_predict() {
        let pair = parse(r#"{"source": " a b ", "extra": [1]}"#, false).expect("valid");
        assert_eq!((pair.source.as_str(), pair.target, pair.references), ("a b", None, References::Texts(vec![])));
        let pair = parse(r#"{"id": 7, "source": "a", "target": "b", "references": ["b", "c"]}"#, true).expect("valid");
        assert_eq!((pair.id.as_deref(), pair.target.as_deref()), (Some("7"), Some("b")));
        assert_eq!(pair.references, References::Texts(vec!["b".to_owned(), "c".to_owned()]));
        let pair = parse(r#"{"id": null, "source": "a", "target": "b"}"#, true).expect("valid");
        assert_eq!((pair.id, pair.references), (None, References::Texts(vec!["b".to_owned()])));
    }

    #[test]
    fn invalid_lines_are_errors() {
        for (line, message) in [
            ("[]", "expected a JSON object with `source` and `target`"),
            (r#"{"target": "a"}"#, "no `source`"),
            (r#"{"source": " "}"#, "`source` is empty"),
            (r#"{"source": "a"}"#, "no `target`"),
            (r#"{"source": "a", "target": " "}"#, "`target` is empty"),
            (r#"{"source": "a", "target": "b", "id": 1.5}"#, "`id` is 1.5; expected a string or an integer"),
            (r#"{"source": 1}"#, "invalid type: integer `1`, expected a string at column 12"),
        ] {
            assert_eq!(parse(line, true).expect_err(line), message);
        }
    }
}
