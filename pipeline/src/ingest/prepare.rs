//! The work that can be done on a line by itself: parse, tokenize, annotate, encode.

use glm_schemas::builder::EntityRow;
use glm_schemas::encoding::{self, ChoiceEncoder};

use super::records::{self, Record, RecordBatch};
use super::row::{put_entity, put_ids, put_text, put_u32};
use super::stages::{Clock, Stage, Stages};
use crate::annotate::token_span;
use crate::source::{Format, Framing, Passage, Question, QuestionError, RecordError, RejectedQuestion};
use glm_text::question::query_tokens;
use glm_text::standard::CharOffsets;
use glm_text::tokenize::{Session, Tokenizer, TokenizerError};

/// Everything that the stage needs to know.
#[derive(Clone, Copy)]
pub(super) struct Preparation<'a> {
    pub(super) format: &'a dyn Format,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) max_seq_len: usize,
    /// Whether questions must have answers.
    pub(super) labelled: bool,
    /// Where the time goes.
    pub(super) stages: &'a Stages,
}

/// What became of a batch of records.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PreparedBatch {
    pub(super) sequence: u64,
    /// Place of the file among those of the split.
    pub(super) file: usize,
    pub(super) raw_bytes: u64,
    pub(super) records: Vec<PreparedRecord>,
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PreparedRecord {
    pub(super) line: u64,
    /// None where the record is rejected whole.
    pub(super) passages: Vec<PreparedPassage>,
    /// There where the record or a question of it is rejected.
    pub(super) reject: Option<Reject>,
}

/// A record that goes to the list of rejects, for itself or for some of its questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reject {
    /// Questions that are rejected, where the record is not rejected whole.
    pub(super) questions: usize,
    pub(super) reason: String,
    pub(super) raw: String,
}

/// A passage with everything that its rows are put together from, encoded as [`super::row`] does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PreparedPassage {
    /// Its own index, if it has one.
    pub(super) id: Option<i64>,
    /// Its questions, those that are rejected included.
    pub(super) asked: usize,
    pub(super) encoded: Vec<u8>,
    pub(super) tokens: usize,
    pub(super) candidates: Vec<PreparedCandidate>,
    pub(super) questions: Vec<PreparedQuestion>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct PreparedCandidate {
    pub(super) encoded: Vec<u8>,
    pub(super) tokens: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct PreparedQuestion {
    /// Its own index, if it has one.
    pub(super) id: Option<i64>,
    /// Its own name, if it has one.
    pub(super) name: Option<String>,
    /// Place among the questions of its passage.
    pub(super) position: usize,
    pub(super) encoded: Vec<u8>,
    /// Tokens of the query on both sides of the blank.
    pub(super) tokens: usize,
    pub(super) answers: Vec<usize>,
}

impl Preparation<'_> {
    /// Prepares a batch of records.
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
        let place =
            if self.format.framing() == Framing::DataArray { format!("data[{}]: ", record.position) } else { String::new() };
        let reject = |questions: usize, reason: String| {
            Some(Reject { questions, reason: format!("{place}{reason}"), raw: String::from_utf8_lossy(bytes).into_owned() })
        };
        let parsed = self.parse(record, bytes);
        clock.lap(Stage::Parse);
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Ok(PreparedRecord { line, passages: Vec::new(), reject: reject(0, error.to_string()) }),
        };
        let mut passages = Vec::with_capacity(parsed.len());
        let mut rejected = Vec::new();
        for passage in parsed {
            let (prepared, refused) = self.passage(session, passage, clock)?;
            passages.push(prepared);
            rejected.extend(refused);
        }
        let reasons: Vec<_> = rejected.iter().map(ToString::to_string).collect();
        let reject = if rejected.is_empty() { None } else { reject(rejected.len(), reasons.join("; ")) };
        Ok(PreparedRecord { line, passages, reject })
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
        let tokens = session.encode(&passage.text)?;
        clock.lap(Stage::Tokenize);
        let mut encoded = Vec::with_capacity(2 * passage.text.len() + 8 * tokens.ids.len());
        put_text(&mut encoded, &passage.source);
        put_text(&mut encoded, &passage.text);
        put_ids(&mut encoded, &tokens.ids);
        let offsets = CharOffsets::new(&passage.text);
        put_u32(&mut encoded, passage.mentions.len());
        for &chars in &passage.mentions {
            let bytes = offsets.bytes(chars).unwrap_or(0..0);
            let text = passage.text.get(bytes.clone()).unwrap_or_default();
            put_entity(&mut encoded, &EntityRow { text, chars, tokens: token_span(&tokens.spans, bytes) });
        }

        clock.lap(Stage::Annotate);

        let mut candidates = Vec::with_capacity(passage.candidates.len());
        for text in &passage.candidates {
            let ids = session.encode(text)?.ids;
            let mut encoded = Vec::with_capacity(8 + text.len() + 4 * ids.len());
            put_text(&mut encoded, text);
            put_ids(&mut encoded, &ids);
            candidates.push(PreparedCandidate { encoded, tokens: ids.len() });
        }

        let mut prepared = PreparedPassage {
            id: passage.id,
            asked: passage.questions.len(),
            encoded,
            tokens: tokens.ids.len(),
            candidates,
            questions: Vec::with_capacity(passage.questions.len()),
        };
        let mut rejected = Vec::new();
        for (position, question) in passage.questions.into_iter().enumerate() {
            let question = match question {
                Ok(question) => question,
                Err(reject) => {
                    rejected.push(reject);
                    continue;
                }
            };
            let id = question.id;
            match self.question(session, position, question, &tokens.ids, &prepared.candidates)? {
                Ok(question) => prepared.questions.push(question),
                Err(error) => rejected.push(RejectedQuestion { position, id, error }),
            }
        }
        // Candidates and queries: next to nothing but tokenizing.
        clock.lap(Stage::Tokenize);
        Ok((prepared, rejected))
    }

    /// A question must fit with every candidate of its passage: which of them it is asked with is only drawn later.
    fn question(
        &self,
        session: &mut Session<'_>,
        position: usize,
        question: Question,
        passage: &[i32],
        candidates: &[PreparedCandidate],
    ) -> Result<Result<PreparedQuestion, QuestionError>, TokenizerError> {
        let (left, right) = query_tokens(session, &question.text, &question.blank)?;
        let longest = candidates.iter().map(|candidate| candidate.tokens).max().unwrap_or(0);
        let tokens = encoding::Question { passage, query_left: &left, query_right: &right };
        if let Err(error) = ChoiceEncoder::new(self.tokenizer.special(), self.max_seq_len).kept_passage(&tokens, longest) {
            return Ok(Err(error.into()));
        }
        let mut encoded = Vec::with_capacity(32 + question.text.len() + 4 * tokens.query_tokens());
        put_text(&mut encoded, &question.text);
        put_ids(&mut encoded, &left);
        put_ids(&mut encoded, &right);
        let Question { id, name, answers, .. } = question;
        Ok(Ok(PreparedQuestion { id, name, position, encoded, tokens: left.len() + right.len(), answers }))
    }
}
