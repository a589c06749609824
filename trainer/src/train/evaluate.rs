//! Accuracy: how often the best-scored choice is a right one, and what guessing would give; and how near its text comes.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use crate::batch::device::DeviceBatch;
use crate::batch::packed::{Grading, QuestionInfo};
use crate::data::DataError;
use crate::data::feed::{DeviceStep, Feeder};
use crate::data::loader::{Loader, LoaderConfig, Position, Step};
use crate::data::mmap::SplitData;
use crate::data::pack::{Packer, Sample};
use crate::data::sampler::Order;
use crate::distributed::World;
use crate::model::cloze::choice_scores;
use crate::model::{Glm, Kernels, Pass};
use crate::task::text_match::best_match;

/// Questions that are sorted by length and packed together; more would pad less and hold more in memory.
const WINDOW: usize = 256;

/// How a question was answered: one line of `--scores`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The question.
    pub example_id: String,
    /// The score of every choice, a sum of log probabilities.
    pub scores: Vec<f64>,
    /// Index of the best choice; the first where several are equal.
    pub predicted: usize,
    /// Indices of the right choices.
    pub correct: Vec<usize>,
    /// Whether the best choice is right.
    pub hit: bool,
}

/// The outcome of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Evaluation {
    /// Hits over questions.
    pub accuracy: f64,
    /// Questions whose best choice is right.
    pub hits: usize,
    /// Questions.
    pub questions: usize,
    /// Mean over the questions of [`text_match::TextMatch::f1`], as SuperGLUE reports it for ReCoRD.
    pub f1: f64,
    /// Share of questions whose chosen text is that of a right answer, see [`text_match`], as SuperGLUE reports it for ReCoRD.
    pub exact_match: f64,
    /// Accuracy of a guess among the choices.
    pub chance: f64,
    /// Accuracy of guessing the choice whose tokens occur most often in the passage, a guess among equals.
    pub most_frequent: f64,
    /// Time that it took.
    pub seconds: f64,
}

/// How to evaluate.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationConfig {
    /// The kind of the forward pass.
    pub kind: Kind,
    /// Which operations compute.
    pub kernels: Kernels,
    /// How questions become batches.
    pub packer: Packer,
    /// Decode threads.
    pub threads: usize,
    /// Most questions, the first of the split; 0 for all.
    pub limit: usize,
}

/// Scores a split's questions in stored order and passes each answer to `on_answer`.
///
/// In a `world` each rank scores the share of the questions that the packer gives it, and hears of its own answers only; the
/// outcome is that of all.
///
/// # Errors
/// [`DataError`] where a shard cannot be read, libtorch refuses a batch, or another rank is gone.
pub fn evaluate(
    model: &Glm,
    data: &Arc<SplitData>,
    config: EvaluationConfig,
    world: Option<&World>,
    mut on_answer: impl FnMut(Answer),
) -> Result<Evaluation, DataError> {
    let start = Instant::now();
    let mut tally = Tally::default();
    answer_split(model, data, config, |answer, question| {
        tally.add(&answer, question);
        on_answer(answer);
    })?;
    if let Some(world) = world {
        tally = Tally::sum(&world.gather(&tally.numbers())?);
    }
    Ok(tally.evaluation(start.elapsed().as_secs_f64()))
}

/// Scores a split's questions in stored order, whether or not their answers are known, and passes each answer to `on_answer`
/// with the question. Of several ranks each hears of the share that the packer gives it.
///
/// # Errors
/// [`DataError`] where a shard cannot be read, or libtorch refuses a batch.
pub fn answer_split(
    model: &Glm,
    data: &Arc<SplitData>,
    config: EvaluationConfig,
    mut on_answer: impl FnMut(Answer, &Grading),
) -> Result<(), DataError> {
    let limit = if config.limit == 0 { usize::MAX } else { config.limit };
    let loader = LoaderConfig {
        order: Order::Stored,
        batch_size: WINDOW.min(limit),
        start: Position::default(),
        epochs: 1,
        threads: config.threads,
        prefetch_steps: 2,
        packer: Packer { graded: true, ..config.packer },
    };
    let pass = Pass::evaluation(config.kind, config.kernels);
    let loader = Loader::start(Arc::clone(data), "", loader)?;
    let mut feeder = Feeder::start(loader, model.parameters().device(), !model.is_fused(&pass))?;
    let mut seen = 0;
    while let Some(step) = feeder.next_step()? {
        for (row, answer, grading) in answers(model, &step, &pass)? {
            if row < limit {
                on_answer(answer, grading);
            }
        }
        // Of all ranks, so that all stop together.
        seen += step.questions;
        if seen >= limit {
            break;
        }
    }
    Ok(())
}

/// Scores questions that are in no split, exactly as [`evaluate`] does; the answers are in the order of the samples' rows.
///
/// # Errors
/// [`DataError`] where a question does not fit, or libtorch refuses a batch.
pub fn answer_samples(model: &Glm, samples: &[Sample], config: &EvaluationConfig) -> Result<Vec<Answer>, DataError> {
    let pass = Pass::evaluation(config.kind, config.kernels);
    let packed = Packer { graded: true, ..config.packer }.pack(samples)?;
    let step = Step {
        batches: packed.batches.into_iter().map(Arc::new).collect(),
        questions: samples.len(),
        split_rows: samples.iter().map(Sample::split_row).collect(),
        loads: packed.loads,
        position: Position::default(),
    };
    let step = DeviceStep::on(&step, model.parameters().device(), !model.is_fused(&pass))?;
    Ok(answers(model, &step, &pass)?.into_iter().map(|(_, answer, _)| answer).collect())
}

/// A step's questions with their answers, by row: packing goes by length.
fn answers<'a>(model: &Glm, step: &'a DeviceStep, pass: &Pass) -> Result<Vec<(usize, Answer, &'a Grading)>, DataError> {
    let mut answers = Vec::with_capacity(step.questions);
    for batch in &step.batches {
        let scores = scores(model, batch, pass)?;
        let graded = batch.host.questions.iter().filter_map(|question| Some((question, question.grading.as_ref()?)));
        answers.extend(graded.map(|(question, grading)| (question.row, answer(question, grading, &scores), grading)));
    }
    answers.sort_by_key(|(row, ..)| *row);
    Ok(answers)
}

/// Scores of a batch's choices.
fn scores(model: &Glm, batch: &DeviceBatch, pass: &Pass) -> Result<Vec<f64>, DataError> {
    let scores: Tensor = no_grad(|| choice_scores(model, batch, pass))?;
    Ok(Vec::<f64>::try_from(scores.f_to_device(tch::Device::Cpu)?.f_totype(Kind::Double)?)?)
}

fn answer(question: &QuestionInfo, grading: &Grading, batch_scores: &[f64]) -> Answer {
    let scores = batch_scores[question.first_choice..][..question.choices].to_vec();
    let mut predicted = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[predicted] {
            predicted = i;
        }
    }
    let correct = grading.correct.iter().enumerate().filter(|(_, right)| **right).map(|(i, _)| i).collect();
    let hit = grading.correct.get(predicted).copied().unwrap_or(false);
    Answer { example_id: grading.example_id.clone(), scores, predicted, correct, hit }
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Tally {
    hits: usize,
    questions: usize,
    f1: f64,
    exact_matches: usize,
    chance: f64,
    most_frequent: f64,
}

impl Tally {
    /// For sending.
    fn numbers(&self) -> [f64; 6] {
        let Self { hits, questions, f1, exact_matches, chance, most_frequent } = *self;
        [hits as f64, questions as f64, f1, exact_matches as f64, chance, most_frequent]
    }

    /// That of all ranks.
    fn sum(numbers: &[Vec<f64>]) -> Self {
        let sum = |i: usize| numbers.iter().filter_map(|of_rank| of_rank.get(i)).sum::<f64>();
        Self {
            hits: sum(0) as usize,
            questions: sum(1) as usize,
            f1: sum(2),
            exact_matches: sum(3) as usize,
            chance: sum(4),
            most_frequent: sum(5),
        }
    }

    fn add(&mut self, answer: &Answer, question: &Grading) {
        self.questions += 1;
        self.hits += usize::from(answer.hit);
        let text = |choice: usize| question.texts.get(choice).map_or("", String::as_str);
        let found = best_match(text(answer.predicted), answer.correct.iter().map(|&choice| text(choice)));
        self.f1 += found.f1;
        self.exact_matches += usize::from(found.exact);
        self.chance += right_share(question, |_| true);
        let most = question.mentions.iter().copied().max().unwrap_or(0);
        self.most_frequent += right_share(question, |mentions| mentions == most);
    }

    fn evaluation(&self, seconds: f64) -> Evaluation {
        let questions = self.questions.max(1) as f64;
        Evaluation {
            accuracy: self.hits as f64 / questions,
            hits: self.hits,
            questions: self.questions,
            f1: self.f1 / questions,
            exact_match: self.exact_matches as f64 / questions,
            chance: self.chance / questions,
            most_frequent: self.most_frequent / questions,
            seconds,
        }
    }
}

/// Share of right choices among those whose number of mentions is `considered`.
fn right_share(question: &Grading, considered: impl Fn(u32) -> bool) -> f64 {
    let among: Vec<bool> = question
        .mentions
        .iter()
        .zip(&question.correct)
        .filter(|(mentions, _)| considered(**mentions))
        .map(|(_, right)| *right)
        .collect();
    among.iter().filter(|right| **right).count() as f64 / among.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grading(correct: &[bool], mentions: &[u32]) -> Grading {
        let texts = (0..correct.len()).map(|choice| format!("choice {}", choice / 2)).collect();
        Grading { example_id: "q".into(), texts, correct: correct.to_vec(), mentions: mentions.to_vec() }
    }

    fn answer(grading: &Grading, scores: &[f64]) -> Answer {
        let question = QuestionInfo { row: 0, first_choice: 1, choices: grading.correct.len(), grading: None };
        super::answer(&question, grading, scores)
    }

    #[test]
    fn the_best_choice_is_looked_up_among_the_questions_own() {
        let answer = answer(&grading(&[false, true, true], &[0; 3]), &[9.0, -3.0, -1.0, -2.0, 5.0]);
        assert_eq!(
            answer,
            Answer { example_id: "q".into(), scores: vec![-3.0, -1.0, -2.0], predicted: 1, correct: vec![1, 2], hit: true }
        );
    }

    #[test]
    fn guesses_count_by_their_odds() {
        let mut tally = Tally::default();
        let question = grading(&[true, false, false, false], &[2, 2, 1, 0]);
        tally.add(&answer(&question, &[0.0, 1.0, 2.0, 3.0, 4.0]), &question);
        let evaluation = tally.evaluation(0.0);
        assert_eq!((evaluation.hits, evaluation.chance, evaluation.most_frequent), (0, 0.25, 0.5));
        let both = Tally::sum(&[tally.numbers().to_vec(), tally.numbers().to_vec()]);
        assert_eq!((both.questions, both.chance, both.most_frequent), (2, 0.5, 1.0));
        assert_eq!((both.f1, both.exact_matches), (1.0, 0));
    }

    #[test]
    fn another_choice_with_the_text_of_a_right_one_matches_and_is_no_hit() {
        let mut tally = Tally::default();
        let question = grading(&[true, false, false], &[0; 3]);
        tally.add(&answer(&question, &[0.0, 1.0, 2.0, 1.0]), &question);
        tally.add(&answer(&question, &[0.0, 1.0, 1.0, 2.0]), &question);
        let evaluation = tally.evaluation(0.0);
        assert_eq!((evaluation.hits, evaluation.exact_match, evaluation.f1), (0, 0.5, 0.75));
        assert_eq!(Tally::sum(&[tally.numbers().to_vec()]), tally);
    }
}
