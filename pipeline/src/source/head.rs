//! Beginning of a raw file, as formats see it to detect themselves.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Maximum nesting of objects and arrays whose keys are collected.
const MAX_DEPTH: usize = 5;
/// Maximum number of collected keys.
const MAX_PATHS: usize = 200;
/// Maximum length of a collected key; field names are shorter.
pub(super) const MAX_KEY_BYTES: usize = 60;
/// Maximum number of keys in a message.
const MAX_SHOWN: usize = 6;

/// Beginning of a raw file.
#[derive(Debug)]
pub enum Head<'a> {
    /// JSON: the keys of its first value.
    Json(Keys),
    /// Other text: its lines, without blank lines and without a truncated last line.
    Lines(Vec<&'a str>),
    /// Parquet.
    Parquet,
}

/// Keys of a JSON value as paths, such as `passage.text` and `data[].passage`.
#[derive(Debug, Default)]
pub struct Keys(BTreeSet<String>);

impl Keys {
    /// Collects the keys of the first value of a text, which may be truncated or invalid after them.
    pub(super) fn of_first_value(text: &str) -> Self {
        let mut keys = Self::default();
        let mut json = serde_json::Deserializer::from_str(text);
        // The keys before an error are enough.
        let _ = Paths { keys: &mut keys, path: "", depth: 0 }.deserialize(&mut json);
        keys
    }

    /// Returns true if the value has this key.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    /// Returns true if the value has all these keys.
    pub fn has_all(&self, paths: &[&str]) -> bool {
        paths.iter().all(|path| self.has(path))
    }

    /// Returns true if the value has no other keys than these.
    pub fn has_only(&self, paths: &[&str]) -> bool {
        self.0.iter().all(|path| paths.contains(&path.as_str()))
    }

    /// Returns the keys of the value itself, not of values in it.
    pub(super) fn top(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).filter(|key| !key.contains(['.', '[']))
    }

    /// Returns the keys that begin with `prefix`, without it.
    pub(super) fn inside(&self, prefix: &str) -> Self {
        Self(self.0.iter().filter_map(|path| path.strip_prefix(prefix).map(str::to_owned)).collect())
    }

    /// Lists the first keys for a message.
    pub(super) fn summary(&self) -> String {
        let shown: Vec<_> = self.0.iter().take(MAX_SHOWN).map(String::as_str).collect();
        let more = if self.0.len() > shown.len() { ", …" } else { "" };
        format!("keys {}{more}", shown.join(", "))
    }
}

/// Visitor that collects the keys of a value.
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
            let collected = self.depth < MAX_DEPTH && key.len() <= MAX_KEY_BYTES && self.keys.0.len() < MAX_PATHS;
            if !collected {
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

    fn summary(text: &str) -> String {
        Keys::of_first_value(text).summary()
    }

    #[test]
    fn keys_of_truncated_text_are_paths() {
        assert_eq!(summary(r#"{"b": [{"c": 1}, {"d": {"e": null}}], "a": -1.5} {"f": 1}"#), "keys a, b, b[].c, b[].d, b[].d.e");
        assert_eq!(summary(r#"[{"a": true, "b": "cut"#), "keys [].a, [].b");
        assert_eq!(summary(r#"{"a": 1, x "b": 2}"#), "keys a");
        assert_eq!(summary(r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1}"#), "keys a, b, c, d, e, f, …");
    }

    #[test]
    fn collected_keys_are_bounded() {
        let deep = format!("{}1", "{\"a\":[".repeat(10_000));
        assert_eq!(Keys::of_first_value(&deep).0.len(), 3);
        let wide: Vec<_> = (0..5_000).map(|key| format!("\"k{key}\": {{\"x\": 1}}")).collect();
        let wide = format!("{{{}}}", wide.join(","));
        assert_eq!(Keys::of_first_value(&wide).0.len(), MAX_PATHS);
        assert_eq!(summary(&format!("{{\"{}\": 1, \"a\": 1}}", "k".repeat(100))), "keys a");
    }
}
