//! Values of fields whose type users choose: numbers, text or lists of them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Maximum length of a value in a message, in characters.
const SHOWN_CHARS: usize = 40;

/// Value of a field. Values that no format takes are kept as text for messages, so that they need little memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Given {
    /// `null`, or the field is missing.
    #[default]
    Null,
    /// An integer.
    Integer(i64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Given>),
    /// Anything else, as in a message.
    Other(String),
}

impl Given {
    /// Formats the value for a message, truncated.
    pub(super) fn shown(&self) -> String {
        let text = match self {
            Self::Null => "null".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => format!("\"{text}\""),
            Self::List(_) => "a list".to_owned(),
            Self::Other(text) => text.clone(),
        };
        match text.char_indices().nth(SHOWN_CHARS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(GivenVisitor { in_list: false })
    }
}

/// Entry of a list; lists in lists are not kept.
struct Entry(Given);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(GivenVisitor { in_list: true }).map(Self)
    }
}

struct GivenVisitor {
    in_list: bool,
}

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Given, E> {
        Ok(Given::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Given, E> {
        Ok(Given::Other(value.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Given, E> {
        Ok(Given::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Given, E> {
        Ok(i64::try_from(number).map_or_else(|_| Given::Other(number.to_string()), Given::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Given, E> {
        Ok(Given::Other(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Given, E> {
        Ok(Given::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Given, A::Error> {
        if self.in_list {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Given::Other("a list".to_owned()));
        }
        let mut entries = Vec::new();
        while let Some(Entry(entry)) = list.next_element()? {
            entries.push(entry);
        }
        Ok(Given::List(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Given::Other("an object".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_or_described() {
        let json = r#"[null, -3, "a", 1.5, 18446744073709551615, true, [1], {"a": [{}]}]"#;
        let Given::List(values) = serde_json::from_str(json).expect("valid") else { panic!("a list") };
        let shown: Vec<_> = values.iter().map(Given::shown).collect();
        assert_eq!(shown, ["null", "-3", "\"a\"", "1.5", "18446744073709551615", "true", "a list", "an object"]);
        assert_eq!((&values[1], &values[2]), (&Given::Integer(-3), &Given::Text("a".to_owned())));
        assert_eq!(Given::Text("é".repeat(60)).shown(), format!("\"{}…", "é".repeat(39)));
    }
}
