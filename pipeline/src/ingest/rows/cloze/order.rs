//! Turns passages into rows, in file order: numbers records without ids, rejects repeated ids, draws distractors, counts.

use std::borrow::Cow;
use std::collections::HashSet;

use glm_schemas::cloze::encoding::CONTEXT_OVERHEAD;
use glm_schemas::manifest::Split;
use roaring::RoaringTreemap;
use sha2::{Digest, Sha256};

use super::Questions;
use super::prepare::{PreparedPassage, PreparedQuestion};
use super::row::{Choice, Row};
use crate::choices::{DISTRACTOR_SEED, DistractorDraw};
use crate::ingest::kind::{Place, SplitRows};
use crate::ingest::rows::train_texts::TrainTexts;
use crate::shard::WriteError;
use crate::source::{QuestionError, RejectedQuestion};

/// Ids and names of the questions so far, to detect repetitions. Consecutive ids, as in ReCoRD, take one bit each; names take
/// 16 bytes.
#[derive(Default)]
struct Seen {
    ids: RoaringTreemap,
    names: HashSet<u64>,
}

impl Seen {
    /// Returns true if no earlier question has this id or name.
    fn is_new(&mut self, question: &PreparedQuestion) -> bool {
        if let Some(name) = &question.name {
            let [head, ..] = *Sha256::digest(name.as_bytes()).as_chunks::<8>().0 else { return true };
            return self.names.insert(u64::from_le_bytes(head));
        }
        question.id.is_none_or(|id| self.ids.insert(id as u64))
    }
}

/// Numbering of the passages and questions of a split's files.
#[derive(Default)]
pub(in crate::ingest) struct Numbering {
    seen: Seen,
    pub(super) passages: i64,
    questions: i64,
}

/// State of the rows of a split.
pub(in crate::ingest) struct Draws {
    draw: DistractorDraw,
    /// Passages of the split, by hash, that were compared with those of the training split.
    compared: HashSet<u64>,
    chosen: Vec<usize>,
}

impl Default for Draws {
    fn default() -> Self {
        Self { draw: DistractorDraw::new(DISTRACTOR_SEED), compared: HashSet::new(), chosen: Vec::new() }
    }
}

/// Builds the rows of a passage; returns why questions whose id or name is repeated are rejected.
pub(super) fn order(
    passage: &PreparedPassage,
    place: &Place<'_>,
    train: &mut TrainTexts,
    numbering: &mut Numbering,
    rows: &mut SplitRows<Questions>,
) -> Result<Vec<String>, WriteError> {
    let mut repeated = Vec::new();
    let mut rows = Rows { rows, asked: Asked { place, passage } };
    for question in &passage.questions {
        if !numbering.seen.is_new(question) {
            let error = QuestionError::Repeated { name: question.name.clone() };
            let rejected = RejectedQuestion { position: question.position as usize, id: question.id, error };
            repeated.push(rejected.to_string());
            continue;
        }
        let passage_id = passage.id.unwrap_or(numbering.passages);
        let question_id = question.id.unwrap_or(numbering.questions + i64::from(question.position));
        rows.compare(train);
        rows.question(question, (passage_id, question_id))?;
    }
    numbering.passages += 1;
    numbering.questions += i64::from(passage.question_count);
    Ok(repeated)
}

/// A passage with its questions, and its place in the raw data.
struct Asked<'a> {
    place: &'a Place<'a>,
    passage: &'a PreparedPassage,
}

/// Rows of one passage.
struct Rows<'a> {
    rows: &'a mut SplitRows<Questions>,
    asked: Asked<'a>,
}

impl Rows<'_> {
    /// Counts a question of a passage that is also in the training split.
    fn compare(&mut self, train: &mut TrainTexts) {
        let hash = self.asked.passage.hash;
        if train.overlaps(self.rows.split, hash) && self.rows.split == Split::Val {
            self.rows.counts.in_train += 1;
            self.rows.counts.passages_in_train += usize::from(self.rows.state.compared.insert(hash));
        }
    }

    fn question(&mut self, question: &PreparedQuestion, ids @ (passage_id, question_id): (i64, i64)) -> Result<(), WriteError> {
        let candidates = self.asked.passage.candidates.len();
        let name = question.name.clone().unwrap_or_else(|| format!("p{passage_id}-q{question_id}"));
        let mut chosen = std::mem::take(&mut self.rows.state.chosen);
        if self.rows.split == Split::Train {
            // One example per answer; the question's other answers are not among its choices.
            for (number, &answer) in question.answers.iter().enumerate() {
                self.rows.state.draw.choose(candidates, &question.answers, answer, &mut chosen);
                self.row(format!("train-{name}-a{number}"), ids, question, &chosen, &[answer])?;
            }
        } else {
            let prefix = self.rows.split.published_name();
            chosen.clear();
            chosen.extend(0..candidates);
            self.row(format!("{prefix}-{name}"), ids, question, &chosen, &question.answers)?;
        }
        self.rows.state.chosen = chosen;
        Ok(())
    }

    /// Adds one row. `chosen` and `correct` are indices of candidates; `correct` is ascending.
    fn row(
        &mut self,
        example_id: String,
        (passage_id, question_id): (i64, i64),
        question: &PreparedQuestion,
        chosen: &[usize],
        correct: &[usize],
    ) -> Result<(), WriteError> {
        let Asked { place, passage } = self.asked;
        let query = &question.query;
        // Every choice predicts one token more than it has: the end of piece.
        let mut tokens =
            passage.data.ids.len() + query.left_ids.len() + query.right_ids.len() + CONTEXT_OVERHEAD + chosen.len();
        let mut choices = Vec::with_capacity(chosen.len());
        for &index in chosen {
            let candidate = &passage.candidates[index];
            tokens += candidate.ids.len();
            choices.push(Choice { candidate: Cow::Borrowed(candidate), correct: correct.binary_search(&index).is_ok() });
        }
        self.rows.counts.rows += 1;
        self.rows.counts.choices += choices.len();
        self.rows.counts.tokens += tokens;
        self.rows.counts.single_choice += usize::from(choices.len() == 1);
        self.rows.counts.indistinguishable += usize::from(passage.has_indistinguishable && has_equal_tokens(&choices));
        // The first rows of a split have the fewest choices.
        self.rows.push(
            choices.len(),
            &Row {
                example_id: example_id.into(),
                source_id: question.source_id(),
                file: place.file,
                line: place.line,
                extra: place.extra.map(Cow::Borrowed),
                passage_id,
                question_id,
                passage: Cow::Borrowed(&passage.data),
                query: Cow::Borrowed(query),
                choices,
            },
        )
    }
}

/// Returns true if two choices have the same tokens.
fn has_equal_tokens(choices: &[Choice<'_>]) -> bool {
    let mut seen = HashSet::with_capacity(choices.len());
    !choices.iter().all(|choice| seen.insert(&choice.candidate.ids))
}
