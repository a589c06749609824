//! Metrics of cloze questions: accuracy, F1, exact match, and two baselines.

use arrow::array::RecordBatch;
use glm_schemas::cloze::encoding::Question;
use glm_schemas::cloze::{ChoiceView, ClozeView};
use glm_schemas::vocab::TokenId;

use super::super::metrics::{MetricInfo, Metrics, Role, Unit};
use super::super::{Answer, Evaluator, RowError, ScoredChoice};
use super::text_match::best_match;

const QUALITY: Role = Role::Quality { higher_is_better: true };

const fn share(name: &'static str, label: &'static str, role: Role, meaning: &'static str) -> MetricInfo {
    MetricInfo { name, label, unit: Unit::Share, role, meaning }
}

const fn total(name: &'static str, meaning: &'static str) -> MetricInfo {
    MetricInfo { name, label: name, unit: Unit::Count, role: Role::Total, meaning }
}

/// Metrics of cloze questions.
pub const METRICS: [MetricInfo; 7] = [
    share("accuracy", "accuracy", QUALITY, "the best choice is correct"),
    total("hits", "questions whose best choice is correct"),
    total("questions", "questions"),
    share("f1", "F1", QUALITY, "words shared with a correct answer (SuperGLUE)"),
    share("exact_match", "exact match", QUALITY, "text equal to a correct answer (SuperGLUE)"),
    share("chance", "chance", Role::Baseline, "random choice"),
    share("most_frequent", "most frequent entity", Role::Baseline, "the choice mentioned most often in the passage"),
];

/// Returns the answer to question `row` from the scores of its choices.
pub fn answer(view: &ClozeView<'_>, row: usize, scores: &[f64]) -> Answer {
    let mut predicted = 0;
    for (choice, score) in scores.iter().enumerate() {
        if *score > scores[predicted] {
            predicted = choice;
        }
    }
    let labelled = view.label(row).is_some();
    let scored = |(place, (choice, &score)): (usize, (ChoiceView<'_>, &f64))| ScoredChoice {
        text: choice.text.unwrap_or_default().to_owned(),
        choice_index: choice.index.unwrap_or(place),
        score,
        correct: labelled.then_some(choice.correct),
    };
    let choices: Vec<ScoredChoice> = view.choices(row).zip(scores).enumerate().map(scored).collect();
    let hit = choices.get(predicted).is_some_and(|choice| choice.correct == Some(true));
    Answer {
        example_id: view.example_id(row).to_owned(),
        source_id: view.source_id(row).map(str::to_owned),
        question_id: view.question_id(row),
        choices,
        predicted,
        hit,
    }
}

/// Sums over the questions of an evaluation.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct ClozeEvaluator {
    hits: usize,
    questions: usize,
    f1: f64,
    exact_matches: usize,
    /// Expected hits of guessing among the choices.
    chance: f64,
    /// Expected hits of guessing the choice whose tokens occur most often in the passage, at random among equals.
    most_frequent: f64,
}

impl ClozeEvaluator {
    fn add_answer(&mut self, view: &ClozeView<'_>, row: usize, answer: &Answer) {
        self.questions += 1;
        self.hits += usize::from(answer.hit);
        let correct = answer.choices.iter().filter(|choice| choice.correct == Some(true));
        let found = best_match(answer.predicted_choice().1, correct.map(|choice| choice.text.as_str()));
        self.f1 += found.f1;
        self.exact_matches += usize::from(found.exact);
        let question = view.question(row);
        let choices: Vec<(bool, u32)> =
            view.choices(row).map(|choice| (choice.correct, mentions(&question, choice.ids))).collect();
        let most = choices.iter().map(|(_, mentions)| *mentions).max().unwrap_or(0);
        self.chance += correct_share(&choices, |_| true);
        self.most_frequent += correct_share(&choices, |mentions| mentions == most);
    }
}

impl Evaluator for ClozeEvaluator {
    fn add(&mut self, rows: &RecordBatch, row: usize, _: u64, log_probs: &[f64]) -> Result<Option<Answer>, RowError> {
        let view = ClozeView::try_new(rows)?;
        let answer = answer(&view, row, log_probs);
        self.add_answer(&view, row, &answer);
        Ok(Some(answer))
    }

    fn totals(&self) -> Vec<f64> {
        let Self { hits, questions, f1, exact_matches, chance, most_frequent } = *self;
        vec![hits as f64, questions as f64, f1, exact_matches as f64, chance, most_frequent]
    }

    fn metrics(&self, totals: &[f64]) -> Metrics {
        let total = |i: usize| totals.get(i).copied().unwrap_or(0.0);
        let (hits, questions) = (total(0) as u64, total(1) as u64);
        let share = |i: usize| total(i) / total(1).max(1.0);
        let values = [share(0), total(0), total(1), share(2), share(3), share(4), share(5)];
        let (accuracy, chance) = (METRICS[0].format(share(0)), 100.0 * share(4));
        let examples = format!("{hits} of {questions} questions");
        let summary = format!("accuracy {accuracy} ({hits} of {questions}), chance {chance:.1} %");
        Metrics::new(&METRICS, &values).described(examples, summary)
    }
}

/// Share of correct choices among those whose number of mentions is `considered`.
fn correct_share(choices: &[(bool, u32)], considered: impl Fn(u32) -> bool) -> f64 {
    let among: Vec<bool> = choices.iter().filter(|(_, mentions)| considered(*mentions)).map(|(correct, _)| *correct).collect();
    among.iter().filter(|correct| **correct).count() as f64 / among.len().max(1) as f64
}

/// Number of times that `choice` occurs in the truncatable segments: in the passage, of the form of ReCoRD.
fn mentions(question: &Question<'_>, choice: &[TokenId]) -> u32 {
    let passages = question.segments.iter().filter(|segment| segment.truncatable);
    passages.map(|segment| occurrences(segment.ids, choice)).sum()
}

/// Number of times that `choice` occurs in `passage`.
fn occurrences(passage: &[TokenId], choice: &[TokenId]) -> u32 {
    if choice.is_empty() {
        return 0;
    }
    passage.windows(choice.len()).filter(|window| *window == choice).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::cloze::questions::{SyntheticQuestion, rows};
    use crate::task::metrics::Evaluation;

    /// A question whose choices are correct or not, and are mentioned in the passage so often.
    fn question(choices: &[(bool, usize)]) -> RecordBatch {
        let token = |choice: usize| 100 + choice as TokenId;
        let mut question = SyntheticQuestion::of_length(0, 0);
        for (choice, (correct, mentions)) in choices.iter().enumerate() {
            question.choices.push(vec![token(choice)]);
            question.texts.push(format!("choice {}", choice / 2));
            question.correct.push(*correct);
            question.passage.extend(std::iter::repeat_n(token(choice), *mentions));
        }
        rows(&[question], 0)
    }

    fn evaluate(rows: &RecordBatch, scores: &[&[f64]]) -> (Metrics, Vec<f64>) {
        let mut evaluator = ClozeEvaluator::default();
        for scores in scores {
            evaluator.add(rows, 0, 0, scores).expect("columns");
        }
        (evaluator.metrics(&evaluator.totals()), evaluator.totals())
    }

    #[test]
    fn the_first_of_the_best_choices_is_the_answer() {
        let rows = question(&[(false, 0), (true, 0), (true, 0)]);
        let found = answer(&ClozeView::try_new(&rows).expect("view"), 0, &[-3.0, -1.0, -1.0]);
        assert_eq!((found.example_id.as_str(), found.predicted, found.hit), ("q0", 1, true));
        let choices: Vec<_> = found.choices.iter().map(|choice| (choice.text.as_str(), choice.score, choice.correct)).collect();
        let expected = [("choice 0", -3.0, Some(false)), ("choice 0", -1.0, Some(true)), ("choice 1", -1.0, Some(true))];
        assert_eq!(choices, expected);
    }

    #[test]
    fn guesses_count_by_their_odds() {
        let rows = question(&[(true, 2), (false, 2), (false, 1), (false, 0)]);
        let (metrics, totals) = evaluate(&rows, &[&[1.0, 2.0, 3.0, 4.0]]);
        let get = |name| metrics.get(name).expect("metric");
        assert_eq!((get("hits"), get("chance"), get("most_frequent")), (0.0, 0.25, 0.5));
        let both: Vec<f64> = totals.iter().map(|total| 2.0 * total).collect();
        let both = ClozeEvaluator::default().metrics(&both);
        assert_eq!((both.get("questions"), both.get("chance"), both.get("most_frequent")), (Some(2.0), Some(0.25), Some(0.5)));
        // The answer is choice 3, whose text is that of choice 2: not that of the correct choice 0.
        assert_eq!((both.get("f1"), both.get("exact_match")), (Some(0.5), Some(0.0)));
    }

    #[test]
    fn wrong_choice_with_the_text_of_a_correct_one_matches_but_is_not_a_hit() {
        let rows = question(&[(true, 0), (false, 0), (false, 0)]);
        let (metrics, _) = evaluate(&rows, &[&[1.0, 2.0, 1.0], &[1.0, 1.0, 2.0]]);
        let get = |name| metrics.get(name).expect("metric");
        assert_eq!((get("hits"), get("exact_match"), get("f1")), (0.0, 0.5, 0.75));
    }

    #[test]
    fn table_and_summary_fit_a_terminal() {
        let metrics = ClozeEvaluator::default().metrics(&[1234.0, 10_000.0, 5000.0, 2500.0, 1234.0, 2000.0]);
        assert_eq!(metrics.summary, "accuracy 12.34 % (1234 of 10000), chance 12.3 %");
        let text = Evaluation { metrics, seconds: 12.34 }.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.starts_with("accuracy               12.34 %   1234 of 10000 questions, 12.3 s\nF1"), "{text}");
        assert_eq!(text.lines().count(), 5);
    }

    #[test]
    fn mentions_are_counted_by_tokens() {
        assert_eq!(occurrences(&[1, 2, 1, 2, 3], &[1, 2]), 2);
        assert_eq!(occurrences(&[1, 2], &[]), 0);
        assert_eq!(occurrences(&[1], &[1, 2]), 0);
    }
}
