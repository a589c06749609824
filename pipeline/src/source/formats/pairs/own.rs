//! Pairs in one JSON object per line, for users' own data sets.
//!
//! `{"source": "…", "target": "…", "references": ["…", …], "id": …}`. Only `source` is required: without `target`, the pair can be
//! predicted but not trained on. `references` are the texts that predictions are compared with; without them it is the target.
//! In `{"source": "… [MASK] … [MASK]", "targets": ["…", "…"]}` the source has the blanks itself, and each has a target.

use std::borrow::Cow;

use glm_text::pair::{PART_END, Template};
use serde::Deserialize;

use super::blanks;
use crate::source::error::RecordError;
use crate::source::format::json_object;
use crate::source::formats::given::Given;
use crate::source::formats::members::{members, unquoted};
use crate::source::pair::{RawPair, References, Windows};

/// Fields that the format defines.
pub(crate) const FIELDS: [&str; 5] = ["source", "target", "targets", "references", "id"];
/// Names under which data often has its sources.
const SOURCES: [&str; 7] = ["input", "document", "article", "text", "question", "prompt", "src"];
/// Names under which data often has its targets.
const TARGETS: [&str; 8] = ["output", "summary", "highlights", "answer", "response", "completion", "label", "tgt"];

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    targets: Option<Vec<String>>,
    #[serde(default)]
    references: Option<Vec<String>>,
    #[serde(default)]
    id: Given,
}

/// Parses a line. If `labelled`, a pair without a target is an error.
///
/// # Errors
/// [`RecordError`] with the fault of the line.
pub fn parse(format: &'static str, line: &str, labelled: bool) -> Result<RawPair, RecordError> {
    let raw: RawLine<'_> = json_object(format, line)?;
    let wrong = |message: String| RecordError::Syntax { format, message };
    let missing = |field: &'static str, meant: &[&str]| {
        let mut names = members(line).into_iter().map(|(name, _)| unquoted(name).into_owned());
        RecordError::Missing { field, instead: names.find(|name| meant.contains(&name.as_str())) }
    };
    let source = raw.source.ok_or_else(|| missing("source", &SOURCES))?.trim().to_owned();
    if source.is_empty() {
        return Err(wrong("`source` is empty".to_owned()));
    }
    let (template, target) = match raw.targets {
        None => (Template::Continuation, raw.target),
        Some(_) if raw.target.is_some() => return Err(wrong("it has both `target` and `targets`".to_owned())),
        Some(parts) => (Template::Blanks, Some(joined(&source, &parts).map_err(wrong)?)),
    };
    let target = target.map(|target| target.trim().to_owned());
    if labelled {
        match target.as_deref() {
            None => return Err(missing("target", &TARGETS)),
            Some("") => return Err(wrong("`target` is empty".to_owned())),
            Some(_) => {}
        }
    }
    let id = match raw.id {
        Given::Null => None,
        Given::Text(id) => Some(id),
        Given::Integer(id) => Some(id.to_string()),
        other => return Err(wrong(format!("`id` is {}; expected a string or an integer", other.shown()))),
    };
    let references = raw.references.unwrap_or_else(|| target.iter().cloned().collect());
    Ok(RawPair {
        id,
        template,
        source,
        prompt: String::new(),
        target,
        references: References::Texts(references),
        windows: Windows::One,
    })
}

/// Joins the targets of the blanks of a source.
fn joined(source: &str, parts: &[String]) -> Result<String, String> {
    if let Some(part) = parts.iter().find(|part| part.contains(PART_END) || part.trim().is_empty()) {
        return Err(format!("`targets` has the text {part:?}; a target must not be empty or hold `{PART_END}`"));
    }
    blanks::check(source, parts.len())?;
    let parts: Vec<_> = parts.iter().map(|part| part.trim()).collect();
    Ok(parts.join(PART_END))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, labelled: bool) -> Result<RawPair, RecordError> {
        super::parse("pairs", line, labelled)
    }

    #[test]
    fn only_the_source_is_required_to_predict() {
        let pair = parse(r#"{"source": " a b ", "extra": [1]}"#, false).expect("valid");
        assert_eq!((pair.source.as_str(), pair.target, pair.references), ("a b", None, References::Texts(vec![])));
        let pair = parse(r#"{"id": 7, "source": "a", "target": "b", "references": ["b", "c"]}"#, true).expect("valid");
        assert_eq!((pair.id.as_deref(), pair.target.as_deref()), (Some("7"), Some("b")));
        assert_eq!(pair.references, References::Texts(vec!["b".to_owned(), "c".to_owned()]));
        let pair = parse(r#"{"source": "[MASK] and [MASK]", "targets": ["a", " b "]}"#, true).expect("valid");
        assert_eq!((pair.template, pair.target.as_deref()), (Template::Blanks, Some("a|b")));
        let pair = parse(r#"{"id": null, "source": "a", "target": "b"}"#, true).expect("valid");
        assert_eq!((pair.id, pair.references), (None, References::Texts(vec!["b".to_owned()])));
    }

    #[test]
    fn invalid_lines_are_errors() {
        for (line, message) in [
            ("[]", "not a record of format `pairs`: expected a JSON object"),
            (r#"{"target": "a"}"#, "no `source`"),
            (r#"{"article": "a", "target": "b"}"#, "no `source`; rename the field `article` to `source`"),
            (r#"{"source": " "}"#, "not a record of format `pairs`: `source` is empty"),
            (r#"{"source": "a"}"#, "no `target`"),
            (r#"{"source": "a", "summary": "b"}"#, "no `target`; rename the field `summary` to `target`"),
            (r#"{"source": "a", "target": " "}"#, "not a record of format `pairs`: `target` is empty"),
            (
                r#"{"source": "a [MASK]", "target": "b", "targets": ["c"]}"#,
                "not a record of format `pairs`: it has both `target` and `targets`",
            ),
            (
                r#"{"source": "a [MASK]", "targets": ["b", "c"]}"#,
                "not a record of format `pairs`: the number of [MASK] in the source is 1, that of its targets 2",
            ),
            (
                r#"{"source": "a", "targets": []}"#,
                "not a record of format `pairs`: the source has no [MASK] for its targets; write [MASK] in place of each blank",
            ),
            (
                r#"{"source": "a [MASK]", "targets": ["b|c"]}"#,
                "not a record of format `pairs`: `targets` has the text \"b|c\"; a target must not be empty or hold `|`",
            ),
            (
                r#"{"source": "a", "target": "b", "id": 1.5}"#,
                "not a record of format `pairs`: `id` is 1.5; expected a string or an integer",
            ),
        ] {
            assert_eq!(parse(line, true).expect_err(line).to_string(), message);
        }
    }
}
