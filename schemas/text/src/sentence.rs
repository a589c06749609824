//! Sentence splitting, for formats whose text contains the blank.
//!
//! The model reads a passage followed by a query with the blank. For these formats the sentence with the blank becomes the
//! query and all other text the passage. A sentence ends
//!
//! - at every line break;
//! - after `.`, `!`, `?` or `…` (including closing quotes and brackets) followed by white space and not by a lower-case word; a
//!   full stop after an initial or a title such as `Dr` does not end a sentence;
//! - after a separate mark, as in tokenized text (`he left . she stayed .`), including a separate closing quote;
//! - after `。`, `！` or `？`.
//!
//! These rules are heuristics: a wrong boundary moves words between query and passage, but no text is lost.

use std::ops::Range;

/// Lower-case abbreviations with a full stop that does not end a sentence. `no.` is omitted, as it is also a word.
const SHORT_FORMS: [&str; 18] = [
    "mr", "mrs", "ms", "dr", "st", "prof", "gen", "col", "lt", "capt", "sgt", "rev", "gov", "sen", "rep", "mt", "vs", "messrs",
];

/// Returns the byte ranges of the sentences of a text. They are trimmed and not empty, with only white space between them.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut sentences = Vec::new();
    let mut start: Option<usize> = None;
    // End of the sentence so far, without trailing white space.
    let mut end = 0;
    let mut skip_to = 0;
    for (at, c) in text.char_indices() {
        if at < skip_to {
            continue;
        }
        if c == '\n' {
            sentences.extend(start.take().map(|start| start..end));
            continue;
        }
        if c.is_whitespace() {
            continue;
        }
        let first = *start.get_or_insert(at);
        end = at + c.len_utf8();
        if !is_mark(c) {
            continue;
        }
        let marks = text[at..].find(|c| !is_mark(c)).map_or(text.len(), |length| at + length);
        end = text[marks..].find(|c| !is_closing(c)).map_or(text.len(), |length| marks + length);
        skip_to = end;
        if let Some(ends) = sentence_end(text, first, at..marks, end) {
            end = ends;
            skip_to = ends;
            sentences.push(first..ends);
            start = None;
        }
    }
    sentences.extend(start.map(|start| start..end));
    sentences
}

/// Returns the end of the sentence that starts at `start` if `marks` end it. `end` is the end of the marks and the closing
/// quotes and brackets after them.
fn sentence_end(text: &str, start: usize, marks: Range<usize>, end: usize) -> Option<usize> {
    let (sentence, rest) = (&text[start..marks.start], &text[end..]);
    let ideographic = text[marks.clone()].chars().next_back().is_some_and(|c| "。！？".contains(c));
    if ideographic || rest.is_empty() {
        return Some(end);
    }
    if !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let alone = !sentence.is_empty() && sentence.ends_with(char::is_whitespace);
    // A separate ellipsis is more often a pause than the end of a sentence.
    if alone && marks.len() == 1 {
        return Some(end + quote_apart(&text[start..end], rest));
    }
    let next = rest.trim_start().chars().find(|&c| !is_closing(c) && !is_opening(c));
    if next.is_some_and(char::is_lowercase) || (&text[marks] == "." && is_short_form(sentence)) {
        return None;
    }
    Some(end)
}

/// Returns the length of a separate closing quote after a sentence, including the space before it; 0 if there is none.
fn quote_apart(sentence: &str, rest: &str) -> usize {
    let Some(next) = rest.strip_prefix(' ') else { return 0 };
    let Some(quote) = ["\"", "''"].into_iter().find(|quote| next.starts_with(quote)) else { return 0 };
    let after = &next[quote.len()..];
    // The same character opens and closes quotes: it closes one if the sentence contains an odd number of them.
    let closes = quote == "''" || sentence.matches('"').count() % 2 == 1;
    if closes && (after.is_empty() || after.starts_with(char::is_whitespace)) { 1 + quote.len() } else { 0 }
}

fn is_short_form(sentence: &str) -> bool {
    let word = sentence.rfind(|c: char| !c.is_alphanumeric()).map_or(sentence, |at| {
        let length = sentence[at..].chars().next().map_or(0, char::len_utf8);
        &sentence[at + length..]
    });
    let mut letters = word.chars();
    let initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none() && word != "I";
    initial || SHORT_FORMS.iter().any(|form| form.eq_ignore_ascii_case(word))
}

fn is_mark(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？')
}

fn is_closing(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '\u{201d}' | '\u{2019}' | '»' | '」' | '』')
}

fn is_opening(c: char) -> bool {
    matches!(c, '(' | '[' | '`' | '\u{201c}' | '\u{2018}' | '«' | '-' | '\u{2013}' | '\u{2014}')
}

/// Returns the sentence that contains the byte `at`, which must not be white space.
pub fn holding(sentences: &[Range<usize>], at: usize) -> Range<usize> {
    let index = sentences.partition_point(|sentence| sentence.end <= at);
    sentences.get(index).cloned().unwrap_or(at..at)
}

/// Returns the rest of a text without one of its sentences: the text before, the white space between, and the text after.
pub fn without(text: &str, sentence: &Range<usize>) -> [Range<usize>; 3] {
    let before = 0..text[..sentence.start].trim_end().len();
    let after = text.len() - text[sentence.end..].trim_start().len()..text.len();
    let (left, right) = (before.end..sentence.start, sentence.end..after.start);
    let between = match (before.is_empty(), after.is_empty()) {
        (false, false) if text[right.clone()].contains('\n') => right,
        (false, false) => left,
        _ => sentence.start..sentence.start,
    };
    [before, between, after]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|sentence| &text[sentence]).collect()
    }

    fn rest(text: &str, at: usize) -> String {
        without(text, &holding(&sentences(text), at)).map(|part| &text[part]).concat()
    }

    #[test]
    fn sentences_end_at_their_marks() {
        for (text, expected) in [
            ("One day. Two days!  (Three?) Four", &["One day.", "Two days!", "(Three?)", "Four"][..]),
            ("\"Really?\" he asked. \"Yes.\" She left.", &["\"Really?\" he asked.", "\"Yes.\"", "She left."]),
            (
                "Dr. Lee met J. Roe at 3.5 p.m. today. So did I. Then…",
                &["Dr. Lee met J. Roe at 3.5 p.m. today.", "So did I.", "Then…"],
            ),
            ("a title\nA text . and more\n\n", &["a title", "A text .", "and more"]),
            ("he left . she said \" no ! \" and ... stayed .", &["he left .", "she said \" no ! \"", "and ... stayed ."]),
            ("`` go . '' we went .", &["`` go . ''", "we went ."]),
            ("一天。兩天！三", &["一天。", "兩天！", "三"]),
            (" . ", &["."]),
            ("", &[]),
        ] {
            assert_eq!(cut(text), expected, "{text}");
        }
    }

    #[test]
    fn the_rest_keeps_its_white_space() {
        let text = "Ann sat. Bo ran.\nCy hid.";
        assert_eq!(rest(text, 2), "Bo ran.\nCy hid.");
        assert_eq!(rest(text, 10), "Ann sat.\nCy hid.");
        assert_eq!(rest(text, 20), "Ann sat. Bo ran.");
        assert_eq!(rest("A b. C d. E f.", 6), "A b. E f.");
        assert_eq!(rest("一。二。三。", 6), "一。三。");
        assert_eq!(rest("Alone.", 3), "");
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_is_lost(text in "([a-zA-Z .!?\"'\n…。é]|Dr\\.| \\. | '' |\\PC){0,60}", at in 0_usize..300) {
            let sentences = sentences(&text);
            let mut end = 0;
            for sentence in &sentences {
                prop_assert!(text[end..sentence.start].trim().is_empty() && !sentence.is_empty());
                prop_assert_eq!(text[sentence.clone()].trim(), &text[sentence.clone()]);
                end = sentence.end;
            }
            prop_assert!(text[end..].trim().is_empty());
            let holds = holding(&sentences, at);
            if text.is_char_boundary(at) && text[at..].starts_with(|c: char| !c.is_whitespace()) {
                prop_assert!(holds.contains(&at));
                let [before, between, after] = without(&text, &holds);
                prop_assert!(before.end <= holds.start && holds.end <= after.start && text[between].trim().is_empty());
            }
        }
    }
}
