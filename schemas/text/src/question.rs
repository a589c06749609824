//! Cloze questions as text: passage, query with a blank, choices; and their tokens.

use std::ops::Range;

use glm_schemas::cloze::encoding::Question;
use glm_schemas::vocab::TokenId;
use thiserror::Error;

use crate::sentence::{holding, sentences, without};
use crate::standard::{Highlighted, standardise};
use crate::tokenize::{Session, TokenizerError};

/// Marker of the blank in plain data.
pub const BLANK: &str = "[BLANK]";
/// Marker of the blank in queries of ReCoRD.
pub const PLACEHOLDER: &str = "@placeholder";

/// Maximum number of choices per question. Every choice takes about 200 bytes of memory besides its text.
pub const MAX_CHOICES: usize = 10_000;

/// Error of parsing a question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuestionTextError {
    /// The number of blanks is not one.
    #[error("the text holds `{marker}` {found} times, it must hold it once")]
    Blank {
        /// Marker of the blank.
        marker: &'static str,
        /// Number of occurrences.
        found: usize,
    },
    /// The list of choices is empty.
    #[error("no choices are given, so there is nothing to choose from")]
    NoChoices,
    /// The list of choices is too long.
    #[error("{found} choices are given; the limit is {MAX_CHOICES}")]
    TooManyChoices {
        /// Number of choices.
        found: usize,
    },
    /// A choice is empty.
    #[error("choice {position} is empty; every choice must hold some text")]
    EmptyChoice {
        /// Index in the list.
        position: usize,
    },
}

/// Returns the byte range of the only blank of a text, which is written `marker`.
///
/// # Errors
/// [`QuestionTextError::Blank`] if there is not exactly one.
pub fn find_blank(text: &str, marker: &'static str) -> Result<Range<usize>, QuestionTextError> {
    let found = text.matches(marker).count();
    match text.find(marker) {
        Some(at) if found == 1 => Ok(at..at + marker.len()),
        _ => Err(QuestionTextError::Blank { marker, found }),
    }
}

/// Passage and query of a question, normalized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClozeText {
    /// Text before the query; may be empty.
    pub passage: String,
    /// Query, including the marker of the blank.
    pub query: String,
    /// Byte range of the blank in `query`.
    pub blank: Range<usize>,
}

impl ClozeText {
    /// Splits a normalized context with a blank at the given bytes: the sentence with the blank becomes the query, the rest of
    /// the context the passage, which is empty if the context is a single sentence.
    pub fn around(context: &str, blank: &Range<usize>) -> Self {
        let sentence = holding(&sentences(context), blank.start);
        let passage = without(context, &sentence).map(|part| &context[part]).concat();
        let blank = blank.start - sentence.start..blank.end - sentence.start;
        Self { passage, query: context[sentence].to_owned(), blank }
    }

    /// Splits a raw context that contains [`BLANK`] once.
    ///
    /// # Errors
    /// [`QuestionTextError::Blank`] if there is not exactly one blank.
    pub fn from_context(context: &str) -> Result<Self, QuestionTextError> {
        let context = standardise(context);
        let blank = find_blank(&context, BLANK)?;
        Ok(Self::around(&context, &blank))
    }

    /// Normalizes a raw passage and a raw query with one blank, which is written as [`PLACEHOLDER`] or, if the query does not
    /// contain that, as [`BLANK`].
    ///
    /// # Errors
    /// [`QuestionTextError::Blank`] if there is not exactly one blank.
    pub fn from_query(passage: &str, query: &str) -> Result<Self, QuestionTextError> {
        let query = standardise(query);
        let marker = if !query.contains(PLACEHOLDER) && query.contains(BLANK) { BLANK } else { PLACEHOLDER };
        let blank = find_blank(&query, marker)?;
        Ok(Self { passage: Highlighted::new(&standardise(passage)).text, query, blank })
    }

    /// Returns the query with `choice` in place of the blank.
    pub fn filled_with(&self, choice: &str) -> String {
        [&self.query[..self.blank.start], choice, &self.query[self.blank.end..]].concat()
    }

    /// Tokenizes passage and query.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] if the tokenizer rejects a text.
    pub fn tokens(&self, session: &mut Session<'_>) -> Result<QuestionTokens, TokenizerError> {
        let passage = session.encode(&self.passage)?.ids;
        let (query_left, query_right) = query_tokens(session, &self.query, &self.blank)?;
        Ok(QuestionTokens { passage, query_left, query_right })
    }
}

/// Tokens of a question without its choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionTokens {
    /// Tokens of the passage, not truncated.
    pub passage: Vec<TokenId>,
    /// Tokens of the query before the blank.
    pub query_left: Vec<TokenId>,
    /// Tokens of the query after the blank.
    pub query_right: Vec<TokenId>,
}

impl QuestionTokens {
    /// Borrows the tokens for the encoder.
    pub fn question(&self) -> Question<'_> {
        Question::about(&self.passage, &self.query_left, &self.query_right)
    }
}

/// Tokenizes a query before and after its blank.
///
/// # Errors
/// [`TokenizerError::Encode`] if the tokenizer rejects a text.
///
/// # Panics
/// Panics if `blank` is out of bounds or not on character boundaries.
pub fn query_tokens(
    session: &mut Session<'_>,
    query: &str,
    blank: &Range<usize>,
) -> Result<(Vec<TokenId>, Vec<TokenId>), TokenizerError> {
    Ok((session.encode(&query[..blank.start])?.ids, session.encode(&query[blank.end..])?.ids))
}

/// Distinct candidates of a list of choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// Distinct choices, trimmed and normalized, sorted by code point.
    pub candidates: Vec<String>,
    /// Index of the candidate of every given choice.
    candidate_of: Vec<usize>,
}

impl Choices {
    /// Normalizes and deduplicates choices.
    ///
    /// # Errors
    /// [`QuestionTextError`] if the list or a choice is empty.
    pub fn new<T: AsRef<str>>(given: &[T]) -> Result<Self, QuestionTextError> {
        if given.is_empty() {
            return Err(QuestionTextError::NoChoices);
        }
        if given.len() > MAX_CHOICES {
            return Err(QuestionTextError::TooManyChoices { found: given.len() });
        }
        let texts: Vec<_> = given.iter().map(|choice| standardise(choice.as_ref().trim())).collect();
        if let Some(position) = texts.iter().position(String::is_empty) {
            return Err(QuestionTextError::EmptyChoice { position });
        }
        let mut candidates = texts.clone();
        candidates.sort_unstable();
        candidates.dedup();
        let candidate_of = texts.iter().map(|text| candidates.binary_search(text).unwrap_or_default()).collect();
        Ok(Self { candidates, candidate_of })
    }

    /// Number of given choices.
    pub fn given(&self) -> usize {
        self.candidate_of.len()
    }

    /// Returns, for every candidate, the index of the first given choice that it represents.
    pub fn first_given(&self) -> Vec<usize> {
        let mut first = vec![usize::MAX; self.candidates.len()];
        for (given, &candidate) in self.candidate_of.iter().enumerate().rev() {
            first[candidate] = given;
        }
        first
    }

    /// Returns the index of the candidate of a given choice.
    pub fn candidate(&self, given: usize) -> Option<usize> {
        self.candidate_of.get(given).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn choices_are_sorted_and_map_to_candidates() {
        let choices = Choices::new(&["pear", " fig ", "‘fig’", "fig"]).expect("choices");
        assert_eq!(choices.candidates, ["'fig'", "fig", "pear"]);
        assert_eq!(choices.given(), 4);
        assert_eq!(choices.first_given(), [2, 1, 0]);
        assert_eq!([0, 1, 2, 3, 4].map(|given| choices.candidate(given)), [Some(2), Some(1), Some(0), Some(1), None]);
        assert_eq!(Choices::new::<&str>(&[]), Err(QuestionTextError::NoChoices));
        let found = MAX_CHOICES + 1;
        assert_eq!(Choices::new(&vec!["a"; found]), Err(QuestionTextError::TooManyChoices { found }));
        assert_eq!(Choices::new(&["a", " \n"]), Err(QuestionTextError::EmptyChoice { position: 1 }));
    }

    #[test]
    fn a_query_may_use_either_marker() {
        for query in ["– @placeholder’s day", "– [BLANK]’s day"] {
            let text = ClozeText::from_query("a\n@highlight\n“b”", query).expect("a question");
            assert_eq!((text.passage.as_str(), text.filled_with("Bo").as_str()), ("a\n- \"b\"", "- Bo's day"));
        }
        let blank = |marker, found| Err(QuestionTextError::Blank { marker, found });
        assert_eq!(ClozeText::from_query("", "none"), blank(PLACEHOLDER, 0));
        assert_eq!(ClozeText::from_query("", "[BLANK] [BLANK]"), blank(BLANK, 2));
        // A query of ReCoRD may contain [BLANK] as text; only one marker is the blank.
        assert_eq!(ClozeText::from_query("", "@placeholder [BLANK]").expect("a question").filled_with("x"), "x [BLANK]");
    }

    proptest! {
        #[test]
        fn a_context_is_split_at_its_blank(before in "(\\PC|\\. |\n){0,30}", after in "(\\PC|\\. |\n){0,30}") {
            let text = ClozeText::from_context(&format!("{before}[BLANK]{after}"));
            prop_assume!(!before.contains(BLANK) && !after.contains(BLANK));
            let text = text.expect("one blank");
            prop_assert_eq!(&text.query[text.blank.clone()], BLANK);
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
            prop_assert_eq!(letters(&text.passage) + letters(&text.query), letters(&before) + letters(&after) + BLANK.len());
        }
    }
}
