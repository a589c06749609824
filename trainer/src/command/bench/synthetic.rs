//! Synthetic questions of ReCoRD's lengths, documents as long as their contexts, and pairs.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
use glm_schemas::cloze::encoding::Question;
use glm_schemas::document::{DocumentBatchBuilder, DocumentRow};
use glm_schemas::manifest::TaskName;
use glm_schemas::origin::Origin;
use glm_schemas::seq2seq::encoding::{Keep, Pair};
use glm_schemas::seq2seq::{PairBatchBuilder, PairRow};
use glm_schemas::vocab::{SpecialIds, TokenId};

use super::BenchError;
use crate::batch::key::mix;
use crate::data::loader::Step;
use crate::data::mmap::DecodedGroup;
use crate::data::pack::{Packed, Packer, Sample};
use crate::data::sampler::Position;

/// Numbers without a pattern, the same on every machine.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(0)
    }

    /// At least 0, below 1.
    pub(super) fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(1);
        (mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.share() * (high + 1 - low) as f64) as usize
    }

    pub(super) fn tokens(&mut self, count: usize) -> Vec<TokenId> {
        // Above the special tokens and single characters of the vocabulary.
        (0..count).map(|_| self.between(2000, 30000) as TokenId).collect()
    }
}

/// As many steps as asked for, of `samples` samples each. Questions have passages of 169 to 319 tokens with median 206, queries of about
/// 26, about 9 choices of 1 to 3 tokens. Documents are as long as passage and query, and have sentences of 20 tokens. Pairs have
/// passages as sources and targets of 20 to 60 tokens.
///
/// # Errors
/// [`BenchError`] where the packer's settings leave no room for a question.
pub(super) fn steps(samples: usize, count: usize, packer: &Packer) -> Result<Vec<Step>, BenchError> {
    let mut random = Random::new();
    (0..count)
        .map(|step| {
            let rows = match packer.task.name() {
                TaskName::Cloze => questions(samples, &mut random)?,
                TaskName::Text => documents(samples, &mut random)?,
                TaskName::Seq2seq => pairs(samples, &mut random)?,
            };
            let group = Arc::new(DecodedGroup::try_new(&*packer.task, Path::new("synthetic rows"), rows, 0)?);
            let first = (step * samples) as u64;
            let samples: Vec<_> = (0..samples)
                .map(|row| Sample { group: Arc::clone(&group), row, part: 0, ordinal: first + row as u64 })
                .collect();
            let Packed { batches, weight, loads } = packer.pack(&samples)?;
            let batches = batches.into_iter().map(Arc::new).collect();
            Ok(Step { batches, samples: samples.into(), weight, loads, position: Position::default() })
        })
        .collect()
}

/// Length of a passage. The square gives short ones the upper hand.
fn passage_length(random: &mut Random) -> usize {
    169 + (150.0 * random.share().powi(2)) as usize
}

fn documents(count: usize, random: &mut Random) -> Result<RecordBatch, BenchError> {
    let mut builder = DocumentBatchBuilder::new();
    for i in 0..count {
        let length = passage_length(random) + random.between(4, 22) + random.between(4, 22);
        let ids = random.tokens(length);
        let sentence_ends: Vec<i32> = (1..=ids.len() as i32).filter(|end| end % 20 == 0).collect();
        builder.append(&DocumentRow {
            example_id: &format!("synthetic-{i}"),
            origin: Origin::NONE,
            source: "",
            prompt: None,
            text: "",
            prompt_ids: &[],
            ids: &ids,
            sentence_ends: &sentence_ends,
        })?;
    }
    Ok(builder.finish()?)
}

fn pairs(count: usize, random: &mut Random) -> Result<RecordBatch, BenchError> {
    let mut builder = PairBatchBuilder::new();
    for i in 0..count {
        let length = passage_length(random);
        let source = random.tokens(length);
        let length = random.between(20, 60);
        let target = random.tokens(length);
        let suffix = [SpecialIds::BERT_UNCASED.mask, SpecialIds::BERT_UNCASED.pad];
        builder.append(&PairRow {
            example_id: &format!("synthetic-{i}"),
            origin: Origin::NONE,
            group_id: None,
            source: "",
            prompt: None,
            target: None,
            references: &[],
            tokens: Pair { prefix: &[], source: &source, suffix: &suffix, keep: Keep::End, focus: None, target: &target },
        })?;
    }
    Ok(builder.finish()?)
}

fn questions(count: usize, random: &mut Random) -> Result<RecordBatch, BenchError> {
    let mut builder = ClozeBatchBuilder::new();
    for i in 0..count {
        let length = passage_length(random);
        let passage = random.tokens(length);
        let (left, right) = (random.between(4, 22), random.between(4, 22));
        let (query_left, query_right) = (random.tokens(left), random.tokens(right));
        let choices: Vec<Vec<TokenId>> = (0..random.between(8, 10))
            .map(|_| {
                let length = random.between(1, 3);
                random.tokens(length)
            })
            .collect();
        let choices = choices.iter().enumerate();
        let choices: Vec<_> =
            choices.map(|(i, ids)| ChoiceRow { text: "", ids, correct: i == 0, index: i, name: None }).collect();
        let row = ClozeRow {
            example_id: &format!("synthetic-{i}"),
            origin: Origin::NONE,
            passage_id: 0,
            question_id: 0,
            group_id: None,
            idx: None,
            source: "",
            passage: "",
            query: "",
            tokens: &Question::about(&passage, &query_left, &query_right),
            entities: &[],
            choices: &choices,
            labelled: true,
            label_name: None,
            end_of_piece: true,
        };
        builder.append(&row)?;
    }
    Ok(builder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::work::Work;
    use crate::config::Config;
    use crate::task::{self, Purpose};

    #[test]
    fn lengths_are_those_of_record() {
        let config = Config::default();
        let task = task::open(TaskName::Cloze, config.task(SpecialIds::BERT_UNCASED));
        let steps = steps(200, 3, &config.packer(task, Purpose::Train)).expect("steps");
        let work = Work::of_all(steps.iter().flat_map(|step| &step.batches).map(|batch| &**batch));
        assert_eq!(work.examples, 600);
        let mean = |count: usize| count as f64 / 600.0;
        let (context, pieces, choices) = (mean(work.context), mean(work.tokens - work.context), mean(work.groups));
        assert!((240.0..254.0).contains(&context), "{context}");
        assert!((18.0..20.0).contains(&pieces), "one start of piece and two tokens per choice: {pieces}");
        assert!((8.8..9.2).contains(&choices), "{choices}");

        let task = task::open(TaskName::Text, config.task(SpecialIds::BERT_UNCASED));
        let steps = super::steps(200, 3, &config.packer(task, Purpose::Train)).expect("steps");
        let work = Work::of_all(steps.iter().flat_map(|step| &step.batches).map(|batch| &**batch));
        let (tokens, targets) = (mean(work.tokens), mean(work.targets));
        assert!((265.0..275.0).contains(&tokens) && (44.0..54.0).contains(&targets), "{tokens} {targets}");
    }
}
