//! Clean-up of tokenized text, in which words and punctuation are separated by spaces, so that it reads like the text that models were
//! trained on: the rules with which the published figures for WikiText and the Penn Treebank were computed.

use std::borrow::Cow;

use clap::ValueEnum;
use serde::Serialize;

/// Name of a clean-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cleaning {
    /// WikiText: joins punctuation to words, and numbers such as `1 @,@ 200`
    Wikitext,
    /// Penn Treebank: joins `n't`, and inserts numbers
    Ptb,
}

/// One rule, applied to the whole text.
enum Rule {
    /// Replaces all occurrences.
    Replace(&'static str, &'static str),
    /// Removes white space next to a pair of brackets or quotation marks, on the inside.
    Tighten(char, char),
    /// Replaces `/' `, an ASCII digit and `/` by `/'[0-9]/`. In the published code this is a pattern of another language that was meant to
    /// join digits; no text has it, but equal rules give equal figures.
    StrayPattern,
}

use Rule::{Replace, StrayPattern, Tighten};

const WIKITEXT: &[Rule] = &[
    Replace("s '", "s'"),
    StrayPattern,
    Replace(" @-@ ", "-"),
    Replace(" @,@ ", ","),
    Replace(" @.@ ", "."),
    Replace(" : ", ": "),
    Replace(" ; ", "; "),
    Replace(" . ", ". "),
    Replace(" ! ", "! "),
    Replace(" ? ", "? "),
    Replace(" , ", ", "),
    Tighten('(', ')'),
    Tighten('[', ']'),
    Tighten('{', '}'),
    Tighten('"', '"'),
    Tighten('\'', '\''),
    Replace("= = = =", "===="),
    Replace("= = =", "==="),
    Replace("= =", "=="),
    Replace(" \u{b0} ", "\u{b0}"),
    Replace(" \n", "\n"),
    Replace("\n ", "\n"),
    Replace(" N ", " 1 "),
    Replace(" 's", "'s"),
];

const PTB: &[Rule] = &[
    Replace(" '", "'"),
    Replace(" \n", "\n"),
    Replace("\n ", "\n"),
    Replace(" n't", "n't"),
    Replace(" N ", "1 "),
    Replace("$ 1", "$1"),
    Replace("# 1", "#1"),
];

impl Cleaning {
    /// Cleans a text.
    pub fn clean(self, text: &str) -> String {
        let rules = match self {
            Self::Wikitext => WIKITEXT,
            Self::Ptb => PTB,
        };
        let text = rules.iter().fold(Cow::Borrowed(text), |text, rule| Cow::Owned(rule.apply(&text)));
        text.into_owned()
    }
}

impl Rule {
    fn apply(&self, text: &str) -> String {
        match *self {
            Replace(from, to) => text.replace(from, to),
            Tighten(open, close) => tighten(text, open, close),
            StrayPattern => replace_stray_pattern(text),
        }
    }
}

/// Removes white space after each `open` and before the `close` that follows it first.
fn tighten(text: &str, open: char, close: char) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside_and_rest)) = rest.split_once(open)
        && let Some((inside, after)) = inside_and_rest.split_once(close)
    {
        cleaned.push_str(before);
        cleaned.push(open);
        cleaned.push_str(inside.trim_matches(is_space));
        cleaned.push(close);
        rest = after;
    }
    cleaned + rest
}

fn replace_stray_pattern(text: &str) -> String {
    const START: &str = "/' ";
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        let (before, after) = rest.split_at(at + START.len());
        match after.as_bytes() {
            [b'0'..=b'9', b'/', ..] => {
                cleaned.push_str(&before[..at]);
                cleaned.push_str("/'[0-9]/");
                rest = &after[2..];
            }
            _ => {
                cleaned.push_str(before);
                rest = after;
            }
        }
    }
    cleaned + rest
}

/// White space of regular expressions and of Python's strings: that of Unicode, and four separators among the control characters.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn brackets_and_quotation_marks_are_closed_by_the_first_that_follows() {
        assert_eq!(tighten("( a ( b ) c ) ( )", '(', ')'), "(a ( b) c ) ()");
        assert_eq!(tighten("\" a \" b \" c\n\" \" d", '"', '"'), "\"a\" b \"c\" \" d");
        assert_eq!(tighten(") ( open", '(', ')'), ") ( open");
    }

    #[test]
    fn the_stray_pattern_replaces_itself() {
        assert_eq!(replace_stray_pattern("x/' 7/y /' 77/ /' 1/"), "x/'[0-9]/y /' 77/ /'[0-9]/");
    }

    #[test]
    fn penn_treebank() {
        assert_eq!(Cleaning::Ptb.clean("it does n't cost $ N or # N it 's \n up"), "it doesn't cost $1 or #1 it's\nup");
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_goes_from_within_brackets(text in "[ab( )\\n]{0,30}") {
            let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            let cleaned = tighten(&text, '(', ')');
            prop_assert_eq!(visible(&cleaned), visible(&text));
            prop_assert_eq!(tighten(&cleaned, '(', ')'), cleaned);
        }
    }
}
