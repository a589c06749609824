//! Texts with blanks, and their contexts.

use glm_schemas::vocab::TokenId;
use glm_text::tokenize::{Session, Tokenizer, TokenizerError};
use serde_json::Value;
use thiserror::Error;

use crate::command::json_objects::{JsonValues, Syntax};
use crate::generate::Context;

/// Written forms of a short blank, a sentence and a long text.
const MASK: &str = "[MASK]";
const SENTENCE: &str = "[sMASK]";
const DOCUMENT: &str = "[gMASK]";
/// End of all written forms.
const MASK_END: &str = "MASK]";

/// A text whose blanks are to be filled.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Origin, for messages.
    pub origin: String,
    /// Value of `id`, if there is one.
    pub id: Option<Value>,
    /// The text.
    pub text: String,
    /// Settings in place of the options, by name; unchecked.
    pub settings: Vec<(String, Value)>,
}

/// Errors of reading texts.
#[derive(Debug, Error)]
pub enum InputError {
    /// The input is not valid JSON.
    #[error("{origin}: invalid JSON: {reason}")]
    Syntax {
        /// File, line and column.
        origin: String,
        /// Message of the parser.
        reason: String,
    },
    /// The JSON value is not an object with the expected fields.
    #[error("{origin}: {reason}; expected {{\"text\": \"… [MASK] …\"}}")]
    Fields {
        /// File and line.
        origin: String,
        /// Description of the fault.
        reason: &'static str,
    },
    /// Settings of the text cannot be used.
    #[error("{origin}: {reason}")]
    Settings {
        /// File and line.
        origin: String,
        /// Description of the fault and remedy.
        reason: String,
    },
    /// The input contains only white space.
    #[error("{origin}: contains no text")]
    Empty {
        /// The file.
        origin: String,
    },
    /// A mask is written that is none.
    #[error("{origin}: {reason}")]
    NoBlank {
        /// File and line.
        origin: String,
        /// Description of the fault and remedy.
        reason: String,
    },
    /// The text does not fit the table of positions.
    #[error(
        "{origin}: the text has {tokens} tokens with [CLS] and the end of text, but the weights have {positions} positions; \
         shorten it, or use weights with more positions"
    )]
    TooLong {
        /// File and line.
        origin: String,
        /// Number of tokens.
        tokens: usize,
        /// Number of positions.
        positions: usize,
    },
    /// The text cannot be tokenized.
    #[error("{origin}: {source}")]
    Tokenizer {
        /// File and line.
        origin: String,
        /// Error of the tokenizer.
        source: TokenizerError,
    },
}

impl Asked {
    /// A text without an id.
    pub fn new(origin: String, text: &str) -> Self {
        Self { origin, id: None, text: text.to_owned(), settings: Vec::new() }
    }
}

/// A typed line.
pub(super) fn text_request(line: &str) -> Asked {
    Asked::new("input".to_owned(), line.trim_end_matches(['\n', '\r']))
}

/// Parses JSON objects; an object may span several lines.
///
/// # Errors
/// Returns an [`InputError`] with the line of the first invalid text.
pub fn parse(origin: &str, text: &str) -> Result<Vec<Asked>, InputError> {
    let mut asked = Vec::new();
    for value in JsonValues::new(origin, text) {
        let (place, value) = value.map_err(|Syntax { origin, reason }| InputError::Syntax { origin, reason })?;
        asked.push(request(place, &value)?);
    }
    if asked.is_empty() { Err(InputError::Empty { origin: origin.to_owned() }) } else { Ok(asked) }
}

fn request(origin: String, value: &Value) -> Result<Asked, InputError> {
    let Some(object) = value.as_object() else { return Err(InputError::Fields { origin, reason: "not a JSON object" }) };
    match object.get("text") {
        None => Err(InputError::Fields { origin, reason: "no `text`" }),
        Some(Value::String(text)) => {
            let id = object.get("id").filter(|id| !id.is_null()).cloned();
            let settings = object.iter().filter(|(name, _)| !["id", "text"].contains(&name.as_str()));
            let settings = settings.map(|(name, value)| (name.clone(), value.clone())).collect();
            Ok(Asked { id, settings, ..Asked::new(origin, text) })
        }
        Some(_) => Err(InputError::Fields { origin, reason: "`text` is not a string" }),
    }
}

/// A text with its context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// The text, with a blank at its end if none was written.
    pub(super) text: String,
    /// Text before, between and after the blanks.
    pub(super) parts: Vec<String>,
    /// Token ids and blanks.
    pub(super) context: Context,
}

/// Tokenizes texts and finds their blanks.
pub(super) struct Reader<'a> {
    tokenizer: &'a Tokenizer,
    session: Session<'a>,
    task_mask: bool,
    positions: usize,
}

impl<'a> Reader<'a> {
    /// Reads texts for weights with a number of positions; with `task_mask` all three masks are blanks.
    pub(super) fn new(tokenizer: &'a Tokenizer, task_mask: bool, positions: usize) -> Self {
        Self { tokenizer, session: tokenizer.session(), task_mask, positions }
    }

    /// Returns the context `[CLS] text [eos]`, without the end if a `[gMASK]` ends the text, as published.
    ///
    /// # Errors
    /// Returns an [`InputError`].
    pub(super) fn read(&mut self, asked: &Asked) -> Result<Text, InputError> {
        let special = self.tokenizer.special();
        let mut text = asked.text.clone();
        if !text.contains(MASK_END) {
            text = format!("{text} {}", if self.task_mask { DOCUMENT } else { MASK });
        }
        let mut context = Context { ids: vec![special.cls], blanks: Vec::new() };
        let mut parts = vec![String::new()];
        for (part, mask) in self.split(&text) {
            // White space before a mask has no token of its own, as published.
            let encoded = self.session.encode(if mask.is_some() { part.trim_end() } else { part });
            let tokens = encoded.map_err(|source| InputError::Tokenizer { origin: asked.origin.clone(), source })?;
            context.ids.extend(tokens.ids);
            if let Some(last) = parts.last_mut() {
                *last += part;
            }
            if let Some(mask) = mask {
                context.blanks.push(context.ids.len());
                context.ids.push(mask);
                parts.push(String::new());
            }
        }
        if context.blanks.is_empty() {
            return Err(InputError::NoBlank { origin: asked.origin.clone(), reason: self.no_blank(&text) });
        }
        if !(self.task_mask && text.ends_with(DOCUMENT)) {
            context.ids.push(special.pad);
        }
        let (tokens, positions) = (context.ids.len(), self.positions);
        if tokens > positions {
            return Err(InputError::TooLong { origin: asked.origin.clone(), tokens, positions });
        }
        Ok(Text { text, parts, context })
    }

    /// The parts of a text, each with the mask that follows it; the last part has none.
    fn split<'t>(&self, text: &'t str) -> Vec<(&'t str, Option<TokenId>)> {
        let special = self.tokenizer.special();
        let masks = [(MASK, special.mask), (SENTENCE, special.masks().sentence), (DOCUMENT, special.masks().document)];
        let masks = if self.task_mask { &masks[..] } else { &masks[..1] };
        let (mut parts, mut rest) = (Vec::new(), text);
        loop {
            let first = masks.iter().filter_map(|&(word, id)| Some((rest.find(word)?, word, id))).min();
            let Some((start, word, id)) = first else {
                parts.push((rest, None));
                return parts;
            };
            parts.push((&rest[..start], Some(id)));
            rest = &rest[start + word.len()..];
        }
    }

    fn no_blank(&self, text: &str) -> String {
        match [SENTENCE, DOCUMENT].into_iter().find(|word| !self.task_mask && text.contains(word)) {
            Some(word) => format!(
                "{word} is a blank only for weights that were trained with it; write [MASK] instead, or add --task-mask for such weights"
            ),
            None => "the text has `MASK]` but no blank; write [MASK] in place of each blank".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, task_mask: bool) -> Result<Text, String> {
        let tokenizer = Tokenizer::bert_uncased().expect("built in");
        Reader::new(&tokenizer, task_mask, 20)
            .read(&Asked::new("f, line 2".to_owned(), text))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn contexts_have_the_published_layout() {
        let text = read("It was [MASK], [MASK]!", false).expect("blanks");
        assert_eq!(text.context, Context { ids: vec![101, 2009, 2001, 103, 1010, 103, 999, 0], blanks: vec![3, 5] });
        assert_eq!(text.parts, ["It was ", ", ", "!"]);
        let appended = read("It was", false).expect("appended");
        assert_eq!((appended.context.ids, appended.text.as_str()), (vec![101, 2009, 2001, 103, 0], "It was [MASK]"));
        // No end of text after a [gMASK] that ends the text.
        let appended = read("It was", true).expect("appended");
        assert_eq!((appended.context.ids, appended.text.as_str()), (vec![101, 2009, 2001, 30524], "It was [gMASK]"));
        let masks = read("[sMASK] it[MASK] [gMASK] ", true).expect("three");
        assert_eq!(masks.context, Context { ids: vec![101, 30525, 2009, 103, 30524, 0], blanks: vec![1, 3, 4] });
        // Without task masks the words are ordinary text.
        let text = read("[gMASK] [MASK]", false).expect("one");
        assert_eq!(text.context.blanks.len(), 1);
        assert_eq!(text.parts, ["[gMASK] ", ""]);
    }

    #[test]
    fn texts_without_a_blank_and_long_ones_are_errors() {
        for (text, task_mask, message) in [
            ("It was [gMASK]", false, "f, line 2: [gMASK] is a blank only for weights that were trained with it; write [MASK]"),
            ("[sMASK]", false, "f, line 2: [sMASK] is a blank only"),
            ("It was UNMASK]", true, "f, line 2: the text has `MASK]` but no blank; write [MASK]"),
            ("a a a a a a a a a a a a a a a a a a", false, "f, line 2: the text has 21 tokens with [CLS]"),
        ] {
            let error = read(text, task_mask).expect_err(message);
            assert!(error.starts_with(message), "{error}");
        }
        assert!(read("a a a a a a a a a a a a a a a a a", false).is_ok());
    }

    #[test]
    fn errors_name_the_line() {
        for (text, message) in [
            ("", "f: contains no text"),
            ("{\"text\": \"a\"}\n[1]", "f, line 2: not a JSON object; expected {\"text\""),
            ("\n{}", "f, line 2: no `text`; expected"),
            ("{\"text\": 1}", "f, line 1: `text` is not a string; expected"),
            ("{\"text\" 1}", "f, line 1, column 9: invalid JSON: expected `:`"),
        ] {
            let error = parse("f", text).expect_err(message).to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let asked = parse("f", "{\"text\": \"a\", \"id\": 7}\n{\"text\":\n\"b\", \"id\": null}").expect("two");
        assert_eq!((asked[0].id.clone(), asked[1].id.clone(), asked[1].text.as_str()), (Some(7.into()), None, "b"));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_parts_are_the_text(
            text in "(\\PC|\\[MASK\\]|\\[gMASK\\]|\\[sMASK\\]|MASK\\]| ){0,12}", task_mask: bool,
        ) {
            let _ = parse("f", &text);
            let tokenizer = Tokenizer::bert_uncased().expect("built in");
            if let Ok(read) = Reader::new(&tokenizer, task_mask, 513).read(&Asked::new("f".to_owned(), &text)) {
                prop_assert_eq!(read.parts.len(), read.context.blanks.len() + 1);
                let parts: usize = read.parts.iter().map(String::len).sum();
                prop_assert!(parts < read.text.len());
                if !task_mask {
                    prop_assert_eq!(read.parts.join("[MASK]"), read.text);
                }
            }
        }
    }
}
