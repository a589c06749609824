//! Worker stage: parses, tokenizes and annotates records, each independently of all others.

use std::borrow::Cow;
use std::ops::Range;

use glm_schemas::cloze::CharSpan;
use glm_schemas::cloze::encoding::{self, ChoiceEncoder};
use glm_text::question::query_tokens;
use glm_text::standard::CharOffsets;
use glm_text::tokenize::{Session, Tokenizer, TokenizerError};
use serde::{Deserialize, Serialize};

use super::records::{self, Record, RecordBatch};
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
    pub(super) raw: String,
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
        let reject = |questions: usize, reason: String| {
            Some(Reject { questions, reason: format!("{place}{reason}"), raw: String::from_utf8_lossy(bytes).into_owned() })
        };
        let parsed = self.parse(record, bytes);
        clock.lap(Stage::Parse);
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                let reject = reject(0, error.to_string());
                return Ok(PreparedRecord { line, has_line, extra: None, passages: Vec::new(), reject });
            }
        };
        let mut passages = Vec::with_capacity(parsed.len());
        let mut rejected = Vec::new();
        for passage in parsed {
            let (passage, rejected_questions) = self.passage(session, passage, clock)?;
            passages.push(passage);
            rejected.extend(rejected_questions);
        }
        let reasons: Vec<_> = rejected.iter().map(ToString::to_string).collect();
        let reject = if rejected.is_empty() { None } else { reject(rejected.len(), reasons.join("; ")) };
        let extra = if self.keep_fields { std::str::from_utf8(bytes).ok().and_then(|text| self.format.extra_fields(text)) } else { None };
        Ok(PreparedRecord { line, has_line, extra, passages, reject })
    }

    fn parse(&self, record: Record, bytes: &[u8]) -> Result<Vec<Passage>, RecordError> {
        if record.too_long {
            return Err(RecordError::TooLong { limit: records::MAX_LINE_BYTES });
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
        let candidates = candidates.into_iter().zip(choice_indices).map(candidate).collect::<Result<_, TokenizerError>>()?;
        let mut prepared = PreparedPassage {
            id,
            data: PassageData { source, text, ids: tokens.ids, mentions },
            candidates,
            questions: Vec::with_capacity(questions.len()),
            question_count: questions.len() as u32,
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
            match self.question(session, position, question, &prepared)? {
                Ok(question) => prepared.questions.push(question),
                Err(error) => rejected.push(RejectedQuestion { position, id, error }),
            }
        }
        // Almost all of the time for candidates and queries is tokenization.
        clock.lap(Stage::Tokenize);
        Ok((prepared, rejected))
    }

    /// Prepares one question. It must fit with every candidate of its passage, because its choices are only drawn later.
    fn question(
        &self,
        session: &mut Session<'_>,
        position: usize,
        question: Question,
        passage: &PreparedPassage,
    ) -> Result<Result<PreparedQuestion, QuestionError>, TokenizerError> {
        let Question { id, name, text, blank, answers } = question;
        let (left_ids, right_ids) = query_tokens(session, &text, &blank)?;
        let longest = passage.candidates.iter().map(|candidate| candidate.ids.len()).max().unwrap_or(0);
        let tokens = encoding::Question { passage: &passage.data.ids, query_left: &left_ids, query_right: &right_ids };
        if let Err(error) = ChoiceEncoder::new(self.tokenizer.special(), self.max_seq_len).kept_passage(&tokens, longest) {
            return Ok(Err(error.into()));
        }
        let query = Query { text, left_ids, right_ids };
        Ok(Ok(PreparedQuestion { id, name, position: position as u32, query, answers }))
    }
}

/// Records are shorter than 2^32 bytes, so positions in them fit.
fn narrow(range: Range<usize>) -> Range<u32> {
    range.start as u32..range.end as u32
}
