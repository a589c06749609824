//! Row data between the workers and the shard writers.
//!
//! Workers build these types, the ordered stage combines them into a [`Row`], and the spool and part files store them in
//! postcard's format. Both are only read by the version of the program that wrote them.

use std::borrow::Cow;
use std::ops::Range;

use glm_schemas::cloze::builder::{ChoiceRow, ClozeRow, EntityRow};
use glm_schemas::cloze::encoding;
use glm_schemas::cloze::{CharSpan, TokenSpan};
use glm_schemas::manifest::Split;
use glm_schemas::origin::Origin;
use glm_schemas::vocab::TokenId;
use serde::{Deserialize, Serialize};

use crate::ingest::rows::token_ids;

/// Data shared by all rows of a passage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct PassageData {
    pub(in crate::ingest) source: String,
    pub(in crate::ingest) text: String,
    #[serde(with = "token_ids")]
    pub(in crate::ingest) ids: Vec<TokenId>,
    pub(in crate::ingest) mentions: Vec<Mention>,
}

/// A mention of an entity. Records are shorter than 2^32 bytes, so all positions fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Mention {
    /// Bytes of the passage's text.
    pub(in crate::ingest) bytes: Range<u32>,
    /// Code points of the passage's text.
    pub(in crate::ingest) chars: Range<u32>,
    /// Tokens that cover the mention; `None` if no token does.
    pub(in crate::ingest) tokens: Option<Range<u32>>,
}

/// A candidate answer of a passage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Candidate {
    pub(in crate::ingest) text: String,
    #[serde(with = "token_ids")]
    pub(in crate::ingest) ids: Vec<TokenId>,
    /// Index in the record's list of choices.
    pub(in crate::ingest) index: u32,
}

/// A query and its tokens on both sides of the blank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Query {
    pub(in crate::ingest) text: String,
    #[serde(with = "token_ids")]
    pub(in crate::ingest) left_ids: Vec<TokenId>,
    #[serde(with = "token_ids")]
    pub(in crate::ingest) right_ids: Vec<TokenId>,
}

/// A row of a shard.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Row<'a> {
    pub(in crate::ingest) example_id: Cow<'a, str>,
    /// Id of the question in the raw data, if it has one.
    pub(in crate::ingest) source_id: Option<Cow<'a, str>>,
    /// Index of the raw file among those of its split.
    pub(in crate::ingest) file: u32,
    /// First line of the record; `None` if the format has no lines.
    pub(in crate::ingest) line: Option<u64>,
    /// Further fields of the record as a JSON object, if they are kept.
    pub(in crate::ingest) extra: Option<Cow<'a, str>>,
    pub(in crate::ingest) passage_id: i64,
    pub(in crate::ingest) question_id: i64,
    pub(in crate::ingest) passage: Cow<'a, PassageData>,
    pub(in crate::ingest) query: Cow<'a, Query>,
    pub(in crate::ingest) choices: Vec<Choice<'a>>,
}

/// One of the choices of a row.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Choice<'a> {
    pub(in crate::ingest) candidate: Cow<'a, Candidate>,
    pub(in crate::ingest) correct: bool,
}

impl Row<'_> {
    /// Calls `consume` with the row as a shard of `split` takes it. `files` are the names of the raw files. Returns `None` if a mention
    /// is out of range of the text, or there is no such file, which only a damaged file can cause.
    pub(in crate::ingest) fn with_cloze_row<T>(
        &self,
        split: Split,
        files: &[String],
        consume: impl FnOnce(&ClozeRow<'_>) -> T,
    ) -> Option<T> {
        let PassageData { source, text, ids, mentions } = &*self.passage;
        let entity = |mention: &Mention| {
            let chars = widen(&mention.chars);
            let tokens = mention.tokens.as_ref().map(widen).map(|Range { start, end }| TokenSpan { start, end });
            let text = text.get(widen(&mention.bytes))?;
            Some(EntityRow { text, chars: CharSpan { start: chars.start, end: chars.end }, tokens })
        };
        let entities: Vec<_> = mentions.iter().map(entity).collect::<Option<_>>()?;
        let choices = self.choices.iter().map(|choice| {
            let Candidate { text, ids, index } = &*choice.candidate;
            ChoiceRow { text, ids, correct: choice.correct, index: *index as usize, name: None }
        });
        let choices: Vec<_> = choices.collect();
        let Query { text: query, left_ids: query_left, right_ids: query_right } = &*self.query;
        let origin = Origin {
            split,
            source_id: self.source_id.as_deref(),
            raw_file: files.get(self.file as usize)?,
            raw_line: self.line,
            extra: self.extra.as_deref(),
        };
        Some(consume(&ClozeRow {
            example_id: &self.example_id,
            origin,
            passage_id: self.passage_id,
            question_id: self.question_id,
            group_id: None,
            idx: None,
            source,
            passage: text,
            query,
            tokens: &encoding::Question::about(ids, query_left, query_right),
            entities: &entities,
            choices: &choices,
            labelled: split != Split::Test,
            label_name: None,
            end_of_piece: true,
        }))
    }
}

fn widen(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row<'static> {
        let mention = |bytes: Range<u32>, tokens| Mention { bytes, chars: 0..2, tokens };
        let passage = PassageData {
            source: "own".to_owned(),
            text: "Éa met Bo".to_owned(),
            ids: vec![5, 6, 30_000],
            mentions: vec![mention(0..3, Some(0..1)), mention(3..4, None)],
        };
        let candidate = Candidate { text: "Bo".to_owned(), ids: vec![7], index: 3 };
        let choice = |correct| Choice { candidate: Cow::Owned(candidate.clone()), correct };
        Row {
            example_id: "dev-p-3-q9".into(),
            source_id: Some("9".into()),
            file: 1,
            line: Some(4),
            extra: None,
            passage_id: -3,
            question_id: 9,
            passage: Cow::Owned(passage),
            query: Cow::Owned(Query { text: "@placeholder".to_owned(), left_ids: vec![], right_ids: vec![8] }),
            choices: vec![choice(false), choice(true)],
        }
    }

    #[test]
    fn a_row_survives_serialization() {
        let bytes = postcard::to_stdvec(&row()).expect("serialized");
        let restored: Row<'_> = postcard::from_bytes(&bytes).expect("restored");
        assert_eq!(restored, row());
        let check = |row: &ClozeRow<'_>| {
            assert_eq!((row.example_id, row.passage_id, row.question_id), ("dev-p-3-q9", -3, 9));
            assert_eq!((row.source, row.passage, row.query, row.labelled), ("own", "Éa met Bo", "@placeholder", true));
            let tokens = encoding::Question::about(&[5, 6, 30_000], &[], &[8]);
            assert_eq!(*row.tokens, tokens);
            assert_eq!((row.entities[0].text, row.entities[0].tokens), ("Éa", Some(TokenSpan { start: 0, end: 1 })));
            assert_eq!((row.entities[1].text, row.entities[1].tokens), (" ", None));
            assert_eq!(row.choices[1], ChoiceRow { text: "Bo", ids: &[7], correct: true, index: 3, name: None });
            let Origin { split, source_id, raw_file, raw_line, extra } = row.origin;
            assert_eq!((split, source_id, raw_file, raw_line, extra), (Split::Val, Some("9"), "b", Some(4), None));
        };
        restored.with_cloze_row(Split::Val, &files(), check).expect("undamaged");
    }

    fn files() -> [String; 2] {
        ["a", "b"].map(str::to_owned)
    }

    #[test]
    fn positions_out_of_range_are_detected() {
        assert!(Row { file: 2, ..row() }.with_cloze_row(Split::Val, &files(), |_| ()).is_none());
        for bytes in [1..3, 0..90, Range { start: 3, end: 0 }] {
            let mut row = row();
            row.passage.to_mut().mentions[1].bytes = bytes;
            assert!(row.with_cloze_row(Split::Val, &files(), |_| ()).is_none());
        }
    }
}
