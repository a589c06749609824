//! Mentions of choices in a text, for formats without annotated entities.

use std::ops::Range;

use glm_schemas::cloze::CharSpan;

use crate::source::error::RecordError;

/// Maximum total length of the mentions of a passage. Mentions may overlap, so a short record could need unlimited memory; real
/// passages need a few hundred bytes.
pub(super) const MAX_MENTION_BYTES: usize = 16 << 20;

/// Returns true if two adjacent characters belong to the same word. Chinese and Japanese have no spaces between words, so each of
/// their characters counts as a word.
fn joined(before: Option<char>, after: Option<char>) -> bool {
    let in_word = |c: char| c.is_alphanumeric() && !is_ideograph(c);
    before.is_some_and(in_word) && after.is_some_and(in_word)
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

/// Finds all occurrences of the candidates as whole words, in the order of the text, and longer before shorter ones at the same
/// position. The candidates must be sorted.
pub(super) fn mentions(text: &str, candidates: &[String]) -> Result<Vec<CharSpan>, RecordError> {
    let parents = longest_prefixes(candidates);
    let chars: Vec<_> = candidates.iter().map(|candidate| candidate.chars().count()).collect();
    let mut mentions = Vec::new();
    let mut bytes = 0;
    let mut before = None;
    for (start, (at, first)) in text.char_indices().enumerate() {
        let word_starts = !joined(before, Some(first));
        before = Some(first);
        if !word_starts {
            continue;
        }
        // Every candidate that is a prefix of the rest of the text is also a prefix of, or equal to, the last candidate that
        // does not sort after the rest.
        let rest = &text[at..];
        let mut next = candidates.partition_point(|candidate| candidate.as_str() <= rest).checked_sub(1);
        while let Some(index) = next {
            let candidate = candidates[index].as_str();
            next = parents[index];
            let Some(after) = rest.strip_prefix(candidate) else { continue };
            if candidate.is_empty() || joined(candidate.chars().next_back(), after.chars().next()) {
                continue;
            }
            mentions.push(CharSpan { start, end: start + chars[index] });
            bytes += candidate.len();
            if bytes > MAX_MENTION_BYTES {
                return Err(RecordError::EntitiesTooLong { limit: MAX_MENTION_BYTES });
            }
        }
    }
    Ok(mentions)
}

/// For each text of a sorted list, returns the longest other one that is a prefix of it.
fn longest_prefixes(sorted: &[String]) -> Vec<Option<usize>> {
    let mut open: Vec<usize> = Vec::new();
    let mut prefixes = Vec::with_capacity(sorted.len());
    for (index, text) in sorted.iter().enumerate() {
        while open.last().is_some_and(|&last| !text.starts_with(&sorted[last])) {
            open.pop();
        }
        prefixes.push(open.last().copied());
        open.push(index);
    }
    prefixes
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
                        && !joined(start.checked_sub(1).map(|at| letters[at]), Some(letters[start]))
                        && !joined(Some(letters[end - 1]), letters.get(end).copied())
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
