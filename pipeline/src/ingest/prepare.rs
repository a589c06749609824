//! Worker stage: parses, tokenizes and annotates records, each independently of all others.

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

use super::holdout::hash;
use super::records::{KEPT_OF_REJECT, MAX_RECORD_BYTES, Record, RecordBatch};
use super::row::{Candidate, Mention, PassageData, Query};
use super::stages::{Clock, Stage, Stages};
use crate::annotate::token_span;
use crate::source::{Format, Framing, Passage, Question, QuestionError, RecordError, RejectedQuestion};

/// Inputs of the worker stage that all batches share.
#[derive(Clone, Copy)]
pub(super) struct Preparation<'a> {
    pub(super) format: &'a dyn Format,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) max_seq_len: usize,
    /// True if questions must have answers.
    pub(super) labelled: bool,
    /// True if fields that the format does not define are kept.
    pub(super) keep_fields: bool,
    pub(super) stages: &'a Stages,
}

/// Result of a record batch.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PreparedBatch {
    pub(super) sequence: u64,
    /// Index among the files of the split.
    pub(super) file: usize,
    pub(super) raw_bytes: u64,
    pub(super) records: Vec<PreparedRecord>,
}

/// Result of a record.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PreparedRecord {
    /// First line in the file, from 1.
    pub(super) line: u64,
    /// True if records of the format begin on a line of their own; false if the whole file is one record.
    pub(super) has_line: bool,
    /// Fields that the format does not define as a JSON object, if they are kept.
    pub(super) extra: Option<String>,
    /// Empty if the whole record is rejected.
    pub(super) passages: Vec<PreparedPassage>,
    /// Set if the record or some of its questions are rejected.
    pub(super) reject: Option<Reject>,
}

/// Entry of the list of rejects for a record or for some of its questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reject {
    /// Number of rejected questions; 0 if the whole record is rejected.
    pub(super) questions: usize,
    pub(super) reason: String,
    /// Beginning of the record; `None` for a question whose record is kept.
    pub(super) raw: Option<String>,
    /// Length of the record, if `raw` is only its beginning.
    pub(super) raw_bytes: Option<u64>,
}

/// Maximum length of a reason, in characters: messages of parsers can quote the whole record.
const REASON_CHARS: usize = 500;
/// Maximum number of questions whose reasons are listed.
const LISTED_QUESTIONS: usize = 5;
/// Maximum length of the texts of all rows of a record. Each row repeats the passage.
const MAX_ROW_BYTES: usize = 64 << 20;

impl Reject {
    /// Creates the entry for a record, of which `bytes` is all or the beginning.
    fn of_record(questions: usize, reason: &str, record: Record, bytes: &[u8]) -> Self {
        let kept = &bytes[..bytes.len().min(KEPT_OF_REJECT)];
        let is_cut = record.is_too_long() || kept.len() < bytes.len();
        let mut raw = String::from_utf8_lossy(kept).into_owned();
        if is_cut {
            // The last character may be cut, which must not look like an error of the data.
            raw.truncate(raw.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
        }
        Self { questions, reason: shortened(reason), raw: Some(raw), raw_bytes: is_cut.then_some(record.bytes) }
    }

    /// Creates the entry for a question whose id another question has.
    pub(super) fn of_repeated(question: &RejectedQuestion) -> Self {
        Self { questions: 1, reason: shortened(&question.to_string()), raw: None, raw_bytes: None }
    }
}

fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARS) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

/// Joins the reasons of rejected questions.
fn joined(rejected: &[RejectedQuestion]) -> String {
    let mut reasons: Vec<_> = rejected.iter().take(LISTED_QUESTIONS).map(ToString::to_string).collect();
    let others = rejected.len() - reasons.len();
    reasons.extend((others > 0).then(|| format!("and {others} more questions")));
    reasons.join("; ")
}

/// A passage with the data of all its rows.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PreparedPassage {
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
pub(super) struct PreparedQuestion {
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

impl PreparedBatch {
    /// Returns true if all answers are candidates, which only a damaged part file violates.
    pub(super) fn is_consistent(&self) -> bool {
        self.records.iter().flat_map(|record| &record.passages).all(|passage| {
            let mut answers = passage.questions.iter().flat_map(|question| &question.answers);
            answers.all(|&answer| answer < passage.candidates.len())
        })
    }
}

impl Preparation<'_> {
    /// Prepares all records of a batch.
    pub(super) fn batch(&self, session: &mut Session<'_>, batch: &RecordBatch) -> Result<PreparedBatch, TokenizerError> {
        let mut clock = Clock::start();
        let records =
            batch.records().map(|(record, bytes)| self.record(session, record, bytes, &mut clock)).collect::<Result<_, _>>()?;
        self.stages.add(&clock);
        Ok(PreparedBatch { sequence: batch.sequence, file: batch.file, raw_bytes: batch.raw_bytes, records })
    }

    fn record(
        &self,
        session: &mut Session<'_>,
        record: Record,
        bytes: &[u8],
        clock: &mut Clock,
    ) -> Result<PreparedRecord, TokenizerError> {
        let line = record.line;
        let has_line = self.format.framing() != Framing::Document;
        let place =
            if self.format.framing() == Framing::DataArray { format!("data[{}]: ", record.position) } else { String::new() };
        let reject =
            |questions: usize, reason: &str| Some(Reject::of_record(questions, &format!("{place}{reason}"), record, bytes));
        let rejected_record = |reason: String| {
            let reject = reject(0, &reason);
            PreparedRecord { line, has_line, extra: None, passages: Vec::new(), reject }
        };
        let parsed = self.parse(record, bytes).and_then(|passages| check_rows(&passages).map(|()| passages));
        clock.lap(Stage::Parse);
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Ok(rejected_record(error.to_string())),
        };
        let mut passages = Vec::with_capacity(parsed.len());
        let mut rejected = Vec::new();
        for passage in parsed {
            match self.passage(session, passage, clock) {
                Ok((passage, rejected_questions)) => {
                    passages.push(passage);
                    rejected.extend(rejected_questions);
                }
                Err(error @ (TokenizerError::LongWord { .. } | TokenizerError::LongText { .. })) => {
                    return Ok(rejected_record(error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        let reject = match rejected.as_slice() {
            [] => None,
            [question] if self.format.asks_once() => reject(0, &question.error.to_string()),
            rejected => reject(rejected.len(), &joined(rejected)),
        };
        let text = if self.keep_fields { std::str::from_utf8(bytes).ok() } else { None };
        let extra = text.and_then(|text| self.format.extra_fields(text));
        Ok(PreparedRecord { line, has_line, extra, passages, reject })
    }

    fn parse(&self, record: Record, bytes: &[u8]) -> Result<Vec<Passage>, RecordError> {
        if record.is_too_long() {
            return Err(RecordError::TooLong { bytes: record.bytes, limit: MAX_RECORD_BYTES });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| RecordError::NotText { position: e.valid_up_to() })?;
        self.format.parse(text, self.labelled)
    }

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
        let tokens = encoding::Question { passage: &passage.data.ids, query_left: &left_ids, query_right: &right_ids };
        if let Err(error) = ChoiceEncoder::new(self.tokenizer.special(), self.max_seq_len).kept_passage(&tokens, longest) {
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
