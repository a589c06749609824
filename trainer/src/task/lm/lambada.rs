//! LAMBADA: the last word of a passage, predicted token by token.
//!
//! This is the published task over all words: each token of the last word must be the model's best guess, given the passage and the
//! tokens of the word before it. The format `lambada` of `glm-prep ingest` makes another task of the same passages, a cloze question
//! whose choices are the words of the passage.

use glm_schemas::vocab::TokenId;
use thiserror::Error;

use super::Window;
use super::clean::is_space;
use crate::task::metrics::{MetricInfo, Metrics, Role, Unit};

/// Passage whose last word does not fit into a sequence, or that has none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PassageError {
    /// The passage has no word.
    #[error("the text has no word to predict")]
    NoWord,
    /// The last word has no tokens, such as one of control characters.
    #[error("the last word has no tokens")]
    NoTokens,
    /// The last word is too long.
    #[error("the last word has {tokens} tokens, too many for --seq-len {seq_len}")]
    TooLong {
        /// Tokens of the word.
        tokens: usize,
        /// Maximum number of tokens of a sequence.
        seq_len: usize,
    },
}

/// Splits a passage into the text before its last word, and that word, both without surrounding white space.
///
/// # Errors
/// [`PassageError::NoWord`].
pub fn split_last_word(text: &str) -> Result<(&str, &str), PassageError> {
    let text = text.trim_matches(is_space);
    let start = text.char_indices().rev().take_while(|(_, c)| !is_space(*c)).last().map(|(start, _)| start);
    let (before, word) = text.split_at(start.ok_or(PassageError::NoWord)?);
    Ok((before.trim_matches(is_space), word))
}

/// The window of a passage with `answer` tokens of the last word at the end of `tokens`; only they count.
///
/// Bidirectional: the context is all of the passage before the last word. Unidirectional: it is the first token alone. If the sequence,
/// with `[CLS]`, blank and end of the context, is longer than `seq_len`, the front of the passage is cut off; a unidirectional context
/// is then empty.
///
/// # Errors
/// [`PassageError`] if there is no answer or it is too long.
pub fn window(tokens: &[TokenId], answer: usize, seq_len: usize, unidirectional: bool) -> Result<Window<'_>, PassageError> {
    let Some(before) = tokens.len().checked_sub(answer).filter(|_| answer > 0) else {
        return Err(PassageError::NoTokens);
    };
    let room = seq_len.checked_sub(3 + answer).ok_or(PassageError::TooLong { tokens: answer, seq_len })?;
    let cut = before.saturating_sub(room);
    let context = match unidirectional {
        true if cut > 0 => 0,
        true => before.min(1),
        false => before - cut,
    };
    Ok(Window { tokens: &tokens[cut..], context, counted_from: before - cut })
}

/// Metrics of LAMBADA.
pub static METRICS: [MetricInfo; 4] = [
    MetricInfo {
        name: "accuracy",
        label: "accuracy",
        unit: Unit::Share,
        role: Role::Quality { higher_is_better: true },
        meaning: "texts of which every token of the last word is the best guess",
    },
    MetricInfo { name: "correct", label: "correct", unit: Unit::Count, role: Role::Total, meaning: "" },
    MetricInfo { name: "texts", label: "texts", unit: Unit::Count, role: Role::Total, meaning: "" },
    MetricInfo { name: "truncated", label: "truncated", unit: Unit::Count, role: Role::Total, meaning: "" },
];

/// Metrics of `texts` passages, of which `correct` were completed correctly and `truncated` lost their front.
pub fn metrics(texts: usize, correct: usize, truncated: usize) -> Metrics {
    let share = correct as f64 / texts.max(1) as f64;
    let cut = if truncated == 0 { String::new() } else { format!(", {truncated} of them truncated") };
    let summary = format!("accuracy {}", METRICS[0].format(share));
    Metrics::new(&METRICS, &[share, correct as f64, texts as f64, truncated as f64])
        .described(format!("{correct} of {texts} texts{cut}"), summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_word_is_split_off() {
        for (text, before, word) in
            [("The dog barked", "The dog", "barked"), (" the the\u{a0}the. \n", "the the", "the."), ("alone", "", "alone")]
        {
            assert_eq!(split_last_word(text), Ok((before, word)));
        }
        assert_eq!(split_last_word(" \u{1f}\n"), Err(PassageError::NoWord));
    }

    #[test]
    fn the_front_of_a_long_passage_is_cut_off() {
        let tokens: Vec<TokenId> = (0..12).collect();
        let cut = |seq_len, unidirectional| {
            let window = window(&tokens, 2, seq_len, unidirectional).expect("fits");
            (window.tokens[0], window.context, window.counted_from)
        };
        assert_eq!(
            [cut(15, false), cut(14, false), cut(9, false), cut(5, false)],
            [(0, 10, 10), (1, 9, 9), (6, 4, 4), (10, 0, 0)]
        );
        assert_eq!([cut(15, true), cut(14, true), cut(9, true), cut(5, true)], [(0, 1, 10), (1, 0, 9), (6, 0, 4), (10, 0, 0)]);
        let error = window(&tokens, 2, 4, false).expect_err("too long").to_string();
        assert_eq!(error, "the last word has 2 tokens, too many for --seq-len 4");
        assert!(window(&tokens, 0, 9, false).is_err());
    }

    proptest! {
        #[test]
        fn sequences_fit_and_count_the_answer(before in 0_usize..40, answer in 1_usize..9, seq_len in 0_usize..40, unidirectional: bool) {
            let tokens: Vec<TokenId> = (0..(before + answer) as TokenId).collect();
            match window(&tokens, answer, seq_len, unidirectional) {
                Ok(window) => {
                    prop_assert!(window.tokens.len() + 3 <= seq_len);
                    prop_assert_eq!(&window.tokens[window.counted_from..], &tokens[before..]);
                    prop_assert!(window.context <= window.counted_from);
                }
                Err(_) => prop_assert!(answer + 3 > seq_len),
            }
        }
    }
}
