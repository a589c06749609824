//! Cuts a text into sentences, for formats that give a text with a blank somewhere in it.
//!
//! The model reads a passage and then a query with the blank; here the query is the sentence that holds the blank and the
//! passage is everything else. A sentence ends
//!
//! - at every line break;
//! - after `.`, `!`, `?` or `…` (with the quotes and brackets that close right behind) where white space follows, and then
//!   anything but a lower-case word; a full stop behind an initial or a title such as `Dr` ends none;
//! - after such a mark that stands by itself, as in text that is split into tokens (`he left . she stayed .`), with the closing
//!   quote that may stand by itself behind it;
//! - after `。`, `！` or `？`, whatever follows.
//!
//! This is no linguistics: a cut in a wrong place only moves words between query and passage, none is lost.

use std::ops::Range;

/// Short forms that end with a full stop in the middle of a sentence, in lower case. `no.` is left out: it is a word too.
const SHORT_FORMS: [&str; 18] = [
    "mr", "mrs", "ms", "dr", "st", "prof", "gen", "col", "lt", "capt", "sgt", "rev", "gov", "sen", "rep", "mt", "vs", "messrs",
];

/// The sentences of a text, as bytes. None is empty, none has white space around it, and only white space lies between them.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut sentences = Vec::new();
    let mut start: Option<usize> = None;
    // End of what was read of the sentence, without white space at its end.
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

/// Where the sentence that began at `start` ends, if it does with the marks at `marks`, which reach to `end` with what closes
/// right behind them.
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
    // An ellipsis by itself is more often a pause than an end.
    if alone && marks.len() == 1 {
        return Some(end + quote_apart(&text[start..end], rest));
    }
    let next = rest.trim_start().chars().find(|&c| !is_closing(c) && !is_opening(c));
    if next.is_some_and(char::is_lowercase) || (&text[marks] == "." && is_short_form(sentence)) {
        return None;
    }
    Some(end)
}

/// Length of a closing quote that stands by itself behind a sentence, with the space before it; 0 where there is none.
fn quote_apart(sentence: &str, rest: &str) -> usize {
    let Some(next) = rest.strip_prefix(' ') else { return 0 };
    let Some(quote) = ["\"", "''"].into_iter().find(|quote| next.starts_with(quote)) else { return 0 };
    let behind = &next[quote.len()..];
    // The same sign opens and closes, so it closes where an odd number of them came before.
    let closes = quote == "''" || sentence.matches('"').count() % 2 == 1;
    if closes && (behind.is_empty() || behind.starts_with(char::is_whitespace)) { 1 + quote.len() } else { 0 }
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

/// Which of the sentences holds a byte of the text that is no white space.
pub fn holding(sentences: &[Range<usize>], at: usize) -> Range<usize> {
    let index = sentences.partition_point(|sentence| sentence.end <= at);
    sentences.get(index).cloned().unwrap_or(at..at)
}

/// What is left of a text without one of its sentences: what stands before, what stands between, and what stands behind.
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
    fn the_rest_is_put_together_with_the_white_space_that_was_there() {
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
            let mut behind = 0;
            for sentence in &sentences {
                prop_assert!(text[behind..sentence.start].trim().is_empty() && !sentence.is_empty());
                prop_assert_eq!(text[sentence.clone()].trim(), &text[sentence.clone()]);
                behind = sentence.end;
            }
            prop_assert!(text[behind..].trim().is_empty());
            let holds = holding(&sentences, at);
            if text.is_char_boundary(at) && text[at..].starts_with(|c: char| !c.is_whitespace()) {
                prop_assert!(holds.contains(&at));
                let [before, between, after] = without(&text, &holds);
                prop_assert!(before.end <= holds.start && holds.end <= after.start && text[between].trim().is_empty());
            }
        }
    }
}
