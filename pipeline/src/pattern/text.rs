//! Changes of texts.

use std::cmp::Reverse;

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
    /// The two characters `\\n`, as which some tables write the end of a line, become a space.
    Newline,
    /// Backslashes become spaces.
    Backslash,
    /// Runs of white space become one space.
    Spaces,
    /// A full stop between spaces loses the first of them, as published for RACE.
    Stops,
}

/// Number of times that the published code drops spaces in front of full stops: one pass leaves those of full stops in a row.
const STOPS: usize = 3;

/// Returns a text after changes in order.
pub(super) fn edited(text: String, edits: &[Edit]) -> String {
    edits.iter().fold(text, |text, edit| edit.apply(&text))
}

impl Edit {
    /// Returns the changed text.
    fn apply(self, text: &str) -> String {
        match self {
            Self::Std => standardise(text),
            Self::Rstrip => text.trim_end_matches(is_space).to_owned(),
            Self::Depunct => text.trim_end_matches(|c: char| c.is_ascii_punctuation()).to_owned(),
            Self::Newline => text.replace("\\n", " "),
            Self::Backslash => text.replace('\\', " "),
            Self::Spaces => spaced(text),
            Self::Stops => (0..STOPS).fold(text.to_owned(), |text, _| text.replace(" . ", ". ")),
        }
    }
}

fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_space(c) {
            spaced.push(c);
        } else if !spaced.ends_with(' ') {
            spaced.push(' ');
        }
    }
    spaced
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

/// Returns the text with a sign before and after some phrases, each given with the index of its first character. The error is the number of
/// a phrase that is not there.
pub(super) fn with_enclosed(text: &str, phrases: &[(&str, i64, &str)]) -> Result<String, usize> {
    let start_of = |at: i64| {
        let at = usize::try_from(at).ok()?;
        text.char_indices().map(|(start, _)| start).nth(at)
    };
    let mut signs = Vec::new();
    for (number, &(phrase, at, sign)) in phrases.iter().enumerate() {
        let start = start_of(at).filter(|&start| !phrase.is_empty() && text[start..].starts_with(phrase)).ok_or(number)?;
        let end = start + phrase.len();
        // Where phrases meet, one ends before another begins, and the inner of two is inside.
        signs.push((start, true, Reverse(end), sign));
        signs.push((end, false, Reverse(start), sign));
    }
    signs.sort_unstable();
    let (mut enclosed, mut done) = (String::with_capacity(text.len()), 0);
    for (at, _, _, sign) in signs {
        enclosed.push_str(&text[done..at]);
        enclosed.push_str(sign);
        done = at;
    }
    enclosed.push_str(&text[done..]);
    Ok(enclosed)
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
        assert_eq!(Edit::Newline.apply("a\\nb\\c\n"), "a b\\c\n");
        assert_eq!(Edit::Spaces.apply(" a\n\n b\u{1f}\tc\r\n"), " a b c ");
        assert_eq!(Edit::Stops.apply("a . b . . c . "), "a. b.. c. ");
        assert_eq!(edited("a\n. \\\"".to_owned(), &[Edit::Spaces, Edit::Stops, Edit::Depunct]), "a. ");
        assert_eq!(Edit::Backslash.apply("a\\nb\\\"c"), "a nb \"c");
    }

    #[test]
    fn phrases_are_enclosed_where_they_are() {
        let enclosed = |phrases: &[(&str, i64, &str)]| with_enclosed("小马说他来", phrases);
        assert_eq!(enclosed(&[("他", 3, "*"), ("小马", 0, "#")]).as_deref(), Ok("#小马#说*他*来"));
        assert_eq!(enclosed(&[("说他", 2, "*"), ("小马", 0, "#")]).as_deref(), Ok("#小马#*说他*来"));
        assert_eq!(enclosed(&[("他", 3, "*"), ("说他", 2, "#"), ("说", 2, "+")]).as_deref(), Ok("小马#+说+*他*#来"));
        assert_eq!(enclosed(&[]).as_deref(), Ok("小马说他来"));
        for (number, wrong) in
            [("他", 2), ("他", 5), ("他", -1), ("来了", 4), ("", 1), ("小", i64::MAX)].into_iter().enumerate()
        {
            let mut phrases = vec![("小", 0, "#"); number];
            phrases.push((wrong.0, wrong.1, "*"));
            assert_eq!(enclosed(&phrases), Err(number), "{wrong:?}");
        }
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
