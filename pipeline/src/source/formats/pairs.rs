//! Formats of pairs of a source and a target.
//!
//! The modules below turn the text of a record into [`RawPair`]s: what the published code reads, after its clean-up and before
//! tokenization.

mod blanks;
pub mod clean;
pub mod lines;
pub mod own;
pub mod squad;
pub mod xsum;

use serde::Deserialize;

use self::lines::Corpus;
use self::squad::Purpose;
use super::members::extra_members;
use crate::source::error::RecordError;
use crate::source::format::{Content, Format, Framing, PairFormat, json_object};
use crate::source::head::Head;
use crate::source::pair::RawPair;

/// One `{"source", "target"}` per line.
#[derive(Debug, Clone, Copy)]
pub struct Pairs;

/// Files `train.source` and `train.target` with one text per line.
#[derive(Debug, Clone, Copy)]
pub struct PairLines(pub Corpus);

/// Summaries of articles.
#[derive(Debug, Clone, Copy)]
pub struct Xsum;

/// Questions about paragraphs.
#[derive(Debug, Clone, Copy)]
pub struct Squad(pub Purpose);

impl Format for Pairs {
    fn name(&self) -> &'static str {
        "pairs"
    }

    fn about(&self) -> &'static str {
        r#"Pairs: one {"source", "target"} per line, or {"source", "targets"} with [MASK] in the source; optional "references""#
    }

    fn signs(&self) -> &'static str {
        "`source`"
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        matches!(head, Head::Json(keys) if keys.has("source") || keys.has("target"))
    }

    fn content(&self) -> Content<'_> {
        Content::Pairs(self)
    }

    fn has_extra_fields(&self) -> bool {
        true
    }

    fn extra_fields(&self, record: &str) -> Option<String> {
        extra_members(record, &own::FIELDS)
    }
}

impl PairFormat for Pairs {
    fn pairs(&self, record: &str, labelled: bool) -> Result<Vec<RawPair>, RecordError> {
        own::parse(self.name(), record, labelled).map(|pair| vec![pair])
    }
}

/// Lines of two files, as the reader of paired files joins them.
#[derive(Deserialize)]
struct JoinedLines {
    source_line: String,
    target_line: Option<String>,
}

impl Format for PairLines {
    fn name(&self) -> &'static str {
        match self.0 {
            Corpus::Lines => "pair-lines",
            Corpus::CnnDm => "cnn-dm",
            Corpus::CnnDmOriginal => "cnn-dm-original",
            Corpus::Gigaword => "gigaword",
            Corpus::Extraction => "extraction",
        }
    }

    fn about(&self) -> &'static str {
        match self.0 {
            Corpus::Lines => "Pairs: lines of train.source and train.target, unchanged",
            Corpus::CnnDm => "Pairs: lines of CNN/DailyMail as tokenized for the published recipe",
            Corpus::CnnDmOriginal => "Pairs: lines of CNN/DailyMail in plain text",
            Corpus::Gigaword => "Pairs: lines of Gigaword",
            Corpus::Extraction => "Pairs: lines of texts with [MASK], and the texts of their blanks, separated by |",
        }
    }

    fn signs(&self) -> &'static str {
        match self.0 {
            Corpus::Lines => "the names of the files",
            _ => "nothing; it must be named",
        }
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        self.0 == Corpus::Lines && matches!(head, Head::Json(keys) if keys.has("source_line"))
    }

    fn content(&self) -> Content<'_> {
        Content::Pairs(self)
    }
}

impl PairFormat for PairLines {
    fn pairs(&self, record: &str, labelled: bool) -> Result<Vec<RawPair>, RecordError> {
        let JoinedLines { source_line, target_line } = json_object(self.name(), record)?;
        if labelled && target_line.is_none() {
            return Err(RecordError::Missing { field: "target_line", instead: None });
        }
        let pair = self.0.pair(&source_line, target_line.as_deref());
        pair.map(|pair| vec![pair]).map_err(|message| RecordError::Syntax { format: self.name(), message })
    }
}

/// An article, as the reader of articles gives it.
#[derive(Deserialize)]
struct Article {
    id: String,
    text: Option<String>,
}

impl Format for Xsum {
    fn name(&self) -> &'static str {
        "xsum"
    }

    fn about(&self) -> &'static str {
        "Pairs: the articles of XSum and their first sentences"
    }

    fn signs(&self) -> &'static str {
        "the file of its splits"
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        matches!(head, Head::Json(keys) if keys.has_all(&["id", "text"]) && keys.has_only(&["id", "text"]))
    }

    fn content(&self) -> Content<'_> {
        Content::Pairs(self)
    }
}

impl PairFormat for Xsum {
    fn pairs(&self, record: &str, _labelled: bool) -> Result<Vec<RawPair>, RecordError> {
        let Article { id, text } = json_object(self.name(), record)?;
        let wrong = |message| RecordError::Syntax { format: self.name(), message };
        let text = text.ok_or_else(|| wrong(format!("there is no file {id}.summary")))?;
        xsum::parse(&id, &text).map(|pair| vec![pair]).map_err(wrong)
    }
}

impl Format for Squad {
    fn name(&self) -> &'static str {
        match self.0 {
            Purpose::Answer => "squad",
            Purpose::AnswerAlways => "squad-v1",
            Purpose::Question => "squad-generation",
            Purpose::ChineseAnswer => "cmrc",
        }
    }

    fn about(&self) -> &'static str {
        match self.0 {
            Purpose::Answer => "Pairs: answers to the questions of SQuAD 2, or N/A",
            Purpose::AnswerAlways => "Pairs: answers to the questions of SQuAD 1",
            Purpose::Question => "Pairs: questions of SQuAD, given their answers",
            Purpose::ChineseAnswer => "Pairs: answers to the questions of CMRC 2018",
        }
    }

    fn signs(&self) -> &'static str {
        match self.0 {
            Purpose::Answer => "`data` with `paragraphs`",
            _ => "nothing; it must be named",
        }
    }

    fn framing(&self) -> Framing {
        Framing::Array("data")
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        self.0 == Purpose::Answer && matches!(head, Head::Json(keys) if keys.has("data[].paragraphs"))
    }

    fn content(&self) -> Content<'_> {
        Content::Pairs(self)
    }
}

impl PairFormat for Squad {
    fn pairs(&self, record: &str, _labelled: bool) -> Result<Vec<RawPair>, RecordError> {
        squad::parse(record, self.0).map_err(|message| RecordError::Syntax { format: self.name(), message })
    }
}

#[cfg(test)]
mod tests {
    use glm_text::pair::Template;

    use super::*;

    #[test]
    fn lines_need_targets_to_train() {
        let format = PairLines(Corpus::Lines);
        let pairs = format.pairs(r#"{"source_line": " a ", "target_line": ""}"#, true).expect("valid");
        assert_eq!((pairs[0].source.as_str(), pairs[0].target.as_deref()), ("a", Some("")));
        assert_eq!(pairs[0].template, Template::Continuation);
        assert!(format.pairs(r#"{"source_line": "a"}"#, true).is_err());
        assert_eq!(format.pairs(r#"{"source_line": "a"}"#, false).expect("valid")[0].target, None);
    }

    #[test]
    fn articles_that_are_not_of_the_format_are_errors() {
        let error = Squad(Purpose::Answer).pairs(r#"{"paragraphs": [{"context": "a"}]}"#, true).expect_err("no questions");
        assert_eq!(error.to_string(), "not a record of format `squad`: missing field `qas` at line 1 column 32");
    }
}
