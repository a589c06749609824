//! Templates: text with names of other texts in braces.
//!
//! `{name}` stands for a text, `{name*}` for one that may be truncated, `{blank}` for the blank, `{|}` for the place from which on the
//! context is group B; `{{` and `}}` are braces.

/// Part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text as it is.
    Literal(String),
    /// A text of the example.
    Text {
        /// Its name.
        name: String,
        /// True if it may be truncated.
        truncatable: bool,
    },
    /// The blank.
    Blank,
    /// Start of group B.
    GroupB,
}

/// Parts of a template, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Template(pub(super) Vec<Part>);

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// Description of the fault.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                literal.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            let name = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((name, after)) = name.filter(|(name, _)| !name.contains('{')) else {
                return Err(format!("`{text}` has an unpaired brace at `{rest}`; write {{{{ or }}}} for a brace"));
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(match name.trim() {
                "blank" => Part::Blank,
                "|" => Part::GroupB,
                name => {
                    let kept = name.strip_suffix('*').unwrap_or(name).trim_end();
                    if kept.is_empty() {
                        return Err(format!("`{text}` has braces without a name"));
                    }
                    Part::Text { name: kept.to_owned(), truncatable: kept.len() < name.len() }
                }
            });
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Parses a template of nothing but literal text and whole texts.
    ///
    /// # Errors
    /// Description of the fault.
    pub(super) fn of_texts(text: &str) -> Result<Self, String> {
        let template = Self::parse(text)?;
        let is_plain = |part: &Part| matches!(part, Part::Literal(_) | Part::Text { truncatable: false, .. });
        if template.0.iter().all(is_plain) {
            return Ok(template);
        }
        Err(format!("`{text}` may hold texts only, neither {{blank}}, {{|}} nor a text with *"))
    }

    /// Names of the texts in it.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Number of parts that are equal to `part`.
    pub(super) fn count(&self, part: &Part) -> usize {
        self.0.iter().filter(|one| *one == part).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_name_texts() {
        let text = |name: &str, truncatable| Part::Text { name: name.to_owned(), truncatable };
        let literal = |text: &str| Part::Literal(text.to_owned());
        let parsed = Template::parse("{a*} {{so}} {|}{ b.c } is {blank}.").expect("valid");
        let expected =
            [text("a", true), literal(" {so} "), Part::GroupB, text("b.c", false), literal(" is "), Part::Blank, literal(".")];
        assert_eq!(parsed.0, expected);
        assert_eq!(parsed.names().collect::<Vec<_>>(), ["a", "b.c"]);
        for invalid in ["{a", "a}", "{}", "{*}", "{a{b}}", "{a}}"] {
            assert!(Template::parse(invalid).is_err(), "{invalid}");
        }
        for invalid in ["{blank}", "{|}", "{a*}"] {
            assert!(Template::of_texts(invalid).is_err(), "{invalid}");
        }
    }
}
