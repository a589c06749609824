//! Packing questions into batches: context once, start of piece once, the choices' tokens behind it, lengths alike side by side.

use std::sync::Arc;

use glm_schemas::cloze::ClozeView;
use glm_schemas::encoding::ChoiceEncoder;
use glm_schemas::vocab::{SpecialIds, TokenId};

use super::DataError;
use super::balance::{assign, loads};
use super::cut::Cut;
pub use super::cut::Truncation;
use super::mmap::DecodedGroup;
use super::partition::sort_into_batches;
use crate::batch::packed::{Batch, Grading, QuestionInfo};
use crate::batch::work::{FlopRates, Work};

/// A question in the order of samples: where it stands, and what number it has. Cheap to copy and to sort; its tokens stay in
/// the decoded row group until they are written into a batch.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The decoded row group.
    pub group: Arc<DecodedGroup>,
    /// The question's row in it.
    pub row: usize,
    /// Its number in the order of samples, counted over all epochs: what its random draws depend on, see [`super::key`].
    pub ordinal: u64,
}

impl Sample {
    /// The question's row in its split.
    pub fn split_row(&self) -> usize {
        self.group.first_row() + self.row
    }
}

/// Which of several ranks packs, and what makes their work even.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// This one, from 0.
    pub rank: usize,
    /// How many there are.
    pub ranks: usize,
    /// What a question costs.
    pub rates: FlopRates,
}

/// What becomes of a step's samples.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    /// This rank's batches; none where there are fewer questions than ranks.
    pub batches: Vec<Batch>,
    /// Operations of a forward pass over each rank's questions; empty where there is one rank only.
    pub loads: Vec<u64>,
}

/// Turns rows of shards into batches.
#[derive(Debug, Clone, Copy)]
pub struct Packer {
    /// How a choice becomes model input.
    pub encoder: ChoiceEncoder,
    /// Ids of special tokens.
    pub special: SpecialIds,
    /// How a context that is too long is cut.
    pub truncation: Truncation,
    /// Most tokens of a batch. One question is never split, so it may exceed this alone.
    pub micro_batch_tokens: usize,
    /// Whether a question without a right answer is an error.
    pub labelled: bool,
    /// Whether questions carry what an evaluation wants to know, [`Grading`].
    pub graded: bool,
    /// Whose questions are packed; `None`: all.
    pub share: Option<Share>,
}

/// A sample whose rows have been measured.
struct Measured<'a> {
    sample: &'a Sample,
    view: ClozeView<'a>,
    work: Work,
    longest_row: usize,
}

/// Buffers that packing one question leaves to the next.
#[derive(Default)]
struct Scratch {
    cut: Cut,
    context: Vec<TokenId>,
}

impl Packer {
    /// Packs samples, or this rank's share of them, into batches within the token budget, as few and as even as it allows.
    ///
    /// The longest come first, so that the largest batch shows at once whether memory suffices, and lengths alike are side by
    /// side; equal lengths keep their order. What comes out depends on the samples and on nothing else, so every rank finds
    /// the same shares for itself.
    ///
    /// # Errors
    /// [`DataError::Encoding`] where a question does not fit; [`DataError::Unlabelled`]. Every rank has them, whosever question
    /// it is.
    ///
    /// # Panics
    /// If a sample's row is not in its row group.
    pub fn pack(&self, samples: &[Sample]) -> Result<Packed, DataError> {
        let mut scratch = Scratch::default();
        let mut measured =
            samples.iter().map(|sample| self.measure(sample, &mut scratch)).collect::<Result<Vec<_>, DataError>>()?;
        let loads = match self.share {
            Some(share) => share.take(&mut measured),
            None => Vec::new(),
        };
        let size = |question: &Measured<'_>| (question.longest_row, question.work.tokens);
        let runs = sort_into_batches(&mut measured, self.micro_batch_tokens, size).into_iter();
        let batches = runs.map(|run| self.fill(&measured[run], &mut scratch)).collect::<Result<_, _>>()?;
        Ok(Packed { batches, loads })
    }

    fn measure<'a>(&self, sample: &'a Sample, scratch: &mut Scratch) -> Result<Measured<'a>, DataError> {
        let view = sample.group.view()?;
        self.cut(&view, sample.row, &mut scratch.cut)?;
        let label = view.label(sample.row).filter(|&label| label < view.choices(sample.row).len());
        if self.labelled && label.is_none() {
            return Err(DataError::Unlabelled { example_id: view.example_id(sample.row).to_owned() });
        }
        Ok(Measured { sample, view, work: scratch.cut.work(), longest_row: scratch.cut.longest_row() })
    }

    fn cut(&self, view: &ClozeView<'_>, row: usize, cut: &mut Cut) -> Result<(), DataError> {
        let lengths = view.choices(row).map(|choice| choice.ids.len());
        cut.question(&self.encoder, self.truncation, &view.question(row), lengths)
            .map_err(|source| DataError::Encoding { example_id: view.example_id(row).to_owned(), source })
    }

    fn fill(&self, questions: &[Measured<'_>], scratch: &mut Scratch) -> Result<Batch, DataError> {
        let room = |measure: fn(&Measured<'_>) -> usize| questions.iter().map(measure).sum();
        let mut batch = Batch::with_room(room(|question| question.work.tokens), room(|question| question.work.scored));
        for Measured { sample, view, .. } in questions {
            let row = sample.row;
            self.cut(view, row, &mut scratch.cut)?;
            self.push_rows(&mut batch, view, sample, scratch);
            let choices = view.choices(row).len();
            batch.questions.push(QuestionInfo {
                row: sample.split_row(),
                first_choice: batch.choices,
                choices,
                grading: self.graded.then(|| grading(view, row)),
            });
            batch.choices += choices;
            batch.label.push(view.label(row).filter(|&label| label < choices).unwrap_or(0) as i64);
        }
        Ok(batch.finish())
    }

    /// Writes a question's rows straight from its row group into the batch.
    fn push_rows(&self, batch: &mut Batch, view: &ClozeView<'_>, sample: &Sample, scratch: &mut Scratch) {
        let question = view.question(sample.row);
        for (number, row) in scratch.cut.rows().iter().enumerate() {
            scratch.context.clear();
            let blank = self.encoder.push_context(&question, row.kept_passage, &mut scratch.context) as i64;
            batch.push_context(&scratch.context);
            // <sop> sees the context and itself, so it is the same for every choice: one stands for all.
            let start_of_piece = batch.push_scored(self.special.sop, blank, 1, row.context);
            let mut index = row.context + 1;
            for (choice, tokens) in view.choices(sample.row).enumerate() {
                if scratch.cut.row_of(choice) != number {
                    continue;
                }
                let flat_choice = batch.choices + choice;
                let mut previous = start_of_piece;
                for (block_position, &id) in (2..).zip(tokens.ids) {
                    batch.push_pair(previous, id, flat_choice);
                    previous = batch.push_scored(id, blank, block_position, index);
                }
                batch.push_pair(previous, self.special.eop, flat_choice);
                index += tokens.ids.len();
            }
            batch.end_row(sample.ordinal, number);
        }
    }
}

impl Share {
    /// Leaves this rank's questions, and returns the work of every rank.
    fn take(&self, questions: &mut Vec<Measured<'_>>) -> Vec<u64> {
        let costs: Vec<u64> = questions.iter().map(|question| self.rates.forward(&question.work) as u64).collect();
        let rank_of = assign(&costs, self.ranks);
        let mut ranks = rank_of.iter();
        questions.retain(|_| ranks.next() == Some(&self.rank));
        loads(&costs, &rank_of, self.ranks)
    }
}

fn grading(view: &ClozeView<'_>, row: usize) -> Grading {
    let passage = view.question(row).passage;
    Grading {
        example_id: view.example_id(row).to_owned(),
        texts: view.choices(row).map(|choice| choice.text.unwrap_or_default().to_owned()).collect(),
        correct: view.choices(row).map(|choice| choice.correct).collect(),
        mentions: view.choices(row).map(|choice| occurrences(passage, choice.ids)).collect(),
    }
}

/// How often `choice` occurs in `passage`.
fn occurrences(passage: &[TokenId], choice: &[TokenId]) -> u32 {
    if choice.is_empty() {
        return 0;
    }
    passage.windows(choice.len()).filter(|window| *window == choice).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::key::{mix, token_key};
    use crate::data::synthetic::{SyntheticQuestion, group, packer, samples};
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
                right: 0,
            },
        );
        prop::collection::vec(question, 1..max)
    }

    /// Which keys a token sees, by their index in the row.
    fn sees(row: &crate::batch::packed::RowSpan, visible_from: i32, query: usize) -> Vec<usize> {
        match query < row.context {
            true => (0..row.context).collect(),
            false => (0..=row.context).chain((visible_from as usize).max(row.context + 1)..=query).collect(),
        }
    }

    proptest! {
        /// Whatever is packed together, each choice's context and piece are those of the published encoding of that choice.
        #[test]
        fn packing_keeps_the_published_encoding(questions in questions(9), max in 32_usize..80, budget in 1_usize..600) {
            let packer = packer(max, budget);
            let batches = packer.pack(&samples(&group(&questions), 100)).expect("fits").batches;
            let mut seen = 0;
            for batch in &batches {
                prop_assert!(batch.tokens() <= budget || batch.questions.len() == 1);
                prop_assert_eq!(batch.tokens(), batch.rows.iter().map(|row| row.length).sum::<usize>());
                for info in &batch.questions {
                    seen += 1;
                    let question = &questions[info.row];
                    for (i, choice) in question.choices.iter().enumerate() {
                        let expected = packer.encoder.encode(&question.tokens(), choice).expect("fits");
                        let pairs: Vec<usize> = (0..batch.target.len())
                            .filter(|&pair| batch.choice_of_pair[pair] == (info.first_choice + i) as i64).collect();
                        let places: Vec<usize> = pairs.iter()
                            .map(|&pair| batch.scored[batch.scored_of_pair[pair] as usize] as usize).collect();
                        let row = batch.rows.iter().rfind(|row| row.start <= places[0]).expect("a row");
                        prop_assert_eq!(row.context, expected.sep);
                        prop_assert_eq!(places[0], row.start + row.context);
                        let context = row.start..row.start + row.context;
                        let all: Vec<usize> = context.clone().chain(places.iter().copied()).collect();
                        let column = |values: &[i64]| all.iter().map(|&place| values[place] as i32).collect::<Vec<_>>();
                        prop_assert_eq!(column(&batch.ids), expected.ids);
                        prop_assert_eq!(column(&batch.position), expected.position);
                        prop_assert_eq!(column(&batch.block_position), expected.block_position);
                        let targets: Vec<i32> = pairs.iter().map(|&pair| batch.target[pair] as i32).collect();
                        prop_assert_eq!(&targets[..], &expected.target[expected.sep..]);
                        // A context token sees the context; one of the piece also the piece up to itself, and nothing else.
                        prop_assert!(batch.visible_from[context].iter().all(|&from| from == -1));
                        prop_assert_eq!(batch.visible_from[places[0]], row.context as i32);
                        for (n, &place) in places.iter().enumerate() {
                            let expected: Vec<usize> = all[..row.context + n + 1].iter().map(|place| place - row.start).collect();
                            prop_assert_eq!(sees(row, batch.visible_from[place], place - row.start), expected);
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
                    let mut rows = batch.rows.iter().zip(&batch.row_key);
                    for question in &batch.questions {
                        // As many rows as starts of piece, whose pairs are the first of each choice.
                        let mut starts: Vec<i64> = (0..batch.target.len())
                            .filter(|&pair| {
                                let choice = batch.choice_of_pair[pair] as usize;
                                (question.first_choice..question.first_choice + question.choices).contains(&choice)
                                    && batch.block_position[batch.scored[batch.scored_of_pair[pair] as usize] as usize] == 1
                            })
                            .map(|pair| batch.scored_of_pair[pair]).collect();
                        starts.sort_unstable();
                        starts.dedup();
                        let own = rows.by_ref().take(starts.len());
                        keys.insert(question.row, own.map(|(row, &key)| {
                            (key, batch.token_key[row.start..row.start + row.length].to_vec())
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
            let rates = FlopRates::of(&crate::model::Preset::Base.config());
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
            let by_row = |batch: &Batch| batch.questions[0].row;
            shared.sort_by_key(by_row);
            let mut whole = whole;
            whole.sort_by_key(by_row);
            prop_assert_eq!(shared, whole);
        }
    }

    #[test]
    fn questions_are_graded_where_asked() {
        let question = SyntheticQuestion { right: 1, ..SyntheticQuestion::of_length(20, 2) };
        let samples = samples(&group(&[question]), 0);
        let graded = Packer { graded: true, ..packer(64, 100) }.pack(&samples).expect("fits").batches;
        let grading = graded[0].questions[0].grading.as_ref().expect("graded");
        assert_eq!((grading.example_id.as_str(), &grading.correct[..]), ("q0", &[false, true][..]));
        assert_eq!((graded[0].label[0], graded[0].choice_table.as_slice()), (1, &[0, 1][..]));
        assert_eq!(packer(64, 100).pack(&samples).expect("fits").batches[0].questions[0].grading, None);
    }

    #[test]
    fn what_cannot_be_packed_is_an_error() {
        let samples = samples(&group(&[SyntheticQuestion { choices: Vec::new(), ..SyntheticQuestion::of_length(20, 1) }]), 0);
        let labelled = Packer { labelled: true, ..packer(64, 100) };
        assert!(matches!(labelled.pack(&samples), Err(DataError::Unlabelled { example_id }) if example_id == "q0"));
        let samples = super::tests::samples(&group(&[SyntheticQuestion::of_length(20, 9)]), 0);
        assert!(matches!(packer(7, 100).pack(&samples), Err(DataError::Encoding { .. })));
    }

    #[test]
    fn mentions_are_counted_by_tokens() {
        assert_eq!(occurrences(&[1, 2, 1, 2, 3], &[1, 2]), 2);
        assert_eq!(occurrences(&[1, 2], &[]), 0);
        assert_eq!(occurrences(&[1], &[1, 2]), 0);
    }
}
