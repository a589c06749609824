//! Synthetic questions of ReCoRD's lengths.

use std::path::Path;
use std::sync::Arc;

use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
use glm_schemas::cloze::encoding::Question;
use glm_schemas::origin::Origin;
use glm_schemas::vocab::TokenId;

use super::BenchError;
use crate::batch::key::mix;
use crate::data::loader::Step;
use crate::data::mmap::DecodedGroup;
use crate::data::pack::{Packed, Packer, Sample};
use crate::data::sampler::Position;
use crate::task::Task;

/// Numbers without a pattern, the same on every machine.
struct Random(u64);

impl Random {
    /// At least 0, below 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(1);
        (mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.share() * (high + 1 - low) as f64) as usize
    }

    fn tokens(&mut self, count: usize) -> Vec<TokenId> {
        // Above the special tokens and single characters of the vocabulary.
        (0..count).map(|_| self.between(2000, 30000) as TokenId).collect()
    }
}

/// As many steps as asked for, of `questions` each: passages of 169 to 319 tokens with median 206, queries of about 26, about
/// 9 choices of 1 to 3 tokens.
///
/// # Errors
/// [`BenchError`] where the packer's settings leave no room for a question.
pub(super) fn steps(questions: usize, count: usize, packer: &Packer) -> Result<Vec<Step>, BenchError> {
    let mut random = Random(0);
    (0..count)
        .map(|step| {
            let group = Arc::new(group(&*packer.task, questions, &mut random)?);
            let first = (step * questions) as u64;
            let samples: Vec<_> = (0..questions)
                .map(|row| Sample { group: Arc::clone(&group), row, part: 0, ordinal: first + row as u64 })
                .collect();
            let Packed { batches, weight, loads } = packer.pack(&samples)?;
            let batches = batches.into_iter().map(Arc::new).collect();
            Ok(Step { batches, samples: samples.into(), weight, loads, position: Position::default() })
        })
        .collect()
}

fn group(task: &dyn Task, questions: usize, random: &mut Random) -> Result<DecodedGroup, BenchError> {
    let mut builder = ClozeBatchBuilder::new();
    for i in 0..questions {
        // The square gives short passages the upper hand.
        let length = 169 + (150.0 * random.share().powi(2)) as usize;
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
        let choices: Vec<_> = choices.map(|(i, ids)| ChoiceRow { text: "", ids, correct: i == 0, index: i }).collect();
        let row = ClozeRow {
            example_id: &format!("synthetic-{i}"),
            origin: Origin::NONE,
            passage_id: 0,
            question_id: 0,
            source: "",
            passage: "",
            query: "",
            tokens: Question { passage: &passage, query_left: &query_left, query_right: &query_right },
            entities: &[],
            choices: &choices,
            labelled: true,
        };
        builder.append(&row)?;
    }
    let batch = builder.finish()?;
    Ok(DecodedGroup::try_new(task, Path::new("synthetic questions"), batch, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::work::Work;
    use crate::config::Config;
    use crate::task::{self, Purpose};
    use glm_schemas::manifest::TaskName;
    use glm_schemas::vocab::SpecialIds;

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
    }
}
