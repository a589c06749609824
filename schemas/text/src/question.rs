//! A cloze question as text: passage, query with a blank, choices; and its tokens.

use std::ops::Range;

use glm_schemas::encoding::Question;
use glm_schemas::vocab::TokenId;
use thiserror::Error;

use crate::sentence::{holding, sentences, without};
use crate::standard::{Highlighted, standardise};
use crate::tokenize::{Session, TokenizerError};

/// What stands for the blank in anybody's own data.
pub const BLANK: &str = "[BLANK]";
/// What stands for the blank in a query of ReCoRD.
pub const PLACEHOLDER: &str = "@placeholder";

/// Why a text is no question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuestionTextError {
    /// No blank, or more than one.
    #[error("the text holds `{marker}` {found} times, it must hold it once")]
    Blank {
        /// How a blank is written.
        marker: &'static str,
        /// How often it is there.
        found: usize,
    },
    /// An empty list of choices.
    #[error("no choices are given, so there is nothing to choose from")]
    NoChoices,
    /// A choice without text.
    #[error("choice {position} is empty; every choice must hold some text")]
    EmptyChoice {
        /// Its place in the list, from 0.
        position: usize,
    },
}

/// The bytes of a text's only blank, which is written `marker`.
///
/// # Errors
/// [`QuestionTextError::Blank`] where there is none or more than one.
pub fn find_blank(text: &str, marker: &'static str) -> Result<Range<usize>, QuestionTextError> {
    let found = text.matches(marker).count();
    match text.find(marker) {
        Some(at) if found == 1 => Ok(at..at + marker.len()),
        _ => Err(QuestionTextError::Blank { marker, found }),
    }
}

/// Passage and query in standard form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClozeText {
    /// What the model reads before the query; may be empty.
    pub passage: String,
    /// The query, blank included.
    pub query: String,
    /// Where the blank is: bytes of `query`.
    pub blank: Range<usize>,
}

impl ClozeText {
    /// Splits a context in standard form that has its blank at these bytes: the query is the sentence that holds the blank, the
    /// passage is the rest of the context, which is nothing where the context is one sentence.
    pub fn around(context: &str, blank: &Range<usize>) -> Self {
        let sentence = holding(&sentences(context), blank.start);
        let passage = without(context, &sentence).map(|part| &context[part]).concat();
        let blank = blank.start - sentence.start..blank.end - sentence.start;
        Self { passage, query: context[sentence].to_owned(), blank }
    }

    /// Splits a raw context that holds [`BLANK`] once.
    ///
    /// # Errors
    /// [`QuestionTextError::Blank`].
    pub fn from_context(context: &str) -> Result<Self, QuestionTextError> {
        let context = standardise(context);
        let blank = find_blank(&context, BLANK)?;
        Ok(Self::around(&context, &blank))
    }

    /// Takes a raw passage and a raw query that holds its blank once, written as [`PLACEHOLDER`] or, where there is none of these,
    /// as [`BLANK`].
    ///
    /// # Errors
    /// [`QuestionTextError::Blank`].
    pub fn from_query(passage: &str, query: &str) -> Result<Self, QuestionTextError> {
        let query = standardise(query);
        let marker = if !query.contains(PLACEHOLDER) && query.contains(BLANK) { BLANK } else { PLACEHOLDER };
        let blank = find_blank(&query, marker)?;
        Ok(Self { passage: Highlighted::new(&standardise(passage)).text, query, blank })
    }

    /// The query with this text in place of the blank.
    pub fn filled_with(&self, choice: &str) -> String {
        [&self.query[..self.blank.start], choice, &self.query[self.blank.end..]].concat()
    }

    /// Its tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn tokens(&self, session: &mut Session<'_>) -> Result<QuestionTokens, TokenizerError> {
        let passage = session.encode(&self.passage)?.ids;
        let (query_left, query_right) = query_tokens(session, &self.query, &self.blank)?;
        Ok(QuestionTokens { passage, query_left, query_right })
    }
}

/// The tokens of a question that all its choices share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionTokens {
    /// All tokens of the passage, not truncated.
    pub passage: Vec<TokenId>,
    /// Tokens of the query before the blank.
    pub query_left: Vec<TokenId>,
    /// Tokens of the query behind the blank.
    pub query_right: Vec<TokenId>,
}

impl QuestionTokens {
    /// What is encoded.
    pub fn question(&self) -> Question<'_> {
        Question { passage: &self.passage, query_left: &self.query_left, query_right: &self.query_right }
    }
}

/// Tokens of a query before and behind its blank.
///
/// # Errors
/// [`TokenizerError::Encode`].
///
/// # Panics
/// If `blank` does not lie in the query, at characters.
pub fn query_tokens(
    session: &mut Session<'_>,
    query: &str,
    blank: &Range<usize>,
) -> Result<(Vec<TokenId>, Vec<TokenId>), TokenizerError> {
    Ok((session.encode(&query[..blank.start])?.ids, session.encode(&query[blank.end..])?.ids))
}

/// A list of choices, once in the order of candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// The distinct choices in standard form, without white space around them, sorted by code point.
    pub candidates: Vec<String>,
    /// For every choice, in the order given, which candidate it is.
    candidate_of: Vec<usize>,
}

impl Choices {
    /// Choices that are written twice count once.
    ///
    /// # Errors
    /// [`QuestionTextError`] where there is none, or one is empty.
    pub fn new<T: AsRef<str>>(given: &[T]) -> Result<Self, QuestionTextError> {
        if given.is_empty() {
            return Err(QuestionTextError::NoChoices);
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

    /// How many choices were given.
    pub fn given(&self) -> usize {
        self.candidate_of.len()
    }

    /// Which candidate the choice with this place in the given list is.
    pub fn candidate(&self, given: usize) -> Option<usize> {
        self.candidate_of.get(given).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn choices_are_sorted_and_know_where_they_were() {
        let choices = Choices::new(&["pear", " fig ", "‘fig’", "fig"]).expect("choices");
        assert_eq!(choices.candidates, ["'fig'", "fig", "pear"]);
        assert_eq!(choices.given(), 4);
        assert_eq!([0, 1, 2, 3, 4].map(|given| choices.candidate(given)), [Some(2), Some(1), Some(0), Some(1), None]);
        assert_eq!(Choices::new::<&str>(&[]), Err(QuestionTextError::NoChoices));
        assert_eq!(Choices::new(&["a", " \n"]), Err(QuestionTextError::EmptyChoice { position: 1 }));
    }

    #[test]
    fn a_query_may_write_its_blank_in_two_ways() {
        for query in ["– @placeholder’s day", "– [BLANK]’s day"] {
            let text = ClozeText::from_query("a\n@highlight\n“b”", query).expect("a question");
            assert_eq!((text.passage.as_str(), text.filled_with("Bo").as_str()), ("a\n- \"b\"", "- Bo's day"));
        }
        let blank = |marker, found| Err(QuestionTextError::Blank { marker, found });
        assert_eq!(ClozeText::from_query("", "none"), blank(PLACEHOLDER, 0));
        assert_eq!(ClozeText::from_query("", "[BLANK] [BLANK]"), blank(BLANK, 2));
        // A passage or query of ReCoRD may speak of [BLANK]; only one marker is the blank.
        assert_eq!(ClozeText::from_query("", "@placeholder [BLANK]").expect("a question").filled_with("x"), "x [BLANK]");
    }

    proptest! {
        #[test]
        fn a_context_is_split_at_its_blank(before in "(\\PC|\\. |\n){0,30}", behind in "(\\PC|\\. |\n){0,30}") {
            let text = ClozeText::from_context(&format!("{before}[BLANK]{behind}"));
            prop_assume!(!before.contains(BLANK) && !behind.contains(BLANK));
            let text = text.expect("one blank");
            prop_assert_eq!(&text.query[text.blank.clone()], BLANK);
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
            prop_assert_eq!(letters(&text.passage) + letters(&text.query), letters(&before) + letters(&behind) + BLANK.len());
        }
    }
}
