//! Documents as JSON lines: `{"text": …}` with an optional `prompt`, `id` and `source`, as most corpora are published.

use std::borrow::Cow;

use serde::Deserialize;

use super::{MIN_CHARS, is_longer, not_blank};
use crate::source::document::Document;
use crate::source::error::RecordError;
use crate::source::format::{Content, DocumentFormat, Format, json_object};
use crate::source::formats::given::Given;
use crate::source::formats::members::{extra_members, members, unquoted};
use crate::source::head::Head;

/// Fields that the format defines.
const FIELDS: [&str; 4] = ["text", "prompt", "id", "source"];
/// Names under which data often has its text.
const MEANT: [&str; 7] = ["content", "contents", "body", "document", "article", "passage", "raw_content"];

/// One `{"text"}` per line.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonLines;

/// JSON lines whose short documents are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenWebText;

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    prompt: Option<Cow<'a, str>>,
    #[serde(default)]
    id: Given,
    #[serde(default)]
    source: Given,
}

/// Parses one object.
pub(super) fn parse(format: &'static str, record: &str) -> Result<Document, RecordError> {
    let RawLine { text, prompt, id, source } = json_object(format, record)?;
    let id = match id {
        Given::Null => None,
        Given::Text(id) => Some(id),
        Given::Integer(id) => Some(id.to_string()),
        other => {
            let message = format!("`id` is {}; expected a string or an integer", other.shown());
            return Err(RecordError::Syntax { format, message });
        }
    };
    // Other corpora have objects under this name, which are not its name.
    let source = if let Given::Text(source) = source { source } else { String::new() };
    let Some(text) = text else {
        let mut names = members(record).into_iter().map(|(name, _)| unquoted(name).into_owned());
        let instead = names.find(|name| MEANT.contains(&name.as_str()));
        return Err(RecordError::Missing { field: "text", instead });
    };
    let prompt = prompt.filter(|prompt| !prompt.trim().is_empty()).map(Cow::into_owned);
    not_blank(Document { id, source, prompt, text: text.into_owned() })
}

impl Format for JsonLines {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn about(&self) -> &'static str {
        r#"Documents: one {"text"} per line, with an optional "prompt""#
    }

    fn signs(&self) -> &'static str {
        "`text`"
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        matches!(head, Head::Json(keys) if keys.has("text"))
    }

    fn content(&self) -> Content<'_> {
        Content::Documents(self)
    }

    fn has_extra_fields(&self) -> bool {
        true
    }

    fn extra_fields(&self, record: &str) -> Option<String> {
        extra_members(record, &FIELDS)
    }
}

impl DocumentFormat for JsonLines {
    fn documents(&self, record: &str) -> Result<Vec<Option<Document>>, RecordError> {
        Ok(vec![Some(parse(self.name(), record)?)])
    }
}

impl Format for OpenWebText {
    fn name(&self) -> &'static str {
        "openwebtext"
    }

    fn about(&self) -> &'static str {
        r#"Documents: as jsonl, texts of up to 100 characters are left out"#
    }

    fn signs(&self) -> &'static str {
        "nothing; it must be named"
    }

    fn detect(&self, _: &Head<'_>) -> bool {
        false
    }

    fn content(&self) -> Content<'_> {
        Content::Documents(self)
    }

    fn has_extra_fields(&self) -> bool {
        true
    }

    fn extra_fields(&self, record: &str) -> Option<String> {
        extra_members(record, &FIELDS)
    }
}

impl DocumentFormat for OpenWebText {
    fn documents(&self, record: &str) -> Result<Vec<Option<Document>>, RecordError> {
        let document = parse(self.name(), record)?;
        Ok(vec![Some(document).filter(|document| is_longer(&document.text, MIN_CHARS))])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(record: &str) -> Document {
        JsonLines.documents(record).expect("a document").remove(0).expect("kept")
    }

    #[test]
    fn fields_become_a_document() {
        let document = one(r#"{"text": "A \"b\".\n", "prompt": "Q", "id": 7, "source": "wiki", "url": "x"}"#);
        let prompt = Some("Q".to_owned());
        let expected = Document { id: Some("7".into()), source: "wiki".into(), prompt, text: "A \"b\".\n".into() };
        assert_eq!(document, expected);
        let bare = Document { text: "A".into(), ..Document::default() };
        assert_eq!(one(r#"{"text": "A", "prompt": " ", "source": {"x": 1}}"#), bare);
        assert_eq!(
            JsonLines.extra_fields(r#"{"text": "A", "url": "x", "n": [1]}"#).as_deref(),
            Some(r#"{"url": "x", "n": [1]}"#)
        );
        assert_eq!(JsonLines.extra_fields(r#"{"text": "A"}"#), None);
    }

    #[test]
    fn errors_name_the_field() {
        for (record, message) in [
            (r#"{"text": " \n"}"#, "the text is empty"),
            (r#"{"text": null}"#, "no `text`"),
            (r#"{"content": "A"}"#, "no `text`; rename the field `content` to `text`"),
            (r#"{"text": "A", "id": [1]}"#, "not a record of format `jsonl`: `id` is a list; expected a string or an integer"),
            (r#"["A"]"#, "not a record of format `jsonl`: expected a JSON object"),
        ] {
            assert_eq!(JsonLines.documents(record).expect_err(record).to_string(), message);
        }
        let error = JsonLines.documents(r#"{"text": 5}"#).expect_err("a number").to_string();
        assert!(error.starts_with("not a record of format `jsonl`: invalid type: integer `5`"), "{error}");
    }

    #[test]
    fn short_documents_of_openwebtext_are_left_out() {
        let of = |chars: usize| OpenWebText.documents(&format!("{{\"text\": \"{}\"}}", "é".repeat(chars))).expect("valid");
        assert_eq!(of(100), [None]);
        assert!(of(101)[0].is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_rejected(text in "\\PC{0,80}", at in 0_usize..60) {
            let _ = JsonLines.documents(&text);
            let line = serde_json::json!({"text": format!("x{text}"), "prompt": text}).to_string();
            prop_assert_eq!(one(&line).text, format!("x{text}"));
            let cut: String = line.chars().take(at).collect();
            prop_assert!(cut.len() == line.len() || JsonLines.documents(&cut).is_err());
        }
    }
}
