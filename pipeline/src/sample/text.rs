//! Text under construction that records the positions of its entities.

/// Mention of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mention {
    /// Index of the entity in the scene.
    pub(super) entity: usize,
    /// First code point.
    pub(super) start: usize,
    /// End, exclusive.
    pub(super) end: usize,
}

/// Replacement of a slot in a template.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slot<'a> {
    /// Plain text.
    Text(&'a str),
    /// Name of an entity of the scene; recorded as a mention.
    Entity(usize, &'a str),
}

/// Text and its mentions.
#[derive(Debug, Default)]
pub(super) struct MarkedText {
    /// Text so far.
    pub(super) text: String,
    /// Mentions in the text, in order.
    pub(super) mentions: Vec<Mention>,
    chars: usize,
}

impl MarkedText {
    /// Appends plain text.
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.chars += text.chars().count();
    }

    /// Appends a template whose slots `{name}` are replaced from `slots`; unknown slots stay unchanged.
    pub(super) fn fill(&mut self, template: &str, slots: &[(&str, Slot<'_>)]) {
        let mut rest = template;
        while let Some((before, name, after)) = next_slot(rest) {
            self.push(before);
            match slots.iter().find(|(known, _)| *known == name) {
                Some(&(_, Slot::Text(text))) => self.push(text),
                Some(&(_, Slot::Entity(entity, text))) => {
                    let start = self.chars;
                    self.push(text);
                    self.mentions.push(Mention { entity, start, end: self.chars });
                }
                None => self.push(&rest[before.len()..rest.len() - after.len()]),
            }
            rest = after;
        }
        self.push(rest);
    }
}

fn next_slot(template: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = template.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

/// Returns the text with its first letter in upper case.
pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mentions_count_code_points() {
        let mut text = MarkedText::default();
        text.push("“É” – ");
        text.fill("{role} {} met {}{unknown}.", &[("", Slot::Entity(3, "Zoé Müller")), ("role", Slot::Text("The poet"))]);
        assert_eq!(text.text, "“É” – The poet Zoé Müller met Zoé Müller{unknown}.");
        assert_eq!(text.mentions, [Mention { entity: 3, start: 15, end: 25 }, Mention { entity: 3, start: 30, end: 40 }]);
        assert_eq!(text.chars, text.text.chars().count());
    }

    #[test]
    fn only_the_first_letter_changes() {
        assert_eq!(capitalised("élan Vital"), "Élan Vital");
        assert_eq!(capitalised(""), "");
    }
}
