//! Parses, tokenizes and annotates a record of questions.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use glm_schemas::cloze::CharSpan;
use glm_schemas::cloze::encoding::{self, ChoiceEncoder};
use glm_schemas::vocab::TokenId;
use glm_text::question::query_tokens;
use glm_text::standard::CharOffsets;
use glm_text::tokenize::{Session, Tokenizer, TokenizerError};
use serde::{Deserialize, Serialize};

use super::row::{Candidate, Mention, PassageData, Query};
use crate::annotate::token_span;
use crate::ingest::holdout::hash;
use crate::ingest::kind::{Context, Items, PrepareError};
use crate::ingest::stages::{Clock, Stage};
use crate::source::{ClozeFormat, Content, Passage, Question, QuestionError, RecordError, RejectedQuestion};

/// Maximum number of questions whose reasons are listed.
const LISTED_QUESTIONS: usize = 5;
/// Maximum length of the texts of all rows of a record. Each row repeats the passage.
const MAX_ROW_BYTES: usize = 64 << 20;

/// Joins the reasons of rejected questions.
fn joined(rejected: &[RejectedQuestion]) -> String {
    let mut reasons: Vec<_> = rejected.iter().take(LISTED_QUESTIONS).map(ToString::to_string).collect();
    let others = rejected.len() - reasons.len();
    reasons.extend((others > 0).then(|| format!("and {others} more questions")));
    reasons.join("; ")
}

/// A passage with the data of all its rows.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct PreparedPassage {
    /// Index in the raw data, if given.
    pub(super) id: Option<i64>,
    pub(super) data: PassageData,
    pub(super) candidates: Vec<Candidate>,
    /// The questions that are not rejected.
    pub(super) questions: Vec<PreparedQuestion>,
    /// Number of questions, including rejected ones.
    pub(super) question_count: u32,
    /// True if some candidates have the same tokens.
    pub(super) has_indistinguishable: bool,
    /// Hash of the text, or of the first query if the text is empty.
    pub(super) hash: u64,
}

/// A question of a passage.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct PreparedQuestion {
    /// Index in the raw data, if given.
    pub(super) id: Option<i64>,
    /// Name in the raw data, if given.
    pub(super) name: Option<String>,
    /// Index among the questions of the passage.
    pub(super) position: u32,
    pub(super) query: Query,
    /// Indices of the correct candidates, ascending.
    pub(super) answers: Vec<usize>,
}

impl PreparedQuestion {
    /// Returns the id in the raw data as text, if given.
    pub(super) fn source_id(&self) -> Option<Cow<'_, str>> {
        let name = self.name.as_deref().map(Cow::Borrowed);
        name.or_else(|| self.id.map(|id| Cow::Owned(id.to_string())))
    }
}

impl PreparedPassage {
    /// Returns true if all answers are candidates, which only a damaged part file violates.
    pub(super) fn is_consistent(&self) -> bool {
        let mut answers = self.questions.iter().flat_map(|question| &question.answers);
        answers.all(|&answer| answer < self.candidates.len())
    }
}

/// Parses and tokenizes one record.
pub(super) fn prepare(
    context: &Context<'_>,
    session: &mut Session<'_>,
    record: &str,
    clock: &mut Clock,
) -> Result<Items<PreparedPassage>, PrepareError> {
    let Content::Questions(format) = context.format.content() else {
        return Err(PrepareError::Reject(format!("the format `{}` has no questions", context.format.name())));
    };
    let parsed = format.parse(record, context.labelled).and_then(|passages| check_rows(&passages).map(|()| passages));
    clock.lap(Stage::Parse);
    let preparation = Preparation { format, tokenizer: context.tokenizer, max_seq_len: context.max_seq_len };
    let mut items = Vec::new();
    let mut rejected = Vec::new();
    for passage in parsed? {
        let (passage, rejected_questions) = preparation.passage(session, passage, clock)?;
        items.push(passage);
        rejected.extend(rejected_questions);
    }
    let rejected = match rejected.as_slice() {
        [] => None,
        [question] if format.asks_once() => Some((0, question.error.to_string())),
        rejected => Some((rejected.len(), joined(rejected))),
    };
    Ok(Items { items, left_out: 0, rejected })
}

/// Inputs for the passages of a record.
struct Preparation<'a> {
    format: &'a dyn ClozeFormat,
    tokenizer: &'a Tokenizer,
    max_seq_len: usize,
}

impl Preparation<'_> {
    fn passage(
        &self,
        session: &mut Session<'_>,
        passage: Passage,
        clock: &mut Clock,
    ) -> Result<(PreparedPassage, Vec<RejectedQuestion>), TokenizerError> {
        let Passage { id, source, text, mentions, candidates, choice_indices, questions } = passage;
        let tokens = session.encode(&text)?;
        clock.lap(Stage::Tokenize);
        let query = questions.iter().flatten().map(|question| question.text.as_str()).next().unwrap_or_default();
        let hash = hash(&[if text.is_empty() { query } else { &text }.as_bytes()]);

        let offsets = CharOffsets::new(&text);
        let mention = |chars: CharSpan| {
            let bytes = offsets.bytes(chars).unwrap_or(0..0);
            let tokens = token_span(&tokens.spans, bytes.clone()).map(|span| narrow(span.start..span.end));
            Mention { bytes: narrow(bytes), chars: narrow(chars.start..chars.end), tokens }
        };
        let mentions = mentions.into_iter().map(mention).collect();
        clock.lap(Stage::Annotate);

        let candidate =
            |(text, index): (String, usize)| Ok(Candidate { ids: session.encode(&text)?.ids, text, index: index as u32 });
        let candidates =
            candidates.into_iter().zip(choice_indices).map(candidate).collect::<Result<Vec<_>, TokenizerError>>()?;
        let longest = candidates.iter().map(|candidate: &Candidate| candidate.ids.len()).max().unwrap_or(0);
        let classes = token_classes(&candidates);
        let mut prepared = PreparedPassage {
            id,
            data: PassageData { source, text, ids: tokens.ids, mentions },
            candidates,
            questions: Vec::with_capacity(questions.len()),
            question_count: questions.len() as u32,
            has_indistinguishable: classes.has_equals,
            hash,
        };
        let mut rejected = Vec::new();
        for (position, question) in questions.into_iter().enumerate() {
            let question = match question {
                Ok(question) => question,
                Err(reject) => {
                    rejected.push(reject);
                    continue;
                }
            };
            let id = question.id;
            let prepared_question = match self.indistinguishable(&question, &prepared, &classes) {
                Some(error) => Err(error),
                None => self.question(session, position, question, &prepared, longest)?,
            };
            match prepared_question {
                Ok(question) => prepared.questions.push(question),
                Err(error) => rejected.push(RejectedQuestion { position, id, error }),
            }
        }
        // Almost all of the time for candidates and queries is tokenization.
        clock.lap(Stage::Tokenize);
        Ok((prepared, rejected))
    }

    /// Returns the error of a question with a right and a wrong choice of the same tokens, which no model can answer.
    fn indistinguishable(
        &self,
        question: &Question,
        passage: &PreparedPassage,
        classes: &TokenClasses,
    ) -> Option<QuestionError> {
        if self.format.has_published_recipe() || !classes.has_equals {
            return None;
        }
        let text = |index: usize| passage.candidates[index].text.clone();
        question.answers.iter().find_map(|&right| {
            let class = &classes.members[&classes.of[right]];
            let wrong = class.iter().find(|index| question.answers.binary_search(index).is_err())?;
            Some(QuestionError::Indistinguishable { right: text(right), wrong: text(*wrong) })
        })
    }

    /// Prepares one question. It must fit with every candidate of its passage, because its choices are only drawn later.
    fn question(
        &self,
        session: &mut Session<'_>,
        position: usize,
        question: Question,
        passage: &PreparedPassage,
        longest: usize,
    ) -> Result<Result<PreparedQuestion, QuestionError>, TokenizerError> {
        let Question { id, name, text, blank, answers } = question;
        let (left_ids, right_ids) = query_tokens(session, &text, &blank)?;
        let tokens = encoding::Question::about(&passage.data.ids, &left_ids, &right_ids);
        if let Err(error) = ChoiceEncoder::new(self.tokenizer.special(), self.max_seq_len).excess(&tokens, longest) {
            return Ok(Err(error.into()));
        }
        let query = Query { text, left_ids, right_ids };
        Ok(Ok(PreparedQuestion { id, name, position: position as u32, query, answers }))
    }
}

/// Checks the length of the rows of a record, one per answer or question.
fn check_rows(passages: &[Passage]) -> Result<(), RecordError> {
    let (mut rows, mut bytes) = (0_usize, 0_usize);
    for passage in passages {
        let candidates = passage.candidates.iter().map(|candidate| candidate.len() + size_of::<String>()).sum::<usize>();
        let questions = passage.questions.iter().flatten();
        let of_passage: usize = questions.map(|question| question.answers.len().max(1)).sum();
        rows += of_passage;
        bytes = bytes.saturating_add(of_passage.saturating_mul(passage.text.len() + candidates));
    }
    // The text of a single row is bounded by that of its record.
    if rows > 1 && bytes > MAX_ROW_BYTES { Err(RecordError::RowsTooLong { rows, limit: MAX_ROW_BYTES }) } else { Ok(()) }
}

/// Candidates of a passage by their tokens.
struct TokenClasses {
    /// True if some candidates have the same tokens.
    has_equals: bool,
    /// Class of every candidate: the first candidate with its tokens. Empty if all differ.
    of: Vec<usize>,
    /// Members of every class. Empty if all candidates differ.
    members: HashMap<usize, Vec<usize>>,
}

fn token_classes(candidates: &[Candidate]) -> TokenClasses {
    let mut first: HashMap<&[TokenId], usize> = HashMap::with_capacity(candidates.len());
    let of: Vec<_> = candidates.iter().enumerate().map(|(index, one)| *first.entry(&one.ids).or_insert(index)).collect();
    if first.len() == candidates.len() {
        return TokenClasses { has_equals: false, of: Vec::new(), members: HashMap::new() };
    }
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, &class) in of.iter().enumerate() {
        members.entry(class).or_default().push(index);
    }
    TokenClasses { has_equals: true, of, members }
}

/// Records are shorter than 2^32 bytes, so positions in them fit.
fn narrow(range: Range<usize>) -> Range<u32> {
    range.start as u32..range.end as u32
}
