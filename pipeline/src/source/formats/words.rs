//! Mentions of choices in a text, for formats without annotated entities.

use std::cmp::Reverse;
use std::ops::Range;

use glm_schemas::cloze::CharSpan;

use super::automaton::Automaton;
use crate::source::error::RecordError;

/// Maximum total length of the mentions of a passage. Mentions may overlap, so a short record could need unlimited memory; real
/// passages need a few hundred bytes.
pub(super) const MAX_MENTION_BYTES: usize = 1 << 20;

/// Returns true if two adjacent characters belong to the same word. Chinese and Japanese have no spaces between words, so each of
/// their characters counts as a word.
fn joined(before: char, after: char) -> bool {
    let in_word = |c: char| c.is_alphanumeric() && !is_ideograph(c);
    in_word(before) && in_word(after)
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Byte ranges of the runs of letters and digits in a text.
pub(super) fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(char::is_alphanumeric)?;
        let end = text[start..].find(|c: char| !c.is_alphanumeric()).map_or(text.len(), |length| start + length);
        rest = end;
        Some(start..end)
    })
}

/// Divides a text at every place where a mention can begin or end: into words and single characters.
fn units(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut before = rest.chars().next()?;
        let mut end = before.len_utf8();
        for after in rest[end..].chars() {
            if !joined(before, after) {
                break;
            }
            end += after.len_utf8();
            before = after;
        }
        let (unit, following) = rest.split_at(end);
        rest = following;
        Some(unit)
    })
}

/// Finds all occurrences of the candidates as whole words, in the order of the text, and longer before shorter ones at the same
/// position. The time is proportional to the text, the candidates and the mentions.
pub(super) fn mentions(text: &str, candidates: &[String]) -> Result<Vec<CharSpan>, RecordError> {
    let automaton = Automaton::new(candidates.iter().map(|candidate| units(candidate)));
    let chars: Vec<_> = candidates.iter().map(|candidate| candidate.chars().count()).collect();
    let mut mentions = Vec::new();
    let mut bytes = 0;
    let mut end = 0;
    let mut state = Automaton::START;
    for unit in units(text) {
        end += unit.chars().count();
        state = automaton.next(state, unit);
        for index in automaton.matches(state) {
            mentions.push(CharSpan { start: end - chars[index], end });
            bytes += candidates[index].len();
            if bytes > MAX_MENTION_BYTES {
                return Err(RecordError::EntitiesTooLong { limit: MAX_MENTION_BYTES });
            }
        }
    }
    mentions.sort_unstable_by_key(|&CharSpan { start, end }| (start, Reverse(end)));
    Ok(mentions)
}

#[cfg(test)]
mod tests {
    use glm_text::question::Choices;
    use proptest::prelude::*;

    use super::*;
    use glm_text::standard::CharOffsets;

    fn sorted(texts: &[&str]) -> Vec<String> {
        Choices::new(texts).expect("choices").candidates
    }

    fn found<'a>(text: &'a str, candidates: &[String]) -> Vec<&'a str> {
        let offsets = CharOffsets::new(text);
        let mentions = mentions(text, candidates).expect("short");
        mentions.iter().map(|&mention| offsets.slice(mention).expect("in range")).collect()
    }

    #[test]
    fn mentions_are_whole_words() {
        let candidates = sorted(&["art", "art show", "artist", "é", "中"]);
        let text = "An artist's art show; smart art, café é. Party 中中 art";
        assert_eq!(found(text, &candidates), ["artist", "art show", "art", "art", "é", "中", "中", "art"]);
        assert_eq!(found("a+b a+bc b", &sorted(&["+", "a+b"])), ["a+b", "+", "+"]);
        assert!(found("", &candidates).is_empty() && found("art", &[]).is_empty());
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        let text = "Don't stop: 4th, Zoë.";
        assert_eq!(words(text).map(|word| &text[word]).collect::<Vec<_>>(), ["Don", "t", "stop", "4th", "Zoë"]);
    }

    #[test]
    fn many_nested_choices_cannot_need_unlimited_memory() {
        let text = "a ".repeat(10_000);
        let candidates: Vec<_> = (1..3_000).map(|count| "a ".repeat(count).trim_end().to_owned()).collect();
        assert_eq!(mentions(&text, &candidates), Err(RecordError::EntitiesTooLong { limit: MAX_MENTION_BYTES }));
    }

    #[test]
    fn the_time_does_not_depend_on_the_number_of_nested_choices() {
        // Choices that are prefixes of each other, but for one letter at their ends never occur; and choices that begin within a
        // word. A search from every word, or of every choice, would take 10^11 steps.
        let text = "ba ".repeat(1_000_000);
        let mut nested: Vec<_> = (1..1_500).map(|count| format!("{}x", "ba ".repeat(count))).collect();
        nested.extend((1..1_500).map(|count| format!("a {}", "ba ".repeat(count)).trim_end().to_owned()));
        nested.sort_unstable();
        assert_eq!(mentions(&text, &nested), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn mentions_equal_those_of_a_naive_search(text in "[ab é中.]{0,30}", choices in prop::collection::vec("[ab é中.]{1,4}", 1..8)) {
            let Ok(Choices { candidates, .. }) = Choices::new(&choices) else { return Ok(()) };
            let letters: Vec<_> = text.chars().collect();
            let mut expected = Vec::new();
            for candidate in &candidates {
                let wanted: Vec<_> = candidate.chars().collect();
                for start in 0..letters.len() {
                    let end = start + wanted.len();
                    if letters[start..].starts_with(&wanted)
                        && !start.checked_sub(1).is_some_and(|before| joined(letters[before], letters[start]))
                        && !letters.get(end).is_some_and(|&after| joined(letters[end - 1], after))
                    {
                        expected.push((start, end));
                    }
                }
            }
            let mut found: Vec<_> = mentions(&text, &candidates).expect("short").iter().map(|m| (m.start, m.end)).collect();
            prop_assert!(found.is_sorted_by_key(|&(start, end)| (start, usize::MAX - end)));
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
