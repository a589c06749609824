//! Packing of samples into batches: rows without padding, samples of similar length side by side.

use std::sync::Arc;

use super::DataError;
use super::balance::{assign, loads};
use super::mmap::DecodedGroup;
use super::partition::sort_into_batches;
use crate::batch::key::sample_key;
use crate::batch::packed::Batch;
use crate::batch::work::FlopRates;
use crate::task::{Purpose, RowPacker, RowSize, Task};

/// A row in the order of samples. Cheap to copy and to sort: its tokens stay in the decoded row group until they are written
/// to a batch.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Decoded row group.
    pub group: Arc<DecodedGroup>,
    /// Index of the row in the group.
    pub row: usize,
    /// Number of the sample among those of the row in an epoch, from 0.
    pub part: u32,
    /// Number in the order of samples, counted over all epochs: random draws depend on it, see [`crate::batch::key`].
    pub ordinal: u64,
}

impl Sample {
    /// Index of the row in its split.
    pub fn split_row(&self) -> usize {
        self.group.first_row() + self.row
    }
}

/// Samples are equal if they are the same row of a split at the same place in the order.
impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        (self.split_row(), self.part, self.ordinal) == (other.split_row(), other.part, other.ordinal)
    }
}

/// One rank's share of each step, chosen so that all ranks have the same work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// This rank, from 0.
    pub rank: usize,
    /// Number of ranks.
    pub ranks: usize,
    /// Cost of work.
    pub rates: FlopRates,
}

/// Packed samples of one step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Packed {
    /// Batches of this rank; none where there are fewer samples than ranks.
    pub batches: Vec<Batch>,
    /// Sum of the samples' weights over all ranks, see [`Task::weight`].
    pub weight: f64,
    /// Operations of a forward pass over each rank's samples; empty if there is only one rank.
    pub loads: Vec<u64>,
}

/// Turns samples into batches.
#[derive(Debug, Clone)]
pub struct Packer {
    /// Training objective.
    pub task: Arc<dyn Task>,
    /// Purpose of the batches.
    pub purpose: Purpose,
    /// Maximum number of tokens of a batch. A sample is never split, so one alone may exceed it.
    pub micro_batch_tokens: usize,
    /// The share of the samples to pack; `None`: all.
    pub share: Option<Share>,
    /// Seed of the draws that make training samples from rows. Those of evaluations are the same in all runs.
    pub seed: u64,
}

/// Seed of the draws that make samples of evaluations.
const EVALUATION_SEED: u64 = 0;

/// A sample whose rows have been measured.
struct Measured<'a> {
    /// Index among the step's samples, and the row's number in the row packer.
    index: usize,
    sample: &'a Sample,
    size: RowSize,
}

impl Packer {
    /// The key of the draws that make a sample from its row: a new one in every epoch of training, always the same in evaluations, so
    /// that their results can be compared.
    pub fn key(&self, sample: &Sample) -> u64 {
        match self.purpose {
            Purpose::Train => sample_key(self.seed, sample.ordinal, 0),
            Purpose::Evaluate => sample_key(EVALUATION_SEED, sample.split_row() as u64, sample.part),
        }
    }

    /// Packs samples, or this rank's share of them, into as few batches of even size as the token budget allows.
    ///
    /// The longest come first, so that the first batch shows whether memory suffices, and similar lengths are side by side;
    /// equal lengths keep their order. The result depends on the samples alone, so every rank finds the same shares without
    /// asking the others.
    ///
    /// # Errors
    /// [`DataError::Row`] where a row cannot be packed. Every rank gets the error, whichever rank has the row.
    ///
    /// # Panics
    /// If a sample's row is not in its row group.
    pub fn pack(&self, samples: &[Sample]) -> Result<Packed, DataError> {
        let mut rows = self.task.row_packer(self.purpose);
        let mut measured = Vec::with_capacity(samples.len());
        for (index, sample) in samples.iter().enumerate() {
            let size = rows.measure(sample.group.columns(), sample.row, self.key(sample))?;
            measured.push(Measured { index, sample, size });
        }
        let weight = measured.iter().map(|sample| self.task.weight(&sample.size.work)).sum();
        let loads = match self.share {
            Some(share) => share.take(&mut measured),
            None => Vec::new(),
        };
        let size = |sample: &Measured<'_>| (sample.size.longest_row, sample.size.work.tokens);
        let runs = sort_into_batches(&mut measured, self.micro_batch_tokens, size).into_iter();
        let batches = runs.map(|run| fill(&mut *rows, &measured[run])).collect::<Result<_, _>>()?;
        Ok(Packed { batches, weight, loads })
    }
}

fn fill(rows: &mut dyn RowPacker<'_>, samples: &[Measured<'_>]) -> Result<Batch, DataError> {
    let total = |count: fn(&RowSize) -> usize| samples.iter().map(|sample| count(&sample.size)).sum();
    let mut batch = Batch::with_capacity(total(|size| size.work.tokens), total(|size| size.work.targets));
    for Measured { index, sample, .. } in samples {
        let groups = rows.pack(*index, sample.ordinal, &mut batch)?;
        batch.end_example(sample.split_row(), *index, groups);
    }
    rows.finish(&mut batch);
    Ok(batch)
}

impl Share {
    /// Keeps this rank's samples, and returns the work of every rank.
    fn take(&self, samples: &mut Vec<Measured<'_>>) -> Vec<u64> {
        let costs: Vec<u64> = samples.iter().map(|sample| self.rates.forward(&sample.size.work) as u64).collect();
        let rank_of = assign(&costs, self.ranks);
        let mut ranks = rank_of.iter();
        samples.retain(|_| ranks.next() == Some(&self.rank));
        loads(&costs, &rank_of, self.ranks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::key::{mix, token_key};
    use crate::batch::packed::RowSpan;
    use crate::batch::work::Work;
    use crate::data::synthetic::{group, packer, samples};
    use crate::model::Preset;
    use crate::model::flops::flop_rates;
    use crate::task::RowError;
    use crate::task::cloze::questions::SyntheticQuestion;
    use glm_schemas::cloze::encoding::ChoiceEncoder;
    use glm_schemas::vocab::{SpecialIds, TokenId};
    use proptest::prelude::*;

    fn ids(max: usize) -> impl Strategy<Value = Vec<TokenId>> {
        prop::collection::vec(prop_oneof![30 => 1000..30000, 1 => Just(103)], 1..max)
    }

    fn questions(max: usize) -> impl Strategy<Value = Vec<SyntheticQuestion>> {
        let question = (ids(60), ids(6), ids(6), prop::collection::vec(ids(7), 1..6)).prop_map(
            |(passage, query_left, query_right, choices)| SyntheticQuestion {
                passage,
                query_left,
                query_right,
                choices,
                texts: Vec::new(),
                correct: vec![true],
                label_name: None,
            },
        );
        prop::collection::vec(question, 1..max)
    }

    /// Keys that a token sees, by their index in the row.
    fn sees(row: &RowSpan, piece_start: i32, query: usize) -> Vec<usize> {
        match query < row.context {
            true => (0..row.context).collect(),
            false => (0..=row.context).chain((piece_start as usize).max(row.context + 1)..=query).collect(),
        }
    }

    proptest! {
        /// Whatever is packed together, each choice's context and piece are those of the published encoding of that choice.
        #[test]
        fn packing_keeps_the_published_encoding(questions in questions(9), max in 32_usize..80, budget in 1_usize..600) {
            let (packer, encoder) = (packer(max, budget), ChoiceEncoder::new(SpecialIds::BERT_UNCASED, max));
            let batches = packer.pack(&samples(&group(&questions), 100)).expect("fits").batches;
            let mut seen = 0;
            for batch in &batches {
                prop_assert!(batch.tokens() <= budget || batch.examples.len() == 1);
                prop_assert_eq!(batch.tokens(), batch.inputs.rows.iter().map(|row| row.length).sum::<usize>());
                for info in &batch.examples {
                    seen += 1;
                    let question = &questions[info.row];
                    for (i, choice) in question.choices.iter().enumerate() {
                        let expected = encoder.encode(&question.tokens(), choice).expect("fits");
                        let pairs: Vec<usize> = (0..batch.targets.token.len())
                            .filter(|&pair| batch.targets.group[pair] == (info.first_group + i) as i64).collect();
                        let places: Vec<usize> = pairs.iter()
                            .map(|&pair| batch.targets.scored[batch.targets.scored_index[pair] as usize] as usize).collect();
                        let row = batch.inputs.rows.iter().rfind(|row| row.start <= places[0]).expect("a row");
                        prop_assert_eq!(row.context, expected.sep);
                        prop_assert_eq!(places[0], row.start + row.context);
                        let context = row.start..row.start + row.context;
                        let all: Vec<usize> = context.clone().chain(places.iter().copied()).collect();
                        let column = |values: &[i64]| all.iter().map(|&place| values[place] as i32).collect::<Vec<_>>();
                        prop_assert_eq!(column(&batch.inputs.ids), expected.ids);
                        prop_assert_eq!(column(&batch.inputs.position), expected.position);
                        prop_assert_eq!(column(&batch.inputs.block_position), expected.block_position);
                        let targets: Vec<i32> = pairs.iter().map(|&pair| batch.targets.token[pair] as i32).collect();
                        prop_assert_eq!(&targets[..], &expected.target[expected.sep..]);
                        // A context token sees the context; one of the piece also the piece up to itself, and nothing else.
                        prop_assert!(batch.inputs.piece_start[context].iter().all(|&from| from == -1));
                        prop_assert_eq!(batch.inputs.piece_start[places[0]], row.context as i32);
                        for (n, &place) in places.iter().enumerate() {
                            let expected: Vec<usize> = all[..row.context + n + 1].iter().map(|place| place - row.start).collect();
                            prop_assert_eq!(sees(row, batch.inputs.piece_start[place], place - row.start), expected);
                        }
                    }
                }
            }
            prop_assert_eq!(seen, questions.len());
        }

        /// A token's key depends on its sample's number, its row and its place there, and not on what it is packed with.
        #[test]
        fn keys_do_not_depend_on_the_packing(questions in questions(9), max in 32_usize..60, budget in 1_usize..600) {
            let group = group(&questions);
            let by_question = |budget| -> std::collections::BTreeMap<usize, Vec<(u64, Vec<u64>)>> {
                let mut keys = std::collections::BTreeMap::<_, Vec<_>>::new();
                for batch in packer(max, budget).pack(&samples(&group, 7)).expect("fits").batches {
                    let mut rows = batch.inputs.rows.iter().zip(&batch.inputs.row_key);
                    for question in &batch.examples {
                        // As many rows as starts of piece, whose pairs are the first of each choice.
                        let mut starts: Vec<i64> = (0..batch.targets.token.len())
                            .filter(|&pair| {
                                let choice = batch.targets.group[pair] as usize;
                                (question.first_group..question.first_group + question.groups).contains(&choice)
                                    && batch.inputs.block_position[batch.targets.scored[batch.targets.scored_index[pair] as usize] as usize] == 1
                            })
                            .map(|pair| batch.targets.scored_index[pair]).collect();
                        starts.sort_unstable();
                        starts.dedup();
                        let own = rows.by_ref().take(starts.len());
                        keys.insert(question.row, own.map(|(row, &key)| {
                            (key, batch.inputs.token_key[row.start..row.start + row.length].to_vec())
                        }).collect());
                    }
                }
                keys
            };
            let keys = by_question(budget);
            prop_assert_eq!(&keys, &by_question(1));
            for (&row, rows) in &keys {
                for (number, (key, tokens)) in rows.iter().enumerate() {
                    prop_assert_eq!(*key, mix(mix(7 + row as u64) ^ number as u64));
                    prop_assert!(tokens.iter().enumerate().all(|(index, &token)| token == token_key(*key, index)));
                }
            }
        }
    }

    proptest! {
        /// Each question is one rank's, packed as it would be alone, and every rank knows what the others have to do.
        #[test]
        fn ranks_share_the_questions(questions in questions(12), ranks in 1_usize..6, max in 32_usize..80) {
            let group = group(&questions);
            let rates = flop_rates(&Preset::BASE.config());
            let whole = packer(max, 1).pack(&samples(&group, 7)).expect("fits").batches;
            let mut shared = Vec::new();
            for rank in 0..ranks {
                let packer = Packer { share: Some(Share { rank, ranks, rates }), ..packer(max, 1) };
                let packed = packer.pack(&samples(&group, 7)).expect("fits");
                // What was measured before packing is what the batches hold.
                let flops: f64 = packed.batches.iter().map(|batch| rates.forward(&Work::of(batch)).floor()).sum();
                prop_assert_eq!(packed.loads[rank], flops as u64);
                shared.extend(packed.batches);
            }
            let by_row = |batch: &Batch| batch.examples[0].row;
            shared.sort_by_key(by_row);
            let mut whole = whole;
            whole.sort_by_key(by_row);
            prop_assert_eq!(shared, whole);
        }
    }

    #[test]
    fn columns_of_the_loss_name_choices_and_labels() {
        let short = SyntheticQuestion::of_length(10, 1);
        let long = SyntheticQuestion { correct: vec![false, true], ..SyntheticQuestion::of_length(20, 2) };
        let packed = packer(64, 100).pack(&samples(&group(&[short, long]), 0)).expect("fits");
        // The longer question comes first; 3 stands for the choice that the shorter one does not have.
        assert_eq!(packed.batches[0].task_columns, [vec![0, 1, 2, 3], vec![1, 0], vec![]]);
        assert_eq!(packed.batches[0].examples.iter().map(|question| question.sample).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(packed.weight, 2.0);
    }

    #[test]
    fn rows_that_cannot_be_packed_are_errors() {
        let samples_of = |question| samples(&group(&[question]), 0);
        let labelled = Packer { purpose: Purpose::Train, ..packer(64, 100) };
        let unlabelled = samples_of(SyntheticQuestion { choices: Vec::new(), ..SyntheticQuestion::of_length(20, 1) });
        let error = labelled.pack(&unlabelled).expect_err("no answer");
        assert!(matches!(error, DataError::Row(RowError::Unlabelled { example_id }) if example_id == "q0"));
        let error = packer(7, 100).pack(&samples_of(SyntheticQuestion::of_length(20, 9))).expect_err("too long");
        assert!(matches!(error, DataError::Row(RowError::Encoding { .. })));
    }
}
