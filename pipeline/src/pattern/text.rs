//! Changes of texts.

use glm_text::standard::standardise;
use serde::{Deserialize, Serialize};

/// Change of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edit {
    /// Typographic quotes and dashes become plain ones.
    Std,
    /// White space at the end is dropped.
    Rstrip,
    /// ASCII punctuation at the end is dropped.
    Depunct,
    /// Backslashes become spaces, as in lines of CSV of news and reviews.
    Unescape,
}

impl Edit {
    /// Returns the changed text.
    pub(super) fn apply(self, text: &str) -> String {
        match self {
            Self::Std => standardise(text),
            Self::Rstrip => text.trim_end_matches(is_space).to_owned(),
            Self::Depunct => text.trim_end_matches(|c: char| c.is_ascii_punctuation()).to_owned(),
            Self::Unescape => text.replace("\\n", " ").replace('\\', " "),
        }
    }
}

/// White space of Python: separators of information count, which Rust leaves out.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Returns the words of a text, joined by single spaces, with asterisks around `word`, which is the one at `index`, counted from 0, or next
/// to it. A word that only begins with it is cut in two. `None` if it is not there.
///
/// As in the published code, the word before the first is the last: "It" at 0, given as "it", is an "it" at the end.
pub(super) fn with_marked_word(text: &str, word: &str, index: i64) -> Option<String> {
    let mut words: Vec<String> = text.split(is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let count = i64::try_from(words.len()).ok()?;
    let place = |index: i64| {
        let index = if index < 0 { index.checked_add(count)? } else { index };
        usize::try_from(index).ok().filter(|&index| index < words.len())
    };
    let near = [0, -1, 1].into_iter().filter_map(|step| place(index.checked_add(step)?));
    let found = near.into_iter().find(|&at| words[at] == word);
    let at = found.or_else(|| place(index).filter(|&at| !word.is_empty() && words[at].starts_with(word)))?;
    let rest = words[at].split_off(word.len());
    words[at] = format!("*{}*", words[at]);
    if !rest.is_empty() {
        words.insert(at + 1, rest);
    }
    Some(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_drop_what_python_drops() {
        assert_eq!(Edit::Depunct.apply("so?!’.)"), "so?!’");
        assert_eq!(Edit::Depunct.apply("so. "), "so. ");
        assert_eq!(Edit::Depunct.apply("..."), "");
        assert_eq!(Edit::Rstrip.apply("so \u{1c}\u{a0}\n"), "so");
        assert_eq!(Edit::Std.apply("‘a’ – “b”"), "'a' - \"b\"");
        assert_eq!(Edit::Unescape.apply("a\\nb\\c"), "a b c");
    }

    #[test]
    fn a_word_is_marked_where_it_is() {
        let marked = |text, word, index| with_marked_word(text, word, index);
        assert_eq!(marked("He  saw\tit there", "it", 2).as_deref(), Some("He saw *it* there"));
        assert_eq!(marked("He saw it there", "it", 3).as_deref(), Some("He saw *it* there"));
        assert_eq!(marked("He saw it there", "it", 1).as_deref(), Some("He saw *it* there"));
        assert_eq!(marked("He saw it.", "it", 2).as_deref(), Some("He saw *it* ."));
        assert_eq!(marked("It is it", "it", 0).as_deref(), Some("It is *it*"));
        assert_eq!(marked("He saw it", "it", 0).as_deref(), Some("He saw *it*"));
        assert_eq!(marked("He saw it there", "it", 0), None);
        assert_eq!(marked("He saw it", "it", 99), None);
        assert_eq!(marked("", "it", 0), None);
        assert_eq!(marked("a b", "", i64::MIN), None);
    }
}
