//! What each rank gets of a step, without making its batches.

use std::sync::Arc;

use glm_schemas::manifest::Split;
use glm_schemas::vocab::SpecialIds;

use crate::batch::packed::Batch;
use crate::batch::work::{FlopRates, Work};
use crate::command::bench::synthetic;
use crate::config::Config;
use crate::data::balance::{assign, loads, spread};
use crate::data::loader::{Loader, LoaderConfig, Position};
use crate::data::mmap::DataSet;
use crate::data::pack::Packer;
use crate::data::partition::sort_into_batches;
use crate::train::TrainError;

/// How large a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// What it takes to compute.
    pub(super) work: Work,
    /// Tokens of its longest row.
    pub(super) longest_row: usize,
}

/// A step as ranks share it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dealt {
    /// By how much the busiest rank's work exceeds the mean, as a share of it.
    pub(super) spread: f64,
    /// The work of each rank's batches, in order.
    pub(super) batches_of_rank: Vec<Vec<Work>>,
}

/// The first `count` questions of a data set in the order of training, over as many epochs as that takes, or as many made-up
/// ones.
///
/// # Errors
/// [`TrainError`].
pub(super) fn questions(config: &Config, data: Option<&DataSet>, count: usize) -> Result<Vec<Question>, TrainError> {
    // A batch for each: what the packer would make of it.
    let alone = |special: SpecialIds| Packer { micro_batch_tokens: 1, ..config.packer(special, true) };
    let mut questions = Vec::with_capacity(count);
    let Some(data) = data else {
        for step in synthetic::steps(1, count, &alone(SpecialIds::BERT_UNCASED))? {
            questions.extend(step.batches.iter().map(|batch| question(batch)));
        }
        return Ok(questions);
    };
    let split = Arc::new(data.split(Split::Train)?);
    let loader = config.loader(alone(data.manifest().special_ids), Position::default());
    // One question a step, so that they come in order.
    let loader = LoaderConfig { batch_size: 1, epochs: u64::MAX, prefetch_steps: 256, ..loader };
    let mut loader = Loader::start(split, &data.manifest().fingerprint, loader)?;
    while questions.len() < count
        && let Some(step) = loader.next_step()?
    {
        questions.extend(step.batches.iter().map(|batch| question(batch)));
    }
    Ok(questions)
}

fn question(batch: &Batch) -> Question {
    Question { work: Work::of(batch), longest_row: batch.max_row() }
}

/// Deals a step's questions as [`Packer::pack`] does.
pub(super) fn deal(questions: &[Question], ranks: usize, micro_batch_tokens: usize, rates: &FlopRates) -> Dealt {
    let costs: Vec<u64> = questions.iter().map(|question| rates.forward(&question.work) as u64).collect();
    let rank_of = assign(&costs, ranks);
    let mut shares = vec![Vec::new(); ranks];
    questions.iter().zip(&rank_of).for_each(|(question, &rank)| shares[rank].push(*question));
    let batches_of_rank = shares.into_iter().map(|share| batches(share, micro_batch_tokens)).collect();
    Dealt { spread: spread(&loads(&costs, &rank_of, ranks)), batches_of_rank }
}

fn batches(mut share: Vec<Question>, micro_batch_tokens: usize) -> Vec<Work> {
    let runs = sort_into_batches(&mut share, micro_batch_tokens, |question| (question.longest_row, question.work.tokens));
    let sum = |questions: &[Question]| {
        questions.iter().fold(Work::default(), |mut sum, question| {
            sum += question.work;
            sum
        })
    };
    runs.into_iter().map(|run| sum(&share[run])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pack::Share;
    use crate::model::Preset;

    /// What is simulated is what the packer does.
    #[test]
    fn ranks_get_the_batches_that_the_packer_makes() {
        let config = Config::default();
        let rates = FlopRates::of(&Preset::Large.config());
        let questions = questions(&config, None, 3 * 32).expect("questions");
        for ranks in [1, 3, 8, 40] {
            for (number, step) in questions.chunks(32).enumerate() {
                let dealt = deal(step, ranks, 1000, &rates);
                for (rank, simulated) in dealt.batches_of_rank.iter().enumerate() {
                    let share = Some(Share { rank, ranks, rates });
                    let packer = Packer { share, micro_batch_tokens: 1000, ..config.packer(SpecialIds::BERT_UNCASED, true) };
                    let steps = synthetic::steps(32, 3, &packer).expect("steps");
                    assert_eq!(spread(&steps[number].loads), dealt.spread);
                    // Padding depends on the neighbours, and costs nothing here.
                    let padded = |work: Work| Work { padded: 0, ..work };
                    let packed: Vec<Work> = steps[number].batches.iter().map(|batch| padded(Work::of(batch))).collect();
                    assert_eq!(simulated.iter().copied().map(padded).collect::<Vec<_>>(), packed);
                }
            }
        }
    }
}
