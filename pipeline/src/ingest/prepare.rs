//! The work that can be done on a line by itself: parse, tokenize, annotate, encode.

use glm_schemas::builder::EntityRow;
use glm_schemas::encoding::{self, ChoiceEncoder};

use super::lines::{self, Line, LineBatch};
use super::row::{put_entity, put_i64, put_ids, put_text, put_u32};
use crate::annotate::token_span;
use crate::source::text::CharOffsets;
use crate::source::{Format, Passage, Question, QuestionError, RecordError, RejectedQuestion};
use crate::tokenize::{Session, Tokenizer, TokenizerError};

/// Everything that the stage needs to know.
#[derive(Clone, Copy)]
pub(super) struct Preparation<'a> {
    pub(super) format: &'a dyn Format,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) max_seq_len: usize,
    /// Whether questions must have answers.
    pub(super) labelled: bool,
}

/// What became of a batch of lines.
pub(super) struct PreparedBatch {
    pub(super) sequence: u64,
    pub(super) raw_bytes: u64,
    pub(super) records: Vec<PreparedRecord>,
}

/// What became of a line.
pub(super) struct PreparedRecord {
    /// None where the line is rejected whole.
    pub(super) passage: Option<PreparedPassage>,
    /// There where the line or a question of it is rejected.
    pub(super) reject: Option<Reject>,
}

/// A line that goes to the list of rejects, for itself or for some of its questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reject {
    pub(super) line: u64,
    /// Questions that are rejected, where the line is not rejected whole.
    pub(super) questions: usize,
    pub(super) reason: String,
    pub(super) raw: String,
}

/// A passage with everything that its rows are put together from, encoded as [`super::row`] does.
pub(super) struct PreparedPassage {
    pub(super) id: i64,
    pub(super) encoded: Vec<u8>,
    pub(super) tokens: usize,
    pub(super) candidates: Vec<PreparedCandidate>,
    pub(super) questions: Vec<PreparedQuestion>,
}

pub(super) struct PreparedCandidate {
    pub(super) encoded: Vec<u8>,
    pub(super) tokens: usize,
}

pub(super) struct PreparedQuestion {
    pub(super) id: i64,
    pub(super) encoded: Vec<u8>,
    /// Tokens of the query on both sides of the blank.
    pub(super) tokens: usize,
    pub(super) answers: Vec<usize>,
}

impl Preparation<'_> {
    /// Prepares a batch of lines.
    pub(super) fn batch(&self, session: &mut Session<'_>, batch: &LineBatch) -> Result<PreparedBatch, TokenizerError> {
        let records = batch.lines().map(|(line, bytes)| self.record(session, line, bytes)).collect::<Result<_, _>>()?;
        Ok(PreparedBatch { sequence: batch.sequence, raw_bytes: batch.raw_bytes, records })
    }

    fn record(&self, session: &mut Session<'_>, line: Line, bytes: &[u8]) -> Result<PreparedRecord, TokenizerError> {
        let reject = |questions: usize, reason: String| {
            Some(Reject { line: line.number, questions, reason, raw: String::from_utf8_lossy(bytes).into_owned() })
        };
        let passage = match self.parse(line, bytes) {
            Ok(passage) => passage,
            Err(error) => return Ok(PreparedRecord { passage: None, reject: reject(0, error.to_string()) }),
        };
        let (passage, rejected) = self.passage(session, passage)?;
        let passage = Some(passage);
        if rejected.is_empty() {
            return Ok(PreparedRecord { passage, reject: None });
        }
        let reasons: Vec<_> = rejected.iter().map(ToString::to_string).collect();
        Ok(PreparedRecord { passage, reject: reject(rejected.len(), reasons.join("; ")) })
    }

    fn parse(&self, line: Line, bytes: &[u8]) -> Result<Passage, RecordError> {
        if line.too_long {
            return Err(RecordError::TooLong { limit: lines::MAX_LINE_BYTES });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| RecordError::NotText { position: e.valid_up_to() })?;
        self.format.parse(text, self.labelled)
    }

    fn passage(
        &self,
        session: &mut Session<'_>,
        passage: Passage,
    ) -> Result<(PreparedPassage, Vec<RejectedQuestion>), TokenizerError> {
        let tokens = session.encode(&passage.text)?;
        let mut encoded = Vec::with_capacity(2 * passage.text.len() + 8 * tokens.ids.len());
        put_i64(&mut encoded, passage.id);
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
            let id = Some(question.id);
            match self.question(session, question, &tokens.ids, &prepared.candidates)? {
                Ok(question) => prepared.questions.push(question),
                Err(error) => rejected.push(RejectedQuestion { position, id, error }),
            }
        }
        Ok((prepared, rejected))
    }

    /// A question must fit with every candidate of its passage: which of them it is asked with is only drawn later.
    fn question(
        &self,
        session: &mut Session<'_>,
        question: Question,
        passage: &[i32],
        candidates: &[PreparedCandidate],
    ) -> Result<Result<PreparedQuestion, QuestionError>, TokenizerError> {
        let left = session.encode(&question.text[..question.blank.start])?.ids;
        let right = session.encode(&question.text[question.blank.end..])?.ids;
        let longest = candidates.iter().map(|candidate| candidate.tokens).max().unwrap_or(0);
        let tokens = encoding::Question { passage, query_left: &left, query_right: &right };
        if let Err(error) = ChoiceEncoder::new(self.tokenizer.special(), self.max_seq_len).kept_passage(&tokens, longest) {
            return Ok(Err(error.into()));
        }
        let mut encoded = Vec::with_capacity(32 + question.text.len() + 4 * tokens.query_tokens());
        put_i64(&mut encoded, question.id);
        put_text(&mut encoded, &question.text);
        put_ids(&mut encoded, &left);
        put_ids(&mut encoded, &right);
        Ok(Ok(PreparedQuestion { id: question.id, encoded, tokens: left.len() + right.len(), answers: question.answers }))
    }
}
