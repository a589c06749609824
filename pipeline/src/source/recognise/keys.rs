//! The keys of a JSON value, and what they tell about it.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{FormatName, MAX_KEY_BYTES};

/// Keys below this many objects and lists are not told apart.
const MAX_DEPTH: usize = 5;
/// A first value with more keys is not one of ours, whatever the others are.
const MAX_PATHS: usize = 200;
/// Keys that a message names.
const SHOWN_PATHS: usize = 6;

/// The keys of a JSON value, as paths.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeSet<String>);

impl Keys {
    /// Of the first value of a text, as far as the text goes.
    pub(super) fn of_first_value(text: &str) -> Self {
        let mut keys = Self::default();
        let mut json = serde_json::Deserializer::from_str(text);
        // Where the text ends or is wrong, the keys that were read still say what it is.
        let _ = Paths { keys: &mut keys, path: "", depth: 0 }.deserialize(&mut json);
        keys
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    pub(super) fn all(&self, paths: &[&str]) -> bool {
        paths.iter().all(|path| self.has(path))
    }

    /// Those that begin with `prefix`, without it.
    pub(super) fn inside(&self, prefix: &str) -> Self {
        Self(self.0.iter().filter_map(|path| path.strip_prefix(prefix).map(str::to_owned)).collect())
    }

    /// The format that has an object with these keys a line.
    pub(super) fn line_format(&self) -> Option<FormatName> {
        if self.has("passage.entities") || self.all(&["passage", "qas"]) {
            Some(FormatName::Record)
        } else if self.all(&["context", "choices"]) {
            Some(FormatName::Plain)
        } else if self.has("text") && self.0.iter().all(|path| path == "text" || path == "domain") {
            Some(FormatName::Lambada)
        } else {
            None
        }
    }

    /// Data of another task, by keys that no cloze data have.
    pub(super) fn other_task(&self) -> Option<&'static str> {
        const TASKS: [(&[&str], &str); 12] = [
            (&["passage.questions"], "SuperGLUE MultiRC"),
            (&["premise", "choice1", "choice2"], "SuperGLUE COPA"),
            (&["premise", "hypothesis"], "SuperGLUE CB, RTE or AX-g, or another task of entailment"),
            (&["word", "sentence1", "sentence2"], "SuperGLUE WiC"),
            (&["text", "target.span1_text"], "SuperGLUE WSC"),
            (&["sentence1", "sentence2"], "SuperGLUE AX-b, or another task with pairs of sentences"),
            (&["data[].paragraphs"], "SQuAD"),
            (&["context", "question", "answers.answer_start"], "SQuAD"),
            (&["article", "questions"], "RACE"),
            (&["article", "question", "options"], "RACE"),
            (&["question", "choices"], "a set of questions with choices"),
            (&["sentence", "option1", "option2"], "WinoGrande"),
        ];
        // The passage of BoolQ is a text, that of MultiRC and ReCoRD an object.
        let flat_passage = self.all(&["passage", "question"]) && !self.0.iter().any(|path| path.starts_with("passage."));
        if flat_passage {
            return Some("SuperGLUE BoolQ");
        }
        TASKS.iter().find(|(paths, _)| self.all(paths)).map(|&(_, name)| name)
    }

    /// The first keys, for a message.
    pub(super) fn shown(&self) -> String {
        let shown: Vec<_> = self.0.iter().take(SHOWN_PATHS).map(String::as_str).collect();
        let more = if self.0.len() > shown.len() { ", …" } else { "" };
        format!("keys {}{more}", shown.join(", "))
    }
}

/// Reads a value for its keys.
struct Paths<'a> {
    keys: &'a mut Keys,
    path: &'a str,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Paths<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Paths<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let wanted = self.depth < MAX_DEPTH && key.len() <= MAX_KEY_BYTES && self.keys.0.len() < MAX_PATHS;
            if !wanted {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
            self.keys.0.insert(path.clone());
            map.next_value_seed(Paths { keys: self.keys, path: &path, depth: self.depth + 1 })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let path = format!("{}[]", self.path);
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        while list.next_element_seed(Paths { keys: self.keys, path: &path, depth })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Keys::of_first_value(text).shown()
    }

    #[test]
    fn keys_are_paths_as_far_as_the_text_goes() {
        assert_eq!(shown(r#"{"b": [{"c": 1}, {"d": {"e": null}}], "a": -1.5} {"f": 1}"#), "keys a, b, b[].c, b[].d, b[].d.e");
        assert_eq!(shown(r#"[{"a": true, "b": "cut"#), "keys [].a, [].b");
        assert_eq!(shown(r#"{"a": 1, x "b": 2}"#), "keys a");
        assert_eq!(shown(r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1}"#), "keys a, b, c, d, e, f, …");
    }

    #[test]
    fn deep_and_wide_values_are_read_in_bounds() {
        let deep = format!("{}1", "{\"a\":[".repeat(10_000));
        assert_eq!(Keys::of_first_value(&deep).0.len(), 3);
        let wide: Vec<_> = (0..5_000).map(|key| format!("\"k{key}\": {{\"x\": 1}}")).collect();
        let wide = format!("{{{}}}", wide.join(","));
        assert_eq!(Keys::of_first_value(&wide).0.len(), MAX_PATHS);
        assert_eq!(shown(&format!("{{\"{}\": 1, \"a\": 1}}", "k".repeat(100))), "keys a");
    }
}
