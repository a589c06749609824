//! CLOTH: articles with missing words and four choices per blank, one JSON document per file.
//!
//! `{article, options: [[word, word, word, word], …], answers: ["A", …], source}`; a blank is a `_` that is not part of a word.
//!
//! Each blank becomes a separate passage because it has its own choices. The query is the sentence with the blank, as split by
//! [`glm_text::sentence`]; the passage is the rest of the article. The other blanks are filled with their correct words, or with
//! [`UNANSWERED`] if the answers are not given.

use std::ops::Range;

use glm_text::question::Choices;
use glm_text::sentence::{holding, sentences, without};
use glm_text::standard::standardise;
use serde::Deserialize;

use super::words::mentions;
use crate::source::error::{QuestionError, RecordError, RejectedQuestion};
use crate::source::format::{ClozeFormat, Content, Format, Framing, json_object};
use crate::source::head::Head;
use crate::source::passage::{Passage, Question};

/// Marker of a blank.
const BLANK: &str = "_";

/// Filling of the other blanks if their answers are unknown. It is not `[MASK]`, which marks the blank of the question.
pub const UNANSWERED: &str = "_";

/// Maximum length of all copies of an article, one per blank. Real articles need about 40 kB.
const MAX_BYTES: usize = 16 << 20;

/// CLOTH.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cloth;

#[derive(Deserialize)]
struct RawArticle {
    article: String,
    options: Vec<Vec<String>>,
    answers: Option<Vec<String>>,
    #[serde(default)]
    source: String,
}

/// Blank of an article.
struct Blank {
    /// Offset of its `_` in the article, in bytes.
    at: usize,
    choices: Result<Choices, QuestionError>,
    /// Index of the correct candidate.
    answer: Result<usize, QuestionError>,
}

/// Article in standard form.
struct Article {
    text: String,
    blanks: Vec<Blank>,
}

impl Format for Cloth {
    fn name(&self) -> &'static str {
        "cloth"
    }

    fn about(&self) -> &'static str {
        "CLOTH, one document per file"
    }

    fn signs(&self) -> &'static str {
        "`article` and `options`"
    }

    fn framing(&self) -> Framing {
        Framing::Document
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        matches!(head, Head::Json(keys) if keys.has_all(&["article", "options"]))
    }

    fn content(&self) -> Content<'_> {
        Content::Questions(self)
    }
}

impl ClozeFormat for Cloth {
    fn blank(&self) -> &'static str {
        BLANK
    }

    fn parse(&self, record: &str, labelled: bool) -> Result<Vec<Passage>, RecordError> {
        let raw: RawArticle = json_object(self.name(), record)?;
        let article = Article::new(&raw)?;
        let sentences = sentences(&article.text);
        let blanks = article.blanks.iter().enumerate();
        blanks.map(|(position, blank)| article.ask(position, &holding(&sentences, blank.at), labelled, &raw.source)).collect()
    }
}

impl Article {
    fn new(raw: &RawArticle) -> Result<Self, RecordError> {
        let text = standardise(&raw.article);
        let places: Vec<_> = blanks(&text).collect();
        if places.is_empty() {
            return Err(RecordError::NoBlank { field: "article", marker: BLANK });
        }
        let entries = [("options", Some(raw.options.len())), ("answers", raw.answers.as_ref().map(Vec::len))];
        for (field, found) in entries {
            if let Some(found) = found.filter(|&found| found != places.len()) {
                return Err(RecordError::BlankCount { field, found, blanks: places.len() });
            }
        }
        let blanks: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(position, &at)| {
                let choices = Choices::new(&raw.options[position]).map_err(QuestionError::from);
                let answer = match (&choices, raw.answers.as_ref().map(|answers| answers[position].as_str())) {
                    (Err(error), _) => Err(error.clone()),
                    (_, None) => Err(QuestionError::NoAnswers),
                    (Ok(choices), Some(letter)) => answer(choices, letter),
                };
                Blank { at, choices, answer }
            })
            .collect();
        let article = Self { text, blanks };
        let filled = article.blanks.iter().fold(article.text.len(), |bytes, blank| bytes.saturating_add(blank.filling().len()));
        if filled.saturating_mul(places.len()) > MAX_BYTES {
            return Err(RecordError::PassagesTooLong { blanks: places.len(), limit: MAX_BYTES });
        }
        Ok(article)
    }

    /// Returns the passage and the question of one blank, which lies in `sentence`.
    fn ask(&self, position: usize, sentence: &Range<usize>, labelled: bool, source: &str) -> Result<Passage, RecordError> {
        let blank = &self.blanks[position];
        let mut text = String::with_capacity(self.text.len());
        for part in without(&self.text, sentence) {
            self.fill(part, &mut text);
        }
        let mut query = String::new();
        self.fill(sentence.start..blank.at, &mut query);
        let start = query.len();
        query.push_str(BLANK);
        self.fill(blank.at + BLANK.len()..sentence.end, &mut query);

        let answers = match &blank.answer {
            Ok(answer) if labelled => Ok(vec![*answer]),
            Err(error) if labelled => Err(error.clone()),
            _ => blank.choices.as_ref().map(|_| Vec::new()).map_err(Clone::clone),
        };
        let question =
            answers.map(|answers| Question { id: None, name: None, text: query, blank: start..start + BLANK.len(), answers });
        let candidates = blank.choices.as_ref().map(|choices| choices.candidates.clone()).unwrap_or_default();
        let choice_indices = blank.choices.as_ref().map(Choices::first_given).unwrap_or_default();
        Ok(Passage {
            id: None,
            source: source.to_owned(),
            mentions: mentions(&text, &candidates)?,
            text,
            candidates,
            choice_indices,
            questions: vec![question.map_err(|error| RejectedQuestion { position, id: None, error })],
        })
    }

    /// Appends a part of the article with its blanks filled.
    fn fill(&self, part: Range<usize>, filled: &mut String) {
        let mut from = part.start;
        let first = self.blanks.partition_point(|blank| blank.at < part.start);
        for blank in self.blanks[first..].iter().take_while(|blank| blank.at < part.end) {
            filled.push_str(&self.text[from..blank.at]);
            filled.push_str(blank.filling());
            from = blank.at + BLANK.len();
        }
        filled.push_str(&self.text[from..part.end]);
    }
}

impl Blank {
    /// Returns the word that replaces the blank in the questions of other blanks.
    fn filling(&self) -> &str {
        match (&self.choices, &self.answer) {
            (Ok(choices), Ok(answer)) => &choices.candidates[*answer],
            _ => UNANSWERED,
        }
    }
}

/// Offsets of the blanks. A `_` within a word or next to another `_` is not a blank.
fn blanks(text: &str) -> impl Iterator<Item = usize> {
    let in_word = |c: char| c == '_' || c.is_alphanumeric();
    text.match_indices(BLANK).map(|(at, _)| at).filter(move |&at| {
        !text[..at].chars().next_back().is_some_and(in_word) && !text[at + BLANK.len()..].chars().next().is_some_and(in_word)
    })
}

/// Returns the candidate that a letter denotes.
fn answer(choices: &Choices, letter: &str) -> Result<usize, QuestionError> {
    let given = match letter.trim().as_bytes() {
        &[letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => None,
    };
    given.and_then(|given| choices.candidate(given)).ok_or_else(|| QuestionError::AnswerNotAChoice {
        answer: format!("`{letter}`"),
        choices: choices.given(),
        expected: "a letter, `A` for the first choice, `B` for the second and so on",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use glm_text::question::QuestionTextError;
    use glm_text::standard::CharOffsets;

    fn article() -> Value {
        json!({
            "article": "Mia’s boat was _ . She took her _ boat, the _ one, to the sea.\nNo_blank ___ there. It sank; the boat was old",
            "options": [["old", "new", "red", "wet"], ["sister", "dad", "dad", "own"], ["blue", "small", "new", "old"]],
            "answers": ["A", "C", "B"],
            "source": "own-1.txt",
        })
    }

    fn parse(article: &Value, labelled: bool) -> Vec<Passage> {
        Cloth.parse(&article.to_string(), labelled).expect("an article")
    }

    fn with(field: &str, value: Value) -> Value {
        let mut article = article();
        article[field] = value;
        article
    }

    #[test]
    fn each_blank_is_a_passage_with_its_sentence_as_the_query() {
        let passages = parse(&article(), true);
        let questions: Vec<_> = passages.iter().map(|passage| passage.questions[0].clone().expect("good")).collect();
        let texts: Vec<_> = questions.iter().map(|question| question.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "Mia's boat was _ .",
                "She took her _ boat, the small one, to the sea.",
                "She took her dad boat, the _ one, to the sea."
            ]
        );
        assert!(questions.iter().all(|question| &question.text[question.blank.clone()] == "_"));
        assert_eq!(questions[1].blank.start, 13);
        let rest = "\nNo_blank ___ there. It sank; the boat was old";
        assert_eq!(passages[0].text, format!("She took her dad boat, the small one, to the sea.{rest}"));
        assert_eq!(passages[1].text, format!("Mia's boat was old .{rest}"));
        assert_eq!(passages[2].text, passages[1].text);
        assert_eq!(passages[0].candidates, ["new", "old", "red", "wet"]);
        assert_eq!(passages[1].candidates, ["dad", "own", "sister"]);
        let answers: Vec<_> = passages.iter().zip(&questions).map(|(p, q)| p.candidates[q.answers[0]].as_str()).collect();
        assert_eq!(answers, ["old", "dad", "small"]);
        assert!(passages.iter().all(|passage| passage.id.is_none() && passage.source == "own-1.txt"));
        let offsets = CharOffsets::new(&passages[2].text);
        let mentions: Vec<_> = passages[2].mentions.iter().map(|&mention| offsets.slice(mention).expect("in range")).collect();
        assert_eq!(mentions, ["old", "old"]);
    }

    #[test]
    fn without_answers_the_other_blanks_stay_open() {
        let mut article = article();
        article.as_object_mut().expect("an object").remove("answers");
        let passages = parse(&article, false);
        let question = passages[1].questions[0].clone().expect("good");
        assert_eq!(question.text, "She took her _ boat, the _ one, to the sea.");
        assert!(question.answers.is_empty() && passages[1].text.starts_with("Mia's boat was _ ."));
        let error = parse(&article, true)[0].questions[0].clone().expect_err("no answers").error;
        assert_eq!(error, QuestionError::NoAnswers);
    }

    #[test]
    fn an_invalid_blank_rejects_only_that_blank() {
        let passages = parse(&with("answers", json!(["A", "E", "b"])), true);
        assert!(passages[0].questions[0].is_ok());
        assert_eq!(
            passages[1].questions[0].clone().expect_err("E").to_string(),
            "question 1: the answer `E` is not one of the 4 choices; \
             expected a letter, `A` for the first choice, `B` for the second and so on"
        );
        assert!(passages[2].questions[0].is_err() && passages[0].text.contains("her _ boat, the _ one"));
        let passages = parse(&with("options", json!([["a", ""], [], ["b", "c"]])), false);
        let errors: Vec<_> = passages.iter().map(|passage| passage.questions[0].clone().err().map(|e| e.error)).collect();
        assert_eq!(
            errors,
            [Some(QuestionTextError::EmptyChoice { position: 1 }.into()), Some(QuestionTextError::NoChoices.into()), None]
        );
    }

    #[test]
    fn invalid_articles_are_errors() {
        for (article, message) in [
            (json!([]), "not a record of format `cloth`: expected a JSON object"),
            (json!({"article": "a _ b"}), "not a record of format `cloth`: missing field `options`"),
            (with("article", json!("a b")), "`article` has no blank, which is written `_`; it must have one or more"),
            (with("options", json!([])), "`options` has 0 entries, but the text has 3 blanks; it must have one for each"),
            (with("answers", json!(["A"])), "`answers` has 1 entries, but the text has 3 blanks; it must have one for each"),
        ] {
            let error = Cloth.parse(&article.to_string(), true).expect_err(message).to_string();
            assert!(error.starts_with(message), "{error}\n{message}");
        }
    }

    #[test]
    fn a_short_article_cannot_need_unlimited_memory() {
        let options = vec![["a", "b"]; 5_000];
        let article = json!({"article": " _ ".repeat(5_000), "options": options}).to_string();
        let error = Cloth.parse(&article, false).expect_err("too long");
        assert_eq!(error, RecordError::PassagesTooLong { blanks: 5_000, limit: MAX_BYTES });
        let word = "w".repeat(1 << 20);
        let article = json!({"article": "_ _ _ _ _", "options": vec![[word]; 5], "answers": vec!["A"; 5]}).to_string();
        assert_eq!(Cloth.parse(&article, false), Err(RecordError::PassagesTooLong { blanks: 5, limit: MAX_BYTES }));
    }

    proptest! {
        #[test]
        fn it_never_panics(text in "(\\PC| _ |\\. ){0,40}", cut in 0_usize..400, labelled: bool) {
            let _ = Cloth.parse(&text, labelled);
            let good = article().to_string();
            let at = (0..=cut.min(good.len())).rev().find(|&at| good.is_char_boundary(at)).unwrap_or(0);
            let _ = Cloth.parse(&good[..at], labelled);
            let _ = Cloth.parse(&format!("{}{text}{}", &good[..at], &good[at..]), labelled);
            let blanks = blanks(&text).count();
            let article = json!({"article": text, "options": vec![["x", "y", "z"]; blanks], "answers": vec!["C"; blanks]});
            for passage in Cloth.parse(&article.to_string(), labelled).unwrap_or_default() {
                let question = passage.questions[0].clone().expect("good");
                prop_assert_eq!(&question.text[question.blank], "_");
            }
        }
    }
}
