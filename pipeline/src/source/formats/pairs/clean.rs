//! Clean-up of tokenized corpora, as published.

use glm_text::standard::standardise;

/// Side of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Source.
    Source,
    /// Target.
    Target,
}

/// Separator of sentences in CNN/DailyMail.
const SENTENCE: &str = "<S_SEP>";

/// Replacements in CNN/DailyMail, in order.
const CNN_DM: [(&str, &str); 13] = [
    ("-LRB-", "("),
    ("-RRB-", ")"),
    ("-LSB-", "["),
    ("-RSB-", "]"),
    ("-LCB-", "{"),
    ("-RCB-", "}"),
    ("''", "\""),
    ("``", "\""),
    ("`", "'"),
    (" n't", "n't"),
    (" 's", "'s"),
    (" 'd", "'d"),
    (" 'll", "'ll"),
];

/// Replacements in Gigaword, in order.
const GIGAWORD: [(&str, &str); 11] = [
    ("UNK", "[UNK]"),
    ("<unk>", "[UNK]"),
    ("-lrb-", "("),
    ("-rrb-", ")"),
    ("-lsb-", "["),
    ("-rsb-", "]"),
    ("-lcb-", "{"),
    ("-rcb-", "}"),
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
];

/// Cleans a line of CNN/DailyMail: brackets, quotation marks, contractions. Sentences of a target are separated by `[SEP]`.
pub fn cnn_dm(text: &str, side: Side) -> String {
    let separator = if side == Side::Source { "" } else { "[SEP]" };
    replaced(standardise(text.trim()).replace(SENTENCE, separator), &CNN_DM)
}

/// Cleans a line of Gigaword: unknown words, brackets, escaped characters.
pub fn gigaword(text: &str) -> String {
    replaced(standardise(text.trim()), &GIGAWORD)
}

fn replaced(text: String, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text, |text, (from, to)| text.replace(from, to))
}
