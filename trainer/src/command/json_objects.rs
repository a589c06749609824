//! JSON values one after the other, each of which may span several lines.

use serde_json::{Deserializer, StreamDeserializer, Value, de::StrRead};

/// Place and reason of invalid JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// File, line and column.
    pub(super) origin: String,
    /// Message of the parser, without the place.
    pub(super) reason: String,
}

/// Iterator over the values of a text, each with its file and line.
pub(super) struct JsonValues<'a> {
    origin: &'a str,
    text: &'a str,
    values: StreamDeserializer<'a, StrRead<'a>, Value>,
    /// Bytes whose line ends have been counted, and the number of line ends in them.
    counted: (usize, usize),
}

impl<'a> JsonValues<'a> {
    /// Values in `text`, the content of the file `origin`.
    pub(super) fn new(origin: &'a str, text: &'a str) -> Self {
        Self { origin, text, values: Deserializer::from_str(text).into_iter(), counted: (0, 0) }
    }
}

impl Iterator for JsonValues<'_> {
    type Item = Result<(String, Value), Syntax>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { origin, text, counted: (from, lines), .. } = *self;
        let rest = &text[self.values.byte_offset()..];
        let start = text.len() - rest.trim_start().len();
        let lines = lines + text[from..start].matches('\n').count();
        self.counted = (start, lines);
        Some(match self.values.next()? {
            Ok(value) => Ok((format!("{origin}, line {}", lines + 1), value)),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let message = error.to_string();
                let reason = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
                Err(Syntax { origin: format!("{origin}, line {line}, column {column}"), reason: reason.to_owned() })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_line_of_their_start() {
        let found: Vec<_> = JsonValues::new("f", "\n{\"a\":\n1} 2\n\n 3 {").collect();
        let places: Vec<_> = found.iter().map(|found| found.as_ref().map(|(place, _)| place.as_str()).ok()).collect();
        assert_eq!(places, [Some("f, line 2"), Some("f, line 3"), Some("f, line 5"), None]);
        let expected = Syntax { origin: "f, line 5, column 4".to_owned(), reason: "EOF while parsing an object".to_owned() };
        assert_eq!(found[3].as_ref().err(), Some(&expected));
        assert_eq!(JsonValues::new("f", " \n").count(), 0);
    }
}
